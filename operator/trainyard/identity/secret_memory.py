"""Since when this process has known a Secret's data: so that it does not look newer because somebody wrote it again.

Held by `identity.secret_ref`. What the API server records is when a writer last changed anything of its own: a vault's
operator that touches a label along with the same data, or a second writer of the same values, makes the data look new
(metadata.managedFields; as a real API server does it: tests/controlplane/test_secret_age.py). Here is remembered what
the API server does not: a keyed fingerprint, in memory, with a key of this process alone.
"""

import hashlib
import hmac
import secrets
import threading
from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime

from trainyard.identity.base import SecretRef

MOST_SECRETS = 4096


class SecretMemory:
    """Fingerprints of the Secrets that were last read. Safe to use from several threads.

    Bounded: the longest unread Secret is forgotten, and its age is then what the API server records.
    """

    def __init__(self, bound: int = MOST_SECRETS) -> None:
        self._bound = bound
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._known: OrderedDict[SecretRef, tuple[bytes, datetime]] = OrderedDict()

    def first_seen(self, secret: SecretRef, data: Mapping[str, bytes], changed_at: datetime) -> datetime:
        """When the data came to be what it is: `changed_at`, or earlier if the same data was seen with that before."""
        fingerprint = self._fingerprint(data)
        with self._lock:
            known = self._known.pop(secret, None)
            if known is not None and hmac.compare_digest(known[0], fingerprint):
                changed_at = min(changed_at, known[1])
            self._known[secret] = (fingerprint, changed_at)
            while len(self._known) > self._bound:
                self._known.popitem(last=False)
        return changed_at

    def _fingerprint(self, data: Mapping[str, bytes]) -> bytes:
        made = hmac.new(self._key, digestmod=hashlib.sha256)
        for name in sorted(data):
            # Lengths first, so that no two Secrets run together into the same bytes.
            made.update(f"{len(name)}:{len(data[name])}:{name}".encode())
            made.update(data[name])
        return made.digest()
