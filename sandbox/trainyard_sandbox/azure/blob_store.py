"""The workspace's storage account: block blobs as files below the sandbox's directory; no HTTP.

blobs_api.py serves it, the asset modules and the job engine read and write it. A blob `a/b` of the container `c` is the
file `<root>/c/a/b`, so that a folder of blobs is a folder of files. Hence a name cannot be a blob and a prefix of
others at once, as in an account with a hierarchical namespace; it can in a flat one.
"""

from __future__ import annotations

import base64
import re
import secrets
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainyard_sandbox.azure.errors import StorageError

_CONTAINER_NAME = re.compile(r"(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]|\$root|\$logs")
"""Azure Storage documentation, "Naming and referencing containers, blobs, and metadata"."""


@dataclass(frozen=True)
class Description:
    """What a writer says of a blob; `headers` are Content-MD5, Content-Encoding and the like, by header name."""

    metadata: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/octet-stream"
    headers: dict[str, str] = field(default_factory=dict)


PLAIN = Description()


@dataclass
class BlobInfo:
    """What is kept of a blob beside its bytes. Times are Unix seconds of the sandbox's clock."""

    created: float
    modified: float
    etag: str
    metadata: dict[str, str] = field(default_factory=dict)
    content_type: str = PLAIN.content_type
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ListedBlob:
    """One blob of a listing; `size` in bytes."""

    name: str
    size: int
    info: BlobInfo


def new_etag() -> str:
    """An entity tag such as storage gives."""
    return f'"0x{secrets.token_hex(7).upper()}"'


def _not_found(what: str) -> StorageError:
    return StorageError(404, f"{what}NotFound", f"The specified {what.lower()} does not exist.")


