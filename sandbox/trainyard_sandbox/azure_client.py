"""The Azure part of the control API's client: `SandboxControl` inherits it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

TOKEN_EXCHANGE_AUDIENCE = "api://AzureADTokenExchange"  # noqa: S105 - a published name, no secret


class AzureControl:
    """What an administrator of the tenant, the subscription and the workspace would do."""

    def call(self, method: str, path: str, body: Any = None, query: Mapping[str, Any] | None = None) -> Any:
        """One request to the control API; see `SandboxControl.call`."""
        raise NotImplementedError

    def add_application(self, name: str, roles: Mapping[str, Sequence[str]] | None = None) -> str:
        """A new application with its service principal; returns its client id.

        `roles` are role names by scope: a resource id, or "workspace", "resource group", "subscription",
        "storage account".
        """
        given = {scope: list(names) for scope, names in (roles or {}).items()}
        client_id: str = self.call("POST", "/azure/applications", {"name": name, "roles": given})["client_id"]
        return client_id

    def applications(self) -> list[dict[str, Any]]:
        """All applications (`client_id`, `object_id`, `display_name`, `federated_credentials`, `roles`)."""
        listed: list[dict[str, Any]] = self.call("GET", "/azure/applications")
        return listed

    def remove_application(self, client_id: str) -> None:
        """Delete an application."""
        self.call("DELETE", f"/azure/applications/{client_id}")

    def add_federated_credential(
        self,
        client_id: str,
        issuer: str,
        subject: str,
        audiences: Sequence[str] = (TOKEN_EXCHANGE_AUDIENCE,),
        unknown_for_seconds: float = 0.0,
    ) -> str:
        """Trust an identity provider's assertions, at once or after a while; returns the credential's name."""
        body = {
            "issuer": issuer,
            "subject": subject,
            "audiences": list(audiences),
            "unknown_for_seconds": unknown_for_seconds,
        }
        name: str = self.call("POST", f"/azure/applications/{client_id}/federated-credentials", body)["name"]
        return name

    def remove_federated_credential(self, client_id: str, name: str) -> None:
        """Trust them no more."""
        self.call("DELETE", f"/azure/applications/{client_id}/federated-credentials/{name}")

    def add_client_secret(self, client_id: str, lifetime_seconds: float = 86400.0) -> str:
        """A client secret; returns its value."""
        body = {"lifetime_seconds": lifetime_seconds}
        value: str = self.call("POST", f"/azure/applications/{client_id}/secrets", body)["value"]
        return value

    def add_certificate(self, client_id: str, pem: str) -> None:
        """Register a certificate (PEM, without its key)."""
        self.call("POST", f"/azure/applications/{client_id}/certificates", {"pem": pem})

    def assign_role(self, client_id: str, role: str, scope: str = "workspace") -> None:
        """Give a built-in role on a scope; see `add_application`."""
        self.call("POST", "/azure/roles", {"client_id": client_id, "role": role, "scope": scope})

    def remove_role(self, client_id: str, role: str, scope: str = "workspace") -> None:
        """Take a role away."""
        self.call("DELETE", "/azure/roles", {"client_id": client_id, "role": role, "scope": scope})

    def assign_custom_role(
        self, client_id: str, role: str, actions: Sequence[str], not_actions: Sequence[str] = ()
    ) -> None:
        """Give a role that is not built in, with these operations, on the workspace."""
        body = {"client_id": client_id, "role": role, "actions": list(actions), "not_actions": list(not_actions)}
        self.call("POST", "/azure/custom-roles", body)

    def issue_azure_token(self, client_id: str, audience: str, lifetime_seconds: float = 3599) -> str:
        """An access token without a sign-in; the audience is the resource manager's URL or the ML resource."""
        body = {"client_id": client_id, "audience": audience, "lifetime_seconds": lifetime_seconds}
        value: str = self.call("POST", "/azure/tokens", body)["value"]
        return value

    def azure_tokens(self) -> list[dict[str, Any]]:
        """Every Entra token ever issued, with its `value`."""
        listed: list[dict[str, Any]] = self.call("GET", "/azure/tokens")
        return listed

    def expire_azure_tokens(self, client_id: str) -> int:
        """All live tokens of an application expire now; returns how many."""
        expired: int = self.call("POST", "/azure/tokens/expire", {"client_id": client_id})["expired"]
        return expired

    def azure_settings(self, **fields: Any) -> None:
        """`token_lifetime_seconds`; `limits`: {"reads" | "writes" | "deletes": {"size", "per_second"}}."""
        self.call("PUT", "/azure/settings", fields)

    def change_azure_workspace(self, **properties: Any) -> None:
        """Properties that the workspace shows instead of its own (`publicNetworkAccess`, `discoveryUrl`); none given
        means the truth again."""
        self.call("PUT", "/azure/workspace", {"properties": properties})

    def add_datastore(self, name: str, container: str) -> None:
        """A datastore that names a container, made if it is missing."""
        self.call("POST", "/azure/datastores", {"name": name, "container": container})

    def put_azure_blob(self, datastore: str, path: str, data: bytes) -> None:
        """Put a blob at a path of a datastore."""
        body = {"datastore": datastore, "path": path, "content": base64.b64encode(data).decode()}
        self.call("POST", "/azure/blobs", body)

    def azure_blobs(self, datastore: str, path: str = "") -> list[str]:
        """Names of a datastore's blobs that begin with `path`."""
        listed = self.call("GET", "/azure/blobs", query={"datastore": datastore, "path": path})
        return [entry["name"] for entry in listed]

    def azure_blob(self, datastore: str, path: str) -> bytes:
        """A blob's bytes."""
        answer = self.call("GET", "/azure/blobs/content", query={"datastore": datastore, "path": path})
        return base64.b64decode(answer["content"])

    def sign_azure_url(self, datastore: str, path: str | None = None, **fields: Any) -> str:
        """A URL with a shared access signature, of a blob or of the whole container (`permissions`,
        `lifetime_seconds`)."""
        body = {"datastore": datastore} | ({} if path is None else {"path": path}) | fields
        url: str = self.call("POST", "/azure/signatures", body)["url"]
        return url

    def add_azure_asset(self, kind: str, name: str, version: str, **properties: Any) -> None:
        """A version of an environment, of data or of a model ("environments", "data", "models")."""
        body = {"kind": kind, "name": name, "version": version, "properties": properties}
        self.call("POST", "/azure/assets", body)

    def azure_assets(self, kind: str) -> list[dict[str, Any]]:
        """Every version of a kind (also "codes"): `name`, `version`, `properties`, `author`."""
        listed: list[dict[str, Any]] = self.call("GET", f"/azure/assets/{kind}")
        return listed
