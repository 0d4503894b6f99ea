"""A team of the crash tests on Databricks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from tests.crash.points import Class, Point
from tests.crash.sides import asking
from tests.crash.sides.base import ALIAS, Side, for_attempt
from tests.crash.stage import Stage
from tests.platforms.base import Pretence
from tests.platforms.databricks import OUTCOMES

REMOTE = ("creator", "run_as", "life_cycle_state", "result_state", "idempotency_token")


class DatabricksSide(Side):
    """See tests/crash/sides/base.py. The team has a schema of its own."""

    name: ClassVar[str] = "databricks"
    submit: ClassVar[Point] = Point(Class("databricks", "POST", "/api/2.2/jobs/runs/submit"))
    token_path: ClassVar[str] = "/oidc/v1/token"
    whoami_path: ClassVar[str] = "/api/2.0/preview/scim/v2/Me"
    prints_its_token: ClassVar[str] = """
import os
print("my token is", os.environ["DATABRICKS_TOKEN"])
raise RuntimeError("Authorization: Bearer " + os.environ["DATABRICKS_TOKEN"])
"""
    never_the_same: ClassVar[Sequence[tuple[re.Pattern[str], str]]] = (
        (re.compile(r"/experiments/\d+/"), "/experiments/<experiment-id>/"),
        # The id that the platform gives to a one-time run's job; only its page's URL tells it.
        (re.compile(r"#job/\d+/"), "#job/<job-id>/"),
    )

    def __init__(self, stage: Stage, namespace: str, run: str, model: str | None) -> None:
        self._stage = stage
        self._control = stage.stand.control
        self._driver = stage.drivers[self.name]
        self._namespace = namespace
        self._run = f"{namespace}/{run}"
        self._prefix = f"main.{namespace.replace('-', '_')}"
        self._model = model and f"{self._prefix}.{model}"
        self._paid_before = self._driver.paid()
        self._job_id = 0
        self.principal = ""

    def found(self) -> None:
        host = self._stage.proxy.url(self.name)
        self.principal = self._driver.team(self._namespace, host=host, modelPrefix=self._prefix).principal
        self._control.grant(self.principal, self._prefix, "USE SCHEMA", "CREATE MODEL")

    def pretend(self, attempt: int, pretence: Pretence) -> None:
        self._driver.pretend(for_attempt(pretence, self._run, attempt, self._model))

    def lose_a_task(self, attempt: int, task: str) -> None:
        states = [("PENDING", 0.2), ("RUNNING", 0.3)]
        named = rf"{re.escape(self._run)} attempt {attempt} .*"
        self._control.add_script(run_name=named, states=states, tasks={task: OUTCOMES["infrastructure"]})

    def make_job(self, name: str) -> None:
        environment = {"environment_key": "plain", "spec": {"environment_version": "5"}}
        body = {
            "name": name,
            "tasks": [
                {
                    "task_key": "only",
                    "environment_key": "plain",
                    "spark_python_task": {"python_file": "/Workspace/Shared/nightly.py", "source": "WORKSPACE"},
                }
            ],
            "environments": [environment],
        }
        made = self._ask("POST", "/api/2.2/jobs/create", json=body)
        self._job_id = made["job_id"]
        self._control.add_script(run_name=name, states=[("PENDING", 0.1), ("RUNNING", 0.2)])

    def denial(self, words: str) -> dict[str, Any]:
        return {"error_code": "PERMISSION_DENIED", "message": words}

    def refusal(self, words: str) -> dict[str, Any]:
        return {"error_code": "INVALID_PARAMETER_VALUE", "message": words}

    def world(self) -> dict[str, Any]:
        return {
            "paid": self._driver.paid() - self._paid_before,
            "remote": [{key: row[key] for key in REMOTE} for row in self._remote_runs()],
            "ends": [row["result_state"] for row in self._remote_runs()],
            "job runs": [row["result_state"] for row in self._job_runs()],
            "mlflow": self._mlflow_runs(),
            "uploads": self._uploads(),
            "versions": self._versions(),
        }

    def names(self) -> Mapping[str, str]:
        names = {row["run_id"]: "remote-id" for row in self._remote_runs()}
        names |= {row["id"]: "mlflow-id" for row in self._mlflow_runs()}
        names |= {row["run_id"]: "job-run-id" for row in self._job_runs()}
        names |= dict.fromkeys(self._uploads(), "upload")
        return names | ({str(self._job_id): "job-id"} if self._job_id else {})

    def _job_runs(self) -> list[dict[str, Any]]:
        """Runs of the platform's own job."""
        return [row for row in self._control.runs() if row["run_name"].startswith(f"{self._namespace}-")]

    def _remote_runs(self) -> list[dict[str, Any]]:
        return [row for row in self._control.runs() if row["run_name"].startswith(f"{self._namespace}/")]

    def _mlflow_runs(self) -> list[dict[str, Any]]:
        """The MLflow runs of the team's experiment."""
        path = f"/Users/{self.principal}/{self._namespace}"
        named = self._found("/api/2.0/mlflow/experiments/get-by-name", experiment_name=path)
        if named is None:
            return []
        search = {"experiment_ids": [named["experiment"]["experiment_id"]], "max_results": 100}
        answer = self._ask("POST", "/api/2.0/mlflow/runs/search", json=search)
        return [
            {
                "id": row["info"]["run_id"],
                "status": row["info"]["status"],
                "metrics": {m["key"]: str(m["value"]) for m in row["data"].get("metrics", [])},
                "token": [t["value"] for t in row["data"].get("tags", []) if t["key"].endswith("submission-token")],
            }
            for row in answer.get("runs", [])
        ]

    def _uploads(self) -> list[str]:
        """Folders of source that lie in the workspace for this team."""
        path, found = f"/Users/{self.principal}/.trainyard/code", []
        for _ in range(2):  # a folder per cluster, and in it one per content
            rows = (self._found("/api/2.0/workspace/list", path=path) or {}).get("objects", [])
            found = [row["path"].rpartition("/")[2] for row in rows]
            path = rows[0]["path"] if rows else path
        return found

    def _versions(self) -> list[dict[str, Any]]:
        """The model versions that the scene has made."""
        if self._model is None:
            return []
        path = f"/api/2.1/unity-catalog/models/{self._model}"
        versions = self._ask("GET", f"{path}/versions").get("model_versions", [])
        aliased = self._ask("GET", f"{path}/aliases/{ALIAS}")["version"]
        return [
            {key: row.get(key) for key in ("version", "run_id", "status")} | {ALIAS: row["version"] == aliased}
            for row in versions
        ]

    def _found(self, endpoint: str, /, **params: str) -> dict[str, Any] | None:
        return asking.found(*self._as_team(), "GET", endpoint, params=params)

    def _ask(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        return asking.ask(*self._as_team(), method, path, **request)

    def _as_team(self) -> tuple[str, Path, str]:
        """The team's principal, with a token that the operator got for it."""
        issued = [t for t in self._control.tokens() if t["application_id"] == self.principal]
        tokens = [t["value"] for t in issued if t["purpose"] == "federation"]
        address = self._stage.stand.address
        return address.host, address.ca_file, tokens[-1]
