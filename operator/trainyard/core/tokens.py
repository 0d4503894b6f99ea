"""Submission tokens and digests: what makes an attempt the same attempt after a crash. Pure."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

# What a person may change after creation, as paths in the wire form of the spec.
MUTABLE = (("cancel",), ("deletionPolicy",), ("suspend",), ("ttlSecondsAfterFinished",), ("retry", "limit"))


def submission_token(namespace: str, name: str, uid: str, key: str | None, attempt: int) -> str:
    """The token of one attempt, at most 64 characters (the limit of Databricks' idempotency_token).

    Derived, never random: a restarted operator computes the same one. The attempt is part of it, because a platform
    answers a reused token with the old run, which would make every retry "succeed" on the first failure.

    With `key`, the spec's submissionKey, the uid does not count, so that the same run made again finds its remote run.
    Its namespace and name do: whoever may create runs must not take over another's by naming its key or its uid.
    """
    if key is None:
        return f"ty-{uid}-{attempt}"
    return "ty-k-" + hashlib.sha256(json.dumps([namespace, name, key, attempt]).encode()).hexdigest()[:56]


def spec_digest(spec: Mapping[str, Any]) -> str:
    """Digest of a spec in wire form, blind to the fields that may change after creation.

    An object that held nothing but such fields counts as absent: adding retry.limit to a run without retry is a change
    that the schema allows.
    """
    frozen = json.loads(json.dumps(spec))
    for path in MUTABLE:
        _drop(frozen, path)
    return _sha256(json.dumps(frozen, sort_keys=True, separators=(",", ":")).encode())


def code_digest(files: Mapping[str, bytes]) -> str:
    """Digest of source files by name and content."""
    parts = sorted((name, hashlib.sha256(body).hexdigest()) for name, body in files.items())
    return _sha256(json.dumps(parts).encode())


def _drop(tree: Any, path: tuple[str, ...]) -> None:
    if not isinstance(tree, dict) or path[0] not in tree:
        return
    if len(path) == 1:
        del tree[path[0]]
        return
    _drop(tree[path[0]], path[1:])
    if not tree[path[0]]:
        del tree[path[0]]


def _sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
