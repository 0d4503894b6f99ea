"""Kubernetes Events for what a person wants to read. Losing one is harmless: the status tells the same."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from trainyard.api.base import API_VERSION
from trainyard.core.actions import Note
from trainyard.core.times import stamp

LIMIT = 1024


def event_body(kind: str, obj: Mapping[str, Any], note: Note, now: datetime) -> tuple[str, dict[str, Any]]:
    """Namespace and body of the Event. Events about cluster-scoped objects live in `default`, as Kubernetes asks."""
    meta = obj["metadata"]
    namespace = meta.get("namespace", "default")
    involved = {
        "apiVersion": API_VERSION,
        "kind": kind,
        "name": meta["name"],
        "uid": meta["uid"],
        "resourceVersion": meta.get("resourceVersion", ""),
    }
    if "namespace" in meta:
        involved["namespace"] = namespace
    moment = stamp(now.astimezone(UTC))
    return namespace, {
        "metadata": {"generateName": f"{meta['name'][:200]}.", "namespace": namespace},
        "involvedObject": involved,
        "type": note.type,
        "reason": note.reason,
        "message": note.message[:LIMIT],
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
        "source": {"component": "trainyard"},
        "reportingComponent": "trainyard.dev/operator",
        "reportingInstance": "trainyard-operator",
    }
