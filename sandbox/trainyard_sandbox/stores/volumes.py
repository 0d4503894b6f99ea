"""Unity Catalog's volumes and the files in them, with the privileges they ask for; no HTTP here.

volumes.py (REST 2.1) and files_api.py (/api/2.0/fs) serve it; the run engine reads wheels and files from it through
`SandboxState.volumes`. It must never touch a path outside a volume's own folder, nor skip a privilege.

Read in: databricks-sdk `service/catalog.py` (docstrings of VolumesAPI) and `service/files.py` (FilesAPI); Databricks
documentation, "What are Unity Catalog volumes?" (READ VOLUME to read, WRITE VOLUME to add, remove and change files;
paths); databricks/cli `libs/filer/files_client.go` (404 for what is missing, 409 ALREADY_EXISTS, the error reason
FILES_API_DIRECTORY_IS_NOT_EMPTY with 400, a folder in a file's place is 404 for /files).
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from starlette.requests import Request

from trainyard_sandbox.errors import ApiError, invalid_parameter
from trainyard_sandbox.principals import Principal
from trainyard_sandbox.state import sandbox_state
from trainyard_sandbox.stores.securables import Securables, SecurableType, checked_name

ROOT = "/Volumes"
MAX_FILE_BYTES = 5 * 1024**3
"""FilesAPI.upload: "Uploads a file of up to 5 GiB"."""

MOUNTS_VARIABLE = "TRAINYARD_SANDBOX_VOLUMES"
"""Read by the `sitecustomize` in `volume_paths/`."""

PATHS_HOOK = Path(__file__).parent.parent / "volume_paths"
"""To be on the PYTHONPATH of a run's code, which then reaches /Volumes."""

FileAccess = Literal["READ VOLUME", "WRITE VOLUME"]


@dataclass
class Volume:
    """A managed volume. Times are milliseconds since the epoch."""

    full_name: str
    owner: str
    created_by: str
    created_at: int
    updated_by: str
    updated_at: int
    comment: str | None = None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def securable_type(self) -> SecurableType:
        """VOLUME."""
        return "VOLUME"

    @property
    def path(self) -> str:
        """The path under which its files are reached."""
        return f"{ROOT}/{self.full_name.replace('.', '/')}"


@dataclass(frozen=True)
class FileEntry:
    """A file or folder in a volume; `size` in bytes, None for a folder; `modified_at` in milliseconds."""

    path: str
    size: int | None
    modified_at: int


def file_not_found(message: str) -> ApiError:
    """404 as the Files API says it."""
    return ApiError(404, "NOT_FOUND", message)


