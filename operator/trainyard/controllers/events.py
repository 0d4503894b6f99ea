"""Kubernetes Events for what a person wants to read. Each is written before the status that it goes with.

So a crash between the two loses no Event: the decision is made again, and its Event has the same name, which the API
server takes only once.
"""

import hashlib
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
        "metadata": {"name": event_name(meta, note), "namespace": namespace},
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


def event_name(meta: Mapping[str, Any], note: Note) -> str:
    """The Event's name: one for each reason and version of the object that it was decided on."""
    told = f"{meta['uid']}/{meta.get('resourceVersion', '')}/{note.type}/{note.reason}"
    return f"{meta['name'][:200].rstrip('.-')}.{hashlib.sha256(told.encode()).hexdigest()[:16]}"
