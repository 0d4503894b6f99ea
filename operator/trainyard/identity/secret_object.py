"""A Secret as the API server's client gives it, and as `identity.base` has it. Pure; used by whoever reads Secrets."""

import base64
from typing import Any

from trainyard.identity.base import SecretData


def secret_of(found: Any) -> SecretData:
    """What the API server's records say of a Secret and when its data changed. `found` is a V1Secret."""
    written = [
        entry.time
        for entry in found.metadata.managed_fields or []
        if entry.time is not None and {"f:data", "f:stringData"} & (entry.fields_v1 or {}).keys()
    ]
    data = {key: base64.b64decode(value) for key, value in (found.data or {}).items()}
    changed_at = max(written, default=found.metadata.creation_timestamp)
    return SecretData(dict(found.metadata.annotations or {}), data, changed_at)