class VolumeStore:
    """All volumes of one sandbox.

    Args:
        securables: the namespace they live in, with its privileges.
        root: where their files lie; made if missing.
        now: the sandbox's clock, Unix seconds.
    """

    def __init__(self, securables: Securables, root: Path, now: Callable[[], float]) -> None:
        self.securables = securables
        self._root = root
        self._now = now
        self._volumes: dict[str, Volume] = {}

    def create(self, principal: Principal, full_name: str, comment: str | None = None) -> Volume:
        """A new, empty managed volume, owned by its creator (VolumesAPI.create)."""
        name = _checked(full_name)
        self.securables.require_create(principal, name, "CREATE VOLUME")
        return self.add(name, principal.application_id, comment)

    def add(self, full_name: str, owner: str, comment: str | None = None) -> Volume:
        """A new, empty managed volume, whoever asks: for the control API."""
        now = int(self._now() * 1000)
        volume = Volume(_checked(full_name), owner, owner, now, owner, now, comment)
        self.securables.add(volume)
        self._volumes[volume.full_name] = volume
        self.folder(volume).mkdir(parents=True)
        return volume

    def get(self, principal: Principal, full_name: str, *privileges: str) -> Volume:
        """A volume, for its owner or who has one of `privileges` (MANAGE if none)."""
        name = _checked(full_name)
        self.securables.require(principal, name, "VOLUME", *privileges)
        return self._volumes[name]

    def in_schema(self, principal: Principal, schema: str) -> list[Volume]:
        """The volumes of a schema that the principal may read (VolumesAPI.list)."""
        schema = self.securables.require_schema(principal, schema)
        return [
            volume
            for name, volume in sorted(self._volumes.items())
            if name.rpartition(".")[0] == schema and self.securables.allowed(principal, name, "READ VOLUME")
        ]

    def rename(self, volume: Volume, name: str) -> None:
        """Give a volume another last name within its schema (VolumesAPI.update, `new_name`)."""
        old = volume.full_name
        self.securables.rename(volume, _checked(f"{old.rpartition('.')[0]}.{name}"))
        self._volumes[volume.full_name] = self._volumes.pop(old)

    def touch(self, principal: Principal, volume: Volume) -> None:
        """Record who changed it and when."""
        volume.updated_by, volume.updated_at = principal.application_id, int(self._now() * 1000)

    def delete(self, principal: Principal, full_name: str) -> None:
        """Delete a volume with its files (VolumesAPI.delete)."""
        volume = self.get(principal, full_name)
        del self._volumes[volume.full_name]
        self.securables.remove(volume.full_name)
        shutil.rmtree(self.folder(volume))

    def folder(self, volume: Volume) -> Path:
        """Where the files of a volume lie on this machine."""
        return self._root / volume.id

    def locate(self, path: str, principal: Principal, access: FileAccess) -> Path:
        """Where a /Volumes path lies, if the principal has that access to its volume.

        Raises:
            ApiError: 400 for a path that is no volume's; 404 without the volume; 403.
        """
        name, inside = _split(path)
        try:
            volume = self.get(principal, name, access)
        except ApiError as error:
            if error.status == 404:
                raise file_not_found(error.message) from None
            raise
        return self.folder(volume).joinpath(*inside)

    def put(self, path: str, content: bytes) -> None:
        """Write a file, whoever asks: for the control API."""
        name, inside = _split(path)
        volume = self._volumes.get(name.lower())
        if volume is None or not inside:
            raise file_not_found(f"{path} is no file of a volume that exists.")
        file = self.folder(volume).joinpath(*inside)
        self._make_folder(file.parent, path)
        file.write_bytes(content)

    def read(self, path: str, principal: Principal) -> bytes:
        """Content of a file (`SandboxState.volumes`)."""
        return self.existing_file(path, principal).read_bytes()

    def existing_file(self, path: str, principal: Principal, access: FileAccess = "READ VOLUME") -> Path:
        """Where the file at a /Volumes path lies.

        Raises:
            ApiError: as `locate`; 404 when there is no such file, also when a folder lies there.
        """
        file = self.locate(path, principal, access)
        if not file.is_file():
            raise file_not_found(f"The file being accessed is not found: {path}")
        return file

    def existing_folder(self, path: str, principal: Principal, access: FileAccess = "READ VOLUME") -> Path:
        """Where the folder at a /Volumes path lies; 404 also when a file lies there."""
        folder = self.locate(path, principal, access)
        if not folder.is_dir():
            raise file_not_found(f"The directory being accessed is not found: {path}")
        return folder

    def target(self, path: str, principal: Principal, *, overwrite: bool) -> Path:
        """Where a file may be written; its folders are made, as object storage needs none.

        Raises:
            ApiError: as `locate`; 409 when something is in the way.
        """
        file = self.locate(path, principal, "WRITE VOLUME")
        if len(path.strip("/").split("/")) < 5 or file.is_dir():
            raise ApiError(409, "ALREADY_EXISTS", f"A directory exists at the path {path}.")
        if file.exists() and not overwrite:
            raise ApiError(409, "ALREADY_EXISTS", f"The file being created already exists: {path}")
        self._make_folder(file.parent, path)
        return file

    def make_folder(self, path: str, principal: Principal) -> None:
        """Create a folder with its parents; nothing happens when it is there."""
        self._make_folder(self.locate(path, principal, "WRITE VOLUME"), path)

    def delete_folder(self, path: str, principal: Principal) -> None:
        """Delete an empty folder."""
        folder = self.existing_folder(path, principal, "WRITE VOLUME")
        if len(path.strip("/").split("/")) < 5:
            raise invalid_parameter(f"The root of a volume cannot be deleted: {path}")
        if any(folder.iterdir()):
            reason = "FILES_API_DIRECTORY_IS_NOT_EMPTY"
            raise ApiError(400, "BAD_REQUEST", f"The directory is not empty: {path}", reason=reason)
        folder.rmdir()

    def entries(self, path: str, principal: Principal) -> list[FileEntry]:
        """What lies directly in a folder, by name."""
        folder = self.existing_folder(path, principal)
        found = sorted((child for child in folder.iterdir() if not child.name.startswith(".part-")), key=str)
        return [_entry(f"{path.rstrip('/')}/{child.name}", child) for child in found]

    def environment(self, principal: Principal) -> dict[str, str]:
        """Which volumes a run's code reaches as `principal`, and how; nothing without any (`SandboxState.volumes`)."""
        mounts = {
            volume.path: {
                "folder": str(self.folder(volume).resolve()),
                "read": self.securables.allowed(principal, name, "READ VOLUME"),
                "write": self.securables.allowed(principal, name, "WRITE VOLUME"),
            }
            for name, volume in self._volumes.items()
            if self.securables.uses_schema(principal, name.rpartition(".")[0])
        }
        return {MOUNTS_VARIABLE: json.dumps(mounts)} if mounts else {}

    def _make_folder(self, folder: Path, path: str) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise ApiError(409, "ALREADY_EXISTS", f"A file exists in the place of a directory: {path}") from None


def _entry(path: str, child: Path) -> FileEntry:
    status = child.stat()
    return FileEntry(path, None if child.is_dir() else status.st_size, int(status.st_mtime * 1000))


def _split(path: str) -> tuple[str, list[str]]:
    """The volume's full name and the segments inside it.

    Raises:
        ApiError: 400 for a path that is no volume's.
    """
    segments = path.strip("/").split("/")
    bad = any(segment in ("", ".", "..") or "\x00" in segment for segment in segments)
    if bad or not path.startswith(ROOT + "/") or len(segments) < 4:
        raise invalid_parameter(f"Invalid path: {path}. A path is /Volumes/<catalog>/<schema>/<volume>/<path>.")
    return ".".join(segments[1:4]), segments[4:]


def _checked(full_name: str) -> str:
    return checked_name(full_name, "volume", "Volumes")


def volumes_of(request: Request) -> VolumeStore:
    """The volumes of the sandbox that serves this request."""
    volumes = sandbox_state(request).volumes
    if not isinstance(volumes, VolumeStore):
        raise TypeError("SandboxState.volumes is not a VolumeStore")
    return volumes
