"""The client: the verbs of the command line for Python. Called by notebooks, Airflow tasks and `trainyard.cli`.

Safe from several threads as far as one object's connection pool is. Writes nothing but runs and
deployments and their spec.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from trainyard.api.run_log import MLRunLogSpec, log_name
from trainyard.client.access import find_access
from trainyard.client.changes import changed
from trainyard.client.deployment import Deployment
from trainyard.client.errors import NotFound, Problem, Refused, RunStalled, raise_for
from trainyard.client.following import Clock, Follower
from trainyard.client.manifests import copied, differing_fields, in_namespace, planned, read_manifest, to_create
from trainyard.client.run import Event, Run, RunLog
from trainyard.client.server import LOGS, Server
from trainyard.client.serving import Deployments, unheard
from trainyard.core.times import parse

Manifest = Mapping[str, Any] | str | Path
Progress = Callable[[Run], None]

# Seconds that a plan may take: the operator needs the workspace's answer to each check.
PLAN_SECONDS = 180.0


class Trainyard(Deployments):
    """Runs and deployments of one namespace, through one API server, with the rights that kubectl would have.

    Args:
        namespace: Where they are. Absent: a manifest's own, or the namespace of the context, or of the pod.
        context: Context of the kubeconfig. Absent: the current one.
        kubeconfig: A kubeconfig file. Absent: as kubectl finds it, or the pod's own ServiceAccount.
        clock: For tests.

    Raises:
        Unreachable: there is no way to an API server.
    """

    def __init__(
        self,
        namespace: str | None = None,
        context: str | None = None,
        kubeconfig: str | Path | None = None,
        *,
        clock: Clock | None = None,
    ) -> None:
        access = find_access(context, kubeconfig)
        self._api = access.api
        self.namespace = namespace or access.namespace
        self._asked_namespace = namespace
        self._server = Server(access.api)
        self._clock = clock or Clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections; leaving a `with` block does so as well."""
        self._api.close()  # type: ignore[no-untyped-call]

    def run(
        self,
        manifest: Manifest,
        *,
        wait: bool = True,
        timeout: float | None = None,
        on_progress: Progress | None = None,
        fail_when_stalled: bool = False,
    ) -> Run:
        """Starts the run, or finds the one that an equal manifest has started, and waits for its end.

        Raises what `apply` and `wait` raise.
        """
        run, _ = self.apply(manifest)
        if not wait:
            return run
        return self.wait(run, timeout=timeout, on_progress=on_progress, fail_when_stalled=fail_when_stalled)

    def create(self, manifest: Manifest) -> Run:
        """Creates the run. Raises BadManifest, Refused (also if the name is taken), NotFound for the namespace."""
        given = read_manifest(manifest)
        namespace = in_namespace(given, self.namespace, self._asked_namespace)
        return Run(self._server.create(Run.PLURAL, namespace, to_create(given)))

    def apply(self, manifest: Manifest) -> tuple[Run, bool]:
        """Creates the run; or returns the one that is there if it is what the manifest asks for, and False.

        Never changes a run: Refused if one of that name has another spec, or is being deleted.
        """
        given = read_manifest(manifest)
        name = given["metadata"].get("name")
        try:
            return self.create(given), True
        except Refused as refused:
            if not name or not refused.conflict:
                raise
            taken = refused
        namespace = in_namespace(given, self.namespace, self._asked_namespace)
        existing = Run(self._server.get(Run.PLURAL, namespace, name))
        if existing.deleting:
            raise Refused(f"run {name} is being deleted: wait, or use another name", about=existing) from taken
        different = differing_fields(given, existing)
        if different:
            problems = [Problem(f"spec.{field}", "is not as in the existing run") for field in different]
            raise Refused(
                f"run {name} exists with another spec, and runs do not change: use another name", problems, existing
            ) from taken
        return existing, False

    def get(self, run: Run | str) -> Run:
        """The run now. Raises NotFound, also if there is only another run of that name."""
        if isinstance(run, str):
            return Run(self._server.get(Run.PLURAL, self.namespace, run))
        found = Run(self._server.get(Run.PLURAL, run.namespace, run.name))
        if found.uid != run.uid:
            raise NotFound(f"run {run.namespace}/{run.name} was deleted; there is another of that name", run)
        return found

    def list(self, *, selector: str | None = None, all_namespaces: bool = False) -> tuple[Run, ...]:
        """The runs, by namespace and name. `selector` is a label selector as kubectl takes it."""
        found = self._server.every(Run.PLURAL, Run.KIND, None if all_namespaces else self.namespace, selector)
        return tuple(sorted((Run(item) for item in found), key=lambda run: (run.namespace, run.name)))

    def follow(
        self, run: Run | str, *, timeout: float | None = None, on_trouble: Callable[[str], None] = unheard
    ) -> Iterator[Run]:
        """The run, then each change of it, without end: stop asking when you have seen enough.

        `on_trouble` is told once each time the API server goes away; it is waited for up to ten minutes.
        Raises NotFound when the run is deleted, WaitTimedOut after `timeout` seconds, Unreachable.
        """
        first = self.get(run) if isinstance(run, str) else run
        return Follower(self._server, first, timeout, self._clock, on_trouble).states()

    def wait(
        self,
        run: Run | str,
        *,
        timeout: float | None = None,
        on_progress: Progress | None = None,
        fail_when_stalled: bool = False,
        check: bool = True,
        on_trouble: Callable[[str], None] = unheard,
    ) -> Run:
        """Waits until the run has ended and returns it.

        Args:
            run: The run, or its name.
            timeout: Seconds to wait at most. Absent: for ever.
            on_progress: Called with the run as it is at first and after each change.
            fail_when_stalled: Raise RunStalled when the run needs a person, rather than wait for that person.
            check: Raise when the run has ended otherwise than well.
            on_trouble: As for `follow`.

        Raises:
            RunFailed, RunTimedOut, RunCancelled: It ended so; unless `check` is False.
            WaitTimedOut: It goes on.
            NotFound: There is no such run, or it was deleted.
        """
        for state in self.follow(run, timeout=timeout, on_trouble=on_trouble):
            if on_progress is not None:
                on_progress(state)
            if fail_when_stalled and state.stalled:
                raise RunStalled(state)
            if state.finished:
                if check:
                    raise_for(state)
                return state
        raise AssertionError("follow() has no end")

    def logs(self, run: Run | str, *, attempt: int | None = None) -> RunLog:
        """What an attempt printed, the newest if none is named. There is nothing before the attempt has ended.

        Raises NotFound, with the run as it was seen before.
        """
        now = self.get(run)
        number = attempt if attempt is not None else now.newest_attempt
        if number is None:
            raise NotFound(f"run {now.name} has made no attempt yet", now)
        name = log_name(now.name, now.uid, number)
        try:
            found = self._server.get(LOGS, now.namespace, name)
        except NotFound as error:
            raise NotFound(f"there is no log of attempt {number} of run {now.name}", now) from error
        spec = MLRunLogSpec.model_validate(found["spec"])
        if spec.run_uid != now.uid:
            raise NotFound(f"the log {name} is of another run", now)
        return RunLog(name, spec)

    def events(self, run: Run | Deployment) -> tuple[Event, ...]:
        """The Kubernetes Events about the run or deployment, oldest first. Raises NotAllowed for who may not list."""
        found = [_event(item) for item in self._server.events(run.namespace, run.uid)]
        return tuple(sorted(found, key=lambda event: event.at.timestamp() if event.at else 0.0))

    def cancel(self, run: Run | str) -> Run:
        """Asks for the run to be stopped for good. One that has ended is returned as it is."""
        now = self.get(run)
        return now if now.finished else self._merge(now, {"cancel": True})

    def suspend(self, run: Run | str) -> Run:
        """Asks for the run to be stopped until it is resumed. Raises Refused if it has ended."""
        now = self.get(run)
        if now.finished:
            raise Refused(f"run {now.name} has ended ({now.phase}): there is nothing to suspend", about=now)
        return self._merge(now, {"suspend": True})

    def resume(self, run: Run | str) -> Run:
        """Lets a suspended run go on with a new attempt. Raises Refused if it has ended."""
        now = self.get(run)
        if now.finished:
            raise Refused(f"run {now.name} has ended ({now.phase}): copy it to run it again", about=now)
        return self._merge(now, {"suspend": False}) if now.resource["spec"].get("suspend") else now

    def copy_manifest(
        self, run: Run | str, new_name: str, changes: Mapping[str, Any] | None = None, workspace: str | None = None
    ) -> dict[str, Any]:
        """What `copy` would create, without creating it."""
        made = copied(self.get(run), new_name)
        for path, value in (changes or {}).items():
            changed(made["spec"], path, value)
        if workspace is not None:
            made["spec"].setdefault("workspaceRef", {})["name"] = workspace
        return made

    def copy(
        self, run: Run | str, new_name: str, changes: Mapping[str, Any] | None = None, workspace: str | None = None
    ) -> Run:
        """Creates a new run from an old one.

        Args:
            run: The old run, or its name.
            new_name: The new one.
            changes: Values by path below spec, for example {"params.trees": "200", "tasks[fit].compute.class": "gpu"};
                None takes a field away.
            workspace: Name of the workspace it goes to. Absent: the same.
        """
        return self.create(self.copy_manifest(run, new_name, changes, workspace))

    def plan(
        self,
        manifest: Manifest,
        *,
        timeout: float = PLAN_SECONDS,
        keep: bool = False,
        on_progress: Progress | None = None,
    ) -> Run:
        """What the run would send to the platform and what every check says: in `status.plan`. Starts nothing.

        Makes a run of its own with planOnly and deletes it again, unless `keep`. Returns as well when the plan is
        that the run would fail or stall: look at `succeeded`. Raises WaitTimedOut if it is still waiting for something.
        """
        given = read_manifest(manifest)
        namespace = in_namespace(given, self.namespace, self._asked_namespace)
        made = Run(self._server.create(Run.PLURAL, namespace, planned(given)))
        try:
            return self.wait(made, timeout=timeout, on_progress=on_progress, fail_when_stalled=True, check=False)
        except RunStalled as stalled:
            return stalled.run
        finally:
            if not keep:
                self.delete(made)

    def delete(self, run: Run | str) -> None:
        """Deletes the run, which stops it first. Another run of that name is left alone.

        Raises NotFound if there is no run of that name; a Run that has gone meanwhile is fine.
        """
        found = self.get(run) if isinstance(run, str) else run
        try:
            self._server.delete(Run.PLURAL, found.namespace, found.name, found.uid)
        except NotFound:
            return
        except Refused as refused:
            if not refused.conflict:
                raise

    def _merge(self, run: Run, spec: Mapping[str, Any]) -> Run:
        return Run(self._server.merge_spec(Run.PLURAL, run.namespace, run.name, spec))


def _event(item: Mapping[str, Any]) -> Event:
    at = item.get("lastTimestamp") or item.get("eventTime") or item.get("firstTimestamp")
    return Event(
        at=parse(at) if at else None,
        type=str(item.get("type", "")),
        reason=str(item.get("reason", "")),
        message=str(item.get("message", "")),
        count=int(item.get("count") or 1),
    )
