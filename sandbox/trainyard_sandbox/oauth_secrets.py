"""OAuth secrets of service principals: made by the control API, checked by databricks/oidc.py; no I/O.

Databricks documentation, "Authorize service principal access to Databricks with OAuth": a service principal has at most
five OAuth secrets, each lives at most 730 days and is shown once; the client id is the application id. Its value begins
with "dose" (google/osv-scalibr issue 1721).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

MAX_SECRETS = 5
"""Per service principal."""

MAX_LIFETIME_SECONDS = 730 * 86400.0
"""Also the life that nobody asked for (databricks-sdk `service/oauth2.py`, ServicePrincipalSecretsAPI.create)."""


@dataclass(frozen=True)
class OAuthSecret:
    """One secret, kept as its digest. Times are Unix seconds of the sandbox's clock."""

    application_id: str
    digest: bytes
    created_at: float
    expires_at: float
    secret_id: str = field(default_factory=lambda: str(uuid.uuid4()))


class OAuthSecrets:
    """The OAuth secrets of all service principals.

    Args:
        now: the sandbox's clock, Unix seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._secrets: dict[str, OAuthSecret] = {}

    def add(self, application_id: str, lifetime_seconds: float = MAX_LIFETIME_SECONDS) -> tuple[OAuthSecret, str]:
        """A new secret and its value, which nothing keeps.

        Raises:
            ValueError: there are five already, or the lifetime is none that the platform gives.
        """
        if not 0 < lifetime_seconds <= MAX_LIFETIME_SECONDS:
            raise ValueError("The lifetime of an OAuth secret is between 0 and 730 days.")
        if len(self.of(application_id)) >= MAX_SECRETS:
            raise ValueError(f"A service principal can have at most {MAX_SECRETS} OAuth secrets.")
        value = f"dose{secrets.token_hex(16)}"
        now = self._now()
        secret = OAuthSecret(application_id, _digest(value), now, now + lifetime_seconds)
        self._secrets[secret.secret_id] = secret
        return secret, value

    def of(self, application_id: str) -> list[OAuthSecret]:
        """Its secrets, expired or not, oldest first."""
        return [secret for secret in self._secrets.values() if secret.application_id == application_id]

    def revoke(self, secret_id: str) -> bool:
        """Delete a secret; whether there was one. Tokens that it brought live on until they expire."""
        return self._secrets.pop(secret_id, None) is not None

    def accepts(self, application_id: str, value: str) -> bool:
        """Whether the value is a live secret of the service principal."""
        digest, now = _digest(value), self._now()
        known = [secret for secret in self.of(application_id) if hmac.compare_digest(secret.digest, digest)]
        return any(secret.expires_at > now for secret in known)


def _digest(value: str) -> bytes:
    return hashlib.sha256(value.encode()).digest()
