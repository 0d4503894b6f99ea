"""Azure ML's online endpoints in the words of tests/platforms/serving.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import httpx

from load import Question
from stand import Stand, Team, wait_for
from tests.platforms.models import COLUMNS, ROW, Files, Row
from tests.platforms.serving import Behind, Book, State, number_of, trusting

DATASTORE = "workspaceblobstore"
ASK = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/score/action"
ALIAS_TAG = "alias"  # as runs keep it, see docs/portability.md
STATES: dict[str, State] = {
    "Creating": "creating",
    "Updating": "updating",
    "Scaling": "updating",
    "Succeeded": "ready",
    "Failed": "failed",
    "Deleting": "deleting",
}
# What of a deployment and of an endpoint is ours to say; the rest is the platform's.
DETAILS = ("model", "instance_type", "capacity", "environment", "data_collector")
SETTINGS = ("auth_mode", "tags")


class AzureMLServing:
    """The sandbox's online endpoints."""

    scales_to_zero: ClassVar[bool] = False
    grants: ClassVar[bool] = False
    another_size: ClassVar[dict[str, Any]] = {"onlineEndpoint": {"instanceType": "Standard_DS4_v2"}}
    many_at_once: ClassVar[dict[str, Any]] = {
        "onlineEndpoint": {"instanceType": "Standard_DS3_v2", "concurrentRequests": 8}
    }

    def __init__(self, stand: Stand) -> None:
        self._control, self._address = stand.control, stand.control.address
        self._tls = trusting(self._address.ca_file)

    def publish(self, team: Team, name: str, files: Files, *, tags: Mapping[str, str] | None = None) -> str:
        version = str(len(self._versions(name)) + 1)
        folder = f"models/{name}/{version}"
        for path, content in files.items():
            self._control.put_azure_blob(DATASTORE, f"{folder}/{path}", content)
        uri = f"azureml://datastores/{DATASTORE}/paths/{folder}"
        self._register(name, version, {"modelUri": uri, "modelType": "mlflow_model", "tags": dict(tags or {})})
        return version

    def alias(self, team: Team, name: str, alias: str, version: str) -> None:
        for number, properties in self._versions(name).items():
            others = {key: value for key, value in properties["tags"].items() if (key, value) != (ALIAS_TAG, alias)}
            mine = {ALIAS_TAG: alias} if number == version else {}
            self._register(name, number, {**properties, "tags": others | mine})

    def _versions(self, name: str) -> dict[str, dict[str, Any]]:
        """Properties of a model's versions."""
        there = [each for each in self._control.azure_assets("models") if each["name"] == name]
        return {each["version"]: each["properties"] for each in there}

    def _register(self, name: str, version: str, properties: Mapping[str, Any]) -> None:
        self._control.add_azure_asset("models", name, version, **properties)

    def endpoints(self) -> list[str]:
        return [each["name"] for each in self._control.azure_endpoints()]

    def book(self, endpoint: str) -> Book | None:
        found = next((each for each in self._control.azure_endpoints() if each["name"] == endpoint), None)
        if found is None:
            return None
        behind = {each["name"]: _behind(each) for each in found["deployments"]}
        return Book(
            name=endpoint,
            creator=found["creator"],
            busy=found["state"] in ("Creating", "Updating", "Deleting"),
            tags=found["tags"],
            behind=behind,
            settings={name: found[name] for name in SETTINGS},
            raw=found,
        )

    def script(self, **script: Any) -> None:
        self._control.script_serving(platform="azure", **script)

    def slow(self, endpoint_seconds: float) -> None:
        self._control.azure_serving_settings(endpoint_seconds=endpoint_seconds)

    def edit_shares(self, endpoint: str, shares: Mapping[str, int]) -> None:
        self._control.edit_azure_endpoint(endpoint, traffic=dict(shares))

    def edit_tag(self, endpoint: str, name: str, value: str) -> None:
        tags = self._control.azure_endpoint(endpoint)["tags"]
        self._control.edit_azure_endpoint(endpoint, tags={**tags, name: value})

    def remove(self, endpoint: str) -> None:
        self._control.delete_azure_endpoint(endpoint)

    def squat(self, team: Team, endpoint: str, model: str, version: str) -> None:
        azure = self._address.azure
        other = self._control.add_application("squatter", roles={"workspace": ["AzureML Data Scientist"]})
        token = {"Authorization": f"Bearer {self._control.issue_azure_token(other, azure.resource_manager)}"}
        where = f"{azure.workspace_scope}/onlineEndpoints/{endpoint}"
        place = {"location": azure.region}
        inner = {
            "model": f"{azure.workspace_scope}/models/{model}/versions/{version}",
            "instanceType": "Standard_DS3_v2",
            "endpointComputeType": "Managed",
        }
        made = {**place, "identity": {"type": "SystemAssigned"}, "properties": {"authMode": "AADToken"}}
        behind = {**place, "sku": {"name": "Default", "capacity": 1}, "properties": inner}
        shared = {**made, "properties": {"authMode": "AADToken", "traffic": {"theirs": 100}}}
        with httpx.Client(
            base_url=azure.resource_manager,
            headers=token,
            params={"api-version": "2023-10-01"},
            verify=self._tls,
            trust_env=False,
        ) as client:
            for path, body in ((where, made), (f"{where}/deployments/theirs", behind), (where, shared)):
                answer = client.put(path, json=body)
                assert answer.is_success, f"PUT {path}: {answer.status_code} {answer.text}"
                wait_for(f"{endpoint} to be done with it", lambda: self._done(endpoint))

    def _done(self, endpoint: str) -> bool:
        found = self.book(endpoint)
        return found is not None and not found.busy and {each.state for each in found.behind.values()} <= {"ready"}

    def asker(self) -> str:
        return self._control.add_application("asker")

    def allow(self, principal: str, endpoint: str) -> None:
        self._control.assign_custom_role(principal, "Endpoint Asker", [ASK])

    def measures(self, principal: str) -> None:
        self._control.assign_role(principal, "Monitoring Reader")

    def logs(self, principal: str) -> None:
        """Nothing: they go to the workspace's own storage."""

    def question(self, url: str, principal: str, rows: Sequence[Row] = (ROW,)) -> Question:
        token = self._control.issue_azure_token(principal, self._address.azure.ml_resource)
        data = [[row[column] for column in COLUMNS] for row in rows]
        table = {"columns": list(COLUMNS), "index": list(range(len(rows))), "data": data}
        return Question(url, {"input_data": table}, lambda: token, lambda _, document: number_of(document), self._tls)

    def clean(self) -> None:
        self._control.clear_serving_scripts()


def _behind(deployment: Mapping[str, Any]) -> Behind:
    parts = deployment["model"].split("/")  # .../models/NAME/versions/VERSION
    return Behind(
        served=deployment["name"],
        model=parts[-3],
        version=parts[-1],
        state=STATES[deployment["state"]],
        traffic=deployment["traffic"],
        details={name: deployment[name] for name in DETAILS},
    )
