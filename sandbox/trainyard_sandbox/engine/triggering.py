"""Starts runs of saved jobs: for `jobs/run-now`, and for a run_job_task.

databricks/jobs_saved.py and the engines call `trigger`. Who may start a job is asked here, at each start.

Read in: databricks-sdk `service/jobs.py` JobsAPI.run_now, RunJobTask, TriggerType.
"""

from __future__ import annotations

from typing import Any

from trainyard_sandbox.engine.runs import Run
from trainyard_sandbox.engine.saved_jobs import require
from trainyard_sandbox.principals import Principal
from trainyard_sandbox.state import SandboxState


def trigger(
    state: SandboxState,
    principal: Principal,
    job_id: int,
    parameters: dict[str, str],
    *,
    started_by: str = "ONE_TIME",
    options: dict[str, Any] | None = None,
) -> Run:
    """Start a run of a job.

    Args:
        principal: who starts it; the run runs as the job says.
        parameters: values for parameters of the job.
        started_by: ONE_TIME or RUN_JOB_TASK.
        options: `idempotency_token` and `queue` of the request.

    Raises:
        ApiError: 400 when the job or a parameter does not exist, 403 without Can Manage Run.
    """
    job = state.jobs.get(job_id)
    require(principal, job_id, "Manage Run")
    values = job.values(parameters)
    request = job.request() | (options or {})
    if "queue" not in request and "queue" in job.settings:
        request["queue"] = job.settings["queue"]
    run = state.runs.create(job.name, principal.application_id, job.run_as, request, job_id=job.job_id)
    run.settings, run.trigger = job.settings, started_by
    run.job_parameters, run.parameter_defaults = values, job.defaults
    state.engine.submit(run)
    return run
