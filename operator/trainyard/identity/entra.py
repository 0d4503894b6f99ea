"""Federated identity at Entra: a ServiceAccount token as client assertion (RFC 7523) for an Azure token.

Made by the session controller through `EntraTokens`, asked by `platforms.azureml` at each request, in a lane's thread.
The vendor's `ClientAssertionCredential` makes the request, unmodified, through our own session: audited, bounded, never
repeated by itself, never redirected. The authority comes from `identity.clouds` alone.

The credential and its own cache live for one exchange. What is kept is kept by `CachedToken`, as azure-identity asks
once for each thread that finds nothing (get_token_mixin.py has no lock) and could not be told to forget.
"""

import logging
import re
import time
from collections.abc import Callable
from datetime import datetime, timedelta

import requests

from trainyard.audit.log import AuditLog
from trainyard.audit.transport import Answer, Bounds
from trainyard.core.errors import IdentityError, Refused, TrainyardError, Unreachable
from trainyard.identity.aadsts import SignIn, refusal
from trainyard.identity.assertion import Assertion, mint
from trainyard.identity.base import AccessToken, ServiceAccountRef, ServiceAccounts
from trainyard.identity.cached import CachedToken, Sources, utc_now
from trainyard.identity.clouds import Cloud
from trainyard.identity.consent import require_consent
from trainyard.identity.wire import EXCHANGE_BOUNDS, token_session

MODE = "federated"
PLATFORM = "azureml"
# What Entra asks of every assertion from outside ("Workload identity federation"). Fixed: no resource and no flag can
# have a token minted for somebody else.
AUDIENCE = "api://AzureADTokenExchange"
# It logs each failure with the answer's whole body (get_token_mixin.py), in which there may be a token. What failed is
# told by our own error.
logging.getLogger("azure.identity").setLevel(logging.CRITICAL)
_TENANT = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")


class EntraDialect:
    """Reads the answers of one sign-in."""

    def __init__(self, tried: SignIn) -> None:
        self._tried = tried

    def error(self, answer: Answer) -> TrainyardError | None:
        """What a refused sign-in means, with what mends it."""
        return refusal(answer, self._tried)

    def remote_id(self, answer: Answer) -> str | None:  # noqa: ARG002 - the protocol's signature
        """Nothing; no run is asked about."""
        return None


class EntraToken:
    """Access tokens for one scope as one application or managed identity; a TokenSource.

    Args:
        cloud: whose authority is asked.
        tenant: id of the Entra tenant, or a domain of it.
        scope: `RESOURCE/.default`.
        account: the ServiceAccount that speaks for the principal.
        client_id: of the application or managed identity; the ServiceAccount's annotation must name the same.
        accounts: reads ServiceAccounts and requests their tokens.
        log: the audit log.
        now: the clock.
        bounds: limits of each HTTP request.

    Raises:
        IdentityError: TenantUnknown: nothing that could be a tenant.
    """

    def __init__(
        self,
        cloud: Cloud,
        tenant: str,
        scope: str,
        account: ServiceAccountRef,
        client_id: str,
        *,
        accounts: ServiceAccounts,
        log: AuditLog,
        now: Callable[[], datetime] = utc_now,
        bounds: Bounds = EXCHANGE_BOUNDS,
    ) -> None:
        if not _TENANT.fullmatch(tenant):
            raise IdentityError(
                f"azureML.tenantId {tenant[:100]!a} is no tenant; write its id, or a domain of it",
                reason="TenantUnknown",
            )
        self._cloud = cloud
        self._tenant = tenant
        self._scope = scope
        self._account = account
        self._client_id = client_id
        self._accounts = accounts
        self._log = log
        self._now = now
        self._bounds = bounds
        self._cache = CachedToken(self._exchange, now)

    def token(self) -> AccessToken:
        """A token that is good for a while; at most one exchange at a time. See `CachedToken.get`.

        Raises:
            IdentityError: no token can be had; says what to mend.
            Unreachable, Throttled: Entra or the API server did not answer.
        """
        return self._cache.get()

    def describe(self) -> dict[str, str]:
        """Who asks for what, for the audit records of the requests that carry the token."""
        service_account = f"{self._account.namespace}/{self._account.name}"
        return {"principal": self._client_id, "mode": MODE, "service_account": service_account}

    def forget(self) -> None:
        """Drops the token, after the platform has refused it."""
        self._cache.forget()

    def _exchange(self) -> AccessToken:
        require_consent(self._accounts, self._account, PLATFORM, self._client_id)
        assertion = mint(self._accounts, self._account, AUDIENCE)
        dialect = EntraDialect(SignIn(self._tenant, self._client_id, self._scope, assertion))
        facts = {**self.describe(), "assertion_jti": assertion.jti}
        with token_session(self._log, dialect, facts, self._bounds) as session:
            return self._signed_in(session, assertion)

    def _signed_in(self, session: requests.Session, assertion: Assertion) -> AccessToken:
        # Imported here: most operators' first minutes, and many operators' whole life, need no Azure.
        from azure.core.exceptions import AzureError
        from azure.core.pipeline.transport import RequestsTransport
        from azure.identity import ClientAssertionCredential

        asked_at, began = self._now(), time.time()
        try:
            credential = ClientAssertionCredential(
                self._tenant,
                self._client_id,
                lambda: assertion.value,
                authority=self._cloud.authority,
                transport=RequestsTransport(session=session, session_owner=False),
                retry_total=0,
            )
            found = credential.get_token_info(self._scope)
            return _access_token(found.token, asked_at, found.expires_on - began, assertion)
        except Refused as error:
            raise IdentityError(error.message, reason=error.reason) from error
        except (AzureError, LookupError, TypeError, ValueError, AttributeError, OverflowError):
            # The SDK reads an answer without looking at its shape first. Nothing of the answer is told: it may be one.
            raise Unreachable(
                f"{self._cloud.authority} answered with something else than a token", reason="PlatformAnswerMalformed"
            ) from None


def _access_token(value: object, asked_at: datetime, life: float, assertion: Assertion) -> AccessToken:
    """The token. Raises ValueError if it is none that a header can carry, or already over."""
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or not value or life <= 0:
        raise ValueError("no token")
    return AccessToken(value, asked_at + timedelta(seconds=life), assertion.jti)


class EntraTokens:
    """Every token source of this operator for Azure: one per cloud, tenant, ServiceAccount, principal and scope.

    Bounded: the longest unused source is dropped, which costs its user one more exchange.
    """

    def __init__(
        self,
        accounts: ServiceAccounts,
        log: AuditLog,
        *,
        bound: int = 2000,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._accounts = accounts
        self._log = log
        self._now = now
        self._sources: Sources[tuple[Cloud, str, ServiceAccountRef, str, str], EntraToken] = Sources(bound)

    def source(self, cloud: Cloud, tenant: str, account: ServiceAccountRef, client_id: str, scope: str) -> EntraToken:
        """The source for that scope. Sends nothing.

        Raises:
            ValueError: the scope is none of the cloud's.
            IdentityError: TenantUnknown.
        """
        if scope not in (cloud.arm_scope, cloud.ml_scope):
            raise ValueError(f"{scope} is no scope of {cloud.name}")
        key = (cloud, tenant, account, client_id, scope)
        return self._sources.get(
            key,
            lambda: EntraToken(
                cloud,
                tenant,
                scope,
                account,
                client_id,
                accounts=self._accounts,
                log=self._log,
                now=self._now,
            ),
        )
