"""What a repository's URL may look like, and which hosts may be asked. Pure.

Called by `sources.git` before anything is started. It must never let through what git, ssh or curl could read
otherwise than we do: an option, a user's password, an address, another transport.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from trainyard.core.errors import IdentityError, SourceError
from trainyard.identity.hosts import HostPolicy

DEFAULT_GIT_HOSTS = (
    "github.com",
    "gitlab.com",
    "bitbucket.org",
    "dev.azure.com",
    "ssh.dev.azure.com",
    "vs-ssh.visualstudio.com",
)
_DEFAULT_PORTS = {"https": "443", "ssh": "22"}

# Nothing that a shell, a URL parser or git's own quoting gives a meaning to.
_PATH = r"[A-Za-z0-9._~%+@=,:()!/-]+"
_USER = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
_HOST = r"[A-Za-z0-9.-]+"
_HTTPS = re.compile(rf"https://(?P<host>{_HOST})(:(?P<port>[0-9]{{1,5}}))?/(?P<path>{_PATH})")
_SSH = re.compile(rf"ssh://(?P<user>{_USER})@(?P<host>{_HOST})(:(?P<port>[0-9]{{1,5}}))?/(?P<path>{_PATH})")
# The form that forges show: user@host:path (git-clone(1), "scp-like syntax"). It has no place for a port.
_SCP = re.compile(rf"(?P<user>{_USER})@(?P<host>{_HOST}):(?!-)/?(?P<path>{_PATH})")


@dataclass(frozen=True, slots=True)
class Remote:
    """A repository that may be asked. `host` is NAME, or NAME:PORT where the port is not the scheme's own; `path` is
    what the URL has after it and a slash or colon."""

    url: str
    scheme: Literal["https", "ssh"]
    host: str
    path: str = ""


class RemotePolicy:
    """Which repositories may be asked.

    Args:
        allowed: hosts: `host`, `host:port` or `*.suffix`, as `identity.hosts` reads them; without a port the scheme's
            own is meant.

    Raises:
        ValueError: a pattern can not be read.
    """

    def __init__(self, allowed: Sequence[str] = DEFAULT_GIT_HOSTS) -> None:
        self._hosts = HostPolicy(allowed, token_hosts=())
        self._told = ", ".join(allowed) or "none"

    def remote(self, url: str) -> Remote:
        """The repository, if its URL is plain and its host allowed.

        Raises:
            SourceError: GitUrlInvalid or GitHostNotAllowed.
        """
        remote = _parsed(url)
        try:
            self._hosts.check(f"https://{remote.host}")
        except IdentityError:
            raise SourceError(
                f"git.url: host {remote.host} is not on the operator's list of git hosts ({self._told}). "
                "Correct the URL, or have the operator started with it as an allowed git host.",
                reason="GitHostNotAllowed",
            ) from None
        return remote


def host_of(url: str) -> str:
    """The host of a repository's URL, as `Remote.host` has it and git asks it; whether it may be asked is not told.

    Raises:
        SourceError: GitUrlInvalid or GitHostNotAllowed.
    """
    return _parsed(url).host


def _parsed(url: str) -> Remote:
    match = _HTTPS.fullmatch(url) or _SSH.fullmatch(url) or _SCP.fullmatch(url)
    if match is None:
        raise SourceError(
            "git.url: write https://HOST/PATH, ssh://USER@HOST/PATH or USER@HOST:PATH, with nothing unusual in it; "
            "an https URL holds neither user nor password: put them into a Secret and name it in git.secretRef.",
            reason="GitUrlInvalid",
        )
    scheme: Literal["https", "ssh"] = "https" if url.startswith("https://") else "ssh"
    host = match["host"].lower()
    if _is_address(host):
        raise SourceError(
            f"git.url: {host} is an address; name the host, so that its certificate or key can be checked.",
            reason="GitHostNotAllowed",
        )
    return Remote(url, scheme, with_port(host, match.groupdict().get("port"), scheme), match["path"])


def with_port(host: str, port: str | None, scheme: Literal["https", "ssh"]) -> str:
    """host:port, or just the host where the port is the scheme's own."""
    return host if port is None or port == _DEFAULT_PORTS[scheme] else f"{host}:{port}"


def segments_of(path: str) -> tuple[str, ...] | None:
    """The names that a repository's path leads through, or None where a host might read it as another path.

    A `.git` at its end is left out: forges serve a repository under both names.
    """
    plain = unquote(path.removesuffix("/"))
    names = plain.removesuffix(".git").split("/")
    odd = (
        not plain.isprintable()
        or "%" in plain
        or "\\" in plain
        or plain.count("/") != path.removesuffix("/").count("/")
    )
    return None if odd or any(name in ("", ".", "..") for name in names) else tuple(names)


def _is_address(host: str) -> bool:
    """Whether some resolver would read the name as an IPv4 address (inet_aton takes 1 to 4 parts, also hexadecimal)."""
    last = host.rstrip(".").rpartition(".")[2]
    return last.isdigit() or last.startswith("0x")
