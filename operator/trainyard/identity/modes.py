"""Every identity mode that this process has, by name. Called by the wiring and by the doctor."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from trainyard.api.identity import AZURE_WORKLOAD_IDENTITY, FEDERATED, MANAGED_IDENTITY, OIDC, SECRET_REF
from trainyard.audit.log import AuditLog
from trainyard.identity.audience import DEFAULT_AUDIENCE
from trainyard.identity.azure_workload import AzureWorkload, WorkloadVariables
from trainyard.identity.base import Mode, Secrets, ServiceAccounts
from trainyard.identity.cached import utc_now
from trainyard.identity.federated import Federated
from trainyard.identity.hosts import HostPolicy
from trainyard.identity.imds import DEFAULT_ENDPOINT
from trainyard.identity.managed_identity import Managed
from trainyard.identity.oidc import Oidc
from trainyard.identity.oidc_issuers import IssuerPolicy
from trainyard.identity.secret_ref import SecretMode


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    """What flags and the operator's own environment say about identities; no resource can change any of it."""

    databricks_audience: str = DEFAULT_AUDIENCE
    """Audience of assertions for Databricks. One fixed word, so that no resource can choose it."""

    allowed_issuers: tuple[str, ...] = ()
    """OpenID providers that clients' secrets may be sent to: issuer URLs, or patterns of hosts (identity.oidc_issuers).
    Empty: the mode oidc can not be used."""

    issuer_token_hosts: tuple[str, ...] = ()
    """Hosts beyond a provider's own that may serve its token endpoint (--allowed-token-host)."""

    workload: WorkloadVariables = field(default_factory=WorkloadVariables)
    """What Azure's webhook says to this process; empty where there is none."""

    imds_endpoint: str = DEFAULT_ENDPOINT
    """The instance metadata service of the machine: http://HOST or http://HOST:PORT."""


class Cluster(ServiceAccounts, Secrets, Protocol):
    """What modes need of Kubernetes."""


def modes(
    cluster: Cluster,
    hosts: HostPolicy,
    log: AuditLog,
    settings: IdentitySettings,
    now: Callable[[], datetime] = utc_now,
) -> dict[str, Mode]:
    """The modes. Sends nothing.

    Raises:
        ValueError: a setting can not be used; names the flag.
    """
    issuers = IssuerPolicy(settings.allowed_issuers, settings.issuer_token_hosts)
    return {
        FEDERATED: Federated(cluster, hosts, settings.databricks_audience, log, now),
        AZURE_WORKLOAD_IDENTITY: AzureWorkload(settings.workload, log, now),
        MANAGED_IDENTITY: Managed(settings.imds_endpoint, log, now),
        OIDC: Oidc(cluster, hosts, issuers, log, now),
        SECRET_REF: SecretMode(cluster, hosts, log, now),
    }
