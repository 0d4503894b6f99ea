"""The environment variables that a job's code sees, and nothing of the sandbox's or the operator's own.

command.py starts each process with `job_variables` and those of distribution.py.

Azure Machine Learning documentation: "Track ML experiments and models with MLflow" (MLFLOW_TRACKING_URI,
MLFLOW_TRACKING_TOKEN, MLFLOW_EXPERIMENT_*, MLFLOW_RUN_ID are set in a job), "CLI (v2) command job YAML schema"
(AZURE_ML_INPUT_*, AZURE_ML_OUTPUT_*); the names that begin with AZUREML_ are what public job logs list, and what
azureml-mlflow reads.

There the tracking address begins with `azureml://`, which the package azureml-mlflow turns into https. Here it is https
from the start and MLflow itself sends the token, so that azureml-mlflow counts as part of the sandbox; see images.py.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from trainyard_sandbox.azure.job_store import AzureJob
from trainyard_sandbox.azure.mlflow_tokens import RUN_TOKEN_LIFETIME_SECONDS
from trainyard_sandbox.azure.state import AzureState
from trainyard_sandbox.state import SandboxState


def tracking_uri(azure: AzureState) -> str:
    """Where the workspace's MLflow is, as MLflow's own client understands it."""
    return f"{azure.url}/mlflow/v1.0{azure.workspace_scope}"


def job_variables(
    state: SandboxState,
    job: AzureJob,
    token: str,
    home: Path,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    packages: list[Path],
) -> dict[str, str]:
    """What every process of a job finds.

    Args:
        token: of the job's own run.
        home: its home and temporary directory.
        inputs, outputs: values and paths by name.
        packages: folders that the image build installed packages into.
    """
    variables = _system(state, home, packages) | _azureml(state, job, token)
    variables |= {f"AZURE_ML_INPUT_{name}": value for name, value in inputs.items()}
    variables |= {f"AZURE_ML_OUTPUT_{name}": path for name, path in outputs.items()}
    variables |= {
        "MLFLOW_TRACKING_URI": tracking_uri(state.azure),
        "MLFLOW_TRACKING_TOKEN": token,
        "MLFLOW_RUN_ID": job.name,
        "MLFLOW_EXPERIMENT_NAME": job.experiment,
    }
    if state.azure.mlflow is not None:
        variables["MLFLOW_EXPERIMENT_ID"] = state.azure.mlflow.experiment_id(job.experiment)
    return variables | (job.definition.get("environmentVariables") or {})


def _system(state: SandboxState, home: Path, packages: list[Path]) -> dict[str, str]:
    """What a container has: what its command installs with pip is the job's own and goes with it."""
    own = home / "packages"
    folders = [own, *packages]
    programs = [*(folder / "bin" for folder in folders), Path(sys.executable).parent]
    return {
        "PATH": ":".join([*map(str, programs), "/usr/local/bin:/usr/bin:/bin"]),
        "PYTHONPATH": ":".join(map(str, folders)),
        "PIP_TARGET": str(own),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "HOME": str(home),
        "TMPDIR": str(home),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "REQUESTS_CA_BUNDLE": str(state.ca_file.resolve()),
    }


def _azureml(state: SandboxState, job: AzureJob, token: str) -> dict[str, str]:
    azure = state.azure
    return {
        "AZUREML_RUN_ID": job.name,
        "AZUREML_ROOT_RUN_ID": job.root,
        "AZUREML_RUN_TOKEN": token,
        "AZUREML_RUN_TOKEN_EXPIRY": str(int(state.now() + RUN_TOKEN_LIFETIME_SECONDS)),
        "AZUREML_SERVICE_ENDPOINT": azure.url,
        "AZUREML_RUN_HISTORY_SERVICE_ENDPOINT": azure.url,
        "AZUREML_DISCOVERY_SERVICE_ENDPOINT": f"{azure.url}/discovery",
        "AZUREML_ARM_SUBSCRIPTION": azure.subscription_id,
        "AZUREML_ARM_RESOURCEGROUP": azure.resource_group,
        "AZUREML_ARM_WORKSPACE_NAME": azure.workspace_name,
        "AZUREML_ARM_PROJECT_NAME": job.experiment,
        "AZUREML_WORKSPACE_ID": azure.workspace_guid,
        "AZUREML_WORKSPACE_SCOPE": azure.workspace_scope,
        "AZUREML_EXPERIMENT_SCOPE": f"{azure.workspace_scope}/experiments/{job.experiment}",
    }
