"""From the definition of a job that is there (spec.jobRef) to the body of a new one. Pure.

Called by `Connection.submit` once it has read the definition. Azure ML has no command that starts a job once more; its
own tools send the definition again under another name (az ml job show, then az ml job create).
"""

from collections.abc import Mapping
from typing import Any

from trainyard.platforms.merging import merge_patch
from trainyard.platforms.told import OUR_TAGS, OUR_VARIABLES

# What belongs to the one run that was: what the service fills in (JobBaseProperties, CommandJob), and its place. The
# identity too: whoever may name a job must not run as somebody whom only its author may use.
_OF_THE_RUN = frozenset(
    {"identity", "isArchived", "parameters", "parentJobName", "properties", "services", "sourceJobId", "status"}
)
_TYPES = frozenset({"jobInputType", "jobOutputType"})
# The output that Azure ML gives each job for its own artifacts, and the store that it lies in.
_ARTIFACTS = "/datastores/workspaceartifactstore/"


def copied_body(definition: Mapping[str, Any], request_body: Mapping[str, Any]) -> dict[str, Any]:
    """The body of the new job.

    Args:
        definition: the answer to GET jobs/{name}: {"name": ..., "properties": {...}}.
        request_body: `Request.body` of a request whose `copied` is that name: {"properties": {...}}, which is merged
            over it (RFC 7396).

    Returns:
        {"properties": {...}}, without what belongs to the old run: its state, links, identity, tags and own places.
    """
    kept: dict[str, Any] = _present(definition.get("properties") or {})
    kept = {key: value for key, value in kept.items() if key not in _OF_THE_RUN}
    kept["tags"] = _but(kept.get("tags"), OUR_TAGS)
    ours = dict(request_body["properties"])
    kept["inputs"] = _not_replaced(kept.get("inputs"), ours.get("inputs"))
    outputs = _not_replaced(kept.get("outputs"), ours.get("outputs"))
    kept["outputs"] = {
        name: _without_its_place(output, str(definition.get("name", "")))
        for name, output in outputs.items()
        if _ARTIFACTS not in output.get("uri", "")
    }
    kind = str(kept.get("jobType", "Command"))
    limits, variables = ours.pop("limits", {}), ours.pop("environmentVariables", {})
    if kind in ("Command", "Sweep"):
        ours["limits"] = {"jobLimitsType": kind, **limits}
    if kind == "Command":
        kept["environmentVariables"] = _but(kept.get("environmentVariables"), OUR_VARIABLES)
        ours["environmentVariables"] = variables
    elif kind == "Pipeline":
        kept["jobs"] = {name: _without_identity(node) for name, node in kept.get("jobs", {}).items()}
    elif kind == "Sweep":
        trial = kept.get("trial", {})
        kept["trial"] = {**trial, "environmentVariables": _but(trial.get("environmentVariables"), OUR_VARIABLES)}
        ours["trial"] = merge_patch({"environmentVariables": variables}, ours.get("trial", {}))
    merged: dict[str, Any] = merge_patch(kept, ours)
    return {"properties": {key: value for key, value in merged.items() if value != {}}}


def _present(value: Any) -> Any:
    """What was answered without what it says is not there."""
    if not isinstance(value, Mapping):
        return value
    return {key: _present(each) for key, each in value.items() if each is not None}


def _but(values: Mapping[str, str] | None, prefix: str) -> dict[str, str]:
    return {key: value for key, value in (values or {}).items() if not key.lower().startswith(prefix.lower())}


def _not_replaced(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> dict[str, Any]:
    """Inputs or outputs of the definition, but for those which the request gives whole, as another type may have."""
    whole = {name for name, each in (new or {}).items() if isinstance(each, Mapping) and not _TYPES.isdisjoint(each)}
    return {name: each for name, each in (old or {}).items() if name not in whole}


def _without_identity(node: Any) -> Any:
    """A job of a Pipeline's graph, which may name whom it runs as, too."""
    return {key: each for key, each in node.items() if key != "identity"} if isinstance(node, Mapping) else node


def _without_its_place(output: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An output whose place was made for the old job gets one of the new job's."""
    is_own = bool(name) and name in output.get("uri", "").split("/")
    return {key: value for key, value in output.items() if not (is_own and key == "uri")}
