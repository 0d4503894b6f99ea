"""Experiments and runs as a workspace sees them: the real MLflow server, plus who may touch which experiment.

databricks/mlflow_api.py and mlflow_artifacts.py ask it before they let anything through. It must never keep what
MLflow keeps, except for what nobody changes behind it (the experiment of a run, the name of an experiment).

Read in: Databricks documentation, "Organize training runs with MLflow experiments" (an experiment is a workspace
object, named by its absolute path, and inherits the permissions of its folder).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from trainyard_sandbox.errors import ApiError, invalid_parameter, not_found, permission_denied
from trainyard_sandbox.mlflow_backend import MlflowBackend
from trainyard_sandbox.principals import Principal
from trainyard_sandbox.state import sandbox_state
from trainyard_sandbox.stores.blobs import BlobStore
from trainyard_sandbox.stores.workspace_tree import Access, WorkspaceTree, normalized

MLFLOW = "/api/2.0/mlflow"
ARTIFACT_SCHEME = "dbfs:/databricks/"

NO_EXPERIMENT = (
    "No experiment was found. If using the Python fluent API, you can set an active experiment under which to create "
    'runs by calling mlflow.set_experiment("/path/to/experiment/in/workspace") at the start of your program.'
)
"""What a run without an experiment gets outside a notebook (seen in mlflow/mlflow#4246 and many notebooks)."""


@dataclass
class Tracking:
    """The tracking half of a workspace's MLflow, and the storage that holds its artifacts and the models' files."""

    backend: MlflowBackend
    tree: WorkspaceTree
    blobs: BlobStore
    _experiment_of_run: dict[str, str] = field(default_factory=dict)
    _name_of_experiment: dict[str, str] = field(default_factory=dict)

    async def call(self, method: str, path: str, payload: dict[str, Any]) -> dict[str, Any]:
        """One call to the server; `payload` is the query of a GET and the JSON body otherwise.

        Raises:
            ApiError: the server's own refusal, with its error code and message.
        """
        if method == "GET":
            params = {key: str(value) for key, value in payload.items()}
            response = await self.backend.request(method, MLFLOW + path, params=params)
        else:
            response = await self.backend.request(method, MLFLOW + path, body=json.dumps(payload).encode())
        answer: dict[str, Any] = response.json()
        if response.status_code != 200:
            raise ApiError(response.status_code, answer["error_code"], answer["message"])
        return answer

    async def require_experiment(self, experiment_id: str, principal: Principal, access: Access) -> None:
        """Check that the experiment is there and that the principal has that access to it.

        Raises:
            ApiError: 404 when there is none (MLflow's own experiment 0 does not exist in a workspace); 403.
        """
        self.require(await self.experiment_name(experiment_id), principal, access)

    async def experiment_name(self, experiment_id: str) -> str:
        """The workspace path that names an experiment.

        Raises:
            ApiError: 404 when there is none.
        """
        if experiment_id in ("", "0"):
            raise not_found(NO_EXPERIMENT)
        if not experiment_id.isascii() or not experiment_id.isdigit():
            raise invalid_parameter(f"Invalid experiment ID: {experiment_id}")
        if experiment_id not in self._name_of_experiment:
            self._name_of_experiment[experiment_id] = await self._ask_name(experiment_id)
        return self._name_of_experiment[experiment_id]

    async def run(self, run_id: str, principal: Principal, access: Access) -> dict[str, Any]:
        """The run, if the principal has that access to its experiment."""
        answer = await self.call("GET", "/runs/get", {"run_id": run_id})
        run: dict[str, Any] = answer["run"]
        self._experiment_of_run[run_id] = run["info"]["experiment_id"]
        await self.require_experiment(run["info"]["experiment_id"], principal, access)
        return run

    async def require_run(self, run_id: str, principal: Principal, access: Access) -> None:
        """Check access to a run's experiment, without reading the run twice."""
        experiment_id = self._experiment_of_run.get(run_id)
        if experiment_id is None:
            await self.run(run_id, principal, access)
        else:
            await self.require_experiment(experiment_id, principal, access)

    def renamed(self, experiment_id: str) -> None:
        """Ask MLflow again for the experiment's name."""
        self._name_of_experiment.pop(experiment_id, None)

    def require(self, name: str, principal: Principal, access: Access) -> None:
        """Check access to the workspace path that names an experiment."""
        if not self.tree.may(principal, name, access):
            raise permission_denied(f"{principal.application_id} does not have {access} permissions on {name}.")

    def experiment_path(self, name: str) -> str:
        """The normalized path of an experiment's name.

        Raises:
            ApiError: 400 when it is not absolute.
        """
        if not name.startswith("/"):
            raise invalid_parameter(
                f"Got an invalid experiment name '{name}'. An experiment name must be an absolute path within the "
                "Databricks workspace, e.g. '/Users/<some-username>/my-experiment'."
            )
        return normalized(name)

    async def _ask_name(self, experiment_id: str) -> str:
        try:
            answer = await self.call("GET", "/experiments/get", {"experiment_id": experiment_id})
        except ApiError as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise not_found(f"Node ID {experiment_id} does not exist.") from None
            raise
        if not is_workspace_experiment(answer["experiment"]):
            raise not_found(f"Node ID {experiment_id} does not exist.")
        name: str = answer["experiment"]["name"]
        return name


def is_workspace_experiment(experiment: dict[str, Any]) -> bool:
    """Whether the server's experiment is one of a Databricks workspace: those are named by absolute paths."""
    return str(experiment["name"]).startswith("/")


def tracking_of(request: Request) -> Tracking:
    """The tracking store of the sandbox that serves this request."""
    tracking = sandbox_state(request).mlflow
    if not isinstance(tracking, Tracking):
        raise TypeError("SandboxState.mlflow is not a Tracking store")
    return tracking


def artifact_key(run: dict[str, Any], path: str = "") -> str:
    """The storage key of an artifact of a run."""
    root: str = run["info"]["artifact_uri"].removeprefix(ARTIFACT_SCHEME)
    return f"{root}/{path}" if path else root
