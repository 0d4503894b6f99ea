"""Tokens of a machine's managed identity, from Azure's instance metadata service (IMDS); a TokenSource.

Made by `identity.managed_identity`, asked by the platforms at each request, in a lane's thread. One GET over plain
http, as the service has no https: to exactly the endpoint of the operator's flag, never through a proxy, never
redirected. Read in: Microsoft, "How to use managed identities for Azure resources on an Azure VM to acquire an access
token" (request, answer, errors, pauses), and azure-identity `_credentials/imds.py` with msal `managed_identity.py`,
which ask for the same. Why not through them: docs/decisions/0023.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import jwt
import requests

from trainyard.audit.log import AuditLog
from trainyard.audit.transport import Answer, AuditedAdapter, Bounds
from trainyard.core.errors import IdentityError, Refused, TrainyardError, Unreachable
from trainyard.identity.base import AccessToken
from trainyard.identity.cached import CachedToken, utc_now
from trainyard.identity.wire import document_of

DEFAULT_ENDPOINT = "http://169.254.169.254"
PATH = "/metadata/identity/oauth2/token"
API_VERSION = "2018-02-01"
BOUNDS = Bounds(connect=2.0, read=10.0, total=15.0, body=1024 * 1024)
_ENDPOINT = re.compile(r"http://([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?")
# The second is said where several are assigned and none is named.
_NOT_FOUND = re.compile("identity not found|multiple user assigned identities", re.IGNORECASE)
# Part of the resource id of every user-assigned identity, and of no machine's own.
_USER_ASSIGNED = "/providers/microsoft.managedidentity/userassignedidentities/"


def checked_endpoint(endpoint: str) -> str:
    """The endpoint as it is asked.

    Raises:
        ValueError: it is not http://HOST or http://HOST:PORT.
    """
    plain = endpoint.rstrip("/")
    if not _ENDPOINT.fullmatch(plain) or not _port_fits(plain):
        raise ValueError(f"--imds-endpoint {endpoint[:200]!a} must be http://HOST or http://HOST:PORT")
    return plain.lower()


def _port_fits(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


class ImdsDialect:
    """What the service's refusals mean."""

    def __init__(self, identity: str, resource: str) -> None:
        self._identity = identity
        self._resource = resource

    def error(self, answer: Answer) -> TrainyardError | None:
        """The error that a 4xx answer stands for; 429 and 5xx are judged by the transport."""
        host = urlsplit(answer.url).netloc
        if answer.status in (404, 410):
            # "410: IMDS is going through updates; it will be available within 70 seconds", and 404 likewise.
            return _unavailable(f"{host} answered {answer.status}, as it does for a minute while it is updated")
        document = answer.json()
        said = _words(document) if isinstance(document, dict) else ""
        if answer.status == 400 and _NOT_FOUND.search(said):
            return IdentityError(
                f"the operator's machine has no {self._identity} ({said}). Assign it to the node's machine or scale "
                "set (az vmss identity assign, or az vm identity assign), or correct "
                "identity.managedIdentity.clientId.",
                reason="ManagedIdentityNotFound",
            )
        return IdentityError(
            f"the instance metadata service refused a token of the {self._identity} for {self._resource}: "
            f"{said or f'status {answer.status}'}",
            reason="TokenExchangeRefused",
        )

    def remote_id(self, answer: Answer) -> str | None:  # noqa: ARG002 - the protocol's signature
        """Nothing; no run is asked about."""
        return None


