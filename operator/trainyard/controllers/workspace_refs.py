"""The workspace that a run or a deployment names, and whether anything new may begin in it.

Used by the readiness of both.
"""

from pydantic import ValidationError

from trainyard.api.training_run import WorkspaceRef
from trainyard.api.workspace import ClusterMLWorkspaceSpec, MLWorkspaceSpec, WorkspaceStatus
from trainyard.controllers.kube import CLUSTER_WORKSPACE
from trainyard.controllers.snapshots import first_error
from trainyard.controllers.store import Key, Store
from trainyard.core.errors import IdentityError, TrainyardError, Unreachable
from trainyard.core.snapshot import Blocked


def workspace_named(ref: WorkspaceRef, namespace: str) -> Key:
    """The key of the workspace that an object of that namespace names."""
    return Key(ref.kind, "" if ref.kind == CLUSTER_WORKSPACE.name else namespace, ref.name)


class WorkspaceRefs:
    """Looks workspaces up in the store; asks nobody."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def spec(self, ref: WorkspaceRef, namespace: str) -> MLWorkspaceSpec | Blocked:
        """The workspace's spec as it is now, whatever it allows."""
        key = workspace_named(ref, namespace)
        obj = self._store.get(key)
        if obj is None:
            where = f" in namespace {namespace}" if key.namespace else ""
            return Blocked("WorkspaceNotFound", f"{key.kind} {key.name} does not exist{where}; create it", waiting=True)
        model = ClusterMLWorkspaceSpec if key.kind == CLUSTER_WORKSPACE.name else MLWorkspaceSpec
        try:
            return model.model_validate(obj.get("spec", {}))
        except ValidationError as invalid:
            return Blocked("WorkspaceInvalid", f"{key.kind} {key.name}: {first_error(invalid)}", waiting=True)

    def usable(self, ref: WorkspaceRef, namespace: str, *, begun: bool) -> MLWorkspaceSpec | Blocked:
        """The workspace's spec, if something new of that namespace may begin in it now.

        `begun`: an intent is written already. It goes on although the workspace is being deleted: the workspace waits
        for it, and one of them has to go on.
        """
        spec = self.spec(ref, namespace)
        if isinstance(spec, Blocked):
            return spec
        key = workspace_named(ref, namespace)
        obj = self._store.get(key)
        assert obj is not None  # noqa: S101  (the spec came from it)
        if obj["metadata"].get("deletionTimestamp") and not begun:
            return Blocked("WorkspaceDeleting", f"{key.kind} {key.name} is being deleted", waiting=True)
        if isinstance(spec, ClusterMLWorkspaceSpec) and namespace not in spec.allowed_namespaces:
            message = (
                f"ClusterMLWorkspace {key.name} does not allow namespace {namespace}; ask its administrator to add "
                "it to spec.allowedNamespaces"
            )
            return Blocked("NamespaceNotAllowed", message, waiting=False)
        status = WorkspaceStatus.model_validate(obj.get("status") or {})
        ready = status.condition("Ready")
        current = status.observed_generation == obj["metadata"].get("generation")
        if ready is None or not current:
            return Blocked("WorkspaceNotReady", f"{key.kind} {key.name} is being checked", waiting=True)
        if ready.status != "True":
            message = f"{key.kind} {key.name} is not ready ({ready.reason}): {ready.message}"
            return Blocked("WorkspaceNotReady", message, waiting=True)
        return spec


def in_the_way(error: TrainyardError) -> Blocked:
    """An error of asking, as something to wait for or to be mended."""
    waiting = error.waiting if isinstance(error, IdentityError) else isinstance(error, Unreachable)
    return Blocked(error.reason, error.message, waiting=waiting)
