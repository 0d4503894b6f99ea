"""Model Serving as far as the steps of an endpoint need it; used by test_databricks_serving_steps.py."""

from collections.abc import Mapping
from typing import Any

from tests.unit.databricks_endpoints import shown
from trainyard.platforms.databricks.serving_steps import Seen, Step, needs_permissions, next_request

ACL = "/api/2.0/permissions/serving-endpoints/e1"
CREATOR = {"service_principal_name": "app-id", "permission_level": "CAN_MANAGE"}


class Platform:
    """Model Serving as far as these rules need it: takes one update at a time, swaps when it is ready."""

    def __init__(self, look: dict[str, Any] | None = None, acl: list[dict[str, Any]] | None = None) -> None:
        self.look = look
        self.acl = acl or [CREATOR]
        self.steps: list[Step] = []

    def seen(self, body: Mapping[str, Any]) -> Seen:
        return Seen(self.look, self.listed() if needs_permissions(self.look, body) else None)

    def listed(self) -> dict[str, Any]:
        rows = [
            {**{key: value for key, value in entry.items() if key != "permission_level"}}
            | {"all_permissions": [{"permission_level": entry["permission_level"], "inherited": False}]}
            for entry in self.acl
        ]
        inherited = {"permission_level": "CAN_MANAGE", "inherited": True}
        return {"access_control_list": [*rows, {"group_name": "admins", "all_permissions": [inherited]}]}

    def send(self, step: Step) -> None:
        self.steps.append(step)
        body = dict(step.body or {})
        if step.method == "POST":
            self.acl = [CREATOR]
            self.look = shown({**body, "config": None}, update="IN_PROGRESS", pending=body["config"])
            return
        assert self.look is not None
        if step.method == "DELETE":
            self.look = None
            return
        assert self.look["state"]["config_update"] != "IN_PROGRESS", "one change at a time"
        if step.path.endswith("/config"):
            self.look["pending_config"] = shown({"name": "", "tags": []}, pending=body)["pending_config"]
            self.look["state"]["config_update"] = "IN_PROGRESS"
        elif step.path.endswith("/tags"):
            tags = {tag["key"]: tag["value"] for tag in (*self.look["tags"], *body.get("add_tags", ()))}
            for key in body.get("delete_tags", ()):
                del tags[key]
            self.look["tags"] = [{"key": key, "value": value} for key, value in tags.items()]
        elif step.path.endswith("/ai-gateway"):
            self.look["ai_gateway"] = body
        else:
            assert step.path == ACL
            entries = body["access_control_list"]
            if step.method == "PATCH":
                entries = [*self.acl, *entries]
            self.acl = list(entries)

    def finish(self, *, good: bool = True) -> None:
        assert self.look is not None
        if self.look["state"]["config_update"] != "IN_PROGRESS":
            return
        if good:
            pending = self.look.pop("pending_config")
            self.look["config"] = shown({"name": "", "tags": [], "config": pending})["config"]
        self.look["state"] = {"ready": "READY", "config_update": "NOT_UPDATING" if good else "UPDATE_FAILED"}

    def settle(self, body: Mapping[str, Any], most: int = 12) -> list[Step]:
        """Follows the plan until no request is left."""
        first = len(self.steps)
        for _ in range(most):
            step = next_request(self.seen(body), body)
            if step is not None:
                self.send(step)
            elif self.look is None or self.look["state"]["config_update"] != "IN_PROGRESS":
                break
            else:
                self.finish()
        assert next_request(self.seen(body), body) is None, "it never comes to rest"
        return self.steps[first:]
