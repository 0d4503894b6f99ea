"""Where a served model came from, and where a run's model is served. Pure; `Runs` reads with what it is given.

Used by serving.py. What a deployment's status remembers of a run (`origin`) is enough where the run was deleted; data,
repository and page come from the run while it is there.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from trainyard.api.deployment_status import Origin, ServedStatus
from trainyard.client.deployment import Deployment
from trainyard.client.errors import NotAllowed, NotFound
from trainyard.client.run import Run

FindRun = Callable[[str, str], Run | None]


@dataclass(frozen=True)
class Data:
    """Something that a run read: a file, folder or table, as its spec names it."""

    name: str
    place: str


@dataclass(frozen=True)
class Made:
    """What made a model version. None: nobody knows, or not any more.

    `run` is the name of the MLTrainingRun, `there` whether it still is; `workspace` is KIND/NAME of where it ran.
    """

    run: str | None = None
    uid: str | None = None
    there: bool = False
    phase: str | None = None
    page: str | None = None
    mlflow_run_id: str | None = None
    source: str | None = None
    commit: str | None = None
    code_digest: str | None = None
    data: tuple[Data, ...] = ()
    requested_by: str | None = None
    submitted_as: str | None = None
    workspace: str | None = None


@dataclass(frozen=True)
class ServedVersion:
    """A model version behind an endpoint, with the percent of the requests that it shall answer and that it does."""

    deployment: Deployment
    name: str
    served: str
    model: str | None
    version: str | None
    state: str
    desired_traffic: int
    served_traffic: int
    made: Made


@dataclass(frozen=True)
class RunLineage:
    """A run, the version that it registered, and what serves it. `model` and `version` may be of what serves it."""

    name: str
    namespace: str
    made: Made
    model: str | None
    version: str | None
    served_by: tuple[ServedVersion, ...]


def of_deployment(deployment: Deployment, find_run: FindRun) -> tuple[ServedVersion, ...]:
    """What is behind the endpoint, wanted or there, each with what made it."""
    return tuple(_version(deployment, each, find_run) for each in deployment.status.served_models)


def of_run(name: str, namespace: str, run: Run | None, deployments: Iterable[Deployment]) -> RunLineage:
    """Where the run's model is served among those deployments. `run` is None where it was deleted.

    Raises NotFound where neither the run nor anything that it made is there.
    """

    def find_run(_namespace: str, wanted: str) -> Run | None:
        return run if run is not None and wanted == run.name else None

    everything = [(deployment, each) for deployment in deployments for each in deployment.status.served_models]
    made_here = _is_of(run) if run is not None else _is_of_deleted(name, namespace, everything)
    served = tuple(_version(*each, find_run) for each in everything if made_here(*each))
    if run is not None:
        registered = run.status.model
        model, version = (registered.name, registered.version) if registered is not None else (None, None)
        return RunLineage(name, namespace, _of_run(run, Origin()), model, version, served)
    if not served:
        raise NotFound(f"there is no run {namespace}/{name}, and no deployment that was looked at serves its model")
    return RunLineage(name, namespace, served[0].made, served[0].model, served[0].version, served)


def _version(deployment: Deployment, served: ServedStatus, find_run: FindRun) -> ServedVersion:
    origin = origin_of(deployment, served)
    run = find_run(deployment.namespace, origin.run) if origin.run else None
    if run is not None and origin.uid is not None and run.uid != origin.uid:
        run = None  # another of that name
    return ServedVersion(
        deployment=deployment,
        name=served.name,
        served=served.served,
        model=served.model,
        version=served.version,
        state=served.state,
        desired_traffic=served.desired_traffic,
        served_traffic=served.served_traffic,
        made=_of_origin(origin) if run is None else _of_run(run, origin),
    )


def origin_of(deployment: Deployment, served: ServedStatus) -> Origin:
    """What made it, as the status remembers it: beside what is served, or in a revision."""
    status = deployment.status
    revisions = [each for each in (status.target, status.last_good) if each is not None]
    known = [each.origin for revision in revisions for each in revision.models if each.served == served.served]
    return next((origin for origin in (served.origin, *known) if origin is not None), Origin())


def _is_of(run: Run) -> Callable[[Deployment, ServedStatus], bool]:
    """Whether the run made it: by uid; by name where no uid is known; else by the version that it registered there."""
    model, hosts = run.status.model, {attempt.host for attempt in run.attempts}

    def asked(deployment: Deployment, served: ServedStatus) -> bool:
        origin, endpoint = origin_of(deployment, served), deployment.status.endpoint
        if origin.uid is not None:
            return origin.uid == run.uid
        if origin.run is not None:
            return (origin.run, deployment.namespace) == (run.name, run.namespace)
        return (
            model is not None
            and endpoint is not None
            and endpoint.host in hosts
            and (served.model, served.version) == (model.name, model.version)
        )

    return asked


def _is_of_deleted(
    name: str, namespace: str, everything: Iterable[tuple[Deployment, ServedStatus]]
) -> Callable[[Deployment, ServedStatus], bool]:
    """Whether a run that has gone made it. Its uid is what its own namespace remembers under that name; where nothing
    there does, whatever of that name is elsewhere may be meant."""
    named = [(each, origin_of(*each)) for each in everything]
    named = [(each, origin) for each, origin in named if origin.run == name]
    own = [(each, origin) for each, origin in named if each[0].namespace == namespace] or named
    uids = {origin.uid for _, origin in own if origin.uid is not None}

    def asked(deployment: Deployment, served: ServedStatus) -> bool:
        origin = origin_of(deployment, served)
        return origin.run == name and (origin.uid in uids or (origin.uid is None and deployment.namespace == namespace))

    return asked


def _of_origin(origin: Origin) -> Made:
    return Made(
        run=origin.run,
        uid=origin.uid,
        mlflow_run_id=origin.mlflow_run_id,
        commit=origin.commit,
        code_digest=origin.code_digest,
        requested_by=origin.requested_by,
        submitted_as=origin.submitted_as,
    )


def _of_run(run: Run, origin: Origin) -> Made:
    attempt, identity, reference = run.attempt(), run.status.identity, run.spec.workspace_ref
    submitted = (identity.submitted_as if identity else None) or (attempt.principal if attempt else None)
    return Made(
        run=run.name,
        uid=run.uid,
        there=True,
        phase=run.phase,
        page=run.url,
        mlflow_run_id=origin.mlflow_run_id or (attempt.mlflow_run_id if attempt else None),
        source=source_of(run),
        commit=origin.commit or (attempt.commit if attempt else None),
        code_digest=origin.code_digest or (attempt.code_digest if attempt else None),
        data=data_of(run),
        requested_by=origin.requested_by,
        submitted_as=origin.submitted_as or submitted,
        workspace=f"{reference.kind}/{reference.name}",
    )


def data_of(run: Run) -> tuple[Data, ...]:
    """What the run reads."""
    return tuple(Data(name, each.uri or each.table or "") for name, each in sorted(run.spec.inputs.items()))


def source_of(run: Run) -> str | None:
    """Where the code comes from, in a few words."""
    spec = run.spec.wire()
    if job := spec.get("jobRef"):
        return f"job {job.get('id') or job.get('name')}"
    code = spec.get("code") or {}
    if git := code.get("git"):
        return " ".join(word for word in (git["url"], git.get("ref"), git.get("path")) if word)
    if wheel := code.get("wheel"):
        return f"wheel {wheel.get('package') or wheel.get('path')}"
    if config_map := code.get("configMap"):
        return f"ConfigMap {config_map['name']}"
    return code.get("path") or ("inline" if "inline" in code else None)


class Runs:
    """Runs by name, each read once; None for one that is not there, or that may not be read."""

    def __init__(self, read: Callable[[str, str], Run]) -> None:
        self._read = read
        self._known: dict[tuple[str, str], Run | None] = {}

    def __call__(self, namespace: str, name: str) -> Run | None:
        """The run, if it can be read."""
        key = (namespace, name)
        if key not in self._known:
            try:
                self._known[key] = self._read(namespace, name)
            except (NotFound, NotAllowed):
                self._known[key] = None
        return self._known[key]
