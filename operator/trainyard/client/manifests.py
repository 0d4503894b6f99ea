"""What a caller gives, made into the object that is sent; and new runs made from old ones. Pure but for files.

Used by trainyard.py. Validation of fields is the API server's; here only what is needed to know what is meant.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic.alias_generators import to_camel

from trainyard.api.base import API_VERSION
from trainyard.api.training_run import MUTABLE_FIELDS
from trainyard.client.errors import BadManifest
from trainyard.client.run import Run

Object = dict[str, Any]

# Fields of spec that may differ between two resources that ask for the same run.
_CHANGEABLE = frozenset(to_camel(name) for name in MUTABLE_FIELDS)

# Fields of spec that are a platform's own, free in form.
PLATFORM_BLOCKS = frozenset({"databricks", "azureML"})

# Who keeps an object, and who made it: marks that would make a copy look like theirs. Prefixes end with a slash.
_FOREIGN_MARKS = (
    "argocd.argoproj.io/",
    "helm.toolkit.fluxcd.io/",
    "kubectl.kubernetes.io/",
    "kustomize.toolkit.fluxcd.io/",
    "meta.helm.sh/",
    "trainyard.dev/",
    "app.kubernetes.io/managed-by",
)

# Wishes about one resource that are none about its copy. A key would find the old remote run instead of starting one.
_NOT_COPIED = ("cancel", "submissionKey", "suspend")

# Seconds after which a plan is removed by the operator where its maker could not.
PLAN_TTL = 600
# What an API server leaves of generateName, and "-plan-".
_LONGEST_PLANNED_NAME = 58 - len("-plan-")


def read_manifest(source: Mapping[str, Any] | str | Path, kind: str = Run.KIND) -> Object:
    """The one object of that kind in a dict, in a YAML or JSON file, or in a text that has several lines.

    Raises BadManifest.
    """
    if isinstance(source, Mapping):
        return _checked(copy.deepcopy(dict(source)), kind)
    if isinstance(source, str) and "\n" in source:
        return _parsed(source, kind, "the manifest")
    try:
        text = Path(source).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadManifest(f"{source} can not be read: {error}") from error
    return _parsed(text, kind, str(source))


def _parsed(text: str, kind: str, where: str) -> Object:
    try:
        found = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as error:
        raise BadManifest(f"{where} is no YAML: {error}") from error
    if len(found) != 1:
        raise BadManifest(f"{where} has {len(found)} objects: give one {kind}; apply the others with kubectl")
    return _checked(found[0], kind, where)


def _checked(found: Any, kind: str, where: str = "the manifest") -> Object:
    """The object, if it says that it is of that kind and has a name."""
    if not isinstance(found, dict) or (found.get("apiVersion"), found.get("kind")) != (API_VERSION, kind):
        raise BadManifest(f"{where} is no {kind} of {API_VERSION}")
    meta = found.get("metadata")
    if not isinstance(meta, dict) or not (meta.get("name") or meta.get("generateName")):
        raise BadManifest(f"{where} has neither metadata.name nor metadata.generateName")
    if not isinstance(found.get("spec"), dict):
        raise BadManifest(f"{where} has no spec")
    return found


def in_namespace(manifest: Object, default: str, asked: str | None) -> str:
    """The namespace that the manifest goes to. Raises BadManifest if it names another than was asked for."""
    own = manifest["metadata"].get("namespace")
    if own and asked and own != asked:
        raise BadManifest(f"the manifest is for namespace {own}, but {asked} was asked for")
    return str(own or asked or default)


def to_create(manifest: Object) -> Object:
    """The manifest without what only a server writes."""
    meta = {
        key: manifest["metadata"][key]
        for key in ("name", "generateName", "namespace", "labels", "annotations", "ownerReferences", "finalizers")
        if key in manifest["metadata"]
    }
    return {"apiVersion": API_VERSION, "kind": manifest["kind"], "metadata": meta, "spec": manifest["spec"]}


def differing_fields(manifest: Object, existing: Run) -> list[str]:
    """Names of the fields of spec by which the manifest asks for another run than the existing one."""
    new, old = _identity(manifest["spec"]), _identity(existing.resource.get("spec") or {})
    return sorted(name for name in new.keys() | old.keys() if new.get(name) != old.get(name))


def _identity(spec: Mapping[str, Any]) -> Object:
    kept: Object = _without_nulls({key: value for key, value in spec.items() if key not in _CHANGEABLE})
    retry = kept.get("retry")
    if isinstance(retry, dict):
        kept["retry"] = {key: value for key, value in retry.items() if key != "limit"}
        if not kept["retry"]:
            del kept["retry"]
    return kept


def _without_nulls(value: Any) -> Any:
    """The API server stores no null where the schema has none; in a platform's block null has a meaning."""
    if isinstance(value, Mapping):
        return {k: v if k in PLATFORM_BLOCKS else _without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def copied(run: Run, name: str) -> Object:
    """A manifest that asks for the same again, under another name: no status, no server's or tracker's marks."""
    spec = copy.deepcopy(dict(run.resource.get("spec") or {}))
    for field in _NOT_COPIED:
        spec.pop(field, None)
    meta: Object = {"name": name, "namespace": run.namespace}
    return {"apiVersion": API_VERSION, "kind": Run.KIND, "metadata": meta | _own_marks(run.resource), "spec": spec}


def planned(manifest: Object) -> Object:
    """A manifest of a run that plans what this one would do, starts nothing, and does not stay."""
    meta = manifest["metadata"]
    base = str(meta.get("name") or meta["generateName"]).rstrip("-.")[:_LONGEST_PLANNED_NAME].rstrip("-.")
    spec = {key: value for key, value in manifest["spec"].items() if key not in _NOT_COPIED}
    spec |= {"planOnly": True, "ttlSecondsAfterFinished": PLAN_TTL}
    new = {"generateName": f"{base}-plan-"} | _own_marks(manifest)
    return {"apiVersion": API_VERSION, "kind": Run.KIND, "metadata": new, "spec": spec}


def _own_marks(resource: Mapping[str, Any]) -> Object:
    """Labels and annotations, without those by which others know their objects."""
    kept: Object = {}
    for kind in ("labels", "annotations"):
        marks = resource["metadata"].get(kind) or {}
        own = {key: value for key, value in marks.items() if not _is_foreign(key)}
        if own:
            kept[kind] = own
    return kept


def _is_foreign(key: str) -> bool:
    """Whether the key, or the domain above its prefix, is one of the marks (applyset.kubernetes.io is kubectl's)."""
    return key.startswith(_FOREIGN_MARKS) or key.startswith("applyset.kubernetes.io/")
