"""The workspace's folders, files and notebooks with who may do what to them; no HTTP here.

workspace_files.py serves it, mlflow_api.py asks it where an experiment may live, the run engine reads scripts from it
through `SandboxState.files`. It must never touch the machine's own file system: contents stay in memory.

Read in: databricks-sdk `service/workspace.py` (docstrings of WorkspaceAPI); error sentences as recorded in the tests of
databricks/cli (`libs/filer`), databricks/terraform-provider-databricks (`workspace/resource_workspace_file_test.go`)
and issue databrickslabs/migrate#10; folder permissions in Databricks documentation, "Access control lists", "Folder
ACLs": a home folder belongs to its principal, everybody may manage what is in /Shared.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from trainyard_sandbox.errors import ApiError, already_exists, invalid_parameter, not_found, permission_denied
from trainyard_sandbox.principals import Principal

ObjectType = Literal["DIRECTORY", "FILE", "NOTEBOOK"]
Access = Literal["View", "Edit"]

MAX_IMPORT_BYTES = 10 * 1024 * 1024
"""WorkspaceAPI.import_: "This has a limit of 10 MB"."""

NOTEBOOK_HEADER = b"# Databricks notebook source"
"""A Python source that starts so is a notebook (Databricks documentation, "Export and import Databricks notebooks")."""

VIEWING_LEVELS = frozenset({"CAN_READ", "CAN_RUN", "CAN_EDIT", "CAN_MANAGE"})
EDITING_LEVELS = frozenset({"CAN_EDIT", "CAN_MANAGE"})


@dataclass(frozen=True)
class WorkspaceObject:
    """One node of the tree. Times are milliseconds since the epoch; `content` is None for a directory."""

    path: str
    object_type: ObjectType
    object_id: int
    created_at: int
    modified_at: int
    content: bytes | None = None
    language: str | None = None


def normalized(path: str) -> str:
    """The path without the `/Workspace` prefix, which names the same tree, and without a trailing slash.

    Raises:
        ApiError: 400 when it is not absolute, or has empty, `.` or `..` segments.
    """
    if not path.startswith("/"):
        raise invalid_parameter(f"Path ({path}) doesn't start with '/'")
    segments = path.strip("/").split("/") if path.strip("/") else []
    if any(segment in ("", ".", "..") for segment in segments):
        raise invalid_parameter(f"Path ({path}) is not a valid workspace path.")
    if segments and segments[0] == "Workspace":
        segments = segments[1:]
    return "/" + "/".join(segments)


def parent_of(path: str) -> str:
    """The folder that holds a normalized path; the root is its own parent."""
    return path.rpartition("/")[0] or "/"


class WorkspaceTree:
    """All workspace objects of one sandbox.

    Args:
        now: the sandbox's clock, Unix seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._ids = itertools.count(secrets.randbelow(10**15) + 10**15)
        self._objects: dict[str, WorkspaceObject] = {}
        for folder in ("/", "/Users", "/Shared"):
            self._put(folder, "DIRECTORY")

    def mkdirs(self, path: str, principal: Principal) -> None:
        """Create the folder and its parents; nothing happens when it is there (WorkspaceAPI.mkdirs)."""
        path = self._arrive(path, principal)
        missing: list[str] = []
        folder = path
        while (found := self._objects.get(folder)) is None:
            missing.append(folder)
            folder = parent_of(folder)
        if found.object_type != "DIRECTORY":
            raise already_exists(f"{found.path} already exists and it is not a folder")
        if missing:
            self._require(principal, missing[-1], "Edit")
        for name in reversed(missing):
            self._put(name, "DIRECTORY")

    def put_content(
        self,
        path: str,
        object_type: Literal["FILE", "NOTEBOOK"],
        content: bytes,
        language: str | None,
        *,
        overwrite: bool,
        principal: Principal,
    ) -> WorkspaceObject:
        """Create or replace a file or notebook; its folder must exist."""
        path = self._arrive(path, principal)
        self._require(principal, path, "Edit")
        if len(content) > MAX_IMPORT_BYTES:
            message = f"content size ({len(content)}) exceeded the limit ({MAX_IMPORT_BYTES})"
            raise ApiError(400, "MAX_NOTEBOOK_SIZE_EXCEEDED", message)
        parent = self._objects.get(parent_of(path))
        if parent is None:
            raise not_found(f"The parent folder ({parent_of(path)}) does not exist.")
        if parent.object_type != "DIRECTORY":
            raise already_exists(f"{parent.path} already exists and it is not a folder")
        existing = self._objects.get(path)
        if existing is None:
            return self._put(path, object_type, content, language)
        if not overwrite:
            raise already_exists(f"{path} already exists. Please pass overwrite=true to overwrite it.")
        if existing.object_type != object_type:
            raise invalid_parameter(
                f"Requested node type [{object_type}] is different from the existing node type [{existing.object_type}]"
            )
        changed = replace(existing, content=content, language=language, modified_at=self._milliseconds())
        self._objects[path] = changed
        return changed

    def get(self, path: str, principal: Principal) -> WorkspaceObject:
        """The object at the path, if the principal may see it."""
        path = self._arrive(path, principal)
        self._require(principal, path, "View")
        found = self._objects.get(path)
        if found is None:
            raise not_found(f"Path ({path}) doesn't exist.")
        return found

    def read(self, path: str, principal: Principal) -> bytes:
        """The content of a file, as a Python file task reads it (`SandboxState.files`)."""
        found = self.get(path, principal)
        if found.object_type != "FILE" or found.content is None:
            raise invalid_parameter(f"{found.path} is a {found.object_type.lower()}, not a file.")
        return found.content

    def notebook(self, path: str, principal: Principal) -> tuple[bytes, str]:
        """Content and language of a notebook, as a notebook task reads it (`SandboxState.files`)."""
        found = self.get(path, principal)
        if found.object_type != "NOTEBOOK" or found.content is None or found.language is None:
            raise invalid_parameter(f"{found.path} is a {found.object_type.lower()}, not a notebook.")
        return found.content, found.language

    def beside(self, path: str, principal: Principal) -> dict[str, bytes]:
        """Contents by name of the files in a file's folder (`SandboxState.files`)."""
        inside = self.children(parent_of(normalized(path)), principal)
        files = {child.path.rpartition("/")[2]: child.content for child in inside if child.object_type == "FILE"}
        return {name: content for name, content in files.items() if content is not None}

    def children(self, path: str, principal: Principal) -> list[WorkspaceObject]:
        """The objects directly in a folder, or the object itself when it is none (WorkspaceAPI.list)."""
        found = self.get(path, principal)
        if found.object_type != "DIRECTORY":
            return [found]
        inside = [
            child for child in self._objects.values() if child is not found and parent_of(child.path) == found.path
        ]
        visible = [child for child in inside if self.may(principal, child.path, "View")]
        return sorted(visible, key=lambda child: child.path)

    def delete(self, path: str, principal: Principal, *, recursive: bool) -> None:
        """Delete an object, and what is under it when `recursive` (WorkspaceAPI.delete)."""
        found = self.get(path, principal)
        self._require(principal, found.path, "Edit")
        if found.path in ("/", "/Users", "/Shared") or parent_of(found.path) == "/Users":
            raise permission_denied(f"Folder ({found.path}) is protected")
        under = [name for name in self._objects if name.startswith(found.path + "/")]
        if under and not recursive:
            raise ApiError(400, "DIRECTORY_NOT_EMPTY", f"Folder ({found.path}) is not empty")
        for name in [*under, found.path]:
            del self._objects[name]

    def is_folder(self, path: str, principal: Principal) -> bool:
        """Whether a normalized path is a folder; the principal's own home always is."""
        found = self._objects.get(self._arrive(path, principal))
        return found is not None and found.object_type == "DIRECTORY"

    def exists(self, path: str) -> bool:
        """Whether anything lies at a normalized path."""
        return path in self._objects

    def may(self, principal: Principal, path: str, access: Access) -> bool:
        """Whether the principal has this access to a normalized path.

        An explicit grant is kept under the folder's path in `Principal.grants`, with the platform's permission levels,
        and holds for all below it (Databricks documentation, "Folder ACLs": permissions are inherited).
        """
        if principal.is_admin:
            return True
        home = f"/Users/{principal.application_id}"
        if path == home or path.startswith((home + "/", "/Shared/")):
            return True
        if access == "View" and path in ("/", "/Users", "/Shared"):
            return True
        if access == "Edit" and path == "/Shared":
            return False
        levels = VIEWING_LEVELS if access == "View" else EDITING_LEVELS
        return any(
            levels & granted
            for folder, granted in principal.all_grants()
            if folder.startswith("/") and (path == folder or path.startswith(folder.rstrip("/") + "/"))
        )

    def _require(self, principal: Principal, path: str, access: Access) -> None:
        if not self.may(principal, path, access):
            raise permission_denied(f"{principal.application_id} does not have {access} permissions on {path}.")

    def _arrive(self, path: str, principal: Principal) -> str:
        """The normalized path; the caller's home folder is there from its first call on."""
        home = f"/Users/{principal.application_id}"
        if home not in self._objects:
            self._put(home, "DIRECTORY")
        return normalized(path)

    def _milliseconds(self) -> int:
        return int(self._now() * 1000)

    def _put(
        self, path: str, object_type: ObjectType, content: bytes | None = None, language: str | None = None
    ) -> WorkspaceObject:
        now = self._milliseconds()
        created = WorkspaceObject(path, object_type, next(self._ids), now, now, content, language)
        self._objects[path] = created
        return created
