"""What happens to one run in one namespace, and what the world is afterwards, told without times and ids.

Used by the crash tests. A journey is an iterator that does the next thing when what came before has happened, whichever
operator was there to see to it.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx

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
_EXPERIMENT = re.compile(r"/experiments/\d+/")
_JOB = re.compile(r"#job/\d+/")  # the id that the platform gives to a one-time run's job; only its page's URL tells it


class Scene:
    """One team's namespace with one run."""

    def __init__(self, stage: Stage, scripts: dict[int, dict[str, Any]] | None, **spec: Any) -> None:
        self.stage = stage
        self.namespace = stage.namespace()
        self.schema = self.namespace.replace("-", "_")
        self.spec = json.loads(json.dumps(spec).replace("<namespace>", self.namespace))
        self._paid_before = stage.stand.control.paid_runs()
        self._uid = ""
        self._job_id = 0
        for attempt, script in (scripts or {}).items():
            model = f"main.{self.schema}.{MODEL}"
            named = {"registered_model_name": model} if "model" in spec else {}
            run_name = rf"{self.namespace}/.* attempt {attempt} .*"
            stage.stand.control.add_script(run_name=run_name, **script, **named)

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

    def make_job(self, name: str) -> None:
        """A job of the platform that the team's principal owns."""
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
        made = self.stage.platform(self.principal, "POST", "/api/2.2/jobs/create", json=body)
        self._job_id = made["job_id"]
        self.stage.stand.control.add_script(run_name=name, states=[("PENDING", 0.1), ("RUNNING", 0.2)])

    def apply_run(self, code: str = "print('hello')") -> None:
        """The run. A field whose value is None is left out."""
        run = self.stage.stand.training_run(NAME, self.namespace, code)
        run["spec"] = {key: value for key, value in (run["spec"] | self.spec).items() if value is not None}
        self.stage.stand.apply(run)
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
        """Waits until the run's object and what it owns are gone and the operator is still."""
        while self.stage.find(self._path("mltrainingruns", NAME)) is not None or self._logs():
            yield
        yield from self.still()

    def still(self) -> Iterator[None]:
        """Waits until the operator asks for nothing any more."""
        while not self.stage.proxy.quiet(POLL_SECONDS * 1.5):
            yield

    def change(self, **spec: Any) -> None:
        """Sets fields of the spec."""
        patch = ("patch", "mltr", NAME, "--type=merge", "-p", json.dumps({"spec": spec}))
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
            "job runs": [row["result_state"] for row in self._job_runs()],
            "mlflow": self._mlflow_runs(),
            "uploads": self._uploads(),
            "logs": self._logs(),
            "versions": self._versions(),
        }

    def _job_runs(self) -> list[dict[str, Any]]:
        """Runs of the platform's own job."""
        return [row for row in self.stage.stand.control.runs() if row["run_name"].startswith(f"{self.namespace}-")]

    def _remote_runs(self) -> list[dict[str, Any]]:
        return [row for row in self.stage.stand.control.runs() if row["run_name"].startswith(f"{self.namespace}/")]

    def _mlflow_runs(self) -> list[dict[str, Any]]:
        """The MLflow runs of the team's experiment."""
        path = f"/Users/{self.principal}/{self.namespace}"
        named = self._found("/api/2.0/mlflow/experiments/get-by-name", experiment_name=path)
        if named is None:
            return []
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

    def _uploads(self) -> list[str]:
        """Folders of source that lie in the workspace for this team."""
        path, found = f"/Users/{self.principal}/.trainyard/code", []
        for _ in range(2):  # a folder per cluster, and in it one per content
            rows = (self._found("/api/2.0/workspace/list", path=path) or {}).get("objects", [])
            found = [row["path"].rpartition("/")[2] for row in rows]
            path = rows[0]["path"] if rows else path
        return found

    def _found(self, endpoint: str, /, **params: str) -> dict[str, Any] | None:
        """What the platform shows the team there, if there is anything."""
        try:
            return self.stage.platform(self.principal, "GET", endpoint, params=params)
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise
            return None

    def _logs(self) -> list[dict[str, Any]]:
        """What is kept of the run's logs."""
        kept = self.stage.call("GET", f"/apis/trainyard.dev/v1alpha1/namespaces/{self.namespace}/mlrunlogs")["items"]
        return [
            {"name": each["metadata"]["name"], "spec": each["spec"], "owners": each["metadata"].get("ownerReferences")}
            for each in sorted(kept, key=lambda each: str(each["metadata"]["name"]))
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
        names |= {self._uid[:8]: "uid-8"}  # in the name of a log
        names |= {row["run_id"]: "remote-id" for row in self._remote_runs()}
        names |= {row["id"]: "mlflow-id" for row in self._mlflow_runs()}
        names |= {row["run_id"]: "job-run-id" for row in self._job_runs()}
        names |= self._derived()
        names |= {str(self._job_id): "job-id"} if self._job_id else {}
        return {value: name for value, name in names.items() if value}

    def _derived(self) -> dict[str, str]:
        """Digests and tokens of the attempts, where they are made of the namespace's name; told apart by number."""
        found = self.stage.find(self._path("mltrainingruns", NAME)) or {}
        attempts = found.get("status", {}).get("attempts", [])
        digests = dict.fromkeys(each["specDigest"] for each in attempts)
        keyed = "submissionKey" in self.spec
        tokens = dict.fromkeys(each["submissionToken"] for each in attempts) if keyed else {}
        return {value: f"spec-digest-{n}" for n, value in enumerate(digests)} | {
            value: f"token-{n}" for n, value in enumerate(tokens)
        }

    def _path(self, plural: str, name: str) -> str:
        return f"/apis/trainyard.dev/v1alpha1/namespaces/{self.namespace}/{plural}/{name}"


def normalised(world: Any, names: dict[str, str]) -> Any:
    """The one normaliser: times become <time>, durations <duration>, and each id in `names` its own word.

    Nothing else is touched: a field too many, one that lacks, another word or number makes two worlds different.
    """
    text = _TIME.sub("<time>", json.dumps(world, sort_keys=True))
    text = _EXPERIMENT.sub("/experiments/<experiment-id>/", text)
    text = _JOB.sub("#job/<job-id>/", text)
    for value in sorted(names, key=len, reverse=True):
        text = text.replace(value, f"<{names[value]}>")
    found = json.loads(text)
    status = (found.get("run") or {}).get("status") or {}
    if "duration" in status:
        status["duration"] = "<duration>"
    return found


def difference(expected: Any, found: Any) -> str:
    """What is different between two worlds, line by line; empty if nothing is."""
    before, after = (json.dumps(world, indent=1, sort_keys=True).splitlines() for world in (expected, found))
    return "\n".join(difflib.unified_diff(before, after, "expected", "found", lineterm="", n=2))
