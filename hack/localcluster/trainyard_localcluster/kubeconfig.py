"""Writes kubeconfigs for a local control plane, and refuses any other.

`require_local` is what tests, demos and benchmarks call before they create or delete anything: a suite that runs
against whatever the current context happens to be has deleted real clusters' resources elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from trainyard_localcluster.errors import NotLocalError

NAME = "trainyard-localcluster"
EXTENSION = "trainyard.dev/localcluster"


def write_kubeconfig(path: Path, url: str, ca_file: Path, user: Mapping[str, str], namespace: str = "default") -> Path:
    """Write a kubeconfig with mode 0600 that carries all it needs and the mark of this tool.

    `user` is the credential as a kubeconfig spells it: {"token": ...}, or client-certificate-data and client-key-data.
    """
    authority = ca_file.read_bytes()
    mark = {"madeBy": NAME, "caSHA256": hashlib.sha256(authority).hexdigest()}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": NAME,
                "cluster": {
                    "server": url,
                    "certificate-authority-data": base64.b64encode(authority).decode(),
                    "extensions": [{"name": EXTENSION, "extension": mark}],
                },
            }
        ],
        "users": [{"name": NAME, "user": dict(user)}],
        "contexts": [{"name": NAME, "context": {"cluster": NAME, "user": NAME, "namespace": namespace}}],
        "current-context": NAME,
    }
    # Made under another name first: it is never there with the wrong mode, nor half written.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        yaml.safe_dump(config, file, sort_keys=False)
    unfinished.rename(path)
    return path


def client_certificate_user(cert: Path, key: Path) -> dict[str, str]:
    """The `user` of a kubeconfig that authenticates with a certificate."""
    return {
        "client-certificate-data": base64.b64encode(cert.read_bytes()).decode(),
        "client-key-data": base64.b64encode(key.read_bytes()).decode(),
    }


def require_local(kubeconfig: Path) -> None:
    """Raise NotLocalError unless this tool made `kubeconfig` and everything in it points at loopback.

    Every cluster in the file must pass, not just the current one: `--context` could choose another.
    """
    try:
        config = yaml.safe_load(kubeconfig.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise NotLocalError(f"{kubeconfig} cannot be read as a kubeconfig: {error}") from error
    entries = config.get("clusters") if isinstance(config, dict) else None
    if not isinstance(entries, list) or not entries:
        raise NotLocalError(f"{kubeconfig} names no cluster")
    for entry in entries:
        cluster = entry.get("cluster") if isinstance(entry, dict) else None
        objection = "is malformed" if not isinstance(cluster, dict) else _objection(cluster)
        if objection:
            name = entry.get("name") if isinstance(entry, dict) else entry
            raise NotLocalError(
                f"refusing to use {kubeconfig}: its cluster {name!r} {objection}. "
                "Use a kubeconfig made by `trainyard-localcluster start DIR`."
            )


def _objection(cluster: Mapping[str, Any]) -> str:
    """Why this entry is not one of ours on loopback; empty when it is."""
    extensions = cluster.get("extensions")
    marks = [
        extension.get("extension")
        for extension in (extensions if isinstance(extensions, list) else [])
        if isinstance(extension, dict) and extension.get("name") == EXTENSION
    ]
    if len(marks) != 1 or not isinstance(marks[0], dict) or marks[0].get("madeBy") != NAME:
        return "was not made by trainyard-localcluster"
    try:
        authority = base64.b64decode(str(cluster.get("certificate-authority-data", "")), validate=True)
    except ValueError:
        return "has certificate-authority-data that is not base64"
    if marks[0].get("caSHA256") != hashlib.sha256(authority).hexdigest():
        return "trusts another certificate authority than the one trainyard-localcluster gave it"
    detours = [name for name in ("proxy-url", "insecure-skip-tls-verify", "tls-server-name") if cluster.get(name)]
    if detours:
        return f"sets {', '.join(detours)}"
    server = str(cluster.get("server", ""))
    if not _is_loopback(server):
        return f"points at {server}, not at loopback"
    return ""


def _is_loopback(url: str) -> bool:
    """True for https on a literal loopback address; a name could resolve to anything."""
    try:
        parts = urlsplit(url)
        return parts.scheme == "https" and ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False
