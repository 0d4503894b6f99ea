"""MLRunLog: the last part of what an attempt of a run printed, kept beside the run and deleted with it.

Made by the operator when the attempt has ended, so that people read logs with a right on this kind alone and without a
credential for the platform. A kind of its own rather than a ConfigMap: the operator then needs no right to write those.
"""

from typing import Annotated

from pydantic import Field

from trainyard.api.base import ApiModel, Name, Time

# Characters that one attempt's log may have in all; a whole object in etcd may have 1.5 MiB.
MOST_CHARACTERS = 262_144
# Characters of the run's name in that of its logs: a name may have 253 in all.
_LONGEST_NAME = 200


def log_name(run_name: str, run_uid: str, attempt: int) -> str:
    """What the MLRunLog of that attempt is called. A run that is made again under its name has logs of its own."""
    return f"{run_name[:_LONGEST_NAME].rstrip('.-')}-{run_uid[:8]}-{attempt}"


class TaskLog(ApiModel):
    """What one task printed."""

    name: Annotated[str, Field(max_length=63, description="Name of the task; train for a run of one.")]
    text: Annotated[
        str, Field(max_length=MOST_CHARACTERS, description="The last part of what it printed, tokens blanked out.")
    ]
    truncated: Annotated[
        bool | None, Field(default=None, description="True if there was more than is kept here. Absent: that is all.")
    ] = None
    missing: Annotated[
        str | None,
        Field(
            default=None,
            max_length=512,
            description="Why there is no text, where the platform gave none. Absent: there is one.",
        ),
    ] = None


class MLRunLogSpec(ApiModel):
    """The logs of one attempt."""

    run_name: Annotated[Name, Field(description="The MLTrainingRun.")]
    run_uid: Annotated[str, Field(max_length=63, description="Its uid.")]
    attempt: Annotated[int, Field(ge=1, description="Number of the attempt, 1 for the first.")]
    remote_id: Annotated[
        str | None, Field(default=None, max_length=128, description="The platform's id of it. Absent: it had none.")
    ] = None
    at: Annotated[Time, Field(description="When the logs were fetched.")]
    uri: Annotated[
        str | None,
        Field(default=None, max_length=1024, description="Where the workspace keeps the whole logs. Absent: nowhere."),
    ] = None
    tasks: Annotated[
        list[TaskLog], Field(default_factory=list, max_length=32, description="One entry per task. Absent: none.")
    ]
