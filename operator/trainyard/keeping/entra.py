"""Entra access tokens for an application that trusts an assertion of ours. Nothing is stored or logged.

Called by `keeping.adls`, in a thread. One POST; there is no chain that would look for other identities.

Read in: Microsoft identity platform, "OAuth 2.0 client credentials flow", third case: "Access token request with a
federated credential"; error codes in "Microsoft Entra authentication and authorization error codes".
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import requests

from trainyard.audit.log import AuditLog
from trainyard.audit.transport import Answer, Bounds
from trainyard.core.errors import IdentityError, TrainyardError, Unreachable
from trainyard.keeping.base import Allow, Assertions, trust_of
from trainyard.keeping.renewal import Renewed, utc_now
from trainyard.keeping.transport import TOKEN_BOUNDS, session

AUDIENCE = "api://AzureADTokenExchange"
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_SHOWN = 200  # characters of Entra's words in a message

# No federated credential fits (a new one takes minutes to be known).
_UNTRUSTED = ("AADSTS70021", "AADSTS700211", "AADSTS700212", "AADSTS700213", "AADSTS70025")


@dataclass(frozen=True, slots=True)
class EntraToken:
    """An access token. Its value never shows in a repr."""

    value: str = field(repr=False)
    expires_at: datetime


class EntraApplication:
    """Tokens of one application for one service, got again before they end.

    Args:
        authority: `https://login.microsoftonline.com`, or a national cloud's.
        tenant_id, client_id: the application's.
        scope: the service's, `https://storage.azure.com/.default`.
        assertion: mints an assertion; called only after `allow` has let the authority pass.
    """

    def __init__(
        self,
        authority: str,
        tenant_id: str,
        client_id: str,
        scope: str,
        *,
        assertion: Assertions,
        allow: Allow,
        log: AuditLog,
        bounds: Bounds = TOKEN_BOUNDS,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._authority = authority.rstrip("/")
        self._tenant_id = tenant_id
        self._client_id = client_id
        self._scope = scope
        self._assertion = assertion
        self._allow = allow
        self._now = now
        self._kept = Renewed(self._ask, now)
        self._session = session(log, _Dialect(), self.describe, bounds)

    def token(self) -> EntraToken:
        """A token that is good for a while; asked for at most once at a time.

        Raises:
            IdentityError: none can be had; says what to trust.
            Unreachable, Throttled: Entra did not answer.
        """
        return self._kept.get()

    def forget(self, refused: EntraToken) -> None:
        """Drops a token that the service has refused."""
        self._kept.forget(refused)

    def describe(self) -> dict[str, str]:
        """Who asks, for the audit records."""
        return {"principal": self._client_id, "mode": "entraApplication"}

    def _ask(self) -> EntraToken:
        self._allow(self._authority)
        assertion = self._assertion(AUDIENCE)
        asked_at = self._now()
        answered = self._session.post(
            f"{self._authority}/{self._tenant_id}/oauth2/v2.0/token",
            data={
                "grant_type": "client_credentials",
                "client_id": self._client_id,
                "scope": self._scope,
                "client_assertion_type": _ASSERTION_TYPE,
                "client_assertion": assertion,
            },
            allow_redirects=False,
        )
        document = _document(answered)
        if answered.status_code != 200:
            raise self._refusal(document, assertion)
        value, life = document.get("access_token"), document.get("expires_in")
        if not isinstance(value, str) or not value or not isinstance(life, int | float) or life <= 0:
            raise Unreachable("Entra's answer holds no token with a life", reason="PlatformAnswerMalformed")
        return EntraToken(value, asked_at + timedelta(seconds=life))

    def _refusal(self, document: dict[str, Any], assertion: str) -> IdentityError:
        # The first line; trace ids and a time stamp follow, which would make each message a new one.
        said = (str(document.get("error_description") or document.get("error") or "").splitlines() or [""])[0]
        said = said.partition(" Trace ID:")[0].replace(assertion, "[token]")[:_SHOWN].rstrip(". ")
        if said.startswith(_UNTRUSTED):
            return IdentityError(
                f"logDestination.adls.clientId: application {self._client_id} does not trust the operator's assertion "
                f"({said}). Give it a federated credential with {trust_of(assertion)}; a new one takes some minutes "
                "to be known.",
                reason="TokenExchangeRefused",
                waiting=True,
            )
        return IdentityError(
            f"logDestination.adls: Entra gave no token for application {self._client_id} of tenant {self._tenant_id}: "
            f"{said or 'it did not say why'}. Check tenantId and clientId.",
            reason="TokenExchangeRefused",
        )


def _document(answered: requests.Response) -> dict[str, Any]:
    try:
        document = answered.json()
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise Unreachable("Entra answered with something else than JSON", reason="PlatformAnswerMalformed")
    return document


class _Dialect:
    """Lets 4xx answers through: the caller knows the assertion that must not stand in what they say."""

    def error(self, answer: Answer) -> TrainyardError | None:
        """A redirect, which is never followed; nothing else."""
        if answer.status < 400:
            return IdentityError("Entra redirects, which is never followed", reason="RedirectRefused")
        return None

    def remote_id(self, answer: Answer) -> str | None:  # noqa: ARG002 - the protocol's signature
        """Nothing; no run is asked about."""
        return None