class ImdsToken:
    """Access tokens for one resource as one managed identity of the operator's machine.

    Args:
        endpoint: of the service, as `checked_endpoint` gives it.
        resource: whom the tokens are for: a scope without its `/.default`.
        client_id: of a user-assigned identity; None is the machine's system-assigned one.
        pinned: whose tokens these have to be, where that is known of a system-assigned one: each machine has its own,
            and another one may do the asking by now.
        facts: principal and mode, for the audit records.
        log: the audit log.
        now: the clock.
        bounds: limits of each HTTP request.
    """

    def __init__(
        self,
        endpoint: str,
        resource: str,
        client_id: str | None,
        facts: Mapping[str, str],
        *,
        pinned: str | None = None,
        log: AuditLog,
        now: Callable[[], datetime] = utc_now,
        bounds: Bounds = BOUNDS,
    ) -> None:
        self._url = endpoint + PATH
        self._query = {"api-version": API_VERSION, "resource": resource}
        if client_id is not None:
            self._query["client_id"] = client_id
        self._client_id = client_id
        self._pinned = client_id or pinned
        self._told = dict(facts)
        self._now = now
        identity = "system-assigned identity" if client_id is None else f"user-assigned identity {client_id}"
        adapter = AuditedAdapter(log, ImdsDialect(identity, resource), lambda: dict(self._told), bounds)
        self._session = _only(endpoint, adapter)
        self._cache = CachedToken(self._asked, now)

    def token(self) -> AccessToken:
        """A token that is good for a while; at most one request at a time. See `CachedToken.get`.

        Raises:
            IdentityError: ManagedIdentityNotFound, ManagedIdentityMismatch, TokenExchangeRefused.
            Unreachable, Throttled: the service did not answer.
        """
        return self._cache.get()

    def describe(self) -> dict[str, str]:
        """Who asks for what, for the audit records of the requests that carry the token."""
        return dict(self._told)

    def forget(self) -> None:
        """Drops the token, after the platform has refused it. The service may give the same one again: it keeps its own
        for most of their life.
        """
        self._cache.forget()

    def _asked(self) -> AccessToken:
        asked_at = self._now()
        try:
            response = self._session.get(
                self._url, params=self._query, headers={"Metadata": "true"}, allow_redirects=False
            )
        except Refused as error:
            raise IdentityError(error.message, reason=error.reason) from error
        except Unreachable as error:
            if error.reason != Unreachable.reason:
                raise  # it did answer: to come back later, or something else than JSON
            raise _unavailable(error.message) from error
        token = _token(response, asked_at)
        _require_asked_for(token, self._client_id, self._pinned)
        return token


def _only(endpoint: str, adapter: AuditedAdapter) -> requests.Session:
    """A session that reaches that endpoint alone, without proxies and with nothing from the environment."""
    session = requests.Session()
    session.trust_env = False
    session.adapters.clear()
    session.mount(f"{endpoint}/", adapter)
    return session


def _token(response: requests.Response, asked_at: datetime) -> AccessToken:
    """The token in an answer, all of whose values are text."""
    document = document_of(response)
    if document is not None:
        value, life = document.get("access_token"), str(document.get("expires_in"))
        fits = isinstance(value, str) and value and value.isascii() and value.isprintable()
        if fits and re.fullmatch(r"[1-9][0-9]{0,8}", life):
            return AccessToken(str(value), asked_at + timedelta(seconds=int(life)))
    raise Unreachable(
        "the instance metadata service's answer holds no token with a life", reason="PlatformAnswerMalformed"
    )


def _require_asked_for(token: AccessToken, client_id: str | None, pinned: str | None) -> None:
    """Refuses the token of an identity that was not asked for.

    Where a machine has no system-assigned identity and one user-assigned one, the service gives that ("Managed
    identities for Azure resources frequently asked questions"): on AKS it is the kubelet's. Of the claims that tell,
    only appid is published ("Access token claims reference"), xms_mirid is not: they can only be a reason to refuse.
    """
    try:
        claims = jwt.decode(token.value, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError):
        return
    owner, application = claims.get("xms_mirid"), claims.get("appid")
    if client_id is None and isinstance(owner, str) and _USER_ASSIGNED in owner.lower():
        raise IdentityError(
            "the operator's machine has no system-assigned identity, and the instance metadata service gave the "
            f"user-assigned one {owner[:255]!a} instead; its token was not used. Name that identity's client id in "
            "identity.managedIdentity.clientId, or enable the system-assigned identity.",
            reason="ManagedIdentityMismatch",
        )
    if pinned is not None and isinstance(application, str) and application.casefold() != pinned.casefold():
        raise IdentityError(
            f"the instance metadata service gave a token of {application[:64]!a} instead of {pinned}; it was not used. "
            + (
                "Look for what stands between the operator and the service."
                if client_id is not None
                else "The operator is on another machine, with another system-assigned identity, than when the attempt "
                "was begun: name a user-assigned identity in identity.managedIdentity.clientId, which all can have."
            ),
            reason="ManagedIdentityMismatch",
        )


def _words(document: Mapping[str, Any]) -> str:
    code = str(document.get("error") or "")[:64]
    words = " ".join(str(document.get("error_description") or "").split())[:300]
    return ": ".join(part for part in (code, words.rstrip(". ")) if part)


def _unavailable(what: str) -> Unreachable:
    return Unreachable(
        f"{what}. The operator asks Azure's instance metadata service there for its managed identity: only machines of "
        "Azure have it, and in AKS not every pod may reach it (azureWorkloadIdentity needs none)",
        reason="MetadataServiceUnreachable",
    )
