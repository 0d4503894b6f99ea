"""Connections to platforms, one per host, namespace and ServiceAccount, made on first use. Used by the controllers.

The only place where identity, platform, lane and host policy meet: nothing reaches a host that is not allowed.
"""

from dataclasses import dataclass
from typing import TypeVar

from trainyard.identity.base import ServiceAccountRef

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SessionKey:
    """What a connection is pinned to."""

    platform: str
    host: str
    principal: str
    account: ServiceAccountRef
