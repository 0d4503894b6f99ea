"""Scripts of pretended Azure ML jobs: which states a job goes through, for how long, and how it ends.

The control API reads them from JSON; dispatch.py picks one for each job.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from trainyard_sandbox.azure.job_store import STATUSES, TERMINAL_STATUSES, AzureJob, JobEnd, JobError
from trainyard_sandbox.errors import invalid_parameter
from trainyard_sandbox.schema import AnyJson, Int, ListOf, MapOf, Number, Obj, Str

END_SHAPE = Obj(
    {
        "status": Str(choices=sorted(TERMINAL_STATUSES)),
        "code": Str(min_length=1),
        "message": Str(),
        "inner": ListOf(Str(min_length=1)),
    }
)
SCRIPT_SHAPE = Obj(
    {
        "name": Str(),
        "display_name": Str(),
        "tag": Str(),
        "times": Int(minimum=1),
        "states": ListOf(Obj({"state": Str(choices=STATUSES), "seconds": Number()}, ("state", "seconds"))),
        "end": END_SHAPE,
        "cancel_seconds": Number(),
        "logs": MapOf(Str()),
        "metrics": MapOf(AnyJson()),
        "registered_model_name": Str(min_length=1),
    }
)


@dataclass
class JobScript:
    """What a pretended job does.

    Args:
        states: (status, seconds to stay in it), in order; how it ends belongs in `end`.
        name, display_name: only jobs that this regular expression matches wholly.
        tag: only jobs with this tag, written `key=value`.
        times: for how many jobs; None for all.
        cancel_seconds: how long it stays CancelRequested when it is cancelled.
        logs: content of its log files by name, such as `user_logs/std_log.txt`.
        metrics: logged to its MLflow run before it ends.
        registered_model_name: a version of this model is registered for its run before it ends.
    """

    states: list[tuple[str, float]] = field(default_factory=lambda: [("Queued", 0.05), ("Running", 0.1)])
    end: JobEnd = field(default_factory=JobEnd)
    name: str | None = None
    display_name: str | None = None
    tag: str | None = None
    times: int | None = None
    cancel_seconds: float = 0.05
    logs: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    registered_model_name: str | None = None

    @property
    def general(self) -> bool:
        """Whether it is for every job, for ever."""
        return self.name is None and self.display_name is None and self.tag is None and self.times is None

    def matches(self, job: AzureJob) -> bool:
        """Whether this script is for the job."""
        if self.times == 0:
            return False
        for pattern, text in ((self.name, job.name), (self.display_name, job.display_name)):
            if pattern is not None and re.fullmatch(pattern, text) is None:
                return False
        return self.tag is None or self.tag in {f"{key}={value}" for key, value in job.tags.items()}


def parse_end(document: dict[str, Any]) -> JobEnd:
    """An end from validated JSON (`END_SHAPE`); a failed job has an error, UserError unless said."""
    status = document.get("status", "Completed")
    if status == "Completed":
        return JobEnd()
    if status == "Canceled" and not document.get("message"):
        return JobEnd(status)
    inner = tuple(document.get("inner", ()))
    return JobEnd(status, JobError(document.get("code", "UserError"), document.get("message", ""), inner))


def parse_script(document: dict[str, Any]) -> JobScript:
    """A script from validated JSON (`SCRIPT_SHAPE`); what is not given keeps its default."""
    given = dict(document)
    if "states" in given:
        given["states"] = [(step["state"], float(step["seconds"])) for step in given["states"]]
        if any(state in TERMINAL_STATUSES for state, _ in given["states"]):
            raise invalid_parameter("A terminal status belongs in 'end', not in 'states'.")
    if "end" in given:
        given["end"] = parse_end(given["end"])
    return JobScript(**given)
