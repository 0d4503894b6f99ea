"""What identity modes share. Called in a lane's thread; a token exists in memory only and never in a message."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

# The annotation by which a ServiceAccount opts in; its value is the application id of the Databricks service principal.
DATABRICKS_CLIENT_ID = "trainyard.dev/databricks-client-id"
# The same for Azure: the client id of an application or of a user-assigned managed identity. The second is the one that
# Azure's own webhook for workload identity reads; it counts where ours is not there.
AZURE_CLIENT_ID = "trainyard.dev/azure-client-id"
AZURE_WORKLOAD_CLIENT_ID = "azure.workload.identity/client-id"


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A platform token. Its value never shows in a repr."""

    value: str = field(repr=False)
    expires_at: datetime
    # The id of the ServiceAccount token that it was exchanged for: an auditor's join to the API server's own log.
    assertion_jti: str | None = None


@dataclass(frozen=True, slots=True)
class ServiceAccountRef:
    """A ServiceAccount."""

    namespace: str
    name: str


class ServiceAccounts(Protocol):
    """The two things that identity needs of Kubernetes. Bounded in time; raises IdentityError."""

    def annotations(self, account: ServiceAccountRef) -> Mapping[str, str]:
        """The ServiceAccount's annotations now."""

    def request_token(self, account: ServiceAccountRef, audience: str, seconds: int) -> str:
        """A token for the ServiceAccount with just that audience (TokenRequest)."""


class TokenSource(Protocol):
    """Access tokens for one host as one principal."""

    def token(self) -> AccessToken:
        """A token that is good for a while; minted at most once at a time. Raises IdentityError or PlatformError."""

    def describe(self) -> Mapping[str, str]:
        """principal, mode and service_account (namespace/name), for the audit records."""

    def forget(self) -> None:
        """Drops the cached token, after the platform has refused it."""
