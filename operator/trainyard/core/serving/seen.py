"""What a platform tells about an endpoint, in words that hold for every platform. Made by `platforms`; frozen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from trainyard.api.deployment_status import CheckResult, Origin, PermissionStatus
from trainyard.core.remote import Trouble

ServedState = Literal["Creating", "Updating", "Ready", "Failed", "Deleting", "Unknown"]


@dataclass(frozen=True, slots=True)
class RemoteServed:
    """One model version behind the endpoint, as the platform shows it.

    `traffic` is what it answers now, not what is asked for. `state` is Ready only when it can answer. A new
    configuration of something that serves meanwhile is Updating. Unknown is a state that this version has never heard
    of.
    """

    served: str
    state: ServedState
    traffic: int
    model: str = ""
    version: str = ""
    replicas: int | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class RemoteEndpoint:
    """One look at an endpoint. `busy`: the platform takes no change now. `ours`: its tags name the deployment's uid.

    `failed` says why the last change that the platform was asked for came to nothing, as far as it tells.
    """

    name: str
    ours: bool
    busy: bool
    state: str  # the platform's own word
    served: tuple[RemoteServed, ...] = ()
    url: str | None = None
    page: str | None = None
    creator: str | None = None
    deleting: bool = False
    failed: str = ""
    permissions: tuple[PermissionStatus, ...] = ()


@dataclass(frozen=True, slots=True)
class Reached:
    """What one call of `Endpoints.reach` saw and did.

    `endpoint` is what was seen before anything was sent; None: there is none. `differences` are what the plan lacks,
    one sentence each, empty when the endpoint follows the plan in full: all served is Ready with its share, nothing
    else is there, and every setting is as planned. `sent` says which one change was asked for, if any.
    """

    plan: str  # digest of the plan, see core.serving.plans.plan_digest
    endpoint: RemoteEndpoint | None
    differences: tuple[str, ...]
    sent: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A registered model version, found once. `model` is the name as the platform has it."""

    model: str
    version: str
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """An answer of an endpoint. `predictions` is what it predicted, one per row; None where it is no such answer."""

    status: int
    seconds: float
    predictions: list[object] | None
    text: str = ""  # the beginning of what it said, tokens blanked out


@dataclass(frozen=True, slots=True)
class Measured:
    """What the platform measured of one served model since a moment. None: it does not tell (yet)."""

    requests: int | None = None
    errors: int | None = None  # answered with 5xx
    latency_milliseconds: float | None = None  # at the percentile that was asked for


@dataclass(frozen=True, slots=True)
class Checked:
    """What the checks of one moment of a rollout found. `moment` is `core.serving.checking.moment`.

    `untold` holds, by (check, served), since when a check waits for what the platform does not tell although it has
    measured enough requests.
    """

    moment: str
    results: tuple[CheckResult, ...]
    at: datetime
    untold: Mapping[tuple[str, str], datetime] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ServingObserved:
    """What this process has learned of one deployment. Empty after a restart; nothing in it is needed for safety."""

    reached: Reached | None = None
    asked: str = ""  # digest of the plan of the last Reach, whether or not it worked: a refusal is of that plan
    checked: Checked | None = None
    logs: Mapping[str, str] = field(default_factory=dict)  # by served name; "" where the platform has none
    deleted_at: datetime | None = None  # the deletion was asked for
    gone: bool = False  # the endpoint was looked for and is not there, or is not ours
    left: bool = False  # it was there and not ours: nobody deletes it
    looked_at: datetime | None = None  # when it was last looked for: by DeleteEndpoint or FindEndpoint
    deletion_seen_at: datetime | None = None
    trouble: Trouble | None = None
