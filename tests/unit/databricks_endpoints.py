"""Plans and looks of endpoints on Databricks, built in a line; used by the tests of test_databricks_serving_*."""

from typing import Any

from tests.wire.jobs import workspace_spec
from trainyard.api.deployment_status import Serving
from trainyard.api.model_deployment import EndpointPermission, RequestLogging
from trainyard.api.workspace import MLWorkspaceSpec
from trainyard.core.serving.plan import EndpointPlan, Owner
from trainyard.platforms.databricks.serving_translate import translate
from trainyard.platforms.serving import EndpointRequest

UID = "6a5ee04b-6d47-44e5-8b2f-4fcd20e6b5d0"
SMALL: dict[str, Any] = {"modelServing": {}}
CLASSES = {
    "small": SMALL,
    "large": {"modelServing": {"workloadSize": "Large", "workloadType": "GPU_SMALL"}},
    "azure": {"onlineEndpoint": {"instanceType": "Standard_DS3_v2"}},
    "trains": {"serverless": {"environmentVersion": "5"}},
}
OLD, NEW = "old-00000001", "new-00000002"


def workspace(**changes: Any) -> MLWorkspaceSpec:
    stores = {"team": {"databricksScope": "scope"}}
    return workspace_spec(**{"computeClasses": CLASSES, "secretStores": stores, **changes})


def serving(served: str = OLD, **changes: Any) -> Serving:
    name, _, _ = served.partition("-")
    fields = {
        "name": name,
        "served": served,
        "model": "main.ml.wine",
        "version": "3",
        "computeClass": "small",
        "minReplicas": 1,
        "maxReplicas": 1,
        "traffic": 100,
    }
    return Serving.model_validate({**fields, **changes})


def plan(*served: Serving, traffic: dict[str, int] | None = None, **changes: Any) -> EndpointPlan:
    """By default the first one has all requests."""
    permissions = [EndpointPermission.model_validate(each) for each in changes.pop("permissions", ())]
    logging = changes.pop("request_logging", None)
    shares = {each.served: 100 if not at else 0 for at, each in enumerate(served)}
    return EndpointPlan(
        endpoint="team-a-wine",
        owner=Owner("team-a", "wine", UID, "cluster-1"),
        revision=1,
        served=served,
        traffic=shares if traffic is None else traffic,
        permissions=tuple(permissions),
        request_logging=None if logging is None else RequestLogging.model_validate(logging),
        **changes,
    )


def request(*served: Serving, **changes: Any) -> EndpointRequest:
    return translate(plan(*served, **changes), workspace())


def desired(*served: Serving, **changes: Any) -> dict[str, Any]:
    return dict(request(*served, **changes).body)


def shown(
    body: dict[str, Any],
    *,
    update: str = "NOT_UPDATING",
    states: dict[str, str] | None = None,
    pending: dict[str, Any] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """The endpoint as the platform shows it: it serves what `body` says, and is on its way to what `pending` says.

    Args:
        states: by served name, without DEPLOYMENT_; what is not in it is READY if it is active, else CREATING.
    """
    look: dict[str, Any] = {
        "name": body["name"],
        "id": "e1",
        "creator": "app-id",
        "permission_level": "CAN_MANAGE",
        "tags": body["tags"],
        "state": {"ready": "READY" if "config" in body else "NOT_READY", "config_update": update},
    }
    if "ai_gateway" in body:
        look["ai_gateway"] = body["ai_gateway"]
    for key, config, state in (("config", body.get("config"), "READY"), ("pending_config", pending, "CREATING")):
        if config is not None:
            look[key] = {
                **config,
                "served_entities": [_stated(row, states, state) for row in config["served_entities"]],
            }
    return {**look, **changes}


def _stated(entity: dict[str, Any], states: dict[str, str] | None, otherwise: str) -> dict[str, Any]:
    state = (states or {}).get(entity["name"], otherwise)
    message = {"deployment_state_message": f"it {state}"} if state != "READY" else {}
    return {**entity, "creator": "app-id", "state": {"deployment": f"DEPLOYMENT_{state}", **message}}
