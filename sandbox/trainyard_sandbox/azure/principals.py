"""Applications of the sandbox's Entra tenant, their credentials, and the roles that their principals were given.

entra.py signs them in, arm.py asks what each may do; only the control API changes anything here.

Microsoft Entra documentation, "Configure an app to trust an external identity provider": issuer, subject and audience
must match case-sensitively; an application or a user-assigned managed identity holds at most 20 federated credentials.
"""

from __future__ import annotations

import hashlib
import secrets
import uuid
from dataclasses import dataclass, field
from typing import Literal

from trainyard_sandbox.azure.roles import RoleAssignment, permits
from trainyard_sandbox.errors import not_found

MAX_FEDERATED_CREDENTIALS = 20
"""Microsoft Entra documentation, "Important considerations and restrictions for federated identity credentials"."""

TOKEN_EXCHANGE_AUDIENCE = "api://AzureADTokenExchange"  # noqa: S105 - a published name, no secret


@dataclass(frozen=True)
class FederatedCredential:
    """Whose assertions sign an application in. `known_at`: before this time (Unix seconds) it is not yet known."""

    issuer: str
    subject: str
    audiences: tuple[str, ...] = (TOKEN_EXCHANGE_AUDIENCE,)
    known_at: float = 0.0
    name: str = field(default_factory=lambda: f"fic-{secrets.token_hex(4)}")
    credential_id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(frozen=True)
class ClientSecret:
    """A client secret, kept as its digest; `expires_at` in Unix seconds."""

    digest: bytes
    expires_at: float
    key_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @staticmethod
    def digest_of(value: str) -> bytes:
        """How a secret is kept."""
        return hashlib.sha256(value.encode()).digest()


AzureKind = Literal["application", "system-assigned", "user-assigned"]


@dataclass
class AzurePrincipal:
    """An application with its service principal, or a managed identity, which has the same parts.

    `assigned`: a managed identity that the virtual machine has. Who is not `enabled` cannot sign in.
    """

    display_name: str
    kind: AzureKind = "application"
    assigned: bool = False
    enabled: bool = True
    client_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    object_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    registration_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    """The object id of the application; `object_id` is its service principal's."""
    credentials: list[FederatedCredential] = field(default_factory=list)
    client_secrets: list[ClientSecret] = field(default_factory=list)
    certificates: list[bytes] = field(default_factory=list)
    """PEM, one certificate each."""
    assignments: list[RoleAssignment] = field(default_factory=list)
    graph_permissions: set[str] = field(default_factory=set)
    """Application permissions of Microsoft Graph."""

    def may(self, action: str, scope: str, *, data: bool = False) -> bool:
        """Whether some role, given here or above, permits the action (a data action if `data`) on the scope."""
        return permits(self.assignments, action, scope, data=data)


class AzureDirectory:
    """The tenant's applications by client id."""

    def __init__(self) -> None:
        self._by_client_id: dict[str, AzurePrincipal] = {}

    def add(self, principal: AzurePrincipal) -> None:
        """Add an application."""
        self._by_client_id[principal.client_id.lower()] = principal

    def require(self, client_id: str) -> AzurePrincipal:
        """The application with this client id.

        Raises:
            ApiError: 404, for the control API.
        """
        principal = self.get(client_id)
        if principal is None:
            raise not_found(f"no application {client_id}")
        return principal

    def get(self, client_id: str) -> AzurePrincipal | None:
        """The application with this client id, in any case."""
        return self._by_client_id.get(client_id.lower())

    def remove(self, client_id: str) -> None:
        """Delete an application; its tokens no longer name anybody."""
        self._by_client_id.pop(client_id.lower(), None)

    def all(self) -> list[AzurePrincipal]:
        """Every application, in the order they were added."""
        return list(self._by_client_id.values())
