"""From what status says to what the endpoint has to be: one plan for each stage. Used by the rules; pure.

`trial_plan` is for the readiness, which has it translated and checked before a revision is begun.
"""

from collections.abc import Mapping, Sequence

from trainyard.api.deployment_status import Revision, Serving
from trainyard.api.model_deployment import ModelDeploymentStatus
from trainyard.core.serving.plan import EndpointPlan, Owner
from trainyard.core.serving.plans import shares
from trainyard.core.serving.revisions import resolved
from trainyard.core.serving.seen import RemoteEndpoint, ResolvedModel
from trainyard.core.serving.snapshot import DeploymentKnown, DeploymentSnapshot


def trial_plan(
    deployment: DeploymentSnapshot, endpoint: str, models: Mapping[str, ResolvedModel], cluster: str = ""
) -> EndpointPlan | None:
    """The largest plan that the newest revision would need: all of it, with the last good one serving beside it.

    For translation and for the quota. `models` holds what was looked up; what `revisions.to_resolve` left out is taken
    from status. None where spec can not be read, or an answer is missing.
    """
    if deployment.spec is None:
        return None
    found = resolved(deployment.spec, deployment.status, models)
    if found is None:
        return None
    good = deployment.status.last_good
    before = good.models if good is not None else []
    traffic = _own(good.models) if good is not None else _own(found)
    named = deployment.status.endpoint.name if deployment.status.endpoint is not None else endpoint
    return _plan(deployment, named, cluster, 0, _beside(found, before), traffic)


def wanted_plan(known: DeploymentKnown, status: ModelDeploymentStatus) -> EndpointPlan | None:
    """What the endpoint has to be in that state of the status. None where it is not to be anything (any more)."""
    rollout, target, good = status.rollout, status.target, status.last_good
    if status.endpoint is None or target is None or known.deployment.spec is None:
        return None
    before = good.models if good is not None else []
    if rollout is None:
        if not back_on_good(status):
            return steady_plan(known, status, target)
        return steady_plan(known, status, good) if good is not None else empty_plan(known, status)
    match rollout.stage:
        case "Preparing" if good is None:
            return steady_plan(known, status, target)
        case "Preparing":
            return _for(known, status, target.number, _beside(before, target.models), shares(before, target.models, 0))
        case "Stepping":
            traffic = shares(before, target.models, rollout.traffic)
            return _for(known, status, target.number, _beside(before, target.models), traffic)
        case "Promoting":
            return _for(known, status, target.number, _beside(target.models, before), _all(target.models, before))
        case "CleaningUp":
            return steady_plan(known, status, target)
        case "RollingBack" if good is not None:
            there = [each for each in new_models(status) if each.served in seen_names(known)]
            return _for(known, status, good.number, _beside(before, there), _all(before, there))
        case "RollingBack":
            return steady_plan(known, status, target)
        case "Removing":
            return steady_plan(known, status, good) if good is not None else empty_plan(known, status)


def steady_plan(known: DeploymentKnown, status: ModelDeploymentStatus, revision: Revision) -> EndpointPlan:
    """That revision and nothing else."""
    return _for(known, status, revision.number, revision.models, _own(revision.models))


def looking_plan(known: DeploymentKnown, status: ModelDeploymentStatus) -> EndpointPlan | None:
    """A plan that is only looked with, where spec can not be followed: nothing of spec is in it that could be refused.

    What differs from it says nothing.
    """
    return empty_plan(known, status) if status.endpoint is not None else None


def empty_plan(known: DeploymentKnown, status: ModelDeploymentStatus) -> EndpointPlan:
    """Nothing is served. No setting of spec matters then, and one of them may be why."""
    assert status.endpoint is not None  # noqa: S101  (the callers looked)
    owner = _owner(known.deployment, status.endpoint.cluster or "")
    return EndpointPlan(endpoint=status.endpoint.name, owner=owner, revision=0, served=(), traffic={})


def back_on_good(status: ModelDeploymentStatus) -> bool:
    """Whether the newest revision went back: the last good one, or nothing, is served in its place."""
    target, failure = status.target, status.failure
    return status.rollout is None and target is not None and failure is not None and failure.revision == target.number


def new_models(status: ModelDeploymentStatus) -> list[Serving]:
    """What the newest revision serves that the last good one does not."""
    good = {each.served for each in status.last_good.models} if status.last_good is not None else set()
    return [each for each in status.target.models if each.served not in good] if status.target is not None else []


def seen_endpoint(known: DeploymentKnown) -> RemoteEndpoint | None:
    """The endpoint as it was last looked at; None also where it has not been looked at yet."""
    return known.observed.reached.endpoint if known.observed.reached is not None else None


def seen_names(known: DeploymentKnown) -> set[str]:
    """What was there, and not on its way out, when the endpoint was last looked at."""
    endpoint = seen_endpoint(known)
    return {each.served for each in endpoint.served if each.state != "Deleting"} if endpoint is not None else set()


def _own(models: Sequence[Serving]) -> dict[str, int]:
    return {each.served: each.traffic for each in models}


def _all(models: Sequence[Serving], others: Sequence[Serving]) -> dict[str, int]:
    """Each its own share, and nothing for the others."""
    return dict.fromkeys((each.served for each in others), 0) | _own(models)


def _beside(models: Sequence[Serving], others: Sequence[Serving]) -> list[Serving]:
    """All of them, each once: what both have is as the first have it."""
    names = {each.served for each in models}
    return [*models, *(each for each in others if each.served not in names)]


def _owner(deployment: DeploymentSnapshot, cluster: str) -> Owner:
    return Owner(deployment.namespace, deployment.name, deployment.uid, cluster)


def _for(
    known: DeploymentKnown,
    status: ModelDeploymentStatus,
    number: int,
    served: Sequence[Serving],
    traffic: Mapping[str, int],
) -> EndpointPlan:
    assert status.endpoint is not None  # noqa: S101  (the caller looked)
    return _plan(known.deployment, status.endpoint.name, status.endpoint.cluster or "", number, served, traffic)


def _plan(
    deployment: DeploymentSnapshot,
    endpoint: str,
    cluster: str,
    number: int,
    served: Sequence[Serving],
    traffic: Mapping[str, int],
) -> EndpointPlan:
    spec = deployment.spec
    assert spec is not None  # noqa: S101  (no plan is made of a spec that can not be read)
    return EndpointPlan(
        endpoint=endpoint,
        owner=_owner(deployment, cluster),
        revision=number,
        served=tuple(served),
        traffic=dict(traffic),
        adopt=bool(spec.adopt),
        auth=spec.auth or "Token",
        request_logging=spec.request_logging,
        tags=dict(spec.tags),
        permissions=tuple(spec.permissions),
    )
