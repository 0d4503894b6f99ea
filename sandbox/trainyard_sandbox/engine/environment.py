"""The environment variables that a run's code sees, and nothing of the sandbox's or the operator's own.

task_process.py starts the code with it; pretend runs look up MLFLOW_RUN_ID in the job's part.

What a Databricks job finds: MLflow configured for the workspace (Databricks documentation, "Track model development
using MLflow": tracking URI `databricks`, registry URI `databricks-uc`) and credentials of the run-as identity (SDK
documentation, "Authentication in Databricks runtime"; we give them as DATABRICKS_HOST and DATABRICKS_TOKEN, which both
MLflow and the SDK read). Job variables: `new_cluster.spark_env_vars`, or the entry of `environment_variables` that the
task names (SDK docstring of JobEnvironmentVariablesSpec).
DATABRICKS_RUNTIME_VERSION is left unset: with it MLflow looks for the notebook context and the Spark session that a
plain subprocess lacks.
"""

from __future__ import annotations

import json
from pathlib import Path

from trainyard_sandbox.engine.runs import Run, TaskRun
from trainyard_sandbox.state import SandboxState
from trainyard_sandbox.stores.volumes import MOUNTS_VARIABLE, PATHS_HOOK
from trainyard_sandbox.tokens import IssuedToken

RUNTIME_TOKEN_LIFETIME_SECONDS = 7 * 24 * 3600.0
"""How long a run's code may use its token: longer than any run of a sandbox."""


def job_environment(run: Run, task: TaskRun, cluster_variables: dict[str, str] | None = None) -> dict[str, str]:
    """The variables that the job itself asks for.

    Args:
        cluster_variables: those of the task's cluster with secrets resolved; without them, those submitted. A secret's
            reference in a serverless variable is not resolved: the documentation of serverless environment variables
            ("any Unicode string") names no such form.
    """
    variables: dict[str, str] = dict(task.spec.get("new_cluster", {}).get("spark_env_vars", {}))
    variables |= cluster_variables or {}
    key = task.spec.get("environment_variables_key")
    for entry in run.request.get("environment_variables", []):
        if entry["environment_variables_key"] == key:
            variables |= entry.get("spec", {}).get("variables", {})
    return variables


def run_environment(
    state: SandboxState, run: Run, token: IssuedToken, work_dir: Path, python_path: list[Path], workspace: Path | None
) -> dict[str, str]:
    """What a task's process finds, apart from the job's own variables.

    Args:
        workspace: what the code finds at /Workspace; None where it looks for nothing there.
    """
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(work_dir),
        "TMPDIR": str(work_dir),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "MLFLOW_TRACKING_URI": "databricks",
        "MLFLOW_REGISTRY_URI": "databricks-uc",
        # With the SDK's blocking connection pool, MLflow 2.22 hangs for ever in a plain process whose run is still open
        # at exit: urllib3's exit hook drains the pool before MLflow's exit hook asks it for a connection.
        "MLFLOW_ENABLE_DB_SDK": "false",
        "DATABRICKS_HOST": state.base_url,
        "DATABRICKS_TOKEN": token.value,
        "REQUESTS_CA_BUNDLE": str(state.ca_file.resolve()),
    }
    volumes = state.volumes.environment(state.directory.acting(run.run_as)) if state.volumes else {}
    mounts = json.loads(volumes.get(MOUNTS_VARIABLE, "{}"))
    if workspace is not None:
        mounts["/Workspace"] = {"folder": str(workspace), "read": True, "write": False}
    if mounts:
        environment[MOUNTS_VARIABLE] = json.dumps(mounts)
        python_path = [*python_path, PATHS_HOOK]
    if python_path:
        environment["PYTHONPATH"] = ":".join(str(path) for path in python_path)
    return environment
