"""What Azure ML says about a job, in the core's words. Pure.

Reads the JSON as it came rather than the SDK's typed objects: a state of tomorrow must neither be dropped nor look like
another (invariant 9). Words and meanings: azure-ai-ml `_restclient/arm_ml_service/models/_enums.py` (JobStatus) and
`operations/_run_history_constants.py` (what each state is).
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from trainyard.core.remote import End, RemoteRun, Stage

# Why a job is in a state that says neither that it goes on nor that it has ended.
_UNSURE = {
    "NotResponding": "its machine has not been heard of for a while; it may come back",
    "Paused": "somebody has paused it on the platform",
    "Unknown": "the platform itself does not know its state",
}
STATES = {
    "NotStarted": Stage.QUEUED,
    "Starting": Stage.QUEUED,
    # Machines are made for it.
    "Provisioning": Stage.QUEUED,
    "Queued": Stage.QUEUED,
    # "The run environment is being prepared: docker image build, conda environment setup."
    "Preparing": Stage.BUILDING,
    "Running": Stage.RUNNING,
    # The code is done but what it left is not stored yet.
    "Finalizing": Stage.RUNNING,
    "CancelRequested": Stage.RUNNING,
    "Completed": Stage.ENDED,
    "Failed": Stage.ENDED,
    "Canceled": Stage.ENDED,
    **dict.fromkeys(_UNSURE, Stage.UNKNOWN),
}
# Who failed is told by the run history's error, which `outcome` reads.
ENDS = {"Completed": End.SUCCEEDED, "Failed": End.CODE, "Canceled": End.CANCELLED}


def remote_run(job: Mapping[str, Any]) -> RemoteRun:
    """One look at a job, from the JSON of jobs/{name} or a row of the list of jobs.

    Azure Resource Manager tells when it was made and no other times; when it ran is told by `outcome`.
    """
    properties, system = _object(job, "properties"), _object(job, "systemData")
    state = str(properties.get("status") or "")
    name = str(job.get("name") or "")
    stage = STATES.get(state, Stage.UNKNOWN)
    return RemoteRun(
        remote_id=name,
        stage=stage,
        state=state[:64],
        end=ENDS.get(state),
        message=_UNSURE.get(state, ""),
        url=_studio(properties),
        ran_as=str(system.get("createdBy") or "") or None,
        started_at=moment(system.get("createdAt")),
        mlflow_run_id=name or None,
        builds_image=stage is Stage.BUILDING,
    )


def tags_of(job: Mapping[str, Any]) -> dict[str, str]:
    """The tags of a job."""
    return {str(key): str(value) for key, value in _object(_object(job, "properties"), "tags").items()}


def moment(text: Any) -> datetime | None:
    """A time as Azure writes it: ISO 8601 with up to seven decimals, UTC."""
    if not isinstance(text, str) or not text:
        return None
    whole, dot, rest = text.strip().rstrip("Z").partition(".")
    digits = rest[: next((at for at, each in enumerate(rest) if not each.isdigit()), len(rest))]
    try:
        found = datetime.fromisoformat(f"{whole}{dot}{digits[:6]}{rest[len(digits) :]}" if dot else whole)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _studio(properties: Mapping[str, Any]) -> str | None:
    """The run's page, as the service itself names it."""
    endpoint = _object(_object(properties, "services"), "Studio").get("endpoint")
    return str(endpoint)[:1024] if isinstance(endpoint, str) and endpoint.startswith("https://") else None


def _object(parent: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = parent.get(key)
    return value if isinstance(value, Mapping) else {}
