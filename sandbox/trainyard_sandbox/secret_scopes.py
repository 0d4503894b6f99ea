"""Secret scopes: secrets by scope and key, and who may read, write or manage them; no HTTP here.

databricks/secrets.py serves them; the engines resolve `{{secrets/scope/key}}` of cluster variables with them. A value
leaves only towards code that runs for an identity with READ: it must never reach a log, a run's view or the control
API.

Read in: databricks-sdk `service/workspace.py` SecretsAPI (names, limits, errors, the order of permissions); Databricks
documentation, "Use a secret in a Spark configuration property or environment variable" (the form of a reference; the
cluster's owner must have READ on the scope) and "Secret management" (secret names are case insensitive, admins manage
every scope).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from trainyard_sandbox.errors import ApiError, already_exists, invalid_parameter, not_found, permission_denied
from trainyard_sandbox.principals import Principal

MAX_SCOPES = 1000
MAX_SECRETS = 1000
MAX_SECRET_BYTES = 128 * 1024
PERMISSIONS = ("READ", "WRITE", "MANAGE")
"""In rising order: each includes those before it."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_REFERENCE = re.compile(r"\{\{secrets/([^/{}]+)/([^/{}]+)\}\}")


@dataclass
class Secret:
    """One secret. `updated_at` is Unix milliseconds."""

    key: str
    value: bytes
    updated_at: int


@dataclass
class Scope:
    """One scope; `acls` holds principals (application ids, users or groups) with their permission."""

    name: str
    acls: dict[str, str]
    secrets: dict[str, Secret] = field(default_factory=dict)


class UnresolvedSecret(Exception):
    """A reference that cannot be resolved.

    Args:
        code: the cluster's termination reason.
        message: what is wrong, without any value.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class SecretScopes:
    """All secret scopes of the workspace.

    Args:
        now: the sandbox's clock, Unix seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._scopes: dict[str, Scope] = {}

    def create_scope(self, name: str, manager: str) -> None:
        """A new scope, managed by one principal or group."""
        if _NAME.fullmatch(name) is None:
            raise invalid_parameter(
                "Scope name must consist of alphanumeric characters, dashes, underscores, and periods, and may not "
                "exceed 128 characters."
            )
        if name in self._scopes:
            raise already_exists(f"Scope {name} already exists!")
        if len(self._scopes) >= MAX_SCOPES:
            raise ApiError(400, "RESOURCE_LIMIT_EXCEEDED", f"The maximum number of scopes ({MAX_SCOPES}) is reached.")
        self._scopes[name] = Scope(name, {manager: "MANAGE"})

    def delete_scope(self, name: str, principal: Principal) -> None:
        """Delete a scope with its secrets."""
        self._required(name, principal, "MANAGE")
        del self._scopes[name]

    def scopes(self, principal: Principal) -> list[Scope]:
        """The scopes that the principal may read."""
        return [scope for scope in self._scopes.values() if _allowed(scope, principal, "READ")]

    def put(self, name: str, key: str, value: bytes, principal: Principal) -> None:
        """Create or overwrite a secret."""
        scope = self._required(name, principal, "WRITE")
        if _NAME.fullmatch(key) is None:
            raise invalid_parameter(
                "The secret key must consist of alphanumeric characters, dashes, underscores, and periods, and cannot "
                "exceed 128 characters."
            )
        if len(value) > MAX_SECRET_BYTES:
            raise invalid_parameter(f"The secret value exceeds the maximum of {MAX_SECRET_BYTES} bytes.")
        if key.lower() not in scope.secrets and len(scope.secrets) >= MAX_SECRETS:
            raise ApiError(400, "RESOURCE_LIMIT_EXCEEDED", f"Scope {name} holds {MAX_SECRETS} secrets already.")
        scope.secrets[key.lower()] = Secret(key, value, int(self._now() * 1000))

    def list(self, name: str, principal: Principal) -> list[Secret]:
        """The secrets of a scope, by key."""
        scope = self._required(name, principal, "READ")
        return sorted(scope.secrets.values(), key=lambda secret: secret.key)

    def get(self, name: str, key: str, principal: Principal) -> Secret:
        """One secret with its value."""
        return _secret(self._required(name, principal, "READ"), key)

    def delete(self, name: str, key: str, principal: Principal) -> None:
        """Delete a secret."""
        scope = self._required(name, principal, "WRITE")
        del scope.secrets[_secret(scope, key).key.lower()]

    def put_acl(self, name: str, who: str, permission: str, principal: Principal) -> None:
        """Give a principal or group a permission, replacing what it had."""
        self._required(name, principal, "MANAGE").acls[who] = permission

    def acls(self, name: str, principal: Principal) -> dict[str, str]:
        """Who has which permission on a scope."""
        return dict(self._required(name, principal, "MANAGE").acls)

    def delete_acl(self, name: str, who: str, principal: Principal) -> None:
        """Take a permission away."""
        if self._required(name, principal, "MANAGE").acls.pop(who, None) is None:
            raise not_found(f"Failed to find acls for principal {who} on scope {name}.")

    def resolved(self, values: Mapping[str, str], principal: Principal) -> dict[str, str]:
        """The values with each that is a reference replaced by the secret, as this identity may read it.

        Raises:
            UnresolvedSecret: scope or key is missing, or the identity has no READ.
        """
        return {name: self._value(value, principal) for name, value in values.items()}

    def _value(self, value: str, principal: Principal) -> str:
        reference = _REFERENCE.fullmatch(value.strip())
        if reference is None:
            return value
        name, key = reference.groups()
        try:
            return self.get(name, key, principal).value.decode()
        except ApiError as error:
            code = "SECRET_PERMISSION_DENIED" if error.status == 403 else "SECRET_RESOLUTION_ERROR"
            raise UnresolvedSecret(code, error.message) from error

    def _required(self, name: str, principal: Principal, permission: str) -> Scope:
        scope = self._scopes.get(name)
        if scope is None:
            raise not_found(f"Scope {name} does not exist!")
        if not _allowed(scope, principal, permission):
            raise permission_denied(
                f"User {principal.application_id} does not have {permission} permission on scope {name}."
            )
        return scope


def _secret(scope: Scope, key: str) -> Secret:
    secret = scope.secrets.get(key.lower())
    if secret is None:
        raise not_found(f"Secret does not exist with scope: {scope.name} and key: {key}")
    return secret


def _allowed(scope: Scope, principal: Principal, permission: str) -> bool:
    if principal.is_admin:
        return True
    held = [scope.acls[who] for who in (principal.application_id, *principal.groups) if who in scope.acls]
    return any(PERMISSIONS.index(one) >= PERMISSIONS.index(permission) for one in held)
