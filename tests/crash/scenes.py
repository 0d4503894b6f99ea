"""What happens to one run in one namespace, and what the world is afterwards, told without times and ids.

Used by the crash tests. A journey is an iterator that does the next thing when what came before has happened, whichever
operator was there to see to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from stand import wait_for
from tests.crash.stage import POLL_SECONDS, Stage

NAME = "wine"
MODEL = "wine"
ALIAS = "challenger"
FINAL = ("Succeeded", "Failed", "TimedOut", "Cancelled")
TRAINS = {"states": [("PENDING", 0.6), ("RUNNING", 0.9)], "metrics": {"accuracy": 0.97, "loss": "NaN"}}
WAITS = {"states": [("PENDING", 0.2), ("RUNNING", 600.0)], "cancel_seconds": 0.3}
REMOTE = ("creator", "run_as", "life_cycle_state", "result_state", "idempotency_token")

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_JOB = re.compile(r"#job/\d+/")  # the id that the platform gives to a one-time run's job; only its page's URL tells it


class Scene:
    """One team's namespace with one run."""

    def __init__(self, stage: Stage, script: dict[str, Any] | None, **spec: Any) -> None:
        self.stage = stage
        self.namespace = stage.namespace()
        self.schema = self.namespace.replace("-", "_")
        self.spec = spec
        self._paid_before = stage.stand.control.paid_runs()
        self._uid = ""
        if script is not None:
            model = f"main.{self.schema}.{MODEL}"
            named = {"registered_model_name": model} if "model" in spec else {}
            stage.stand.control.add_script(run_name=f"{self.namespace}/.*", **script, **named)

    def found_team(self) -> None:
        """The namespace with its ServiceAccount and workspace, in a schema of its own."""
        stand = self.stage.stand
        prefix = f"main.{self.schema}"
        self.principal = stand.team(self.namespace, host=self.stage.host, modelPrefix=prefix).principal
        stand.control.grant(self.principal, prefix, "USE SCHEMA", "CREATE MODEL")

    def workspace_ready(self) -> Iterator[None]:
        """Waits for the workspace."""
        while True:
            status = self.stage.stand.get("mlworkspaces", "databricks", self.namespace).get("status", {})
            if any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", [])):
                return
            yield

    def apply_run(self, code: str = "print('hello')") -> None:
        """The run."""
        self.stage.stand.apply(self.stage.stand.training_run(NAME, self.namespace, code, **self.spec))
        self._uid = self.run()["metadata"]["uid"]

    def run(self) -> dict[str, Any]:
        """The run now."""
        return self.stage.stand.run(NAME, self.namespace)

    def until(self, true: Callable[[dict[str, Any]], bool]) -> Iterator[None]:
        """Waits until that is true of the run."""
        while not true(self.run()):
            yield

    def phase(self, *phases: str) -> Iterator[None]:
        """Waits for a phase."""
        return self.until(lambda run: run.get("status", {}).get("phase") in phases)

    def settled(self) -> Iterator[None]:
        """Waits until the run has ended, is let go, and the operator is still."""
        yield from self.phase(*FINAL)
        yield from self.until(lambda run: not run["metadata"].get("finalizers"))
        yield from self.still()

    def gone(self) -> Iterator[None]:
        """Waits until the run's object is gone and the operator is still."""
        while self.stage.find(self._path("mltrainingruns", NAME)) is not None:
            yield
        yield from self.still()

    def still(self) -> Iterator[None]:
        """Waits until the operator asks for nothing any more."""
        while not self.stage.proxy.quiet(POLL_SECONDS * 1.5):
            yield

    def cancel(self) -> None:
        """Sets spec.cancel."""
        patch = ("patch", "mltr", NAME, "--type=merge", "-p", '{"spec":{"cancel":true}}')
        self.stage.stand.cluster.kubectl("-n", self.namespace, *patch)

    def delete(self) -> None:
        """Deletes the run, without waiting."""
        self.stage.call("DELETE", self._path("mltrainingruns", NAME))

    def clear(self) -> None:
        """Takes the run and the workspace away, so that the next scene's operator has nothing to do with them."""
        if self.stage.find(self._path("mltrainingruns", NAME)) is not None:
            self.delete()
        path = self._path("mlworkspaces", "databricks")
        self.stage.call("DELETE", path)
        self.stage.up()
        wait_for("the workspace to be let go", lambda: self.stage.find(path) is None)
        wait_for("the operator to be still", lambda: self.stage.proxy.quiet(0.2))

    def world(self) -> dict[str, Any]:
        """Everything that counts, normalised."""
        found: dict[str, Any] = normalised(self._world(), self._names())
        return found

    def _world(self) -> dict[str, Any]:
        run = self.stage.find(self._path("mltrainingruns", NAME))
        workspace = self.stage.find(self._path("mlworkspaces", "databricks"))
        events = self.stage.call("GET", f"/api/v1/namespaces/{self.namespace}/events")["items"]
        control = self.stage.stand.control
        return {
            "run": run and {"status": run.get("status"), "finalizers": run["metadata"].get("finalizers", [])},
            "workspace": workspace and workspace.get("status"),
            "events": sorted({f"{e['involvedObject']['kind']} {e['type']} {e['reason']}" for e in events}),
            "paid": control.paid_runs() - self._paid_before,
            "remote": [
                {
                    key: row[key]
                    for key in ("creator", "run_as", "life_cycle_state", "result_state", "idempotency_token")
                }
                for row in self._remote_runs()
            ],
            "mlflow": self._mlflow_runs(),
            "versions": self._versions(),
        }

    def _remote_runs(self) -> list[dict[str, Any]]:
        return [row for row in self.stage.stand.control.runs() if row["run_name"].startswith(f"{self.namespace}/")]

    def _mlflow_runs(self) -> list[dict[str, Any]]:
        """The MLflow runs of the team's experiment."""
        path = f"/Users/{self.principal}/{self.namespace}"
        named = self.stage.platform(
            self.principal, "GET", "/api/2.0/mlflow/experiments/get-by-name", params={"experiment_name": path}
        )
        search = {"experiment_ids": [named["experiment"]["experiment_id"]], "max_results": 100}
        answer = self.stage.platform(self.principal, "POST", "/api/2.0/mlflow/runs/search", json=search)
        return [
            {
                "id": row["info"]["run_id"],
                "status": row["info"]["status"],
                "metrics": {m["key"]: str(m["value"]) for m in row["data"].get("metrics", [])},
                "token": [t["value"] for t in row["data"].get("tags", []) if t["key"].endswith("submission-token")],
            }
            for row in answer.get("runs", [])
        ]

    def _versions(self) -> list[dict[str, Any]]:
        """The model versions that the scene has made."""
        if "model" not in self.spec:
            return []
        path = f"/api/2.1/unity-catalog/models/main.{self.schema}.{MODEL}"
        versions = self.stage.platform(self.principal, "GET", f"{path}/versions").get("model_versions", [])
        aliased = self.stage.platform(self.principal, "GET", f"{path}/aliases/{ALIAS}")["version"]
        return [
            {key: row.get(key) for key in ("version", "run_id", "status")} | {ALIAS: row["version"] == aliased}
            for row in versions
        ]

    def _names(self) -> dict[str, str]:
        """What is different in each scene, by the word that the normaliser puts in its place."""
        names = {self.namespace: "namespace", self.schema: "schema", self.principal: "principal", self._uid: "uid"}
        names |= {row["run_id"]: "remote-id" for row in self._remote_runs()}
        names |= {row["id"]: "mlflow-id" for row in self._mlflow_runs()}
        return {value: name for value, name in names.items() if value}

    def _path(self, plural: str, name: str) -> str:
        return f"/apis/trainyard.dev/v1alpha1/namespaces/{self.namespace}/{plural}/{name}"


def normalised(world: Any, names: dict[str, str]) -> Any:
    """The one normaliser: times become <time>, durations <duration>, and each id in `names` its own word.

    Nothing else is touched: a field too many, one that lacks, another word or number makes two worlds different.
    """
    text = _TIME.sub("<time>", json.dumps(world, sort_keys=True))
    text = _JOB.sub("#job/<job-id>/", text)
    for value in sorted(names, key=len, reverse=True):
        text = text.replace(value, f"<{names[value]}>")
    found = json.loads(text)
    status = (found.get("run") or {}).get("status") or {}
    if "duration" in status:
        status["duration"] = "<duration>"
    return found
