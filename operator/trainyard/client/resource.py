"""What every object that the client hands out has: its names, its phase, its condition Ready. Frozen, no I/O.

Base of Run and Deployment; used by the modules that work on either.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from trainyard.core.times import parse


@dataclass(frozen=True)
class Resource:
    """An object as it was read. Read it again to see what has become of it."""

    KIND: ClassVar[str]
    PLURAL: ClassVar[str]
    NOUN: ClassVar[str]  # what messages call it

    resource: Mapping[str, Any] = field(repr=False)
    """The object as the API server gave it."""

    @property
    def _meta(self) -> Mapping[str, Any]:
        meta: Mapping[str, Any] = self.resource["metadata"]
        return meta

    @property
    def _status(self) -> Mapping[str, Any]:
        return self.resource.get("status") or {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.namespace}/{self.name}, {self.phase or 'new'})"

    def __hash__(self) -> int:
        return hash((self.uid, self.version))

    @property
    def name(self) -> str:
        """metadata.name."""
        return str(self._meta["name"])

    @property
    def namespace(self) -> str:
        """metadata.namespace."""
        return str(self._meta["namespace"])

    @property
    def uid(self) -> str:
        """metadata.uid; another object of the same name has another one."""
        return str(self._meta["uid"])

    @property
    def version(self) -> str:
        """metadata.resourceVersion: changes with every write."""
        return str(self._meta["resourceVersion"])

    @property
    def labels(self) -> Mapping[str, str]:
        """metadata.labels."""
        return self._meta.get("labels") or {}

    @property
    def annotations(self) -> Mapping[str, str]:
        """metadata.annotations."""
        return self._meta.get("annotations") or {}

    @property
    def created_at(self) -> datetime:
        """When the resource was made."""
        return parse(self._meta["creationTimestamp"])

    @property
    def deleting(self) -> bool:
        """Whether it is being deleted."""
        return "deletionTimestamp" in self._meta

    @property
    def phase(self) -> str | None:
        """One word for where it is; None until the operator has seen it."""
        phase = self._status.get("phase")
        return None if phase is None else str(phase)

    @property
    def reason(self) -> str | None:
        """Stable CamelCase word that says why it is in that phase."""
        return self._condition("Ready").get("reason")

    @property
    def message(self) -> str | None:
        """The sentence for people that goes with the reason."""
        return self._condition("Ready").get("message")

    def _condition(self, kind: str) -> Mapping[str, str]:
        conditions = self._status.get("conditions") or []
        return next((c for c in conditions if c.get("type") == kind), {})

    @property
    def stalled(self) -> bool:
        """Whether it needs a person before it goes on."""
        return self.phase == "Stalled"
