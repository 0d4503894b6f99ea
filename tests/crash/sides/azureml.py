"""A team of the crash tests on Azure ML."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from stand import wait_for
from tests.crash.points import Class, Point
from tests.crash.sides import asking
from tests.crash.sides.base import ALIAS, Side, for_attempt
from tests.crash.stage import Stage
from tests.platforms.base import Pretence

JOBS_VERSION = "2025-01-01-preview"
ASSETS_VERSION = "2023-04-01"
REMOTE = ("name", "creator", "experiment", "display_name", "status", "is_archived", "tags")


class AzureMLSide(Side):
    """See tests/crash/sides/base.py. The team has an application of its own, and shares the workspace."""

    name: ClassVar[str] = "azureml"
    submit: ClassVar[Point] = Point(Class("azureml", "PUT", "/workspaces/*/jobs/*"))
    token_path: ClassVar[str] = "/*/oauth2/v2.0/token"
    whoami_path: ClassVar[str] = "/workspaces/*"
    prints_its_token: ClassVar[str] = """
import os
print("my token is", os.environ["MLFLOW_TRACKING_TOKEN"])
raise RuntimeError("Authorization: Bearer " + os.environ["MLFLOW_TRACKING_TOKEN"])
"""
    never_the_same: ClassVar[Sequence[tuple[re.Pattern[str], str]]] = ()

    def __init__(self, stage: Stage, namespace: str, run: str, model: str | None) -> None:
        self._stage = stage
        self._control = stage.stand.control
        self._driver = stage.drivers[self.name]
        self._namespace = namespace
        self._run = f"{namespace}/{run}"
        self._model = model
        self._paid_before = self._driver.paid()
        self.principal = ""

    def found(self) -> None:
        self.principal = self._driver.team(self._namespace).principal

    def pretend(self, attempt: int, pretence: Pretence) -> None:
        self._driver.pretend(for_attempt(pretence, self._run, attempt, self._model))

    def lose_a_task(self, attempt: int, task: str) -> None:
        raise NotImplementedError("a run has no tasks on Azure ML")

    def make_job(self, name: str) -> None:
        azure = self._stage.stand.address.azure
        self._control.add_azure_asset("environments", name, "1", image="mcr.microsoft.com/azureml/base")
        self._control.script_azure_job(name=name, states=[("Running", 0.1)])
        properties = {
            "jobType": "Command",
            "command": "python nightly.py",
            "environmentId": f"{azure.workspace_scope}/environments/{name}/versions/1",
            "resources": {"instanceCount": 1, "instanceType": "Standard_DS3_v2"},
        }
        self._arm("PUT", f"/jobs/{name}", JOBS_VERSION, json={"properties": properties})
        wait_for("the job to have ended", lambda: not self._control.azure_job(name)["active"])
        self._paid_before = self._driver.paid()

    def denial(self, words: str) -> dict[str, Any]:
        return {"error": {"code": "AuthorizationFailed", "message": words}}

    def refusal(self, words: str) -> dict[str, Any]:
        return {"error": {"code": "UserError", "message": words}}

    def world(self) -> dict[str, Any]:
        jobs = self._jobs()
        started = [job for job in self._control.azure_jobs() if job["name"].startswith(self._namespace)]
        return {
            "paid": self._driver.paid() - self._paid_before,
            "remote": [{key: job[key] for key in REMOTE} for job in jobs],
            "ends": [job["status"] for job in jobs],
            "job runs": [job["status"] for job in started],
            "mlflow": self._mlflow_runs(),
            "uploads": self._codes(),
            "versions": self._versions(),
        }

    def names(self) -> Mapping[str, str]:
        return dict.fromkeys(self._codes(), "upload")

    def _jobs(self) -> list[dict[str, Any]]:
        """Jobs of the team's run."""
        return [job for job in self._control.azure_jobs() if job["tags"].get("trainyard_namespace") == self._namespace]

    def _codes(self) -> list[str]:
        """Code assets that the team has registered."""
        codes = self._control.azure_assets("codes")
        return [code["name"] for code in codes if code["author"] == f"{self._namespace}-trainer"]

    def _mlflow_runs(self) -> list[dict[str, Any]]:
        """The MLflow runs of the team's experiment."""
        named = self._mlflow("GET", "experiments/get-by-name", params={"experiment_name": self._namespace})
        if named is None:
            return []
        search = {"experiment_ids": [named["experiment"]["experiment_id"]], "max_results": 100}
        answer = self._mlflow("POST", "runs/search", json=search) or {}
        return [
            {
                "id": row["info"]["run_id"],
                "status": row["info"]["status"],
                "metrics": {m["key"]: str(m["value"]) for m in row["data"].get("metrics", [])},
            }
            for row in answer.get("runs", [])
        ]

    def _versions(self) -> list[dict[str, Any]]:
        """The model versions that the scene has made."""
        if self._model is None:
            return []
        versions = self._arm("GET", f"/models/{self._model}/versions", ASSETS_VERSION)["value"]
        return [
            {
                "version": row["name"],
                "job": row["properties"]["jobName"],
                "tags": row["properties"]["tags"],
                ALIAS: row["properties"]["tags"].get("alias") == ALIAS,
            }
            for row in versions
        ]

    def _arm(self, method: str, path: str, version: str, **request: Any) -> dict[str, Any]:
        """One request to the workspace in Resource Manager, as the team's application, past the proxy."""
        azure = self._stage.stand.address.azure
        token = self._control.issue_azure_token(self.principal, azure.resource_manager)
        where, params = f"{azure.workspace_scope}{path}", {"api-version": version}
        ca_file = self._stage.stand.address.ca_file
        return asking.ask(azure.resource_manager, ca_file, token, method, where, params=params, **request)

    def _mlflow(self, method: str, call: str, **request: Any) -> dict[str, Any] | None:
        """One request to the workspace's MLflow, likewise; None where there is nothing."""
        azure = self._stage.stand.address.azure
        token = self._control.issue_azure_token(self.principal, azure.ml_resource)
        where = f"/mlflow/v1.0{azure.workspace_scope}/api/2.0/mlflow/{call}"
        ca_file = self._stage.stand.address.ca_file
        return asking.found(azure.resource_manager, ca_file, token, method, where, **request)
