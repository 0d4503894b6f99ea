"""The claims of a token, without its signature, to look at. Pure. Nothing here is trusted, and no token is told."""

import base64
import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Claims:
    """Header and claims of a JWT, unverified."""

    header: dict[str, Any]
    claims: dict[str, Any]

    def text(self, name: str) -> str:
        """A claim as text, at most so long as a line takes; empty where it is not there."""
        value = self.claims.get(name)
        return str(value)[:512] if isinstance(value, str | int) else ""

    def seconds(self, name: str) -> float | None:
        """A time, in seconds since 1970."""
        value = self.claims.get(name)
        return float(value) if isinstance(value, int | float) else None

    @property
    def audiences(self) -> list[str]:
        """`aud`, which may be one or several."""
        value = self.claims.get("aud")
        return [str(each)[:512] for each in (value if isinstance(value, list) else [value]) if each is not None]

    @property
    def life(self) -> int | None:
        """Seconds from its issue to its end."""
        issued, ends = self.seconds("iat"), self.seconds("exp")
        return None if issued is None or ends is None else round(ends - issued)


def read(token: str) -> Claims | None:
    """The claims, or None where the token is no JWT."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        header, claims = (json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in parts[:2])
    except ValueError:
        return None
    return Claims(header, claims) if isinstance(header, dict) and isinstance(claims, dict) else None
