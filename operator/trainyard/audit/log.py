"""The audit log: JSON lines, one before and one after each request to a platform.

Written by `audit.transport` from many threads, read by auditors. Never holds a token, a body or a query's values.

A request's two lines share `id`; the first is written before a byte is sent, so that a crash in between leaves a
request without a response, never an effect without a line.

| field | in | meaning |
|---|---|---|
| time | both | RFC 3339, UTC, milliseconds |
| event | both | `request` or `response` |
| id | both | joins the two lines |
| method, host, path | request | what was asked; the path without its query |
| query | request | names of the query's fields, without values |
| resource | request | kind, namespace, name, uid of the Kubernetes object, where there is one |
| attempt, action | request | attempt of the run; what the operator was doing |
| principal, mode | request | as whom, by which identity mode |
| service_account, secret | request | for which ServiceAccount, or by which Secret (namespace/name), if for any |
| assertion_jti | request | `jti` of the ServiceAccount token behind it, the credential id in the API server's log |
| status | response | HTTP status, when the platform answered |
| error | response | class and reason of the error, when it is one |
| duration_ms | response | from the first byte sent to the last received |
| request_id | response | the platform's own id of the request, when it gave one |
| remote_id | response | the run that was asked about or started, when known |
"""

import json
import os
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO


def _utc_now() -> datetime:
    return datetime.now(UTC)


class AuditLog:
    """Writes records to a stream, one JSON object a line, flushed at once."""

    def __init__(self, stream: TextIO, *, now: Callable[[], datetime] = _utc_now) -> None:
        self._stream = stream
        self._now = now
        self._lock = threading.Lock()

    @classmethod
    def to_file(cls, path: Path) -> "AuditLog":
        """Appends to a file, readable by its owner and group only."""
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        return cls(os.fdopen(descriptor, "a", encoding="utf-8"))

    def write(self, record: Mapping[str, Any]) -> None:
        """Writes one record; fields that are None are left out.

        Raises:
            OSError: the line could not be written. The caller must not send a request that is not on record.
        """
        moment = self._now().astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        present = {key: value for key, value in record.items() if value is not None}
        line = json.dumps({"time": moment, **present}, separators=(",", ":"))
        with self._lock:
            self._stream.write(line + "\n")
            self._stream.flush()

    def close(self) -> None:
        """Closes the stream that `to_file` opened."""
        self._stream.close()
