"""Runs and experiments as the workspace's MLflow shows them: the sandbox's MLflow server behind Azure ML's names.

mlflow_api.py asks it for everything that concerns tracking. A job's name is its MLflow run id and its experiment's id
is a GUID; the server has ids of its own, so each id is translated on the way in and out. A run that code starts beside
its job gets the GUID that is the server's id with dashes. Status, times, name and tags of a job's run are the job's
own: what MLflow says of them is not kept, except for tags, which Azure ML shows on the job too.

Azure Machine Learning documentation, "Query & compare experiments and runs with MLflow", "Track ML experiments and
models with MLflow"; that tags set by MLflow are the job's tags: public listings of jobs with `mlflow.autologging` and
`estimator_name` among their tags.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trainyard_sandbox.azure import history_shapes
from trainyard_sandbox.azure.job_store import AzureJob
from trainyard_sandbox.azure.mlflow_errors import MlflowError, experiment_not_found, run_not_found
from trainyard_sandbox.azure.state import AzureState
from trainyard_sandbox.errors import ApiError
from trainyard_sandbox.state import SandboxState
from trainyard_sandbox.stores.tracking import Tracking

PREFIX = "azureml/"
"""Before the name of each of this workspace's experiments in the server, which also serves Databricks; no Databricks
experiment has such a name, since theirs are absolute paths."""

ARTIFACT_ROOT = "ExperimentRun/dcid."
"""Before a run's id: where its artifacts are, in the container `azureml` of the workspace's storage account."""

_STATUSES = {"Completed": "FINISHED", "Failed": "FAILED", "Canceled": "KILLED"}
_BEGUN = frozenset({"Running", "Finalizing", "CancelRequested", "NotResponding", "Paused"})


@dataclass
class _JobRun:
    """What the server knows of a job's run: its id there, and what was last told."""

    job: AzureJob
    backend_id: str
    status: str = ""
    tags: dict[str, str] = field(default_factory=dict)


