"""Files of Unity Catalog volumes: the Files API as `keeping.volume.VolumeFiles` wants it.

Offered by `connection` for the logs that a workspace keeps in a volume. Paths are absolute, below /Volumes; nothing
outside is ever touched.
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from trainyard.core.errors import Missing
from trainyard.platforms.databricks.client import DatabricksClient

FILES = "/api/2.0/fs/files"
DIRECTORIES = "/api/2.0/fs/directories"
ROOT = "/Volumes/"


class DatabricksVolumeFiles:
    """Reads and writes through one client."""

    def __init__(self, client: DatabricksClient) -> None:
        self._client = client

    def put(self, path: str, data: bytes) -> None:
        """Writes a file, over what was there, with the folders above it."""
        # Like mkdir -p, and fine if it is there (databricks-sdk files.create_directory).
        self._client.do("PUT", DIRECTORIES + _checked(path.rpartition("/")[0]))
        self._client.put_file(FILES + _checked(path), data)

    def get(self, path: str) -> bytes | None:
        """A file's content, or None when there is none."""
        try:
            return self._client.get_file(FILES + _checked(path))
        except Missing:
            return None

    def delete(self, path: str) -> None:
        """Deletes a file, or a folder with all that is in it. That it is already gone is no error."""
        try:
            inside = list(self._inside(path))
        except Missing:
            # No folder: a file, or nothing.
            self._remove(FILES + _checked(path))
            return
        for entry in inside:
            child = str(entry["path"]).rstrip("/")
            if entry.get("is_directory"):
                self.delete(child)
            else:
                self._remove(FILES + _checked(child))
        # Only an empty folder can be deleted (databricks-sdk files.delete_directory).
        self._remove(DIRECTORIES + _checked(path))

    def _inside(self, path: str) -> Iterator[dict[str, Any]]:
        query: dict[str, Any] = {}
        while True:
            answer = self._client.do("GET", DIRECTORIES + _checked(path), query=query)
            yield from answer.get("contents") or ()
            if not answer.get("next_page_token"):
                return
            query["page_token"] = answer["next_page_token"]

    def _remove(self, path: str) -> None:
        try:
            self._client.do("DELETE", path)
        except Missing:
            return


def _checked(path: str) -> str:
    """The path as a URL's.

    Raises:
        ValueError: it is not below /Volumes; a mistake of the caller's.
    """
    if not path.startswith(ROOT) or any(part in ("", ".", "..") for part in path[1:].split("/")):
        raise ValueError(f"{path!a} is no path below {ROOT}")
    return quote(path)
