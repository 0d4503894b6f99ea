"""Mode `federated`: a ServiceAccount token as the assertion. The default; nothing is stored.

The ServiceAccount is one of the namespace that asks, whichever workspace it uses, and opts in by an annotation that
names the principal. Held by `identity.broker`.
"""

from collections.abc import Callable
from datetime import datetime

from trainyard.api.identity import FEDERATED, Identity
from trainyard.audit.log import AuditLog
from trainyard.audit.transport import Bounds
from trainyard.core.snapshot import Target
from trainyard.identity import assertion as minting
from trainyard.identity.assertion import Assertion, Prove
from trainyard.identity.audience import checked_audience
from trainyard.identity.base import ServiceAccountRef, ServiceAccounts, Speaker, TokenSource
from trainyard.identity.cached import utc_now
from trainyard.identity.consent import principal_named, require_consent
from trainyard.identity.entra import AUDIENCE, EntraToken, asserted
from trainyard.identity.exchange import ExchangedToken
from trainyard.identity.hosts import HostPolicy
from trainyard.identity.signing_in import cloud_and_tenant
from trainyard.identity.wire import EXCHANGE_BOUNDS

DATABRICKS, ENTRA = "databricks", "azureml"  # whose annotation opts in


class Federated:
    """A Mode.

    Args:
        accounts: reads ServiceAccounts and requests their tokens.
        hosts: the allow-list of Databricks.
        audience: of assertions for Databricks; see `identity.audience`.
        log: the audit log.
        now: the clock.
        bounds: limits of each HTTP request.
    """

    def __init__(
        self,
        accounts: ServiceAccounts,
        hosts: HostPolicy,
        audience: str,
        log: AuditLog,
        now: Callable[[], datetime] = utc_now,
        bounds: Bounds = EXCHANGE_BOUNDS,
    ) -> None:
        self._accounts = accounts
        self._hosts = hosts
        self._audience = checked_audience(audience)
        self._log = log
        self._now = now
        self._bounds = bounds

    def speaker(self, identity: Identity, namespace: str, platform: str) -> Speaker:
        """The principal that the ServiceAccount has opted in to.

        Raises:
            IdentityError: the ServiceAccount is missing or has not opted in.
        """
        assert identity.federated is not None  # noqa: S101 - the broker picks the mode by it
        account = ServiceAccountRef(namespace, identity.federated.service_account_name)
        by_entra = platform != DATABRICKS or identity.federated.entra is not None
        annotations = self._accounts.annotations(account)
        return Speaker(principal_named(annotations, account, ENTRA if by_entra else DATABRICKS), account.name)

    def source(self, target: Target, namespace: str, scope: str) -> TokenSource:
        """Tokens by exchange at Databricks (no scope), or by sign-in at Entra."""
        account = ServiceAccountRef(namespace, target.service_account)
        facts = {"mode": FEDERATED, "service_account": f"{account.namespace}/{account.name}"}
        if scope:
            cloud, tenant = cloud_and_tenant(target)
            prove = self._prove(account, ENTRA, target.principal, AUDIENCE)
            return EntraToken(
                cloud,
                tenant,
                scope,
                target.principal,
                lambda: asserted(prove()),
                facts,
                log=self._log,
                now=self._now,
                bounds=self._bounds,
            )
        federated = target.identity.federated if target.identity is not None else None
        return ExchangedToken(
            target.host,
            target.principal,
            self._prove(account, DATABRICKS, target.principal, self._audience),
            facts,
            hosts=self._hosts,
            policy=federated.policy or "ServicePrincipal" if federated is not None else "ServicePrincipal",
            log=self._log,
            now=self._now,
            bounds=self._bounds,
        )

    def _prove(self, account: ServiceAccountRef, platform: str, principal: str, audience: str) -> Prove:
        def prove() -> Assertion:
            require_consent(self._accounts, account, platform, principal)
            return minting.mint(self._accounts, account, audience)

        return prove
