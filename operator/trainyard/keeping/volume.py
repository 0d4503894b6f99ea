"""Logs in a folder of a Unity Catalog volume, written as the identity that submits the runs.

Made by the controllers from a workspace's `logDestination.volume`, called in threads. It holds no identity of its own:
`VolumeFiles` is what the Databricks connection offers.
"""

from typing import Protocol

from trainyard.keeping.base import below, checked_key


class VolumeFiles(Protocol):
    """Files below /Volumes, by absolute path. Raises IdentityError and PlatformError."""

    def put(self, path: str, data: bytes) -> None:
        """Writes a file, over what was there, with the folders above it."""

    def get(self, path: str) -> bytes | None:
        """A file's content, or None when there is none."""

    def delete(self, path: str) -> None:
        """Deletes a file, or a folder with all that is in it. That it is already gone is no error."""


class VolumeLogStore:
    """A LogStore in a volume.

    Args:
        folder: `/Volumes/CATALOG/SCHEMA/VOLUME[/FOLDER]`.
        files: of the workspace that the volume is in.
    """

    def __init__(self, folder: str, files: VolumeFiles) -> None:
        checked_key(folder.strip("/"))
        self._folder = folder.rstrip("/")
        self._files = files

    def put(self, key: str, data: bytes, content_type: str) -> str:  # noqa: ARG002 - volumes keep no content type
        """See LogStore. The URI is the path in the workspace, which the Catalog Explorer opens."""
        path = self._path(key)
        self._files.put(path, data)
        return path

    def get(self, key: str) -> bytes | None:
        """See LogStore."""
        return self._files.get(self._path(key))

    def delete(self, prefix: str) -> None:
        """See LogStore."""
        self._files.delete(self._path(prefix))

    def _path(self, key: str) -> str:
        return "/" + below(self._folder, checked_key(key))
