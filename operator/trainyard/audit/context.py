"""What a platform request is made for, carried by context variables from the controller down to the transport.

Set by `controllers` (resource, action, attempt) around a lane call, read by `audit.transport`. Holds names and
ids only, never a token.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ResourceRef:
    """The Kubernetes object that a request is made for."""

    kind: str
    namespace: str
    name: str
    uid: str


_current: ContextVar[Mapping[str, Any]] = ContextVar("trainyard_audit_context")


@contextmanager
def audit_context(
    *, resource: ResourceRef | None = None, action: str | None = None, attempt: int | None = None
) -> Iterator[None]:
    """Every request to a platform made inside says what it was made for. Inner contexts add to outer ones.

    Lanes copy the context into their threads, so that this may be entered on the event loop.
    """
    added = {
        "resource": None if resource is None else asdict(resource),
        "action": action,
        "attempt": attempt,
    }
    merged = {**current(), **{key: value for key, value in added.items() if value is not None}}
    token = _current.set(merged)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Mapping[str, Any]:
    """The fields of the innermost context; empty outside of any."""
    return _current.get({})
