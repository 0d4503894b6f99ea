"""What identity modes share. Called in a lane's thread; a token exists in memory only and never in a message."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from trainyard.api.identity import Identity
from trainyard.core.snapshot import Target

# The annotation by which a ServiceAccount opts in; its value is the application id of the Databricks service principal.
DATABRICKS_CLIENT_ID = "trainyard.dev/databricks-client-id"
# The same for Azure: the client id of an application or of a user-assigned managed identity. The second is the one that
# Azure's own webhook for workload identity reads; it counts where ours is not there.
AZURE_CLIENT_ID = "trainyard.dev/azure-client-id"
AZURE_WORKLOAD_CLIENT_ID = "azure.workload.identity/client-id"

# Principals that stand for somebody whom only the platform can name: the machine's own managed identity, and whoever a
# personal access token in the Secret after the slash is of. No principal of a platform has such a name.
SYSTEM_ASSIGNED = "system-assigned"
SECRET_PREFIX = "secret/"  # noqa: S105 - a prefix


def is_stand_in(principal: str) -> bool:
    """Whether the principal only stands for one that the platform has to name."""
    return principal == SYSTEM_ASSIGNED or principal.startswith(SECRET_PREFIX)


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


@dataclass(frozen=True, slots=True)
class SecretRef:
    """A Secret."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class SecretData:
    """A Secret as it is now; never kept longer than one sign-in takes.

    `changed_at` is when its data last changed, as far as the API server's own records tell.
    """

    annotations: Mapping[str, str]
    data: Mapping[str, bytes] = field(repr=False)
    changed_at: datetime


class Secrets(Protocol):
    """What identity needs of Kubernetes to read a Secret. Bounded in time; raises IdentityError."""

    def secret_data(self, secret: SecretRef) -> SecretData:
        """The Secret now, read by its name."""


@dataclass(frozen=True, slots=True)
class Caution:
    """What works today and will not, or should not, for ever: a condition of the workspace, True while it holds."""

    condition: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Speaker:
    """Whom a mode speaks for, before anything is minted. `principal` may be a stand-in, see `is_stand_in`."""

    principal: str
    service_account: str = ""
    cautions: tuple[Caution, ...] = ()


class Mode(Protocol):
    """One way to prove who is asking. Called in a thread; both methods are cheap and mint nothing.

    `identity.broker` holds one of each and checks, before either is called, that the mode may be used at all.
    """

    def speaker(self, identity: Identity, namespace: str, platform: str) -> Speaker:
        """Whom the identity speaks for when that namespace asks. May read from the API server.

        Raises:
            IdentityError: what has to be there is not, or has not opted in.
        """

    def source(self, target: Target, namespace: str, scope: str) -> "TokenSource":
        """A new source of tokens for the target; `scope` is one of the cloud's, or empty for Databricks' own tokens.

        Sends nothing. Raises IdentityError if the target can not be spoken for at all.
        """


class TokenSource(Protocol):
    """Access tokens for one host as one principal."""

    def token(self) -> AccessToken:
        """A token that is good for a while; minted at most once at a time. Raises IdentityError or PlatformError."""

    def describe(self) -> Mapping[str, str]:
        """principal, mode and service_account or secret (namespace/name), for the audit records."""

    def forget(self) -> None:
        """Drops the cached token, after the platform has refused it."""
