"""Who is given which right on an endpoint, and what is taken away again. Pure.

Called by `serving_translate` and `serving_steps`. What somebody else granted is never taken away, so that what we
granted has to be known: a tag of the endpoint holds a short digest of whom. It is written before the right is granted
and cleared after it is taken away, so that it never forgets one. Answers: databricks-sdk service/serving.py,
ServingEndpointAccessControlResponse; "Sets permissions on an object, replacing existing permissions" (set_permissions,
PUT), which leaves what is inherited; PATCH adds.
"""

import hashlib
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trainyard.api.deployment_status import PermissionStatus

WHO = ("group_name", "user_name", "service_principal_name")
_KIND = {"group_name": "group", "user_name": "user", "service_principal_name": "servicePrincipal"}
# Hex digits of one grant's digest: 32 of them fit into 256 characters.
_DIGITS = 7

Entry = Mapping[str, str]  # one of WHO, and permission_level


def granted_tag(entries: Iterable[Entry]) -> str:
    """The value of the tag that holds whom we have granted something; empty for nobody."""
    return "".join(sorted({_digest(who(entry)) for entry in entries}))


def who(entry: Mapping[str, Any]) -> str:
    """kind:name of an entry, for people."""
    key = next((key for key in WHO if entry.get(key)), None)
    return f"{_KIND[key]}:{entry[key]}" if key is not None else ""


def direct(permissions: Mapping[str, Any]) -> list[dict[str, str]]:
    """The entries of an answer of the Permissions API that stand on the endpoint itself, not inherited ones."""
    return [
        {key: str(row[key]), "permission_level": str(each.get("permission_level"))}
        for row in permissions.get("access_control_list") or ()
        for key in WHO
        if row.get(key)
        for each in row.get("all_permissions") or ()
        if not each.get("inherited")
    ]


def lacking(there: Sequence[Entry], wanted: Sequence[Entry]) -> list[Entry]:
    """The wanted entries that are not there with exactly their level."""
    held = {(who(entry), entry["permission_level"]) for entry in there}
    return [entry for entry in wanted if (who(entry), entry["permission_level"]) not in held]


def surplus(there: Sequence[Entry], wanted: Sequence[Entry], tag: str) -> list[Entry]:
    """The entries that we granted, by the tag, and that are not wanted any more."""
    ours, named = marks(tag), {who(entry) for entry in wanted}
    return [entry for entry in there if who(entry) not in named and _digest(who(entry)) in ours]


def statuses(there: Sequence[Entry], wanted: Sequence[Entry], endpoint_id: str) -> tuple[PermissionStatus, ...]:
    """What became of each wanted entry, with the command of the Databricks CLI for one that is not there (yet)."""
    missing = lacking(there, wanted)
    return tuple(
        PermissionStatus(
            who=who(entry),
            level=entry["permission_level"],
            granted=entry not in missing,
            command=_command(endpoint_id, entry) if entry in missing else None,
        )
        for entry in wanted
    )


def _command(endpoint_id: str, entry: Entry) -> str:
    body = json.dumps({"access_control_list": [dict(entry)]})
    return shlex.join(["databricks", "permissions", "update", "serving-endpoints", endpoint_id, "--json", body])


def marks(tag: str) -> frozenset[str]:
    """The digests in a tag."""
    return frozenset(tag[at : at + _DIGITS] for at in range(0, len(tag), _DIGITS))


def joined(*tags: str) -> str:
    """One tag of several."""
    return "".join(sorted(frozenset().union(*map(marks, tags))))


def _digest(named: str) -> str:
    return hashlib.sha256(named.encode()).hexdigest()[:_DIGITS]
