"""Which machines a job asks for, and how it ends when there are none to ask for.

command.py and pretend.py claim and release; the machines themselves are in compute_store.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainyard_sandbox.azure.job_store import AzureJob, JobEnd, JobError
from trainyard_sandbox.azure.state import AzureState


def wanted(job: AzureJob) -> tuple[int, str | None]:
    """How many instances a job asks for, and of which type; a sweep or pipeline asks for none."""
    if job.job_type != "Command":
        return 0, None
    resources: dict[str, Any] = job.definition.get("resources") or {}
    return int(resources.get("instanceCount", 1)), resources.get("instanceType")


def claim(azure: AzureState, job: AzureJob, granted: Callable[[], None]) -> bool:
    """Ask for a job's machines; `granted` is called once they are there. False when its compute is gone."""
    instances, size = wanted(job)
    if instances == 0:
        granted()
        return True
    accepted: bool = azure.computes.claim(job.name, job.compute, instances, size, granted)
    return accepted


def release(azure: AzureState, job: AzureJob) -> None:
    """Give back a job's machines."""
    azure.computes.release(job.name, job.compute)


def compute_gone(job: AzureJob) -> JobEnd:
    """The end of a job whose compute was deleted. The sentence is ours."""
    message = f"The compute target '{job.compute}' was deleted or does not exist any more."
    return JobEnd("Failed", JobError("UserError", message, ("NotFound", "ComputeNotFound")))
