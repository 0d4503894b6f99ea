"""From the definition of a job that is there (spec.jobRef) to the body of a new one. Pure.

Called by `Connection.submit` once it has read the definition. Azure ML has no command that starts a job once more; its
own tools send the definition again under another name (az ml job show, then az ml job create).
"""

from collections.abc import Mapping
from typing import Any

from trainyard.platforms.merging import merge_patch
from trainyard.platforms.told import OUR_TAGS, OUR_VARIABLES

# What belongs to the one run that was: what the service fills in (JobBaseProperties, CommandJob), and its place.
_OF_THE_RUN = frozenset(
    {"isArchived", "parameters", "parentJobName", "properties", "services", "sourceJobId", "status"}
)
# The output that Azure ML gives each job for its own artifacts, and the store that it lies in.
_ARTIFACTS = "/datastores/workspaceartifactstore/"


def copied_body(definition: Mapping[str, Any], request_body: Mapping[str, Any]) -> dict[str, Any]:
    """The body of the new job.

    Args:
        definition: the answer to GET jobs/{name}: {"name": ..., "properties": {...}}.
        request_body: `Request.body` of a request whose `copied` is that name: {"properties": {...}}, which wins.

    Returns:
        {"properties": {...}}, without what belongs to the old run: its state, links, tags of ours and own places.
    """
    old: Mapping[str, Any] = definition.get("properties") or {}
    kept = {key: value for key, value in old.items() if key not in _OF_THE_RUN and value is not None}
    kept["tags"] = _but(kept.get("tags"), OUR_TAGS)
    outputs = {
        name: _without_its_place(output, str(definition.get("name", "")))
        for name, output in (kept.get("outputs") or {}).items()
        if _ARTIFACTS not in (output.get("uri") or "")
    }
    kept["outputs"] = outputs
    ours = dict(request_body["properties"])
    kind = str(kept.get("jobType", "Command"))
    if kind in ("Command", "Sweep"):
        ours["limits"] = {"jobLimitsType": kind, **ours.get("limits", {})}
    else:
        ours.pop("limits", None)
    variables = ours.pop("environmentVariables", {})
    if kind == "Command":
        kept["environmentVariables"] = _but(kept.get("environmentVariables"), OUR_VARIABLES)
        ours["environmentVariables"] = variables
    elif kind == "Sweep":
        trial = kept.get("trial") or {}
        kept["trial"] = {**trial, "environmentVariables": _but(trial.get("environmentVariables"), OUR_VARIABLES)}
        ours["trial"] = merge_patch({"environmentVariables": variables}, ours.get("trial", {}))
    if not ours.get("identity"):
        # Whoever may copy a job must not get an identity that only its first author was given.
        kept.pop("identity", None)
    merged: dict[str, Any] = merge_patch(kept, ours)
    return {"properties": {key: value for key, value in merged.items() if value != {}}}


def _but(values: Mapping[str, str] | None, prefix: str) -> dict[str, str]:
    return {key: value for key, value in (values or {}).items() if not key.lower().startswith(prefix.lower())}


def _without_its_place(output: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An output whose place was made for the old job gets one of the new job's."""
    is_own = bool(name) and name in (output.get("uri") or "").split("/")
    return {key: value for key, value in output.items() if not (is_own and key == "uri")}
