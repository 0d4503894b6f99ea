"""What a run left at its outputs: files and bytes of volumes, tables. Only looks, never writes.

Called by `outcome` for a run that succeeded. An output that is not there, or can not be measured, is told in its
message; it does not make the run a failure.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from trainyard.core.errors import Denied, Missing, PlatformError, Refused
from trainyard.core.remote import Written
from trainyard.platforms.databricks.client import DatabricksClient

FILES = "/api/2.0/fs/files"
DIRECTORIES = "/api/2.0/fs/directories"
UNITY_CATALOG = "/api/2.1/unity-catalog"
WORKSPACE = "/api/2.0/workspace"
# Entries of a folder that are looked at: as many as one listing may hold (databricks-sdk list_directory_contents).
MOST_ENTRIES = 1000
MAX_MESSAGE = 512
LATE = "not measured in time"
# Where Spark and Delta keep what ANALYZE TABLE found (Databricks documentation, "ANALYZE TABLE"); the first that is
# there counts.
TABLE_BYTES = ("spark.sql.statistics.totalSize", "sizeInBytes", "totalSize")
TABLE_FILES = ("numFiles", "spark.sql.statistics.numFiles")


@dataclass(slots=True)
class _Count:
    size: int = 0
    files: int = 0
    entries: int = 0


class Outputs:
    """Looks through one client."""

    def __init__(self, client: DatabricksClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock

    def found(self, wanted: Mapping[str, tuple[str | None, str | None]], until: float) -> dict[str, Written]:
        """What lies at each output, by its name. After `until`, of the clock, nothing more is looked at."""
        return {name: self._at(uri, table, until) for name, (uri, table) in wanted.items()}

    def _at(self, uri: str | None, table: str | None, until: float) -> Written:
        if self._clock() > until:
            return Written(uri, table, message=LATE)
        try:
            if table is not None:
                return self._table(table)
            path = (uri or "").removeprefix("dbfs:")
            if path.startswith("/Volumes/"):
                return self._volume(uri, path.rstrip("/"), until)
            if path.startswith("/Workspace/"):
                return self._workspace(uri, path.removeprefix("/Workspace").rstrip("/"))
        except (Denied, Missing, Refused) as error:
            return Written(uri, table, message=_unread(error))
        return Written(uri, table, message="is not measured: only volumes, workspace files and tables are looked at")

    def _volume(self, uri: str | None, path: str, until: float) -> Written:
        """A folder of a volume with all that is below it, or one file."""
        count = _Count()
        try:
            message = self._folder(path, count, until)
        except (Missing, Refused):
            if count.entries:
                # Somebody is deleting it.
                raise
            # The platform says so of a path that is a file, too.
            size = self._client.head(f"{FILES}{quote(path)}", "content-length").get("content-length")
            return Written(uri, size_bytes=int(size) if size else None, files=1)
        return Written(uri, size_bytes=count.size, files=count.files, message=message)

    def _folder(self, path: str, count: _Count, until: float) -> str:
        """Counts what is below the folder; says why, where that is not all."""
        folders = [path]
        while folders:
            for page in self._pages(folders.pop()):
                for entry in page:
                    count.entries += 1
                    if count.entries > MOST_ENTRIES:
                        return f"more than {MOST_ENTRIES} entries: only the first were counted"
                    if entry.get("is_directory"):
                        folders.append(str(entry["path"]).rstrip("/"))
                    else:
                        count.files += 1
                        count.size += int(entry.get("file_size") or 0)
                if self._clock() > until:
                    return f"{LATE}: only the first {count.entries} entries were counted"
        return ""

    def _pages(self, path: str) -> Iterator[list[dict[str, Any]]]:
        query: dict[str, Any] = {}
        while True:
            answer = self._client.do("GET", f"{DIRECTORIES}{quote(path)}", query=query)
            yield answer.get("contents") or []
            if not answer.get("next_page_token"):
                return
            query["page_token"] = answer["next_page_token"]

    def _workspace(self, uri: str | None, path: str) -> Written:
        status = self._client.do("GET", f"{WORKSPACE}/get-status", query={"path": path})
        size = status.get("size")
        if isinstance(size, int):
            return Written(uri, size_bytes=size, files=1)
        return Written(uri, message="is there; the platform does not tell its size")

    def _table(self, table: str) -> Written:
        properties = self._client.do("GET", f"{UNITY_CATALOG}/tables/{quote(table)}").get("properties") or {}
        size, files = _number(properties, TABLE_BYTES), _number(properties, TABLE_FILES)
        message = "" if size is not None else "is there; its size is not in its properties"
        return Written(table=table, size_bytes=size, files=files, message=message)


def _number(properties: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    return next((int(properties[name]) for name in names if str(properties.get(name, "")).isdecimal()), None)


def _unread(error: PlatformError) -> str:
    what = "is not there" if isinstance(error, Missing) else "can not be looked at"
    return f"{what}: {error.message}"[:MAX_MESSAGE]
