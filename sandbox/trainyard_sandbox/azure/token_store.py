"""Access tokens of the sandbox's Entra tenant: issued, found again, expired, and never forgotten.

entra.py issues them for a sign-in, imds.py for a managed identity, the job engine for a run's own code, the control API
by hand; arm.py and Databricks' auth.py look them up. Every token ever issued stays in the list, because a canary scan
searches for all of them.

Claims: Microsoft Entra documentation, "Access token claims reference" (v1.0 tokens, which Azure Resource Manager asks
for: `appid`, `oid`, `tid`, `idtyp`, `aud` as the resource's URI). `xms_mirid`, which tells what a managed identity
belongs to, is not published: MicrosoftDocs/azure-docs issue 32131.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

AzurePurpose = Literal["sign-in", "managed-identity", "run", "manual"]
AZURE_PURPOSES: tuple[str, ...] = get_args(AzurePurpose)


@dataclass
class AzureToken:
    """One access token. Times are Unix seconds of the sandbox's clock; `job` names the job of a run's own token.

    A `revoked` one is refused by every resource, while the instance metadata service still holds it.
    """

    value: str
    client_id: str
    object_id: str
    audience: str
    purpose: AzurePurpose
    issued_at: float
    expires_at: float
    job: str | None = None
    revoked: bool = False


class AzureTokens:
    """All tokens of one tenant.

    Args:
        now: the sandbox's clock, Unix seconds.
        tenant_id: for the claims `iss` and `tid`.
    """

    def __init__(self, now: Callable[[], float], tenant_id: str) -> None:
        self._now = now
        self._tenant_id = tenant_id
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._tokens: dict[str, AzureToken] = {}

    def issue(
        self,
        client_id: str,
        object_id: str,
        audience: str,
        lifetime_seconds: float,
        purpose: AzurePurpose,
        job: str | None = None,
        resource_id: str = "",
    ) -> AzureToken:
        """A new token for the resource `audience`, valid for `lifetime_seconds` from now.

        `resource_id` is of a managed identity, or of the machine whose own identity it is.
        """
        issued_at = self._now()
        expires_at = issued_at + lifetime_seconds
        claims = {
            "aud": audience,
            "iss": f"https://sts.windows.net/{self._tenant_id}/",
            "iat": int(issued_at),
            "nbf": int(issued_at),
            "exp": int(expires_at),
            "appid": client_id,
            "appidacr": "2",
            "idp": f"https://sts.windows.net/{self._tenant_id}/",
            "idtyp": "app",
            "oid": object_id,
            "sub": object_id,
            "tid": self._tenant_id,
            "uti": secrets.token_urlsafe(16),
            "ver": "1.0",
            **({"xms_mirid": resource_id} if resource_id else {}),
        }
        value = jwt.encode(claims, self._key, algorithm="ES256", headers={"typ": "JWT", "kid": "sandbox-azure"})
        token = AzureToken(value, client_id, object_id, audience, purpose, issued_at, expires_at, job)
        self._tokens[value] = token
        return token

    def find(self, value: str) -> AzureToken | None:
        """The token with this value, expired or not."""
        return self._tokens.get(value)

    def expire(self, client_id: str) -> int:
        """Make every live token of the application expired now; returns how many."""
        now = self._now()
        live = [t for t in self._tokens.values() if t.client_id == client_id and t.expires_at > now]
        for token in live:
            token.expires_at = now
        return len(live)

    def revoke(self, client_id: str) -> int:
        """Have every live token of the application refused, though it says that it lives on; returns how many."""
        now = self._now()
        live = [t for t in self._tokens.values() if t.client_id == client_id and t.expires_at > now and not t.revoked]
        for token in live:
            token.revoked = True
        return len(live)

    def expire_value(self, value: str) -> None:
        """Make one token expired now: the job that it was for has ended."""
        token = self._tokens[value]
        token.expires_at = min(token.expires_at, self._now())

    def all_issued(self) -> list[AzureToken]:
        """Every token ever issued, oldest first."""
        return list(self._tokens.values())
