"""Which hosts may ever get an assertion or a token (invariant 6). Pure.

Built once from the operator's flags; asked by `identity.federated` before anything is minted and by the workspace
controller before anything is sent. It must never be widened by a resource.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from trainyard.core.errors import IdentityError

# Workspaces of the public clouds, government and China clouds included.
# Read in: databricks-sdk environments.py (ALL_ENVS).
DEFAULT_ALLOWED = (
    "*.azuredatabricks.net",
    "*.databricks.azure.cn",
    "*.databricks.azure.us",
    "*.cloud.databricks.com",
    "*.cloud.databricks.mil",
    "*.cloud.databricks.us",
    "*.gcp.databricks.com",
)
# Account-level OIDC servers, which a workspace may name as its token endpoint.
DEFAULT_TOKEN_HOSTS = (
    "accounts.azuredatabricks.net",
    "accounts.databricks.azure.cn",
    "accounts.databricks.azure.us",
    "accounts.cloud.databricks.com",
    "accounts-dod.cloud.databricks.mil",
    "accounts-dod.cloud.databricks.us",
    "accounts.gcp.databricks.com",
)

# A plain ASCII host name or address. Everything else (IDN, percent signs, user names, backslashes) has been used to
# make two URL parsers disagree about the host, so none of it is let through to be interpreted.
_AUTHORITY = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class HostPattern:
    """`host`, `host:port` or `*.suffix`; a wildcard stands for one or more labels."""

    host: str
    port: int
    wildcard: bool

    @classmethod
    def of(cls, text: str) -> "HostPattern":
        """The pattern that the text says. Raises ValueError if it says none, or too much."""
        wildcard = text.startswith("*.")
        plain = text.removeprefix("*.")
        authority = _authority_of("https://" + plain) if _AUTHORITY.fullmatch(plain.lower()) else None
        if authority is None or (wildcard and "." not in authority[0]):
            raise ValueError(f"{text!r} is not HOST, HOST:PORT or *.SUFFIX with at least two labels")
        return cls(authority[0], authority[1], wildcard)

    def matches(self, host: str, port: int) -> bool:
        """Whether it means that host (lower case) and port."""
        if port != self.port:
            return False
        if self.wildcard:
            return host.endswith("." + self.host) and len(host) > len(self.host) + 1
        return host == self.host

    def matches_url(self, url: str) -> bool:
        """Whether the URL is a plain https URL of such a host."""
        authority = _authority_of(url)
        return authority is not None and self.matches(*authority)


def origin_of(url: str) -> str | None:
    """`https://host[:port]` of an https URL that has nothing unusual in its host, or None."""
    authority = _authority_of(url)
    return None if authority is None else f"https://{authority[0]}{_shown(authority[1])}"


class HostPolicy:
    """The allow-list.

    Args:
        allowed: workspace hosts: `host`, `host:port` or `*.suffix`; a wildcard stands for one or more labels.
        token_hosts: further hosts that may serve a token endpoint, written the same way without wildcards.

    Raises:
        ValueError: a pattern can not be read.
    """

    def __init__(
        self, allowed: Sequence[str] = DEFAULT_ALLOWED, token_hosts: Sequence[str] = DEFAULT_TOKEN_HOSTS
    ) -> None:
        self._allowed = [HostPattern.of(text) for text in allowed]
        self._token_hosts = [HostPattern.of(text) for text in token_hosts]
        self._told = ", ".join(allowed) or "none"

    def check(self, url: str) -> str:
        """The workspace's origin (`https://host[:port]`) if it may be talked to.

        Raises:
            IdentityError: HostNotAllowed.
        """
        host, port = self._authority(url, "HostNotAllowed")
        if not any(pattern.matches(host, port) for pattern in self._allowed):
            raise IdentityError(
                f"host {host}{_shown(port)} is not on the operator's allow-list ({self._told}). "
                "Correct the workspace's host, or have the operator started with it as an allowed host.",
                reason="HostNotAllowed",
            )
        return f"https://{host}{_shown(port)}"

    def check_token_endpoint(self, workspace: str, endpoint: str) -> str:
        """The endpoint, if it is the workspace's own or an account's OIDC server.

        Raises:
            IdentityError: TokenEndpointNotAllowed.
        """
        own = self._authority(workspace, "HostNotAllowed")
        host, port = self._authority(endpoint, "TokenEndpointNotAllowed")
        if (host, port) != own and not any(pattern.matches(host, port) for pattern in self._token_hosts):
            raise IdentityError(
                f"the workspace {own[0]}{_shown(own[1])} names {host}{_shown(port)} as its token endpoint, which is "
                "neither itself nor a known account host; no assertion is sent there. If this is right, have the "
                "operator started with it as an allowed token host (--allowed-token-host).",
                reason="TokenEndpointNotAllowed",
            )
        return endpoint

    def _authority(self, url: str, reason: str) -> tuple[str, int]:
        authority = _authority_of(url)
        if authority is None:
            raise IdentityError(
                f"{_printable(url)} is not a plain https URL; write https://NAME or https://NAME:PORT", reason=reason
            )
        return authority


def _authority_of(url: str) -> tuple[str, int] | None:
    """Host and port of an https URL that has nothing unusual in it, or None."""
    if not url.isascii() or not url.lower().startswith("https://") or any(c in url for c in "\\@ \t\r\n"):
        return None
    netloc = urlsplit(url).netloc.lower()
    if not _AUTHORITY.fullmatch(netloc):
        return None
    host, _, port = netloc.partition(":")
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        return None
    # Punycode looks like ASCII to a parser and like something else to a person.
    if any(label.startswith("xn--") for label in labels):
        return None
    number = int(port) if port else 443
    return (host, number) if 0 < number < 65536 else None


def _shown(port: int) -> str:
    return "" if port == 443 else f":{port}"


def _printable(url: str) -> str:
    return ascii(url[:200])
