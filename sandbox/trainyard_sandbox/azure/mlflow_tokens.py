"""The token with which a job's own code speaks to the workspace's MLflow, and to nothing else.

The command engine puts it into `MLFLOW_TRACKING_TOKEN`; arm.py lets it pass only where a route says `run_token`. It
speaks for the job's creator but for one experiment only, and ends with the job.

Azure Machine Learning documentation, "Set up authentication" and "CLI (v2) command job YAML schema" (identity
`aml_token`, the default): a job gets a token of its own, which needs no role of whoever submitted it.
"""

from __future__ import annotations

from trainyard_sandbox.azure.job_store import AzureJob
from trainyard_sandbox.azure.state import ML_RESOURCE
from trainyard_sandbox.state import SandboxState

RUN_TOKEN_LIFETIME_SECONDS = 7 * 24 * 3600.0
"""Longer than any job of a sandbox; the end of the job comes first."""


def issue_run_token(state: SandboxState, job: AzureJob) -> str:
    """A new token for the code of an active job, valid until the job ends or is deleted."""
    tokens = state.azure.tokens
    issued = tokens.issue(
        job.creator, job.creator_object_id, ML_RESOURCE, RUN_TOKEN_LIFETIME_SECONDS, "run", job=job.name
    )
    job.when_ended.append(lambda: tokens.expire_value(issued.value))
    return issued.value
