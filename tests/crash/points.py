"""Names a request of the operator as a point to kill it at: its server, method, path class and what it says.

Used by the proxy, which sees every request, and by the tests, which choose among the points. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import parse_qsl

Mode = Literal["before", "after"]
MODES: tuple[Mode, ...] = ("before", "after")

# Names and ids in paths. What is left is the same for each run of the same journey.
_NAMES = (
    (re.compile(r"(/namespaces)/[^/]+"), r"\1/*"),
    (
        re.compile(
            r"/(mltrainingruns|mlrunlogs|modeldeployments|mlworkspaces|clustermlworkspaces|serviceaccounts|configmaps)/[^/]+"
        ),
        r"/\1/*",
    ),
    (re.compile(r"/(models|versions|aliases|serving-endpoints|served-models)/[^/]+"), r"/\1/*"),
)
_AZURE_NAMES = (
    (re.compile(r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/[^/]+/workspaces/[^/]+"), "/workspaces/*"),
    (re.compile(r"^/subscriptions/[^/]+"), "/subscriptions/*"),
    (re.compile(r"^/[^/]+(/oauth2/)"), r"/*\1"),
    (re.compile(r"^/blob/.+"), "/blob/*"),
    (re.compile(r"/(jobs|codes|environments|models|versions|onlineEndpoints|deployments|online)/[^/]+"), r"/\1/*"),
    (re.compile(r"^(/history/.*/runs)/[^/]+"), r"\1/*"),
    (re.compile(r"^(/history/.*/experiments)/[^/]+"), r"\1/*"),
)


@dataclass(frozen=True, order=True)
class Class:
    """Requests that mean the same: server, method and path without names; `says` tells writes of one path apart."""

    server: str
    method: str
    path: str
    says: str = ""

    def __str__(self) -> str:
        return f"{self.server} {self.method} {self.path}" + (f" ({self.says})" if self.says else "")

    @property
    def reads(self) -> bool:
        """Whether it changes nothing, so that dying before it and after it come to the same."""
        return self.method in ("GET", "HEAD")

    @property
    def moves(self) -> bool:
        """Whether it moves the run on: its status, its finalizer, its cancelling. These are told apart by journey."""
        return "/mltrainingruns/" in self.path or self.path.endswith(("/runs/cancel", "/jobs/*/cancel"))

    @property
    def roughly(self) -> Class:
        """The class for `make test`: a server's reads are one, and so are Events."""
        if self.reads:
            return Class(self.server, self.method, "")
        return replace(self, says="") if self.path.endswith("/events") else self


@dataclass(frozen=True, order=True)
class Point:
    """The n-th request of a class, counted from 1."""

    of: Class
    occurrence: int = 1

    def __str__(self) -> str:
        return f"{self.of} #{self.occurrence}"


def classify(server: str, method: str, path: str, body: bytes, query: Mapping[str, str] | None = None) -> Class:
    """The class of a request. `path` comes without its query."""
    for pattern, replacement in _AZURE_NAMES if server == "azureml" else _NAMES:
        path = pattern.sub(replacement, path)
    if method in ("GET", "HEAD"):
        return Class(server, method, path)
    says = {"kubernetes": _of_object, "azureml": _of_azure}.get(server, _nothing)
    return Class(server, method, path, says(method, path, body, query or {}))


def enumerate_points(requests: Sequence[Class]) -> list[Point]:
    """Every request of an undisturbed run as a point, in order."""
    counts: dict[Class, int] = {}
    points = []
    for request in requests:
        counts[request] = counts.get(request, 0) + 1
        points.append(Point(request, counts[request]))
    return points


def one_per_class(points: Iterable[Point], known: Set[Class]) -> list[tuple[Point, Mode]]:
    """For `make test`: the first request of each class, except those that other journeys were killed at already.

    Each write is killed at after it was done: before it is after the write before it, as reads change nothing.
    """
    chosen: dict[Class, Point] = {}
    for point in points:
        chosen.setdefault(point.of.roughly, point)
    fresh = [point for rough, point in chosen.items() if point.of.moves or rough not in known]
    return [(point, "before" if point.of.reads else "after") for point in fresh]


def one_per_new_class(points: Iterable[Point], known: Set[Class]) -> list[tuple[Point, Mode]]:
    """For `make test`, of journeys that go much the same way as others: only what those have not been killed at."""
    chosen: dict[Class, Point] = {}
    for point in points:
        chosen.setdefault(point.of.roughly, point)
    fresh = [point for rough, point in chosen.items() if rough not in known]
    return [(point, "before" if point.of.reads else "after") for point in fresh]


def every_point(points: Iterable[Point], known: Set[Class], most_reads: int = 3) -> list[tuple[Point, Mode]]:
    """For `make crash`: every write, and each kind of read up to its `most_reads`-th time, in both modes."""
    chosen = [point for point in points if not point.of.reads or point.occurrence <= most_reads]
    return [(point, mode) for point in chosen for mode in MODES]


def _nothing(method: str, path: str, body: bytes, query: Mapping[str, str]) -> str:
    return ""


def _of_object(method: str, path: str, body: bytes, query: Mapping[str, str]) -> str:
    document = json.loads(body) if body else {}
    if path.endswith("/status"):
        return _of_status(document.get("status", {}))
    if path.endswith("/events"):
        return str(document["reason"])
    if method == "PATCH":
        return "hold" if document["metadata"]["finalizers"] else "let go"
    return ""


def _of_azure(method: str, path: str, body: bytes, query: Mapping[str, str]) -> str:
    """A sign-in by what it is for, a blob's parts by their operation."""
    if path.endswith("/oauth2/v2.0/token"):
        scope = dict(parse_qsl(body.decode())).get("scope", "")
        return "data plane" if "ml.azure" in scope else "resource manager"
    return query.get("comp", "")


def _of_status(status: Mapping[str, Any]) -> str:
    if "phase" in status:
        return str(status["phase"])
    return next((c["reason"] for c in status.get("conditions", []) if c["type"] == "Ready"), "")
