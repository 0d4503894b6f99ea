"""Sign-in at Entra for a token of Azure or of Azure Databricks: by assertion (RFC 7523), secret or certificate.

Made by the modes, asked by the platforms at each request, in a lane's thread. The vendor's credential makes the
request, unmodified, through our own session: audited, bounded, never repeated by itself, never redirected. The
authority comes from `identity.clouds` alone.

The credential and its own cache live for one exchange. What is kept is kept by `CachedToken`, as azure-identity asks
once for each thread that finds nothing (get_token_mixin.py has no lock) and could not be told to forget.
"""

import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import requests

from trainyard.audit.log import AuditLog
from trainyard.audit.transport import Answer, Bounds
from trainyard.core.errors import IdentityError, Refused, TrainyardError, Unreachable
from trainyard.identity.aadsts import SignIn, refusal
from trainyard.identity.assertion import Assertion
from trainyard.identity.base import AccessToken
from trainyard.identity.cached import CachedToken, utc_now
from trainyard.identity.clouds import Cloud
from trainyard.identity.signing_in import block_of
from trainyard.identity.wire import EXCHANGE_BOUNDS, token_session

# What Entra asks of every assertion from outside ("Workload identity federation"). Fixed: no resource and no flag can
# have a token minted for somebody else.
AUDIENCE = "api://AzureADTokenExchange"
# It logs each failure with the answer's whole body (get_token_mixin.py), in which there may be a token. What failed is
# told by our own error. MSAL below it logs an answer that is no JSON (oauth2cli/oauth2.py).
logging.getLogger("azure.identity").setLevel(logging.CRITICAL)
logging.getLogger("msal").setLevel(logging.CRITICAL)
_TENANT = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Proof:
    """What stands for a principal in one sign-in.

    `credential` makes the vendor's credential of it: called with the tenant, the client id and its keyword options
    (authority, transport, retry_total). For what refusals say: `assertion` is what it signs in with, if it is one;
    `kept` names the key and the Secret of what it signs in with otherwise.
    """

    credential: Callable[..., Any] = field(repr=False)
    assertion: Assertion | None = None
    kept: str = ""

    @property
    def jti(self) -> str | None:
        """The assertion's id, for the audit records."""
        return self.assertion.jti if self.assertion is not None else None


def asserted(assertion: Assertion) -> Proof:
    """Proof by an assertion of somebody whom one of the principal's federated credentials trusts."""

    def credential(tenant: str, client_id: str, **options: Any) -> Any:
        from azure.identity import ClientAssertionCredential

        return ClientAssertionCredential(tenant, client_id, lambda: assertion.value, **options)

    return Proof(credential, assertion)


def by_secret(value: str, kept: str) -> Proof:
    """Proof by a client secret of the application."""

    def credential(tenant: str, client_id: str, **options: Any) -> Any:
        from azure.identity import ClientSecretCredential

        return ClientSecretCredential(tenant, client_id, value, disable_instance_discovery=True, **options)

    return Proof(credential, kept=kept)


def by_certificate(pem: bytes, kept: str) -> Proof:
    """Proof by a certificate of the application: PEM, the certificate and its RSA key without a password."""

    def credential(tenant: str, client_id: str, **options: Any) -> Any:
        from azure.identity import CertificateCredential

        return CertificateCredential(
            tenant, client_id, certificate_data=pem, disable_instance_discovery=True, **options
        )

    return Proof(credential, kept=kept)


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
        client_id: of the application or managed identity.
        prove: makes what stands for it, each time; see `Proof`.
        facts: mode and, where it has one, service_account, for the audit records.
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
        client_id: str,
        prove: Callable[[], Proof],
        facts: Mapping[str, str],
        *,
        log: AuditLog,
        now: Callable[[], datetime] = utc_now,
        bounds: Bounds = EXCHANGE_BOUNDS,
    ) -> None:
        if not _TENANT.fullmatch(tenant):
            raise IdentityError(
                f"{block_of(scope)}.tenantId {tenant[:100]!a} is no tenant; write its id, or a domain of it",
                reason="TenantUnknown",
            )
        self._cloud = cloud
        self._tenant = tenant
        self._scope = scope
        self._client_id = client_id
        self._prove = prove
        self._told = {"principal": client_id, **facts}
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

    def assertion(self) -> Assertion | None:
        """A fresh assertion as it would be sent, if that is the proof; sent nowhere. For `trainyard doctor`."""
        return self._prove().assertion

    def describe(self) -> dict[str, str]:
        """Who asks for what, for the audit records of the requests that carry the token."""
        return dict(self._told)

    def forget(self) -> None:
        """Drops the token, after the platform has refused it."""
        self._cache.forget()

    def _exchange(self) -> AccessToken:
        proof = self._prove()
        dialect = EntraDialect(SignIn(self._tenant, self._client_id, self._scope, proof.assertion, proof.kept))
        facts = {**self._told, "assertion_jti": proof.jti}
        with token_session(self._log, dialect, facts, self._bounds, only=self._cloud.authority) as session:
            return self._signed_in(session, proof)

    def _signed_in(self, session: requests.Session, proof: Proof) -> AccessToken:
        # Imported here: most operators' first minutes, and many operators' whole life, need no Azure.
        from azure.core.exceptions import AzureError
        from azure.core.pipeline.transport import RequestsTransport

        asked_at, began = self._now(), time.time()
        try:
            credential = proof.credential(
                self._tenant,
                self._client_id,
                authority=self._cloud.authority,
                transport=RequestsTransport(session=session, session_owner=False),
                retry_total=0,
            )
            found = credential.get_token_info(self._scope)
            return _access_token(found.token, asked_at, found.expires_on - began, proof.jti)
        except (Refused, AzureError) as error:
            # MSAL's half of the SDK wraps what our transport raises on purpose (decorators.py wrap_exceptions).
            cause = error.__cause__ if isinstance(error, AzureError) else error
            if isinstance(cause, Refused):
                raise IdentityError(cause.message, reason=cause.reason) from error
            if isinstance(cause, TrainyardError):
                raise cause from None
            raise self._malformed() from None
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
            # The SDK reads an answer without looking at its shape first. Nothing of the answer is told: it may be one.
            raise self._malformed() from None

    def _malformed(self) -> Unreachable:
        return Unreachable(
            f"{self._cloud.authority} answered with something else than a token", reason="PlatformAnswerMalformed"
        )


def _access_token(value: object, asked_at: datetime, life: float, jti: str | None) -> AccessToken:
    """The token. Raises ValueError if it is none that a header can carry, or already over."""
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or not value or life <= 0:
        raise ValueError("no token")
    return AccessToken(value, asked_at + timedelta(seconds=life), jti)
