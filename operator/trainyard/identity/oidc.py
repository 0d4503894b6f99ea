"""Mode `oidc`: the token of another OpenID provider (Okta, Auth0, Keycloak, ...) as the assertion.

The client's secret or key is in a Secret of the namespace that asks, which opts in by an annotation; it is read at each
mint and kept nowhere. Nothing is read or sent before the issuer is known to be allowed, and no secret before the token
endpoint is. `maxAge` is of the mode secretRef: how long a client's secret is good is the provider's setting here. Held
by `identity.broker`.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import requests

from trainyard.api.identity import OIDC, Identity, OidcIdentity
from trainyard.audit.log import AuditLog
from trainyard.audit.transport import Bounds
from trainyard.core.errors import TrainyardError
from trainyard.core.snapshot import Target
from trainyard.identity import oidc_client, oidc_provider
from trainyard.identity.assertion import Assertion
from trainyard.identity.base import SecretRef, Secrets, Speaker, TokenSource
from trainyard.identity.cached import utc_now
from trainyard.identity.entra import EntraToken, asserted
from trainyard.identity.exchange import ExchangedToken
from trainyard.identity.hosts import HostPolicy
from trainyard.identity.oauth import OAuthDialect
from trainyard.identity.oidc_claims import assertion_of
from trainyard.identity.oidc_client import ClientProof
from trainyard.identity.oidc_issuers import IssuerPolicy
from trainyard.identity.secret_reading import opted_in
from trainyard.identity.signing_in import cloud_and_tenant
from trainyard.identity.wire import EXCHANGE_BOUNDS, token_session

# Token endpoints hardly ever move; asking once an hour keeps a request out of each mint.
DISCOVERY_HOLDS = timedelta(hours=1)


class Oidc:
    """A Mode.

    Args:
        secrets: reads the one Secret.
        hosts: the allow-list of Databricks.
        issuers: the allow-list of providers.
        log: the audit log.
        now: the clock.
        bounds: limits of each HTTP request.
    """

    def __init__(
        self,
        secrets: Secrets,
        hosts: HostPolicy,
        issuers: IssuerPolicy,
        log: AuditLog,
        now: Callable[[], datetime] = utc_now,
        bounds: Bounds = EXCHANGE_BOUNDS,
    ) -> None:
        self._secrets = secrets
        self._hosts = hosts
        self._issuers = issuers
        self._log = log
        self._now = now
        self._bounds = bounds

    def speaker(self, identity: Identity, namespace: str, platform: str) -> Speaker:  # noqa: ARG002 - of the protocol
        """The principal that the workspace names, once the issuer is allowed and the Secret has opted in.

        Raises:
            IdentityError: IssuerNotAllowed, or the Secret is missing or has not opted in.
        """
        given = _given(identity)
        self._issuers.check(given.issuer)
        opted_in(self._secrets, SecretRef(namespace, given.secret_name), OIDC, waiting=True)
        return Speaker(given.principal)

    def source(self, target: Target, namespace: str, scope: str) -> TokenSource:
        """Tokens by exchange at Databricks (no scope), or by sign-in at Entra."""
        given = _given(target.identity)
        facts = {"mode": OIDC, "secret": f"{namespace}/{given.secret_name}"}
        client = ProviderClient(
            given,
            SecretRef(namespace, given.secret_name),
            {"principal": target.principal, **facts},
            secrets=self._secrets,
            issuers=self._issuers,
            for_entra=bool(scope),
            log=self._log,
            now=self._now,
            bounds=self._bounds,
        )
        if scope:
            cloud, tenant = cloud_and_tenant(target)
            return EntraToken(
                cloud,
                tenant,
                scope,
                target.principal,
                lambda: asserted(client.assertion()),
                facts,
                log=self._log,
                now=self._now,
                bounds=self._bounds,
            )
        return ExchangedToken(
            target.host,
            target.principal,
            client.assertion,
            facts,
            hosts=self._hosts,
            policy=given.policy or "ServicePrincipal",
            log=self._log,
            now=self._now,
            bounds=self._bounds,
        )


class ProviderClient:
    """A client of one provider; called by one thread at a time, by a token source that keeps what it makes of it.

    Args:
        identity: the workspace's.
        secret: what the client proves itself by.
        facts: principal, mode and secret, for the audit records.
        secrets: reads the Secret.
        issuers: the allow-list of providers.
        for_entra: whether the assertions go to Entra rather than to Databricks.
        log: the audit log.
        now: the clock.
        bounds: limits of each HTTP request.
    """

    def __init__(
        self,
        identity: OidcIdentity,
        secret: SecretRef,
        facts: Mapping[str, Any],
        *,
        secrets: Secrets,
        issuers: IssuerPolicy,
        for_entra: bool,
        log: AuditLog,
        now: Callable[[], datetime] = utc_now,
        bounds: Bounds = EXCHANGE_BOUNDS,
    ) -> None:
        self._identity = identity
        self._secret = secret
        self._facts = facts
        self._secrets = secrets
        self._issuers = issuers
        self._for_entra = for_entra
        self._log = log
        self._now = now
        self._bounds = bounds
        self._discovery: tuple[str, Mapping[str, Any], datetime] | None = None

    def assertion(self) -> Assertion:
        """A fresh token of the provider, as the assertion for one exchange.

        Raises:
            IdentityError: no token can be had, or none that may be sent on; says what to mend.
            Unreachable, Throttled: the provider or the API server did not answer.
        """
        with token_session(self._log, OAuthDialect(), self._facts, self._bounds) as session:
            try:
                token = self._token(session)
            except TrainyardError:
                self._discovery = None
                raise
        identity = self._identity
        return assertion_of(token, identity.issuer, identity.audience, self._now(), for_entra=self._for_entra)

    def _token(self, session: requests.Session) -> str:
        self._issuers.check(self._identity.issuer)
        endpoint, metadata = self._discover(session)
        proof = self._proof(endpoint, metadata)
        return oidc_provider.token(session, endpoint, self._identity, proof)

    def _discover(self, session: requests.Session) -> tuple[str, Mapping[str, Any]]:
        """Where tokens are asked for, allowed by the policy; no secret has been read yet."""
        if self._discovery is None or self._now() >= self._discovery[2]:
            endpoint, metadata = oidc_provider.discovered(session, self._identity.issuer, self._issuers)
            self._discovery = endpoint, metadata, self._now() + DISCOVERY_HOLDS
        return self._discovery[:2]

    def _proof(self, endpoint: str, metadata: Mapping[str, Any]) -> ClientProof:
        identity = self._identity
        if identity.authentication == "ClientSecretBasic":
            oidc_client.require_method(identity.authentication, None, metadata, identity.issuer)
            found = opted_in(self._secrets, self._secret, OIDC)
            return oidc_client.by_secret(identity.client_id, found, self._secret)
        key = oidc_client.key_of(opted_in(self._secrets, self._secret, OIDC), self._secret)
        oidc_client.require_method(identity.authentication, key.algorithm, metadata, identity.issuer)
        return oidc_client.by_key(identity, endpoint, key, self._now())


def _given(identity: Identity | None) -> OidcIdentity:
    assert identity is not None  # noqa: S101 - the broker picks the mode by it
    assert identity.oidc is not None  # noqa: S101 - the same
    return identity.oidc
