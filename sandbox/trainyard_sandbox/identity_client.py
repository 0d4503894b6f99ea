"""The part of the control API's client about credentials and managed identities: `SandboxControl` inherits it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Credential:
    """A value that is told once, and the id by which it is revoked. `expires_at` is Unix seconds."""

    credential_id: str
    value: str
    expires_at: float


@dataclass(frozen=True)
class ManagedIdentity:
    """A managed identity's names; `resource_id` is empty for a system-assigned one."""

    client_id: str
    object_id: str
    resource_id: str


class IdentityControl:
    """What an administrator does about long-lived credentials and managed identities."""

    def call(self, method: str, path: str, body: Any = None, query: Mapping[str, Any] | None = None) -> Any:
        """One request to the control API; see `SandboxControl.call`."""
        raise NotImplementedError

    def add_oauth_secret(self, application_id: str, lifetime_seconds: float | None = None) -> Credential:
        """An OAuth secret of a Databricks service principal, for 730 days unless told; at most five each."""
        body = {} if lifetime_seconds is None else {"lifetime_seconds": lifetime_seconds}
        made = self.call("POST", f"/principals/{application_id}/oauth-secrets", body)
        return Credential(made["secret_id"], made["value"], made["expires_at"])

    def oauth_secrets(self, application_id: str) -> list[dict[str, Any]]:
        """Its OAuth secrets (`secret_id`, `expires_at`)."""
        listed: list[dict[str, Any]] = self.call("GET", f"/principals/{application_id}/oauth-secrets")
        return listed

    def revoke_oauth_secret(self, secret_id: str) -> None:
        """Delete an OAuth secret; tokens that it brought live on."""
        self.call("DELETE", f"/oauth-secrets/{secret_id}")

    def add_personal_access_token(self, owner: str, lifetime_seconds: float | None = None) -> Credential:
        """A personal access token of a service principal (application id) or of a user (name)."""
        body: dict[str, Any] = {"owner": owner}
        body |= {} if lifetime_seconds is None else {"lifetime_seconds": lifetime_seconds}
        made = self.call("POST", "/personal-access-tokens", body)
        return Credential(made["token_id"], made["value"], made["expires_at"])

    def revoke_personal_access_token(self, token_id: str) -> None:
        """It is refused from now on."""
        self.call("DELETE", f"/personal-access-tokens/{token_id}")

    def change_user(self, name: str, **fields: Sequence[str]) -> None:
        """Make or change a user of the Databricks workspace: `entitlements`, and the `groups` it is in."""
        self.call("PUT", f"/users/{name}", {key: list(value) for key, value in fields.items()})

    def account_admin(self, name: str, admin: bool = True) -> None:
        """Make a service principal (application id) or a user an admin of the Databricks account, or no longer."""
        self.call("PUT" if admin else "DELETE", f"/account-admins/{name}")

    def forget_issuer_keys(self, issuer: str) -> None:
        """Have Databricks and Entra fetch an issuer's keys again, as they do after five minutes."""
        self.call("POST", "/issuers/forget", {"issuer": issuer})

    def break_issuer(self, issuer: str, fault: str | None = None) -> None:
        """Have an issuer seem "unreachable" or without any of its keys ("keys-revoked"), to Databricks and to Entra;
        without a fault it is as it is."""
        self.call("PUT", "/issuers/fault", {"issuer": issuer} | ({} if fault is None else {"fault": fault}))

    def enable_application(self, client_id: str, enabled: bool) -> None:
        """Whether an Entra application may sign in."""
        self.call("PATCH", f"/azure/applications/{client_id}", {"enabled": enabled})

    def revoke_azure_tokens(self, client_id: str) -> int:
        """All live Entra tokens of an application are refused, though their claims say that they live on, and the
        instance metadata service gives them still; returns how many."""
        revoked: int = self.call("POST", "/azure/tokens/revoke", {"client_id": client_id})["revoked"]
        return revoked

    def permit_graph(self, client_id: str, *permissions: str) -> None:
        """The application permissions of Microsoft Graph that an application or managed identity has, such as
        "Application.Read.All"; none takes all away."""
        self.call("PUT", f"/azure/applications/{client_id}/graph-permissions", {"permissions": list(permissions)})

    def add_managed_identity(
        self,
        name: str,
        *,
        system_assigned: bool = False,
        assigned: bool = True,
        roles: Mapping[str, Sequence[str]] | None = None,
    ) -> ManagedIdentity:
        """A managed identity, user-assigned unless told; `assigned` to the virtual machine whose IMDS is
        `address.imds`. Its client id takes `assign_role`, `add_federated_credential` (user-assigned only),
        `remove_application`, and `add_principal(application_id=...)` makes it a principal of Databricks."""
        given = {scope: list(names) for scope, names in (roles or {}).items()}
        body = {"name": name, "system_assigned": system_assigned, "assigned": assigned, "roles": given}
        return ManagedIdentity(**self.call("POST", "/azure/managed-identities", body))

    def assign_managed_identity(self, client_id: str, assigned: bool) -> None:
        """Assign an identity to the virtual machine, or take it away."""
        self.call("PUT", f"/azure/managed-identities/{client_id}", {"assigned": assigned})
