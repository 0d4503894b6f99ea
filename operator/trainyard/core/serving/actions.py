"""What a decision on a deployment may ask the controller to do. Each is safe to do twice. Frozen; no I/O."""

from dataclasses import dataclass
from datetime import datetime

from trainyard.api.deployment_rollout import Checks
from trainyard.api.deployment_status import Serving
from trainyard.api.model_deployment import ModelDeploymentStatus
from trainyard.core.actions import AddFinalizer, Note, RemoveFinalizer
from trainyard.core.serving.plan import EndpointPlan

__all__ = [
    "AddFinalizer",
    "AskChecks",
    "DeleteEndpoint",
    "FetchLogs",
    "FindEndpoint",
    "Note",
    "Reach",
    "RemoveFinalizer",
    "ServingAction",
    "ServingDecision",
]


@dataclass(frozen=True, slots=True)
class Reach:
    """Look at the endpoint and, with `change`, ask for the one next change that brings it nearer to the plan.

    Sets `ServingObserved.asked` to the plan's digest before the platform is asked, and `reached` by its answer, which
    also takes back `deleted_at`, `looked_at`, `gone` and `logs`: they may be of what was there before.
    """

    plan: EndpointPlan
    change: bool


@dataclass(frozen=True, slots=True)
class AskChecks:
    """Check the new models. Sets `ServingObserved.checked`, with `moment` and a result per check and served model.

    The check "Answers" is always among them. `since` is from when the platform's measurements count.
    """

    moment: str
    plan: EndpointPlan
    served: tuple[Serving, ...]
    checks: Checks
    since: datetime


@dataclass(frozen=True, slots=True)
class FetchLogs:
    """Fetch what the server of each of these printed. Sets `ServingObserved.logs` for every one of them."""

    endpoint: str
    served: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeleteEndpoint:
    """Ask the platform to delete the endpoint, if it is ours.

    Sets `deleted_at` and `looked_at`, and `gone` if nothing is left.
    """

    endpoint: str


@dataclass(frozen=True, slots=True)
class FindEndpoint:
    """Look whether the endpoint is still there and ours. Sets `looked_at`, and `gone` if it is not."""

    endpoint: str


ServingAction = AddFinalizer | RemoveFinalizer | Reach | AskChecks | FetchLogs | DeleteEndpoint | FindEndpoint


@dataclass(frozen=True, slots=True)
class ServingDecision:
    """What to write, then to do, then when to look again. `rule` names the rule that decided."""

    status: ModelDeploymentStatus
    action: ServingAction | None = None
    wake_at: datetime | None = None
    notes: tuple[Note, ...] = ()
    rule: str = ""
