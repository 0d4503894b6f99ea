"""One Secret in memory, as a vault's operator keeps it up to date: for tests of identities that are kept in Secrets."""

from datetime import UTC, datetime

from trainyard.core.errors import IdentityError
from trainyard.identity.base import SecretData, SecretRef
from trainyard.identity.secret_reading import OPT_IN


class Vault:
    """Stands for `identity.base.Secrets`; counts who reads. Keys are given with _ for -."""

    def __init__(self, kind: str, changed_at: datetime | None = None, **data: str) -> None:
        self.annotations: dict[str, str] = {OPT_IN: kind}
        self.data: dict[str, bytes] = {}
        self.changed_at = datetime.now(UTC)
        self.gone = False
        self.read: list[SecretRef] = []
        self.put(changed_at, **data)

    def put(self, changed_at: datetime | None = None, **data: str) -> None:
        """Changes some of the data."""
        self.data |= {key.replace("_", "-"): value.encode() for key, value in data.items()}
        self.changed_at = changed_at or datetime.now(UTC)

    def secret_data(self, secret: SecretRef) -> SecretData:
        self.read.append(secret)
        if self.gone:
            raise IdentityError("no such Secret", reason="SecretNotFound", waiting=True)
        return SecretData(dict(self.annotations), dict(self.data), self.changed_at)
