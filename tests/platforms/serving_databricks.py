"""Databricks Model Serving in the words of tests/platforms/serving.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import httpx

from load import Question
from stand import Stand, Team, wait_for
from tests.platforms.models import ROW, Files, Row
from tests.platforms.serving import Behind, Book, State, number_of, trusting

ENDPOINTS = "/api/2.0/serving-endpoints"
REGISTRY = "/api/2.0/mlflow/unity-catalog"
SCHEMA = "main.ml"
STATES: dict[str, State] = {
    "DEPLOYMENT_READY": "ready",
    "DEPLOYMENT_CREATING": "creating",
    "DEPLOYMENT_RECOVERING": "updating",
    "DEPLOYMENT_FAILED": "failed",
    "DEPLOYMENT_ABORTED": "failed",
}
# What of a served entity and of an endpoint is ours to say; the rest is the platform's.
DETAILS = (
    "workload_type",
    "workload_size",
    "min_provisioned_concurrency",
    "max_provisioned_concurrency",
    "scale_to_zero_enabled",
    "environment_vars",
)
SIZE: dict[str, Any] = {"workload_type": "CPU", "workload_size": "Small", "scale_to_zero_enabled": False}


class DatabricksServing:
    """The sandbox's Model Serving."""

    scales_to_zero: ClassVar[bool] = True
    grants: ClassVar[bool] = True
    many_at_once: ClassVar[dict[str, Any]] = {"modelServing": {"workloadSize": "Small"}}
    another_size: ClassVar[dict[str, Any]] = {"modelServing": {"workloadSize": "Medium"}}

    def __init__(self, stand: Stand) -> None:
        self._control, self._address = stand.control, stand.control.address
        self._tls = trusting(self._address.ca_file)

    def publish(self, team: Team, name: str, files: Files, *, tags: Mapping[str, str] | None = None) -> str:
        full = f"{SCHEMA}.{name}"
        with self._as(team.principal) as client:
            client.post(f"{REGISTRY}/registered-models/create", json={"name": full})  # there already from the second on
            said = [{"key": key, "value": value} for key, value in (tags or {}).items()]
            made = self._sent(
                client, f"{REGISTRY}/model-versions/create", {"name": full, "source": "dbfs:/models", "tags": said}
            )
            version = str(made["model_version"]["version"])
            for path, content in files.items():
                where = f"/Models/{full.replace('.', '/')}/{version}/{path}"
                signed = self._sent(client, "/api/2.0/fs/create-upload-url", {"path": where})["url"]
                httpx.put(signed, content=content, verify=self._tls, trust_env=False).raise_for_status()
            self._sent(client, f"{REGISTRY}/model-versions/finalize", {"name": full, "version": version})
        return version

    def alias(self, team: Team, name: str, alias: str, version: str) -> None:
        with self._as(team.principal) as client:
            body = {"name": f"{SCHEMA}.{name}", "alias": alias, "version": version}
            self._sent(client, f"{REGISTRY}/registered-models/alias", body)

    def endpoints(self) -> list[str]:
        return [each["name"] for each in self._control.databricks_endpoints()]

    def book(self, endpoint: str) -> Book | None:
        known = self._known(endpoint)
        if known is None:
            return None
        with self._as(known["creator"]) as client:
            shown = client.get(f"{ENDPOINTS}/{endpoint}").raise_for_status().json()
            rights = client.get(f"/api/2.0/permissions/serving-endpoints/{known['id']}").raise_for_status().json()
        return Book(
            name=endpoint,
            creator=shown["creator"],
            busy=shown["state"]["config_update"] == "IN_PROGRESS",
            tags={tag["key"]: tag.get("value", "") for tag in shown.get("tags", [])},
            behind=_behind(shown),
            settings={"logging": _logging(shown), "rights": rights.get("access_control_list")},
            raw=shown,
        )

    def slow(self, endpoint_seconds: float) -> None:
        self._control.call("PUT", "/databricks/serving-limits", {"update_seconds": endpoint_seconds})

    def edit_shares(self, endpoint: str, shares: Mapping[str, int]) -> None:
        self._edit(endpoint, traffic=dict(shares))

    def edit_tag(self, endpoint: str, name: str, value: str) -> None:
        known = self._known(endpoint) or {"tags": {}}
        self._edit(endpoint, tags={**known["tags"], name: value})

    def remove(self, endpoint: str) -> None:
        self._control.call("DELETE", f"/databricks/endpoints/{endpoint}")

    def squat(self, team: Team, endpoint: str, model: str, version: str) -> None:
        other = self._control.add_principal(
            "squatter", grants={"main": ["USE CATALOG"], SCHEMA: ["USE SCHEMA"], f"{SCHEMA}.{model}": ["EXECUTE"]}
        )
        entity = {"name": "theirs", "entity_name": f"{SCHEMA}.{model}", "entity_version": version, **SIZE}
        with self._as(other) as client:
            made = self._sent(client, ENDPOINTS, {"name": endpoint, "config": {"served_entities": [entity]}})
        self._control.grant(team.principal, f"serving-endpoints/{made['id']}", "CAN_MANAGE")
        wait_for(f"{endpoint} to serve", lambda: self._serves(endpoint))

    def _serves(self, endpoint: str) -> bool:
        found = self.book(endpoint)
        return found is not None and not found.busy and {each.state for each in found.behind.values()} == {"ready"}

    def _known(self, endpoint: str) -> dict[str, Any] | None:
        listed: list[dict[str, Any]] = self._control.call("GET", "/databricks/endpoints")
        return next((each for each in listed if each["name"] == endpoint), None)

    def _edit(self, endpoint: str, **changes: Any) -> None:
        self._control.call("PATCH", f"/databricks/endpoints/{endpoint}", changes)

    def script(self, **script: Any) -> None:
        self._control.script_serving(platform="databricks", **script)

    def clean(self) -> None:
        self._control.clear_serving_scripts()

    def asker(self) -> str:
        return self._control.add_principal("asker")

    def allow(self, principal: str, endpoint: str) -> None:
        known = self._known(endpoint)
        assert known is not None, f"there is no endpoint {endpoint}"
        self._control.grant(principal, f"serving-endpoints/{known['id']}", "CAN_QUERY")

    def measures(self, principal: str) -> None:
        """Nothing: whoever made an endpoint may read it."""

    def logs(self, principal: str) -> None:
        self._control.grant(principal, SCHEMA, "CREATE TABLE")

    def question(self, url: str, principal: str, rows: Sequence[Row] = (ROW,)) -> Question:
        token = self._control.issue_token(principal)
        return Question(
            url,
            {"dataframe_records": [dict(row) for row in rows]},
            lambda: token,
            lambda _, document: number_of(document["predictions"]),
            self._tls,
        )

    def _as(self, principal: str) -> httpx.Client:
        token = {"Authorization": f"Bearer {self._control.issue_token(principal)}"}
        return httpx.Client(base_url=self._address.host, headers=token, verify=self._tls, trust_env=False)

    def _sent(self, client: httpx.Client, path: str, body: Mapping[str, Any], method: str = "POST") -> dict[str, Any]:
        answer = client.request(method, path, json=body)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        found: dict[str, Any] = answer.json()
        return found


def _behind(shown: Mapping[str, Any]) -> dict[str, Behind]:
    """What serves, and what is on its way; of one that is both, what serves."""
    active, pending = shown.get("config") or {}, shown.get("pending_config") or {}
    routes = (active.get("traffic_config") or {}).get("routes", [])
    shares = {route["served_entity_name"]: route["traffic_percentage"] for route in routes}
    found = {}
    for config in (pending, active):
        for entity in config.get("served_entities", []):
            found[entity["name"]] = Behind(
                served=entity["name"],
                model=entity["entity_name"],
                version=entity["entity_version"],
                state=STATES[entity["state"]["deployment"]],
                traffic=shares.get(entity["name"], 0) if config is active else 0,
                details={name: entity.get(name) for name in DETAILS},
            )
    return found


def _logging(shown: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The table of the requests; None where it is off, of which the platform goes on to tell the name."""
    table: Mapping[str, Any] = (shown.get("ai_gateway") or {}).get("inference_table_config") or {}
    return table if table.get("enabled") else None
