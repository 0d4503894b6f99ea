"""The environment that git runs in: all that it may know, and nothing that this machine's user has configured.

Called by `sources.repository`. A credential is handed over here and in files of the fetch's own folder, never on a
command line, which every process of the machine can read.

Each line rests on git's documentation: git(1) "Environment Variables", git-config(1), and for the transports
"protocol.allow" there.
"""

import base64
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from trainyard.sources.credential import GitCredential
from trainyard.sources.remote import Remote

# Of the operator's own environment: where programs are, and how to get out of the network (curl reads these).
_INHERITED = ("PATH", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy")
# Bytes per second, and for how many seconds, below which a transfer is given up (http.lowSpeedLimit).
_SLOW_BYTES, _SLOW_SECONDS = 500, 20
SSH_CONNECT_SECONDS = 10

_CONFIG = (
    ("protocol.version", "2"),  # a commit can be asked for by its id, and the server need not list all its refs
    ("http.followRedirects", "false"),  # also keeps dumb HTTP from following alternates to other hosts
    ("http.lowSpeedLimit", str(_SLOW_BYTES)),
    ("http.lowSpeedTime", str(_SLOW_SECONDS)),
    ("transfer.bundleURI", "false"),  # a server may otherwise have us fetch from elsewhere
    ("fetch.uriProtocols", ""),  # the same, for packs
    ("transfer.unpackLimit", "1"),  # one pack, whose size the process limits bound
    ("fetch.recurseSubmodules", "false"),
    ("submodule.recurse", "false"),
    ("core.hooksPath", os.devnull),
    ("core.askPass", ""),
    ("credential.helper", ""),
    ("credential.interactive", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("core.bigFileThreshold", "16m"),  # larger objects are streamed rather than held in memory
    ("core.packedGitWindowSize", "16m"),  # of a pack in memory at a time, rather than all of it
    ("core.packedGitLimit", "64m"),
    ("core.deltaBaseCacheLimit", "16m"),
    ("pack.threads", "1"),
)


def environment(
    remote: Remote, credential: GitCredential | None, folder: Path, *, ca_file: Path | None, ssh: Sequence[str]
) -> dict[str, str]:
    """The whole environment of a git that may ask that one repository.

    Writes the SSH key, for ssh, into the folder.
    """
    config = [*_CONFIG, ("remote.origin.url", remote.url)]
    if credential is not None and credential.kind == "https":
        # Sent with each request of this host and of no other; git keeps it out of its traces and errors.
        config.append((f"http.https://{remote.host}/.extraHeader", f"Authorization: Basic {basic(credential)}"))
    given = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    given |= {
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_CEILING_DIRECTORIES": str(folder.parent),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_PROTOCOL_FROM_USER": "0",
        "GIT_ALLOW_PROTOCOL": remote.scheme,  # this one alone; http, git, file and ext are never allowed
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_CONFIG_COUNT": str(len(config)),
    }
    for number, (name, value) in enumerate(config):
        given |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    if ca_file is not None:
        given["GIT_SSL_CAINFO"] = str(ca_file)
    if credential is not None and credential.kind == "ssh":
        given |= {"GIT_SSH_VARIANT": "ssh", "GIT_SSH_COMMAND": _ssh_command(credential, folder, ssh)}
    return given


def secrets_of(credential: GitCredential | None) -> list[str]:
    """What must not stand in any message."""
    if credential is None:
        return []
    lines = credential.private_key.splitlines()
    return [credential.password, basic(credential), *(line for line in lines if not line.startswith("-----"))]


def basic(credential: GitCredential) -> str:
    """Username and password as RFC 7617 writes them."""
    return base64.b64encode(f"{credential.username}:{credential.password}".encode()).decode()


def _ssh_command(credential: GitCredential, folder: Path, ssh: Sequence[str]) -> str:
    """ssh with this key for a host with one of these keys, and nothing of the user's (ssh_config(5))."""
    key, known = folder / "ssh-key", folder / "known-hosts"
    for path, text in ((key, credential.private_key), (known, credential.known_hosts)):
        path.touch(mode=0o600)
        path.write_text(text + "\n")
    options = {
        "IdentityFile": key,
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "UserKnownHostsFile": known,
        "GlobalKnownHostsFile": os.devnull,
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "VerifyHostKeyDNS": "no",
        "PreferredAuthentications": "publickey",
        "BatchMode": "yes",
        "ForwardAgent": "no",
        "ClearAllForwardings": "yes",
        "PermitLocalCommand": "no",
        "ProxyCommand": "none",
        "ConnectTimeout": SSH_CONNECT_SECONDS,
        "ServerAliveInterval": SSH_CONNECT_SECONDS,
        "LogLevel": "ERROR",
    }
    words = [*ssh, "-F", "none"]
    for name, value in options.items():
        words += ["-o", f"{name}={value}"]
    return shlex.join(words)
