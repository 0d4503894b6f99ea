"""The newest version of each watched object, and who refers to whom. Filled by kopf's watch and by our own writes."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from trainyard.controllers.kube import CLUSTER_WORKSPACE, DEPLOYMENT, RUN, WORKSPACE
from trainyard.core.conditions import FINAL
from trainyard.core.snapshot import FINALIZER


class Key(NamedTuple):
    """Names one object. `namespace` is empty for cluster-scoped kinds."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}" if self.namespace else f"{self.kind}/{self.name}"


Object = Mapping[str, Any]


def key_of(kind: str, obj: Object) -> Key:
    """The object's key."""
    return Key(kind, obj["metadata"].get("namespace", ""), obj["metadata"]["name"])


def workspace_key(obj: Object) -> Key:
    """The key of the workspace that a run or a deployment names."""
    ref = obj.get("spec", {}).get("workspaceRef", {})
    if ref.get("kind") == CLUSTER_WORKSPACE.name:
        return Key(CLUSTER_WORKSPACE.name, "", str(ref.get("name", "")))
    return Key(WORKSPACE.name, obj["metadata"].get("namespace", ""), str(ref.get("name", "")))


def served_runs(deployment: Object) -> set[Key]:
    """The keys of the runs whose models a deployment serves, or waits for."""
    namespace = deployment["metadata"].get("namespace", "")
    sources = [each.get("model", {}).get("fromRun") for each in deployment.get("spec", {}).get("models", [])]
    return {Key(RUN.name, namespace, str(source.get("name", ""))) for source in sources if source}


class Store:
    """Objects by key. A late event never replaces a newer version that we have already seen."""

    def __init__(self) -> None:
        self._objects: dict[Key, Object] = {}
        self._referrers: dict[tuple[str, Key], set[Key]] = {}  # by kind and by what they name

    def get(self, key: Key) -> Object | None:
        """The newest version seen, if the object is there."""
        return self._objects.get(key)

    def holds(self, key: Key, obj: Object) -> bool:
        """Whether exactly this version of the object is known already."""
        known = self._objects.get(key)
        return known is not None and _version(known) == _version(obj)

    def put(self, key: Key, obj: Object) -> bool:
        """Keeps the object unless it is older than what is kept. Returns whether it was kept."""
        known = self._objects.get(key)
        if known is not None and _older(obj, known):
            return False
        if known is not None:
            self._unlink(key, known)
        self._objects[key] = _slim(key.kind, obj)
        for named in _names(key.kind, obj):
            self._referrers.setdefault((key.kind, named), set()).add(key)
        return True

    def remove(self, key: Key, uid: str | None = None) -> None:
        """Drops the object, unless another one has taken its name meanwhile."""
        known = self._objects.get(key)
        if known is None or (uid is not None and known["metadata"].get("uid") != uid):
            return
        del self._objects[key]
        self._unlink(key, known)

    def runs_of(self, workspace: Key) -> Iterator[tuple[Key, Object]]:
        """The runs that name that workspace."""
        return self._naming(RUN.name, workspace)

    def deployments_of(self, workspace: Key) -> Iterator[tuple[Key, Object]]:
        """The deployments that name that workspace."""
        return self._naming(DEPLOYMENT.name, workspace)

    def deployments_of_run(self, run: Key) -> Iterator[tuple[Key, Object]]:
        """The deployments that name that run."""
        return self._naming(DEPLOYMENT.name, run)

    def all_of(self, kind: str) -> Iterator[tuple[Key, Object]]:
        """Every object of that kind, in no order."""
        return ((key, obj) for key, obj in self._objects.items() if key.kind == kind)

    def count(self, kind: str) -> int:
        """How many objects of that kind are known."""
        return sum(1 for key in self._objects if key.kind == kind)

    def _naming(self, kind: str, named: Key) -> Iterator[tuple[Key, Object]]:
        for key in sorted(self._referrers.get((kind, named), ())):
            yield key, self._objects[key]

    def _unlink(self, key: Key, obj: Object) -> None:
        for named in _names(key.kind, obj):
            referrers = self._referrers.get((key.kind, named), set())
            referrers.discard(key)
            if not referrers:
                self._referrers.pop((key.kind, named), None)


def finished(obj: Object) -> bool:
    """Whether a run is in a final phase: nothing but its own clock or a change of its own changes it any more."""
    return (obj.get("status") or {}).get("phase") in FINAL


def has_endpoint(obj: Object) -> bool:
    """Whether a deployment has an endpoint on its platform, or may have."""
    status = obj.get("status") or {}
    return "endpoint" in status and status.get("phase") != "Expired"


def at_rest(obj: Object) -> bool:
    """Whether a run has finished, has no time to live and holds nothing: no look at it can lead to anything."""
    return (
        finished(obj)
        and FINALIZER not in obj["metadata"].get("finalizers", [])
        and obj.get("spec", {}).get("ttlSecondsAfterFinished") is None
    )


def _names(kind: str, obj: Object) -> set[Key]:
    """What an object of that kind refers to, by key."""
    if kind == RUN.name:
        return {workspace_key(obj)}
    return {workspace_key(obj), *served_runs(obj)} if kind == DEPLOYMENT.name else set()


def _slim(kind: str, obj: Object) -> Object:
    """The object without what no decision reads: who set which field, and the source text of a finished run.

    Finished runs may stay for ever, ten thousand of them with 64 KiB of inline code each.
    """
    kept = {**obj, "metadata": {name: value for name, value in obj["metadata"].items() if name != "managedFields"}}
    if kind == RUN.name and finished(kept) and "code" in kept.get("spec", {}):
        kept["spec"] = {name: value for name, value in kept["spec"].items() if name != "code"}
    return kept


def _version(obj: Object) -> tuple[Any, Any]:
    return obj["metadata"].get("uid"), obj["metadata"].get("resourceVersion")


def _older(obj: Object, known: Object) -> bool:
    """Whether `obj` is an earlier version of the same object. Versions of one resource compare as integers since
    Kubernetes 1.35 (KEP-5504); where they are not integers, the later arrival wins.
    """
    if obj["metadata"].get("uid") != known["metadata"].get("uid"):
        return False
    new, old = obj["metadata"].get("resourceVersion", ""), known["metadata"].get("resourceVersion", "")
    return new.isdecimal() and old.isdecimal() and int(new) < int(old)
