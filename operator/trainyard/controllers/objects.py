"""Objects of one kind, between the store and the API server. Used by the controllers of runs and deployments."""

from collections.abc import Callable

from trainyard.controllers.apiserver import ApiServer
from trainyard.controllers.kube import ConflictError, Kind, NotFoundError
from trainyard.controllers.store import Key, Object, Store


def _nothing(_obj: Object) -> None:
    return None


class Objects:
    """Reads, holds and lets go objects of one kind, so that the store knows at once what was written.

    Args:
        kind: theirs.
        finalizer: what holds them.
        going: told of an object that is let go, before it is: once it is let go, it may be gone at any moment.
    """

    def __init__(
        self, store: Store, api: ApiServer, kind: Kind, finalizer: str, going: Callable[[Object], None] = _nothing
    ) -> None:
        self._store = store
        self._api = api
        self._kind = kind
        self._finalizer = finalizer
        self._going = going

    async def refresh(self, key: Key) -> None:
        """Reads the object again: somebody has changed it since."""
        try:
            self._store.put(key, await self._api.read(self._kind, key.namespace, key.name))
        except NotFoundError:
            self.lost(key)

    def lost(self, key: Key, uid: str | None = None) -> None:
        """Drops an object that is gone, before the watch tells of it."""
        obj = self._store.get(key)
        if obj is not None:
            self._going(obj)
        self._store.remove(key, uid)

    async def write_status(self, key: Key, obj: Object, status: Object) -> Object | None:
        """Replaces the status. None: the object has changed, and was read again. Raises NotFoundError."""
        try:
            new = await self._api.write_status(self._kind, obj, status)
        except ConflictError:
            await self.refresh(key)
            return None
        self._store.put(key, new)
        return new

    async def set_finalizer(self, key: Key, *, add: bool) -> bool:
        """Holds the object, or lets it go. Returns whether to decide again at once."""
        obj = self._store.get(key)
        if obj is None:
            return False
        others = [f for f in obj["metadata"].get("finalizers", []) if f != self._finalizer]
        if not add:
            self._going(obj)
        try:
            new = await self._api.write_finalizers(self._kind, obj, [*others, self._finalizer] if add else others)
        except ConflictError:
            await self.refresh(key)
            return True
        except NotFoundError:
            self.lost(key, obj["metadata"]["uid"])
            return False
        if add or "deletionTimestamp" not in obj["metadata"]:
            self._store.put(key, new)
            return True
        return False  # the object may be gone by now; the watch tells
