"""Uploads a run's source into its folder of the Databricks workspace, once per content.

Called by `connection` in a lane's thread. Files go up in parts; each part that is complete leaves a marker, whose
name is made of everything in it. So an upload that was interrupted goes on where it stopped, and a folder whose files
are not all there is never taken for complete. Must never remove anything.
"""

import base64
import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainyard.core.errors import Missing, Unreachable
from trainyard.platforms.base import Request
from trainyard.platforms.databricks.client import DatabricksClient
from trainyard.platforms.parallel import each

WORKSPACE = "/api/2.0/workspace"
MARKER = ".trainyard-"
# Files to a marker: what an interruption may cost, against a request more for each.
PART = 100


@dataclass(frozen=True, slots=True)
class Item:
    """One file as it is imported: path below the folder, and the format that makes a notebook of it or not."""

    path: str
    content: bytes
    format: str

    def body(self, folder: str) -> dict[str, Any]:
        """The body of workspace/import (databricks-sdk service/workspace.py, Import)."""
        body: dict[str, Any] = {
            "path": f"{folder}/{self.path}",
            "content": base64.b64encode(self.content).decode("ascii"),
            "format": self.format,
            "overwrite": True,
        }
        # A language belongs to SOURCE alone (same docstring).
        return {**body, "language": "PYTHON"} if self.format == "SOURCE" else body


def items(files: Mapping[str, bytes], notebooks: Iterable[str]) -> list[Item]:
    """What is imported for the files. A notebook has no suffix in the workspace."""
    chosen = frozenset(notebooks)
    found = []
    for name in sorted(files):
        if name not in chosen:
            # AUTO and SOURCE make a notebook, without its suffix, of a file with a notebook's header.
            found.append(Item(name, files[name], "RAW"))
            continue
        stem, _, suffix = name.rpartition(".")
        found.append(Item(stem or name, files[name], "JUPYTER" if suffix == "ipynb" else "SOURCE"))
    return found


def marker(part: Sequence[Item]) -> str:
    """Name of the file that says that the part is complete: other files, kinds or contents have another."""
    digest = hashlib.sha256()
    for item in part:
        for text in (item.path.encode(), item.format.encode(), item.content):
            digest.update(len(text).to_bytes(8, "big") + text)
    return f"{MARKER}{digest.hexdigest()[:24]}"


class Uploads:
    """Uploads through one client."""

    def __init__(self, client: DatabricksClient) -> None:
        self._client = client

    def upload(self, request: Request, deadline: float) -> None:
        """Has every file of the request in its folder.

        Args:
            deadline: of time.monotonic(); nothing more is sent after it.

        Raises:
            Unreachable: the deadline has passed. What is up by then is kept, and the next call goes on from there.
        """
        made: set[str] = set()
        everything = items(request.files, request.notebooks)
        for start in range(0, len(everything), PART):
            chunk = everything[start : start + PART]
            mark = marker(chunk)
            if self._is_there(f"{request.code_folder}/{mark}"):
                continue
            # mkdirs makes what lies above as well.
            folders = {f"{request.code_folder}/{item.path}".rpartition("/")[0] for item in chunk} - made
            for folder in sorted(folders):
                _in_time(deadline)
                self.mkdirs(folder)
            made |= folders
            self._import([item.body(request.code_folder) for item in chunk], deadline)
            self._import_one(Item(mark, b"complete\n", "RAW").body(request.code_folder))

    def reach(self, folder: str) -> str:
        """Looks for the folder that uploads go to, and changes nothing. Returns what was found.

        Raises:
            PlatformError: what the workspace answered, or that it did not.
        """
        there = self._is_there(folder)
        return f"folder {folder} {'is there' if there else 'is made with the first upload'}"

    def mkdirs(self, path: str) -> None:
        """Makes a folder and those above it."""
        self._client.do("POST", f"{WORKSPACE}/mkdirs", body={"path": path})

    def _is_there(self, path: str) -> bool:
        try:
            self._client.do("GET", f"{WORKSPACE}/get-status", query={"path": path})
        except Missing:
            return False
        return True

    def _import_one(self, body: Mapping[str, Any]) -> None:
        self._client.do("POST", f"{WORKSPACE}/import", body=body)

    def _import(self, bodies: Sequence[Mapping[str, Any]], deadline: float) -> None:
        def work(body: Mapping[str, Any]) -> None:
            _in_time(deadline)
            self._import_one(body)

        each(bodies, work)


def _in_time(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise Unreachable("uploading the source takes too long; it goes on from where it is; nothing was started")
