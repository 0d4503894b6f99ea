"""Versioned assets of the workspace: code, environments, data, models, components; no I/O.

Each kind's module keeps one `AssetStore` on the state and serves it over HTTP with the helpers of assets_api.py; the
job engine, run history and MLflow read and add versions.

Published bodies: Azure/azure-rest-api-specs, Microsoft.MachineLearningServices, examples `Workspace/CodeVersion`,
`EnvironmentVersion`, `DataVersionBase`, `ModelVersion`, `ModelContainer` (get, list, createOrUpdate).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainyard_sandbox.azure.errors import iso_time
from trainyard_sandbox.azure.principals import AzurePrincipal


@dataclass(frozen=True)
class Author:
    """Who made something, as `systemData` names him."""

    name: str
    kind: str = "Application"

    @classmethod
    def of(cls, principal: AzurePrincipal) -> Author:
        """The author of what a principal makes."""
        return cls(principal.display_name)


SYSTEM = Author("Azure Machine Learning", "Application")


@dataclass
class AssetVersion:
    """One version: its `properties` as shown, and when (Unix seconds) and by whom it was made and changed."""

    name: str
    version: str
    properties: dict[str, Any]
    author: Author
    created_at: float
    modified_at: float
    container: str = ""
    prefix: str = ""
    """Where the files of a code version lie: container and prefix of the blobs, without a slash at the end."""


@dataclass
class AssetContainer:
    """All versions of one name, oldest first; `properties` are those of the container itself."""

    name: str
    author: Author
    created_at: float
    properties: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, AssetVersion] = field(default_factory=dict)

    @property
    def latest(self) -> AssetVersion | None:
        """The version that was made last."""
        return max(self.versions.values(), key=lambda version: version.created_at, default=None)

    @property
    def next_version(self) -> str:
        """The version that a new one gets by default: one more than the highest number."""
        numbers = [int(version) for version in self.versions if version.isascii() and version.isdigit()]
        return str(max(numbers, default=0) + 1)


class AssetStore:
    """All assets of one kind.

    Args:
        kind: the path segment, such as "environments".
        now: the sandbox's clock, Unix seconds.
    """

    def __init__(self, kind: str, now: Callable[[], float]) -> None:
        self.kind = kind
        self._now = now
        self.containers: dict[str, AssetContainer] = {}

    def container(self, name: str) -> AssetContainer | None:
        """The container of a name."""
        return self.containers.get(name)

    def ensure_container(self, name: str, author: Author = SYSTEM) -> AssetContainer:
        """The container of a name, made if it is missing."""
        return self.containers.setdefault(name, AssetContainer(name, author, self._now()))

    def get(self, name: str, version: str) -> AssetVersion | None:
        """One version."""
        container = self.containers.get(name)
        return None if container is None else container.versions.get(version)

    def versions(self, name: str) -> Sequence[AssetVersion]:
        """Versions of a name, newest first."""
        container = self.containers.get(name)
        return [] if container is None else list(reversed(container.versions.values()))

    def put(self, name: str, version: str, properties: dict[str, Any], author: Author = SYSTEM) -> AssetVersion:
        """Make a version, or replace the properties of one."""
        container, now = self.ensure_container(name, author), self._now()
        known = container.versions.get(version)
        if known is None:
            known = AssetVersion(name, version, properties, author, now, now)
            container.versions[version] = known
        else:
            known.properties, known.modified_at = properties, now
        return known

    def delete(self, name: str, version: str) -> None:
        """Remove a version, if it is there."""
        container = self.containers.get(name)
        if container is not None:
            container.versions.pop(version, None)


def system_data(author: Author, created_at: float, modified_at: float) -> dict[str, Any]:
    """The `systemData` of a resource."""
    return {
        "createdAt": iso_time(created_at),
        "createdBy": author.name,
        "createdByType": author.kind,
        "lastModifiedAt": iso_time(modified_at),
        "lastModifiedBy": author.name,
        "lastModifiedByType": author.kind,
    }
