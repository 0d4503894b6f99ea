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
from trainyard_sandbox.state import SandboxState

ObjectType = Literal["DIRECTORY", "FILE", "NOTEBOOK"]
Access = Literal["View", "Edit", "Manage"]

MAX_IMPORT_BYTES = 10 * 1024 * 1024
"""WorkspaceAPI.import_: "This has a limit of 10 MB"."""

NOTEBOOK_HEADER = b"# Databricks notebook source"
"""A Python source that starts so is a notebook (Databricks documentation, "Export and import Databricks notebooks")."""

LEVELS: dict[Access, frozenset[str]] = {
    "View": frozenset({"CAN_READ", "CAN_RUN", "CAN_EDIT", "CAN_MANAGE"}),
    "Edit": frozenset({"CAN_EDIT", "CAN_MANAGE"}),
    "Manage": frozenset({"CAN_MANAGE"}),
}
"""Databricks documentation, "Folder ACLs": objects are created, imported and deleted with CAN MANAGE on the folder;
"File ACLs" and "Notebook ACLs": contents are changed with CAN EDIT."""


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


def with_parents(path: str) -> list[str]:
    """The folders above a normalized path from the root, and the path itself."""
    steps = [path]
    while steps[-1] != "/":
        steps.append(parent_of(steps[-1]))
    return steps[::-1]


def implied_levels(path: str) -> tuple[tuple[str, str], ...]:
    """Who holds which level on a folder without a grant (Databricks documentation, "Folder ACLs"): the admins on all,
    everybody on /Shared, each on its own home."""
    if path == "/":
        return (("admins", "CAN_MANAGE"),)
    if path == "/Shared":
        return (("users", "CAN_MANAGE"),)
    return ((path.removeprefix("/Users/"), "CAN_MANAGE"),) if parent_of(path) == "/Users" else ()


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
            self._require(principal, missing[-1], "Manage")
        else:
            self._require(principal, path, "View")
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
        self._require(principal, path, "Edit" if path in self._objects else "Manage")
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
        """Contents by name of the files in a file's folder, as many as the principal may see (`SandboxState.files`)."""
        folder = parent_of(normalized(path))
        return {
            found.path.rpartition("/")[2]: found.content
            for found in self._objects.values()
            if found.object_type == "FILE"
            and found.content is not None
            and parent_of(found.path) == folder
            and self.may(principal, found.path, "View")
        }

    def below(self, path: str, principal: Principal) -> dict[str, bytes]:
        """Contents by relative path of the files below a folder that the principal may see (`SandboxState.files`)."""
        folder = normalized(path).rstrip("/") + "/"
        return {
            found.path.removeprefix(folder): found.content
            for found in self._objects.values()
            if found.object_type == "FILE"
            and found.content is not None
            and found.path.startswith(folder)
            and self.may(principal, found.path, "View")
        }

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
        self._require(principal, found.path, "Manage")
        if found.path in ("/", "/Users", "/Shared") or parent_of(found.path) == "/Users":
            raise permission_denied(f"Folder ({found.path}) is protected")
        under = [name for name in self._objects if name.startswith(found.path + "/")]
        if under and not recursive:
            raise ApiError(400, "DIRECTORY_NOT_EMPTY", f"Folder ({found.path}) is not empty")
        for name in [*under, found.path]:
            del self._objects[name]
            for identity in principal.directory.identities() if principal.directory else ():
                identity.grants.pop(name, None)

    def is_folder(self, path: str, principal: Principal) -> bool:
        """Whether a normalized path is a folder; the principal's own home always is."""
        found = self._objects.get(self._arrive(path, principal))
        return found is not None and found.object_type == "DIRECTORY"

    def exists(self, path: str) -> bool:
        """Whether anything lies at a normalized path."""
        return path in self._objects

    def may(self, principal: Principal, path: str, access: Access) -> bool:
        """Whether the principal has this access to a normalized path: by a level there or on a folder above."""
        if principal.is_admin or (access == "View" and path in ("/", "/Users", "/Shared")):
            return True
        names = principal.names()
        return any(
            LEVELS[access] & principal.held(folder)
            or any(name in names and level in LEVELS[access] for name, level in implied_levels(folder))
            for folder in with_parents(path)
        )

    def by_id(self, object_id: str) -> WorkspaceObject | None:
        """The object with this id."""
        return next((found for found in self._objects.values() if str(found.object_id) == object_id), None)

    def object_id(self, path: str) -> int | None:
        """The id of the object at a normalized path."""
        found = self._objects.get(path)
        return None if found is None else found.object_id

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


def tree_of(state: SandboxState) -> WorkspaceTree:
    """The workspace's tree of a sandbox."""
    if not isinstance(state.files, WorkspaceTree):
        raise TypeError("SandboxState.files is not a WorkspaceTree")
    return state.files