class AzureTracking:
    """The tracking half of the workspace's MLflow."""

    def __init__(self, state: SandboxState) -> None:
        self._state = state
        self._lock = asyncio.Lock()
        self._job_runs: dict[str, _JobRun] = {}
        self._job_of: dict[str, AzureJob] = {}
        self._experiments: dict[str, str] = {}
        self._names: dict[str, str] = {}

    @property
    def azure(self) -> AzureState:
        """The Azure half's state."""
        return self._state.azure

    def experiment_id(self, name: str) -> str:
        """The id of the experiment with this name, whether or not it is there yet."""
        return history_shapes.experiment_id(self.azure, name)

    async def call(self, method: str, path: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """One call to the MLflow server, in its own ids.

        Raises:
            MlflowError: the server's refusal.
        """
        tracking: Tracking = self._state.mlflow
        try:
            return await tracking.call(method, path, dict(payload))
        except ApiError as error:
            raise MlflowError(error.status, error.error_code, error.message) from error

    def job(self, run_id: str) -> AzureJob | None:
        """The job whose run this is; None for other runs."""
        found: AzureJob | None = self.azure.jobs.get(run_id)
        return found

    async def backend_run(self, run_id: str) -> str:
        """The server's id of a run.

        Raises:
            MlflowError: 404, there is no such run.
        """
        job = self.job(run_id)
        if job is not None:
            return (await self._job_run(job)).backend_id
        backend_id = _plain(run_id)
        if backend_id is None or backend_id in self._job_of:
            raise run_not_found(run_id)
        try:
            answer = await self.call("GET", "/runs/get", {"run_id": backend_id})
        except MlflowError as error:
            raise run_not_found(run_id) from error
        await self.experiment_name(answer["run"]["info"]["experiment_id"], run_id)
        return backend_id

    async def experiment_of(self, run_id: str) -> str:
        """Name of the experiment of a run.

        Raises:
            MlflowError: 404, there is no such run.
        """
        job = self.job(run_id)
        if job is not None:
            return job.experiment
        answer = await self.call("GET", "/runs/get", {"run_id": await self.backend_run(run_id)})
        return await self.experiment_name(answer["run"]["info"]["experiment_id"], run_id)

    async def backend_experiment(self, experiment_id: str) -> str:
        """The server's id of the experiment with this GUID.

        Raises:
            MlflowError: 404, there is none.
        """
        self._learn_names()
        name = self._names.get(experiment_id)
        if name is None:
            raise experiment_not_found(f"Could not find experiment with ID {experiment_id}")
        return await self.make_experiment(name)

    async def make_experiment(self, name: str) -> str:
        """The server's id of the experiment with this name, which is made if it is not there."""
        if name not in self._experiments:
            async with self._lock:
                if name not in self._experiments:
                    answer = await self._existing(name)
                    self._experiments[name] = answer
                    self._names[self.experiment_id(name)] = name
        return self._experiments[name]

    async def make_all_experiments(self) -> None:
        """Have the server know the experiments of all jobs."""
        self._learn_names()
        for name in list(self._names.values()):
            await self.make_experiment(name)

    def has_experiment(self, name: str) -> bool:
        """Whether a job or a call has made this experiment."""
        self._learn_names()
        return self.experiment_id(name) in self._names

    async def experiment_name(self, backend_id: str, run_id: str) -> str:
        """The name of the server's experiment, which a run was found in.

        Raises:
            MlflowError: 404, it is none of this workspace.
        """
        found = [name for name, known in self._experiments.items() if known == backend_id]
        if not found:
            raise run_not_found(run_id)
        return found[0]

    async def sync(self, experiment: str) -> None:
        """Tell the server what changed on the jobs of an experiment, so that it can search them."""
        for job in list(self.azure.jobs.newest_first()):
            if job.experiment == experiment:
                await self._sync(job)

    def is_gone(self, run: Mapping[str, Any]) -> bool:
        """Whether the server's run is that of a job that was deleted."""
        job = self._job_of.get(run["info"]["run_id"])
        return job is not None and job.deleted

    def shown_run(self, run: Mapping[str, Any]) -> dict[str, Any]:
        """The server's run in the workspace's ids, with the state of its job."""
        info, data = dict(run["info"]), dict(run.get("data") or {})
        job = self._job_of.get(info["run_id"])
        run_id = job.name if job else str(uuid.UUID(info["run_id"]))
        names = {known: name for name, known in self._experiments.items()}
        experiment = names.get(info["experiment_id"], "")
        info |= {
            "run_id": run_id,
            "run_uuid": run_id,
            "experiment_id": self.experiment_id(experiment),
            "artifact_uri": f"mlflow-artifacts:/{ARTIFACT_ROOT}{run_id}",
        }
        if job is not None:
            info |= job_info(job)
            data["tags"] = _shown_tags(job, data.get("tags") or [])
        return {"info": info, "data": data} | ({"inputs": run["inputs"]} if run.get("inputs") else {})

    def shown_experiment(self, experiment: Mapping[str, Any]) -> dict[str, Any]:
        """The server's experiment in the workspace's ids."""
        name = str(experiment["name"]).removeprefix(PREFIX)
        return dict(experiment) | {"experiment_id": self.experiment_id(name), "name": name, "artifact_location": ""}

    def backend_filter(self, text: str) -> str:
        """A filter of runs in which run ids are the server's; a run that the server does not know keeps its id."""

        def known(found: re.Match[str]) -> str:
            run = self._job_runs.get(found[2])
            return found[1] + (run.backend_id if run else _plain(found[2]) or found[2]) + found[3]

        def all_of(clause: re.Match[str]) -> str:
            return re.sub(r"(['\"])([^'\"]*)(['\"])", known, clause[0])

        pattern = r"\brun_id\s*(?:=|!=|I?LIKE|NOT IN|IN)\s*(?:'[^']*'|\"[^\"]*\"|\([^)]*\))"
        return re.sub(pattern, all_of, text, flags=re.IGNORECASE)

    async def _job_run(self, job: AzureJob) -> _JobRun:
        if not self._is_known(job):
            experiment = await self.make_experiment(job.experiment)
            async with self._lock:
                if not self._is_known(job):
                    await self._create(job, experiment)
        return self._job_runs[job.name]

    def _is_known(self, job: AzureJob) -> bool:
        known = self._job_runs.get(job.name)
        return known is not None and known.job is job

    async def _create(self, job: AzureJob, experiment: str) -> None:
        tags = [{"key": key, "value": value} for key, value in job.tags.items()]
        body = {
            "experiment_id": experiment,
            "run_name": job.display_name,
            "user_id": job.creator_object_id,
            "start_time": int((job.started_at or job.created_at) * 1000),
            "tags": [*tags, *({"key": key, "value": value} for key, value in _system_tags(job).items())],
        }
        answer = await self.call("POST", "/runs/create", body)
        backend_id = answer["run"]["info"]["run_id"]
        self._job_runs[job.name] = _JobRun(job, backend_id, tags=dict(job.tags))
        self._job_of[backend_id] = job

    async def _sync(self, job: AzureJob) -> None:
        run = await self._job_run(job)
        info = job_info(job)
        if info["status"] != run.status:
            run.status = info["status"]
            told = {"run_id": run.backend_id, "status": run.status, "run_name": job.display_name}
            await self.call("POST", "/runs/update", told | ({"end_time": info["end_time"]} if job.ended_at else {}))
        for key in sorted(set(run.tags) - set(job.tags)):
            await self.call("POST", "/runs/delete-tag", {"run_id": run.backend_id, "key": key})
        for key, value in job.tags.items():
            if run.tags.get(key) != value:
                await self.call("POST", "/runs/set-tag", {"run_id": run.backend_id, "key": key, "value": value})
        run.tags = dict(job.tags)

    async def _existing(self, name: str) -> str:
        try:
            answer = await self.call("POST", "/experiments/create", {"name": PREFIX + name})
        except MlflowError as error:
            if error.code != "RESOURCE_ALREADY_EXISTS":
                raise
            answer = await self.call("GET", "/experiments/get-by-name", {"experiment_name": PREFIX + name})
            return str(answer["experiment"]["experiment_id"])
        return str(answer["experiment_id"])

    def _learn_names(self) -> None:
        for name in {job.experiment for job in self.azure.jobs.newest_first()}:
            self._names.setdefault(self.experiment_id(name), name)


def job_info(job: AzureJob) -> dict[str, Any]:
    """What a run's `info` says of its job: name, status, times in Unix milliseconds, user."""
    status = _STATUSES.get(job.status, "RUNNING" if job.status in _BEGUN else "SCHEDULED")
    info = {
        "run_name": job.display_name,
        "status": status,
        "start_time": int((job.started_at or job.created_at) * 1000),
        "user_id": job.creator_object_id,
        "lifecycle_stage": "active",
    }
    return info | ({"end_time": int(job.ended_at * 1000)} if job.ended_at else {})


def _system_tags(job: AzureJob) -> dict[str, str]:
    tags = {"mlflow.user": job.creator, "mlflow.rootRunId": job.root, "mlflow.runName": job.display_name}
    return tags | ({"mlflow.parentRunId": job.parent} if job.parent else {})


def _shown_tags(job: AzureJob, kept: list[dict[str, str]]) -> list[dict[str, str]]:
    """The job's tags with what only MLflow keeps (the history of logged models) and what the service adds."""
    own = {tag["key"]: tag["value"] for tag in kept if tag["key"].startswith("mlflow.log-model.")}
    return [{"key": key, "value": value} for key, value in (own | _system_tags(job) | job.tags).items()]


def _plain(run_id: str) -> str | None:
    """The server's id of a run that is no job's, None when the id has not the form of a GUID."""
    try:
        found = uuid.UUID(run_id)
    except ValueError:
        return None
    return found.hex if str(found) == run_id else None
