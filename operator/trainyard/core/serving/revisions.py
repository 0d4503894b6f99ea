"""Revisions of a ModelDeployment: what spec.models stands for, resolved. Used by the rules and the readiness; pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from trainyard.api.deployment_status import MOST_REVISIONS, PastRevision, Revision, Serving
from trainyard.api.model_deployment import ModelDeploymentSpec, ModelDeploymentStatus, ModelSource, ServedModel
from trainyard.core.serving.plans import ALL, revision_digest, served_name
from trainyard.core.serving.seen import ResolvedModel
from trainyard.core.times import stamp


def source_of(model: ModelSource) -> str:
    """What the entry names, as one word: version:wine:3, alias:wine:champion or run:NAME."""
    if model.from_run is not None:
        return f"run:{model.from_run.name}"
    if model.alias is not None:
        return f"alias:{model.name}:{model.alias}"
    return f"version:{model.name}:{model.version}"


def to_resolve(spec: ModelDeploymentSpec, status: ModelDeploymentStatus) -> tuple[ServedModel, ...]:
    """The entries of spec.models that have to be looked up; the others keep the answer that status.target holds.

    A followed alias is looked up each time. A run is resolved once and may be gone since, so that what is served of it,
    as the last good revision or the newest, is the answer for good.
    """
    held = _held(status)
    return tuple(each for each in spec.models if each.model.follow_alias or source_of(each.model) not in held)


def resolved(
    spec: ModelDeploymentSpec, status: ModelDeploymentStatus, found: Mapping[str, ResolvedModel]
) -> list[Serving] | None:
    """What spec.models stands for, by what was found now and what status holds. None where an answer is missing."""
    held = _held(status)
    only = len(spec.models) == 1
    models = []
    for each in spec.models:
        source = source_of(each.model)
        answer = found.get(each.name) or held.get(source)
        if answer is None:
            return None
        models.append(_serving(each, answer, source, only=only))
    return models


def still_meant(spec: ModelDeploymentSpec, status: ModelDeploymentStatus) -> bool:
    """Whether the newest revision is what spec.models says, as far as that can be told without looking anything up."""
    models = resolved(spec, status, {})
    return models is not None and status.target is not None and revision_digest(models) == status.target.digest


def next_revision(status: ModelDeploymentStatus, models: Sequence[Serving], now: datetime) -> Revision:
    """The revision after the newest one that serves these. What is good already is served again as it was."""
    digest = revision_digest(models)
    good = status.last_good
    if good is not None and good.digest == digest:
        models = [_sourced(old, models) for old in good.models]
    numbers = [past.number for past in status.revisions]
    if status.target is not None:
        numbers.append(status.target.number)
    return Revision(number=max(numbers, default=0) + 1, digest=digest, created_at=stamp(now), models=list(models))


def begun(status: ModelDeploymentStatus, revision: Revision, now: datetime) -> list[PastRevision]:
    """The history with that revision in it; one whose rollout was under way has been superseded."""
    by = revision.number
    past = [_superseded(each, by, now) if each.outcome == "RollingOut" else each for each in status.revisions]
    line = PastRevision(
        number=revision.number,
        digest=revision.digest,
        created_at=revision.created_at,
        models=[f"{each.name}={each.model}:{each.version}@{each.traffic}" for each in revision.models],
        outcome="RollingOut",
    )
    return [*past, line][-MOST_REVISIONS:]


def ended(status: ModelDeploymentStatus, now: datetime, **changes: object) -> list[PastRevision]:
    """The history with the newest revision's rollout ended; `changes` say how."""
    number = status.target.number if status.target is not None else 0
    over = {"ended_at": stamp(now), **changes}
    return [each.model_copy(update=over) if each.number == number else each for each in status.revisions]


def _superseded(past: PastRevision, by: int, now: datetime) -> PastRevision:
    message = f"revision {by} took its place before it was rolled out"
    return past.model_copy(update={"outcome": "Superseded", "message": message, "ended_at": stamp(now)})


def _held(status: ModelDeploymentStatus) -> dict[str, ResolvedModel]:
    """The answers that status holds, by source."""
    held = {}
    if status.last_good is not None:
        of_runs = [each for each in status.last_good.models if each.source and each.source.startswith("run:")]
        held = {each.source or "": _answer(each) for each in of_runs}
    if status.target is not None:
        held |= {each.source: _answer(each) for each in status.target.models if each.source}
    return held


def _answer(serving: Serving) -> ResolvedModel:
    return ResolvedModel(serving.model, serving.version, serving.origin)


def _sourced(old: Serving, models: Sequence[Serving]) -> Serving:
    """What was served, as it was, with where the spec has it from now."""
    new = next(each for each in models if each.name == old.name)
    return old.model_copy(update={"source": new.source, "origin": old.origin or new.origin})


def _serving(wanted: ServedModel, found: ResolvedModel, source: str, *, only: bool) -> Serving:
    secrets = {name: secret.wire() for name, secret in sorted(wanted.secrets.items())}
    content = {
        "model": found.model,
        "version": found.version,
        "computeClass": wanted.compute.class_,
        "env": dict(sorted(wanted.env.items())),
        "secrets": secrets,
        "scaleToZero": bool(wanted.scale_to_zero),
    }
    least = wanted.replicas.min if wanted.replicas is not None else 1
    most = wanted.replicas.max if wanted.replicas is not None else None
    return Serving(
        name=wanted.name,
        served=served_name(wanted.name, content),
        model=found.model,
        version=found.version,
        compute_class=wanted.compute.class_,
        min_replicas=least,
        max_replicas=most or least,
        scale_to_zero=wanted.scale_to_zero or None,
        env=wanted.env,
        secrets=wanted.secrets,
        traffic=wanted.traffic if wanted.traffic is not None else (ALL if only else 0),
        origin=found.origin,
        source=source,
    )
