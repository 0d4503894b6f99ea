"""Deployments from Python: the part of the client that is about ModelDeployments. Base of trainyard.Trainyard."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from trainyard.client import promotion
from trainyard.client.deployment import Deployment
from trainyard.client.errors import BadManifest, DeploymentFailed, DeploymentStalled, NotFound, Refused, named
from trainyard.client.following import Clock, Follower
from trainyard.client.manifests import in_namespace, read_manifest, to_create
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
