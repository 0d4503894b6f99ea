"""Lets the Python code of a run use /Volumes/<catalog>/<schema>/<volume>/... as on a cluster, without a mount.

The same for /Workspace/..., of which it finds those folders, to be read, that the engine has put there for the task.

The engine puts this folder on PYTHONPATH, so every interpreter of the run imports it at start. Paths inside a volume
that the run's identity may use are mapped onto the sandbox's folder of that volume in `open` and the functions of `os`
that `pathlib`, `shutil`, `glob` and most libraries are built on; a privilege that is missing is a PermissionError. It
must never change what happens to any other path, and uses nothing but the standard library.

Modules are imported from such paths as well: the import system has its own way to the same functions.

It is a convenience, not a security boundary. Not covered: code that opens files outside Python (shell commands,
libraries with readers of their own), listing /Volumes itself, and volumes or privileges that are newer than the task.
Databricks documentation, "Work with files in Unity Catalog volumes" (POSIX-style paths).
"""

from __future__ import annotations

import _io
import builtins
import errno
import io
import json
import os
import posix
from collections.abc import Callable
from typing import Any

ROOT = "/Volumes/"
WORKSPACE = "/Workspace/"
MOUNTS: dict[str, dict[str, Any]] = json.loads(os.environ.get("TRAINYARD_SANDBOX_VOLUMES", "{}"))
WRITING_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

IMPORTING = ("stat", "listdir")
READ_ONE = ("stat", "lstat", "listdir", "scandir", "access", "chdir", "listxattr", "getxattr")
WRITE_ONE = ("mkdir", "rmdir", "remove", "unlink", "utime", "chmod", "truncate", "setxattr")
WRITE_TWO = ("rename", "replace")


def mapped(path: Any, *, writes: bool) -> Any:
    """Where a path really lies: itself unless it is in a volume that the sandbox offered to this run."""
    if not isinstance(path, str | bytes | os.PathLike):
        return path  # a file descriptor, or nothing: the current folder
    text = os.fsdecode(os.fspath(path))
    if not text.startswith((ROOT, WORKSPACE)):
        return path
    segments = os.path.normpath(text).split("/")
    depth = 5 if text.startswith(ROOT) else 2
    mount = MOUNTS.get(ROOT + "/".join(segments[2:5]).lower() if depth == 5 else "/Workspace")
    if mount is None:
        return path
    if not mount["write" if writes else "read"]:
        needed = "WRITE VOLUME" if writes else "READ VOLUME"
        told = f"User does not have {needed} on the volume" if depth == 5 else "The sandbox has it to be read only"
        raise PermissionError(errno.EACCES, told, text)
    return os.path.join(mount["folder"], *segments[depth:])


def called(real: Callable[..., Any], paths: tuple[Any, ...], *args: Any, writes: bool, **kwargs: Any) -> Any:
    """The real function with its paths mapped; an error names the path that the code used."""
    places = tuple(mapped(path, writes=writes) for path in paths)
    try:
        return real(*places, *args, **kwargs)
    except OSError as error:
        for place, path in zip(places, paths, strict=True):
            if place is not path and error.filename == place:
                error.filename = os.fsdecode(path)
        raise


def wrapped_open(real: Callable[..., Any]) -> Callable[..., Any]:
    """`open` with its first argument mapped."""

    def open(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        return called(real, (file,), mode, *args, writes=bool(set(mode) & set("wax+")), **kwargs)

    return open


def wrapped_os_open(real: Callable[..., Any]) -> Callable[..., Any]:
    """`os.open` with its first argument mapped."""

    def open(path: Any, flags: int, *args: Any, **kwargs: Any) -> Any:
        return called(real, (path,), flags, *args, writes=bool(flags & WRITING_FLAGS), **kwargs)

    return open


def wrapped_one(real: Callable[..., Any], *, writes: bool) -> Callable[..., Any]:
    """A function of one path, mapped."""

    def call(path: Any = ".", *args: Any, **kwargs: Any) -> Any:
        return called(real, (path,), *args, writes=writes, **kwargs)

    return call


def wrapped_two(real: Callable[..., Any]) -> Callable[..., Any]:
    """A function that changes two paths, both mapped."""

    def call(src: Any, dst: Any, *args: Any, **kwargs: Any) -> Any:
        return called(real, (src, dst), *args, writes=True, **kwargs)

    return call


def install() -> None:
    """Take the functions' places; what the originals are known to support, the new ones do as well."""
    builtins.open = io.open = wrapped_open(io.open)
    replaced = {"open": wrapped_os_open(os.open)}
    replaced |= {name: wrapped_one(getattr(os, name), writes=False) for name in READ_ONE}
    replaced |= {name: wrapped_one(getattr(os, name), writes=True) for name in WRITE_ONE}
    replaced |= {name: wrapped_two(getattr(os, name)) for name in WRITE_TWO}
    for name, function in replaced.items():
        real = getattr(os, name)
        function.__name__ = function.__qualname__ = name
        for supported in (os.supports_dir_fd, os.supports_effective_ids, os.supports_fd, os.supports_follow_symlinks):
            if real in supported:
                supported.add(function)
        setattr(os, name, function)
    for name in IMPORTING:
        setattr(posix, name, replaced[name])
    _io.open_code = io.open_code = wrapped_one(io.open_code, writes=False)


if MOUNTS:
    install()
