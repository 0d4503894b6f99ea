"""What the client hands out of a ModelDeployment: the object as it was read at one moment. Typed, frozen, no I/O."""

from dataclasses import dataclass
from functools import cached_property

from trainyard.api.deployment_status import ServedStatus
from trainyard.api.model_deployment import ModelDeploymentSpec, ModelDeploymentStatus
from trainyard.client.resource import Resource

# Phases that stay until somebody changes something.
_SETTLED = frozenset({"Ready", "RolledBack", "Drifted", "Expired"})


@dataclass(frozen=True, repr=False, eq=False)
class Deployment(Resource):
    """A ModelDeployment as it was read. Read it again to see what has become of it.

    `spec` and `status` are parsed when they are asked for, and raise pydantic's ValidationError for an object that
    only a newer version of Trainyard can read; everything else works for those as well.
    """

    KIND = "ModelDeployment"
    PLURAL = "modeldeployments"
    NOUN = "deployment"

    @cached_property
    def spec(self) -> ModelDeploymentSpec:
        """What was asked for."""
        return ModelDeploymentSpec.model_validate(self.resource.get("spec") or {})

    @cached_property
    def status(self) -> ModelDeploymentStatus:
        """What is served and what happened, as far as the operator has written it."""
        return ModelDeploymentStatus.model_validate(self._status)

    @property
    def current(self) -> bool:
        """Whether the status speaks of the newest spec; until then phase and reason are of an older one."""
        return bool(self._status.get("observedGeneration", 0) >= self._meta.get("generation", 0))

    @property
    def ready(self) -> bool:
        """Whether what is served is what the newest spec asks for, and answers."""
        return self.current and self.phase == "Ready"

    @property
    def available(self) -> bool:
        """Whether something answers, be it what was served before."""
        return self._condition("Available").get("status") == "True"

    @property
    def settled(self) -> bool:
        """Whether nothing goes on by itself: it is ready, or went back, drifted, expired, or its first model failed."""
        return self.current and (self.phase in _SETTLED or self._failed_at_first())

    @property
    def failed(self) -> bool:
        """Whether it has settled, and the newest spec is not what is served."""
        return self.settled and not self.ready

    @property
    def awaits_promotion(self) -> bool:
        """Whether its rollout waits for `promote`."""
        return self.phase == "AwaitingPromotion"

    @property
    def url(self) -> str | None:
        """Where it is asked."""
        url = (self._status.get("endpoint") or {}).get("url")
        return None if url is None else str(url)

    @property
    def revision(self) -> int | None:
        """Number of the newest revision; None before the first."""
        number = self._status.get("revision")
        return None if number is None else int(number)

    def served(self, name: str) -> ServedStatus | None:
        """What is behind the endpoint under that name: of spec.models, or the whole one of status.servedModels.

        Of several with one name of spec.models, which there are during a rollout, the newest revision's.
        """
        known = self.status.served_models
        target = {each.served for each in self.status.target.models} if self.status.target else set[str]()
        found = [each for each in known if each.served == name] or [each for each in known if each.name == name]
        return next((each for each in found if each.served in target), found[0] if found else None)

    def _failed_at_first(self) -> bool:
        failure = self._status.get("failure") or {}
        return self.stalled and failure.get("revision") is not None and failure["revision"] == self.revision
