"""Changes to a spec by path, as in `--set params.trees=200`. Pure; used by copy.

A path is names with dots between them; `[2]` is an item of a list and `[train]` the one with that name; `\\.` is a dot
inside a name. What a text means is read from the schema, so that 200 stays a string where a string belongs.
"""

import re
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import Any

import yaml

from trainyard.api.training_run import MLTrainingRunSpec
from trainyard.client.errors import BadManifest

_PART = re.compile(r"\[(?P<item>[^\]]+)\]|(?P<name>(?:[^.\[\]\\]|\\.)+)")
Schema = Mapping[str, Any]


def parse_change(text: str) -> tuple[str, Any]:
    """Path and value of `PATH=VALUE`. Raises BadManifest for a field that a run does not have.

    The value is taken as the field's type asks; lists, maps and platform blocks are written as YAML. `null` takes an
    optional field away.
    """
    path, sign, value = text.partition("=")
    if not sign or not path:
        raise BadManifest(f"{text}: write PATH=VALUE, for example params.trees=200")
    path = path.removeprefix("spec.")
    schema = _at(path)
    if schema.get("type") == "string" and value != "null":
        return path, value
    try:
        return path, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise BadManifest(f"{text}: the value is no YAML: {error}") from error


def changed(spec: dict[str, Any], path: str, value: Any) -> None:
    """Sets what the path names, in place; None takes it away. Maps on the way are made, items of lists are not."""
    parts = _parts(path)
    here: Any = spec
    for part, following in pairwise(parts):
        if value is None and isinstance(here, dict) and part not in here:
            return  # nothing to take away
        here = _step(here, part, path, make=not following.startswith("["))
    last = parts[-1]
    if last.startswith("["):
        index = _index(here, last, path)
        here[index : index + 1] = [] if value is None else [value]
    elif not isinstance(here, dict):
        raise BadManifest(f"{path}: {last} is looked for in something that has no fields")
    elif value is None:
        here.pop(last, None)
    else:
        here[last] = value


def _parts(path: str) -> list[str]:
    """Names, and items still in their brackets."""
    parts, at = [], 0
    while at < len(path):
        found = _PART.match(path, at)
        if found is None:
            raise BadManifest(f"{path} is no path: write a.b, list[0] or tasks[NAME]")
        parts.append(f"[{found['item']}]" if found["item"] else re.sub(r"\\(.)", r"\1", found["name"]))
        at = found.end()
        if at < len(path) and path[at] == ".":
            at += 1
            if at == len(path):
                raise BadManifest(f"{path} ends with a dot")
    if not parts or parts[0].startswith("["):
        raise BadManifest(f"{path or 'an empty path'} names no field of spec")
    return parts


def _step(here: Any, part: str, path: str, *, make: bool) -> Any:
    if part.startswith("["):
        return here[_index(here, part, path)]
    if not isinstance(here, dict):
        raise BadManifest(f"{path}: {part} is looked for in something that has no fields")
    if part not in here and make:
        here[part] = {}
    if part not in here:
        raise BadManifest(f"{path}: the run has no {part}")
    return here[part]


def _index(here: Any, part: str, path: str) -> int:
    key = part[1:-1]
    if not isinstance(here, list):
        raise BadManifest(f"{path}: {part} is looked for in something that is no list")
    if key.isdecimal():
        if int(key) < len(here):
            return int(key)
    else:
        for index, item in enumerate(here):
            if isinstance(item, dict) and item.get("name") == key:
                return index
    raise BadManifest(f"{path}: there is no item {part}; the list has {len(here)}")


def _at(path: str) -> Schema:
    """The schema of what the path names; empty inside a platform's block, which has none."""
    schema: Schema = _schema()
    for part in _parts(path):
        if not schema:
            return schema
        schema = _resolved(_inner(schema, part, path))
    return schema


def _inner(schema: Schema, part: str, path: str) -> Schema:
    if part.startswith("["):
        if schema.get("type") != "array":
            raise BadManifest(f"{path}: {part} is looked for in something that is no list")
        return dict(schema.get("items") or {})
    fields = schema.get("properties") or {}
    if part in fields:
        return dict(fields[part])
    inner = schema.get("additionalProperties")
    if isinstance(inner, dict):
        return inner
    if inner is True or (schema.get("type") == "object" and not fields):
        return {}  # anything goes
    known = f"; there are {', '.join(sorted(fields))}" if fields else ""
    raise BadManifest(f"{path}: there is no field {part}{known}")


def _resolved(schema: Schema) -> Schema:
    """Without $ref and without the null that stands for absence."""
    while True:
        if "$ref" in schema:
            schema = _schema()["$defs"][schema["$ref"].rpartition("/")[2]]
        elif "anyOf" in schema:
            [schema] = [one for one in schema["anyOf"] if one.get("type") != "null"]
        else:
            return schema


@cache
def _schema() -> dict[str, Any]:
    return MLTrainingRunSpec.model_json_schema(by_alias=True)
