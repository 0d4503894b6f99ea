"""The contract that every platform keeps for endpoints, beside `base`. Called by `controllers`, in a lane's thread.

`translate_endpoint` is pure; an `Endpoints` talks to one host as one principal. Errors are those of `core.errors`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from trainyard.api.workspace import MLWorkspaceSpec
from trainyard.core.errors import TrainyardError
from trainyard.core.remote import Finding
from trainyard.core.serving.plan import EndpointPlan
from trainyard.core.serving.seen import Measured, Reached, ResolvedModel, Scored
from trainyard.platforms.base import Need

# Seconds that one call of `Endpoints` may take.
REACH_SECONDS = 60.0
SCORE_SECONDS = 130.0


@dataclass(frozen=True, slots=True)
class EndpointRequest:
    """A plan in the platform's terms, complete before anything is sent. `body` is the platform part's own business.

    A need without a holder is one of the identity that asks, whom only `Endpoints.preflight` knows. What is `kept` is
    left as it is seen, with the share that the plan gives it: the workspace no longer says how it is made, for reason
    `why`, which is raised where something kept is to answer and is not there.
    """

    plan: EndpointPlan
    body: Mapping[str, Any]
    needs: tuple[Need, ...] = ()
    kept: frozenset[str] = frozenset()
    why: TrainyardError | None = None


class Endpoints(Protocol):
    """The endpoints of one host as one principal."""

    def resolve(self, model: str, *, version: str | None = None, alias: str | None = None) -> ResolvedModel:
        """The version of a registered model, by its number or its alias; `model` as the platform names it.

        `origin` has the MLflow run and what our tags on the version tell of the run behind it (docs/decisions/0011).
        Raises Missing when there is no such model, version or alias (yet).
        """

    def preflight(self, request: EndpointRequest) -> tuple[Finding, ...]:
        """Looks at each need: rights of the endpoint's identity on the model, its signature and environment, quota with
        everything that serves beside it counted. Starts and changes nothing. What can not be found out is Unknown.
        """

    def reach(self, request: EndpointRequest, *, change: bool) -> Reached:
        """Looks at the endpoint; with `change`, and unless it is busy, asks for the one next change that brings it
        nearer to the plan, in an order in which requests are always answered. Never waits for the platform to have done
        it. An endpoint that is not ours is not changed, unless the plan adopts it.

        Raises:
            Refused: the platform will never take this change; `reason` EndpointNameTaken where the name is another's.
            Denied: a right is missing.
            Unreachable: among it that the platform takes no change now (409, `reason` PlatformBusy).
        """

    def score(self, endpoint: str, served: str | None, rows: list[Mapping[str, Any]], *, seconds: float) -> Scored:
        """Scores rows at the endpoint, or at one of its served models whatever its share; any answer is an answer.

        Raises Unreachable only where there was none.
        """

    def measured(self, endpoint: str, served: str, since: datetime, percentile: int) -> Measured:
        """What the platform measured of one served model since then."""

    def logs(self, endpoint: str, served: str) -> str:
        """The last part of what its server printed, and of the building of its image; "" if there is none."""

    def delete(self, endpoint: str, uid: str) -> bool:
        """Asks the platform to delete the endpoint if its tags name that uid; returns whether there is something left
        to wait for. Already gone, or not ours, is no error.
        """

    def exists(self, endpoint: str, uid: str | None) -> bool:
        """Whether the endpoint is there and its tags name that uid; with None, whether it is there at all."""


class ServingPlatform(Protocol):
    """What a `Platform` has for endpoints; the same object."""

    def endpoint_name(self, wanted: str | None, workspace: MLWorkspaceSpec, namespace: str, name: str) -> str:
        """The name of the endpoint: `wanted`, or one made of prefix, namespace and name within the platform's limits,
        with a short digest where something had to be cut. Pure.
        """

    def model_name(self, name: str, workspace: MLWorkspaceSpec) -> str:
        """The registered name, as the platform has it, of a name in spec.models. Pure. Raises TranslationError."""

    def translate_endpoint(
        self, plan: EndpointPlan, workspace: MLWorkspaceSpec | None, kept: frozenset[str] = frozenset()
    ) -> EndpointRequest:
        """The plan in the platform's terms. Pure. Raises TranslationError naming the field, for what it lacks too.

        Nothing of the workspace is looked up for what is `kept`. Without a workspace all that is served has to be, and
        the logging of requests stays as it is.
        """

    def endpoints(self, connection: Any) -> Endpoints:
        """The endpoints of a connection of this platform's own."""
