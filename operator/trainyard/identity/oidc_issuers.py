"""Which OpenID providers may ever be asked for a token, and where (invariant 6). Pure.

Built once from the operator's flags; asked by `identity.oidc` before a Secret is read or anything is sent. It must
never be widened by a resource: whoever may write a workspace could otherwise have a client's secret sent anywhere.
"""

from collections.abc import Sequence

from trainyard.core.errors import IdentityError
from trainyard.identity.hosts import HostPattern, origin_of


class IssuerPolicy:
    """The allow-list. Empty unless an administrator says otherwise: nobody's provider is known beforehand.

    Args:
        allowed: whole issuer URLs, or `host`, `host:port` or `*.suffix` for every issuer there.
        token_hosts: hosts, beside an issuer's own, that may serve its token endpoint, written like hosts above.

    Raises:
        ValueError: an entry can not be read; names the flag.
    """

    def __init__(self, allowed: Sequence[str] = (), token_hosts: Sequence[str] = ()) -> None:
        self._issuers = frozenset(text for text in allowed if "/" in text)
        for text in self._issuers:
            if not _is_plain(text):
                raise ValueError(f"--allowed-issuer {text!r} is no https URL without a query or user")
        try:
            self._hosts = [HostPattern.of(text) for text in allowed if "/" not in text]
        except ValueError as error:
            raise ValueError(f"--allowed-issuer: {error}, nor an issuer's URL") from None
        self._token_hosts = [HostPattern.of(text) for text in token_hosts]
        self._told = ", ".join(allowed) or "none"

    def check(self, issuer: str) -> None:
        """Checks that the issuer may be asked. A URL of the list means exactly that issuer, to the last slash.

        Raises:
            IdentityError: IssuerNotAllowed.
        """
        if not _is_plain(issuer):
            raise IdentityError(
                f"identity.oidc.issuer {issuer[:200]!a} is no plain https URL; write it as the provider's tokens do",
                reason="IssuerNotAllowed",
            )
        if issuer not in self._issuers and not any(pattern.matches_url(issuer) for pattern in self._hosts):
            raise IdentityError(
                f"issuer {issuer} is not on the operator's list of providers ({self._told}). Correct "
                "identity.oidc.issuer, or have the operator started with it (--allowed-issuer).",
                reason="IssuerNotAllowed",
            )

    def check_token_endpoint(self, issuer: str, endpoint: str) -> str:
        """The endpoint, if it is on the issuer's own origin or on a host that an administrator allowed.

        Raises:
            IdentityError: TokenEndpointNotAllowed.
        """
        origin = origin_of(endpoint)
        if origin is None or (
            origin != origin_of(issuer) and not any(pattern.matches_url(endpoint) for pattern in self._token_hosts)
        ):
            raise IdentityError(
                f"issuer {issuer} names {endpoint[:200]!a} as its token endpoint, which is not on its own host; no "
                "secret is sent there. If this is right, have the operator started with that host as an allowed token "
                "host (--allowed-token-host).",
                reason="TokenEndpointNotAllowed",
            )
        return endpoint


def _is_plain(url: str) -> bool:
    return origin_of(url) is not None and not any(sign in url for sign in "?#")
