"""Finds the job that a run names, and puts its id into the request. Called by `connection` before a run is started."""

from collections.abc import Iterator, Mapping
from typing import Any

from trainyard.core.errors import Missing
from trainyard.platforms.databricks.client import DatabricksClient

JOBS = "/api/2.2/jobs"


class NamedJobs:
    """Looks jobs up through one client."""

    def __init__(self, client: DatabricksClient) -> None:
        self._client = client

    def id_of(self, name: str) -> str:
        """The id of the one job of that name that the principal may see.

        Raises:
            Missing: JobNotFound or JobAmbiguous. Neither judges the run: a person can make the job, or rename one.
        """
        found = sorted(self._named(name))
        if not found:
            raise Missing(
                f"spec.jobRef.name: there is no job {name!r} that this identity may see. Create it, or grant the "
                "identity Can Manage Run on it (the job's page, Permissions).",
                reason="JobNotFound",
            )
        if len(found) > 1:
            listed = ", ".join(map(str, found[:5]))
            raise Missing(
                f"spec.jobRef.name: {len(found)} jobs are named {name!r} ({listed}). Rename all but one; a new run can "
                "also say which one by spec.jobRef.id.",
                reason="JobAmbiguous",
            )
        return str(found[0])

    def _named(self, name: str) -> Iterator[int]:
        # "A filter on the list based on the exact (case insensitive) job name" (databricks-sdk jobs.list).
        query: dict[str, Any] = {"name": name, "limit": 100}
        while True:
            answer = self._client.do("GET", f"{JOBS}/list", query=query)
            for job in answer.get("jobs") or ():
                if job.get("settings", {}).get("name") == name:
                    yield int(job["job_id"])
            if not answer.get("next_page_token"):
                return
            query["page_token"] = answer["next_page_token"]


def with_job_ids(body: Mapping[str, Any], ids: Mapping[str, str]) -> dict[str, Any]:
    """The request with the ids of the jobs that its tasks run, by task key."""
    tasks = [
        {**task, "run_job_task": {**task.get("run_job_task", {}), "job_id": int(ids[task["task_key"]])}}
        if task.get("task_key") in ids
        else task
        for task in body["tasks"]
    ]
    return {**body, "tasks": tasks}
