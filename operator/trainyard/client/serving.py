"""Deployments from Python: the part of the client that is about ModelDeployments. Base of trainyard.Trainyard."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainyard.client import promotion
from trainyard.client.deployment import Deployment
from trainyard.client.errors import BadManifest, DeploymentFailed, DeploymentStalled, NotFound, Refused, named
from trainyard.client.following import Clock, Follower
from trainyard.client.lineage import RunLineage, Runs, ServedVersion, of_deployment, of_run
from trainyard.client.manifests import in_namespace, read_manifest, to_create
from trainyard.client.run import Run
from trainyard.client.scoring import score as scoring
from trainyard.client.scoring.rows import Row
from trainyard.client.scoring.score import Scores
from trainyard.client.server import Server

Manifest = Mapping[str, Any] | str | Path
Progress = Callable[[Deployment], None]


def unheard(_message: str) -> None:
    """Trouble that nobody wants to hear of."""
    return


class Deployments:
    """What `Trainyard` does with ModelDeployments; not made by itself."""

    namespace: str
    _asked_namespace: str | None
    _server: Server
    _clock: Clock

    def deploy(
        self,
        manifest: Manifest,
        *,
        wait: bool = True,
        timeout: float | None = None,
        on_progress: Progress | None = None,
        fail_when_stalled: bool = False,
    ) -> Deployment:
        """Creates the deployment or changes it to what the manifest says (server-side apply), and waits until served.

        Raises what `wait_deployed` raises; BadManifest, Refused, also where a field is managed by somebody else.
        """
        given = read_manifest(manifest, Deployment.KIND)
        name = given["metadata"].get("name")
        if not name:
            raise BadManifest("the manifest has no metadata.name, which a deployment needs")
        namespace = in_namespace(given, self.namespace, self._asked_namespace)
        applied = Deployment(self._server.apply(Deployment.PLURAL, namespace, name, to_create(given)))
        if not wait:
            return applied
        return self.wait_deployed(
            applied, timeout=timeout, on_progress=on_progress, fail_when_stalled=fail_when_stalled
        )

    def deployment(self, deployment: Deployment | str) -> Deployment:
        """The deployment now. Raises NotFound, also if there is only another of that name."""
        if isinstance(deployment, str):
            return Deployment(self._server.get(Deployment.PLURAL, self.namespace, deployment))
        found = Deployment(self._server.get(Deployment.PLURAL, deployment.namespace, deployment.name))
        if found.uid != deployment.uid:
            raise NotFound(f"{named(deployment)} was deleted; there is another of that name", deployment)
        return found

    def deployments(self, *, selector: str | None = None, all_namespaces: bool = False) -> tuple[Deployment, ...]:
        """The deployments, by namespace and name. `selector` is a label selector as kubectl takes it."""
        namespace = None if all_namespaces else self.namespace
        found = self._server.every(Deployment.PLURAL, Deployment.KIND, namespace, selector)
        return tuple(sorted(map(Deployment, found), key=lambda each: (each.namespace, each.name)))

    def follow_deployment(
        self,
        deployment: Deployment | str,
        *,
        timeout: float | None = None,
        on_trouble: Callable[[str], None] = unheard,
    ) -> Iterator[Deployment]:
        """The deployment, then each change of it, without end; as `follow` does for runs."""
        first = self.deployment(deployment) if isinstance(deployment, str) else deployment
        return Follower(self._server, first, timeout, self._clock, on_trouble).states()

    def wait_deployed(
        self,
        deployment: Deployment | str,
        *,
        timeout: float | None = None,
        on_progress: Progress | None = None,
        fail_when_stalled: bool = False,
        check: bool = True,
        on_trouble: Callable[[str], None] = unheard,
    ) -> Deployment:
        """Waits until the newest spec is served in full, or is known not to be, and returns the deployment.

        Args:
            deployment: The deployment, or its name.
            timeout: Seconds to wait at most. Absent: for ever.
            on_progress: Called with the deployment as it is at first and after each change.
            fail_when_stalled: Raise DeploymentStalled when it needs a person, also for a promotion.
            check: Raise when it has settled otherwise than ready.
            on_trouble: As for `follow`.

        Raises:
            DeploymentFailed: It went back, drifted or expired, or its first model failed; unless `check` is False.
            WaitTimedOut: It goes on.
            NotFound: There is no such deployment, or it was deleted.
        """
        for state in self.follow_deployment(deployment, timeout=timeout, on_trouble=on_trouble):
            if on_progress is not None:
                on_progress(state)
            if state.settled:
                if check and not state.ready:
                    raise DeploymentFailed(state)
                return state
            if fail_when_stalled and state.current and (state.stalled or state.awaits_promotion):
                raise DeploymentStalled(state)
        raise AssertionError("follow_deployment() has no end")

    def promote(self, deployment: Deployment | str, *, revision: int | None = None) -> Deployment:
        """Has the newest revision get all requests as soon as it is ready, past the steps that are left.

        `revision`: the number that the caller means; absent, the newest. Raises NothingToPromote.
        """
        now = self.deployment(deployment)
        number = promotion.wanted(now, revision)
        if number == now.resource["spec"].get("promote"):
            return now
        return Deployment(self._server.merge_spec(Deployment.PLURAL, now.namespace, now.name, promotion.change(number)))

    def score(
        self,
        deployment: Deployment | str,
        rows: Sequence[Row],
        *,
        served: str | None = None,
        timeout: float = scoring.SECONDS,
        allowed_hosts: Sequence[str] = (),
        azure_clouds: Sequence[str | Path] = (),
    ) -> Scores:
        """Scores rows at the endpoint, as whom the platform's own SDK finds the caller to be, not as the operator.

        Args:
            deployment: The deployment, or its name.
            rows: Objects with a value for each column.
            served: What is to answer whatever its share: a name of spec.models, or of status.servedModels.
            timeout: Seconds that the answer may take.
            allowed_hosts: Workspace hosts of Databricks beside the public clouds', as the operator's flag takes them.
            azure_clouds: Files that describe clouds of Azure beside the public ones, likewise.

        Raises:
            BadManifest: These are no rows.
            NotFound: There is no such deployment, endpoint or served model.
            NotAllowed: There is no credential for the platform, or it lacks the right to ask; says what grants it.
            Unreachable: There is no usable answer.
            ScoringFailed: The model could not score them.
        """
        return scoring.score(self.deployment(deployment), rows, served, timeout, allowed_hosts, azure_clouds)

    def lineage(self, deployment: Deployment | str) -> tuple[ServedVersion, ...]:
        """What is behind the endpoint, each with the run, code, data and person that made it, as far as known."""
        return of_deployment(self.deployment(deployment), self._runs())

    def lineage_of_run(self, run: Run | str, *, all_namespaces: bool = False) -> RunLineage:
        """What made the run's model, and which deployments of the namespace, or of all, serve it.

        Works for a run that was deleted as long as something serves its model; else raises NotFound.
        """
        name, namespace = (run, self.namespace) if isinstance(run, str) else (run.name, run.namespace)
        plural, kind = Deployment.PLURAL, Deployment.KIND
        found = self._server.every(plural, kind, None if all_namespaces else namespace)
        known = self._runs()(namespace, name) if isinstance(run, str) else run
        return of_run(name, namespace, known, map(Deployment, found))

    def _runs(self) -> Runs:
        return Runs(lambda namespace, name: Run(self._server.get(Run.PLURAL, namespace, name)))

    def delete_deployment(self, deployment: Deployment | str) -> None:
        """Deletes the deployment, and by its deletionPolicy the endpoint first. Another of that name is left alone.

        Raises NotFound if there is none of that name; a Deployment that has gone meanwhile is fine.
        """
        found = self.deployment(deployment) if isinstance(deployment, str) else deployment
        try:
            self._server.delete(Deployment.PLURAL, found.namespace, found.name, found.uid)
        except NotFound:
            return
        except Refused as refused:
            if not refused.conflict:
                raise
