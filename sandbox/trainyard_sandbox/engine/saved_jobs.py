"""Jobs that live on the platform, and what a run of one is made from; this file does no I/O.

databricks/jobs_saved.py serves them; triggering.py makes their runs.

Read in: databricks-sdk `service/jobs.py` JobsAPI (create, get, list, run_now), Job, JobSettings, JobParameter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from trainyard_sandbox.compute.rights import JOB_MANAGE, JOB_MANAGE_RUN, JOB_VIEW, holds
from trainyard_sandbox.engine.runs import new_id
from trainyard_sandbox.errors import ApiError, invalid_parameter, permission_denied
from trainyard_sandbox.principals import Principal

LEVELS = {"View": JOB_VIEW, "Manage Run": JOB_MANAGE_RUN, "Manage": JOB_MANAGE}

_OF_THE_RUN = (
    "budget_policy_id",
    "environments",
    "environment_variables",
    "performance_target",
    "timeout_seconds",
    "usage_policy_id",
)
"""Settings of a job that each of its runs has too."""


@dataclass(frozen=True)
class Job:
    """One saved job. `created_time` is Unix milliseconds."""

    job_id: int
    settings: dict[str, Any]
    creator: str
    run_as: str
    created_time: int

    @property
    def name(self) -> str:
        """Its name; not unique."""
        return str(self.settings.get("name", "Untitled"))

    @property
    def max_concurrent_runs(self) -> int:
        """How many of its runs may be active."""
        return int(self.settings.get("max_concurrent_runs", 1))

    @property
    def defaults(self) -> dict[str, str]:
        """Its parameters with their default values."""
        return {entry["name"]: entry["default"] for entry in self.settings.get("parameters", [])}

    def values(self, given: dict[str, str]) -> dict[str, str]:
        """The parameters of a run.

        Raises:
            ApiError: 400, a name that the job does not define (ours: what the platform does is not published).
        """
        unknown = sorted(set(given) - set(self.defaults))
        if unknown:
            raise invalid_parameter(f"Job {self.job_id} has no parameter named '{unknown[0]}'.")
        return self.defaults | given

    def request(self) -> dict[str, Any]:
        """What a run of it does, as a submission would say it."""
        clusters = {entry["job_cluster_key"]: entry["new_cluster"] for entry in self.settings.get("job_clusters", [])}
        tasks = []
        for task in self.settings["tasks"]:
            key = task.get("job_cluster_key")
            tasks.append(task if key is None else task | {"new_cluster": clusters[key]})
        kept = {name: self.settings[name] for name in _OF_THE_RUN if name in self.settings}
        return kept | {"tasks": tasks, "run_name": self.name}


class JobStore:
    """All saved jobs of the workspace.

    Args:
        now: the sandbox's clock, Unix seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._jobs: dict[int, Job] = {}

    def create(self, settings: dict[str, Any], creator: str, run_as: str) -> Job:
        """A new job."""
        job = Job(new_id(), settings, creator, run_as, int(self._now() * 1000))
        self._jobs[job.job_id] = job
        return job

    def find(self, job_id: int) -> Job | None:
        """The job, if there is one."""
        return self._jobs.get(job_id)

    def get(self, job_id: int) -> Job:
        """The job.

        Raises:
            ApiError: 400 (databricks-sdk `errors/overrides.py` expects this status and sentence).
        """
        job = self.find(job_id)
        if job is None:
            raise invalid_parameter(f"Job {job_id} does not exist.")
        return job

    def newest_first(self) -> Iterator[Job]:
        """All jobs, newest first."""
        return reversed(self._jobs.values())

    def delete(self, job: Job) -> None:
        """Forget a job; its runs stay."""
        del self._jobs[job.job_id]


def may(principal: Principal, job_id: int, action: str) -> bool:
    """Whether the principal may `View`, `Manage Run` or `Manage` the job."""
    return holds(principal, f"jobs/{job_id}", LEVELS[action])


def require(principal: Principal, job_id: int, action: str) -> None:
    """403 unless the principal may do this."""
    if not may(principal, job_id, action):
        raise no_right(principal, job_id, action)


def no_right(principal: Principal, job_id: int, action: str) -> ApiError:
    """403 as the platform words it."""
    return permission_denied(
        f"User {principal.application_id} does not have {action} or Owner or Admin permissions on job {job_id}."
    )