class AzureBlobs:
    """The blobs of one storage account.

    Args:
        root: where the files lie; made when the first container is.
        account: the account's name.
        now: the sandbox's clock, Unix seconds.
    """

    def __init__(self, root: Path, account: str, now: Callable[[], float]) -> None:
        self._root = root
        self._now = now
        self._infos: dict[tuple[str, str], BlobInfo] = {}
        self._blocks: dict[tuple[str, str], dict[str, bytes]] = {}
        self._committed: dict[tuple[str, str], list[tuple[str, int]]] = {}
        self.account = account
        self.key = base64.b64encode(secrets.token_bytes(64)).decode()
        """The account key, with which shared access signatures are made."""
        self.containers: dict[str, float] = {}
        """When each container was made."""

    def reset(self) -> None:
        """Forget everything, also what an earlier sandbox left in the directory."""
        shutil.rmtree(self._root, ignore_errors=True)
        for kept in (self.containers, self._infos, self._blocks, self._committed):
            kept.clear()

    def create_container(self, container: str) -> None:
        """Make a container; it may exist."""
        if not _CONTAINER_NAME.fullmatch(container):
            raise StorageError(400, "InvalidResourceName", "The specified resource name contains invalid characters.")
        self.containers.setdefault(container, self._now())
        (self._root / container).mkdir(parents=True, exist_ok=True)

    def require_container(self, container: str) -> None:
        """Raises StorageError (404 ContainerNotFound) if there is none."""
        if container not in self.containers:
            raise _not_found("Container")

    def path(self, container: str, name: str = "") -> Path:
        """Where the file of a blob lies, or would; the folder of a prefix; the container's folder for "".

        Raises:
            StorageError: 404 for a container that is not there, 400 for a name that leaves its container.
        """
        self.require_container(container)
        segments = [segment for segment in name.split("/") if segment]
        if any(segment in (".", "..") or "\x00" in segment or len(segment) > 255 for segment in segments):
            raise StorageError(400, "InvalidUri", "The requested URI does not represent any resource on the server.")
        return self._root.joinpath(container, *segments)

    def exists(self, container: str, name: str) -> bool:
        """Whether there is such a blob."""
        return bool(name) and not name.endswith("/") and self.path(container, name).is_file()

    def info(self, container: str, name: str) -> BlobInfo:
        """What is known of a blob; also of a file that somebody laid there.

        Raises:
            StorageError: 404 BlobNotFound or ContainerNotFound.
        """
        if not self.exists(container, name):
            raise _not_found("Blob")
        known = self._infos.get((container, name))
        if known is None:
            modified = self.path(container, name).stat().st_mtime
            known = self._infos[container, name] = BlobInfo(modified, modified, new_etag())
        return known

    def read(self, container: str, name: str) -> bytes:
        """A blob's bytes; raises StorageError as `info`."""
        self.info(container, name)
        return self.path(container, name).read_bytes()

    def size(self, container: str, name: str) -> int:
        """A blob's length in bytes; raises StorageError as `info`."""
        self.info(container, name)
        return self.path(container, name).stat().st_size

    def write(
        self,
        container: str,
        name: str,
        data: bytes,
        described: Description = PLAIN,
    ) -> BlobInfo:
        """Put a whole blob, over an old one if there is one.

        Raises:
            StorageError: 409 PathConflict when its name is a folder of other blobs, or goes through a blob.
        """
        path = self.path(container, name)
        inside = (self._root / container).parts
        through = [parent for parent in path.parents if len(parent.parts) > len(inside) and parent.is_file()]
        if not name or name.endswith("/") or path.is_dir() or through:
            raise StorageError(409, "PathConflict", "The specified path, or an element of the path, exists already.")
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".part-{secrets.token_hex(8)}")
        partial.write_bytes(data)
        partial.replace(path)
        old = self._infos.get((container, name))
        now = self._now()
        kept = BlobInfo(
            old.created if old else now,
            now,
            new_etag(),
            dict(described.metadata),
            described.content_type,
            dict(described.headers),
        )
        self._infos[container, name] = kept
        self._blocks.pop((container, name), None)
        self._committed.pop((container, name), None)
        return kept

    def set_metadata(self, container: str, name: str, metadata: dict[str, str]) -> BlobInfo:
        """Replace a blob's metadata; raises StorageError as `info`."""
        known = self.info(container, name)
        known.metadata, known.modified, known.etag = dict(metadata), self._now(), new_etag()
        return known

    def delete(self, container: str, name: str) -> None:
        """Remove a blob, and folders that become empty; raises StorageError as `info`."""
        self.info(container, name)
        path = self.path(container, name)
        path.unlink()
        self._forget(container, name)
        for parent in path.parents:
            if parent == self._root / container or any(parent.iterdir()):
                break
            parent.rmdir()

    def delete_below(self, container: str, prefix: str) -> None:
        """Remove every blob below a folder."""
        folder = self.path(container, prefix)
        for entry in self.list(container, prefix.rstrip("/") + "/" if prefix else ""):
            self._forget(container, entry.name)
        shutil.rmtree(folder, ignore_errors=True)

    def _forget(self, container: str, name: str) -> None:
        for kept in (self._infos, self._blocks, self._committed):
            kept.pop((container, name), None)

    def list(self, container: str, prefix: str = "") -> Sequence[ListedBlob]:
        """All blobs whose names begin with `prefix`, by name."""
        base = self.path(container)
        folder = self.path(container, prefix.rpartition("/")[0])
        if not folder.is_dir():
            return []
        names = [
            str(path.relative_to(base))
            for path in folder.rglob("*")
            if path.is_file() and not path.name.startswith(".part-")
        ]
        found = sorted(name for name in names if name.startswith(prefix))
        return [ListedBlob(name, self.size(container, name), self.info(container, name)) for name in found]

    def stage_block(self, container: str, name: str, block_id: str, data: bytes) -> None:
        """Keep a block until a block list names it."""
        self.path(container, name)
        self._blocks.setdefault((container, name), {})[block_id] = data

    def commit(
        self,
        container: str,
        name: str,
        wanted: Sequence[tuple[str, str]],
        described: Description = PLAIN,
    ) -> BlobInfo:
        """Make a blob of blocks: pairs of `Committed`, `Uncommitted` or `Latest`, and a block id.

        Raises:
            StorageError: 400 InvalidBlockList for a block that is not there.
        """
        staged = self._blocks.get((container, name), {})
        committed = self._committed_blocks(container, name)
        parts: list[tuple[str, bytes]] = []
        for kind, block_id in wanted:
            from_staged = staged.get(block_id) if kind in ("Uncommitted", "Latest") else None
            from_old = committed.get(block_id) if kind in ("Committed", "Latest") else None
            data = from_staged if from_staged is not None else from_old
            if data is None:
                raise StorageError(400, "InvalidBlockList", "The specified block list is invalid.")
            parts.append((block_id, data))
        content = b"".join(data for _, data in parts)
        kept = self.write(container, name, content, described)
        self._committed[container, name] = [(block_id, len(data)) for block_id, data in parts]
        return kept

    def _committed_blocks(self, container: str, name: str) -> dict[str, bytes]:
        known = self._committed.get((container, name))
        if known is None or not self.exists(container, name):
            return {}
        data, at = self.read(container, name), 0
        found: dict[str, bytes] = {}
        for block_id, length in known:
            found[block_id] = data[at : at + length]
            at += length
        return found
