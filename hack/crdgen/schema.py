"""Turns the JSON schema of a pydantic model into the structural schema that a CustomResourceDefinition wants.

Called by crds.py. Never drops a constraint in silence: a keyword it does not know is an error, so that the API server
can not come to accept what the model refuses.
"""

import re
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]

# Kept as they are: a structural schema means the same by them.
_KEPT = frozenset(
    {
        "type",
        "description",
        "enum",
        "pattern",
        "format",
        "minLength",
        "maxLength",
        "minimum",
        "maximum",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "required",
        "x-kubernetes-validations",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-map-type",
    }
)
# Said in words instead: a default in the schema is written into the stored object, which Argo CD then calls drift.
_DROPPED = frozenset({"title", "default"})
# What kubectl explain shows, in the order in which people read it.
_ORDER = ("description", "type", "format", "enum", "required", "properties", "additionalProperties", "items")


class UnsupportedSchemaError(Exception):
    """The model says something that a structural schema has no word for, or leaves out what ours must have."""


def structural_schema(model: type[BaseModel]) -> Schema:
    """The structural schema of `model`, with nothing left to resolve.

    Raises UnsupportedSchemaError with the path of the field when the model can not be said in a structural schema.
    """
    document = model.model_json_schema(by_alias=True, mode="validation")
    definitions = document.pop("$defs", {})
    return _Converter(definitions).convert(document, model.__name__)


class _Converter:
    """Carries the definitions that `$ref` points into."""

    def __init__(self, definitions: dict[str, Schema]) -> None:
        self._definitions = definitions

    def convert(self, node: Schema, path: str) -> Schema:
        node = self._without_null(self._inlined(node, path), path)
        node = _with_key_limits(_with_const_as_enum(node), path)
        result: Schema = {key: value for key, value in node.items() if key in _KEPT}
        unknown = node.keys() - _KEPT - _DROPPED - {"properties", "additionalProperties", "items"}
        if unknown:
            raise UnsupportedSchemaError(f"{path}: no structural counterpart for {', '.join(sorted(unknown))}")
        if "type" not in result:
            raise UnsupportedSchemaError(f"{path}: has no single type")
        if result["type"] == "integer":
            result.setdefault("format", "int64")
        if "description" in result:
            result["description"] = one_paragraph(result["description"])
        self._convert_children(node, result, path)
        return _ordered(result)

    def _convert_children(self, node: Schema, result: Schema, path: str) -> None:
        if "properties" in node:
            result["properties"] = {
                name: self.convert(child, f"{path}.{name}") for name, child in node["properties"].items()
            }
        if "items" in node:
            result["items"] = self.convert(node["items"], f"{path}[]")
        # Unknown keys are kept by x-kubernetes-preserve-unknown-fields; the two may not stand together.
        free_form = result.get("x-kubernetes-preserve-unknown-fields", False)
        if "additionalProperties" in node and not free_form:
            child = node["additionalProperties"]
            if not isinstance(child, dict):
                raise UnsupportedSchemaError(f"{path}: a map needs a type for its values")
            result["additionalProperties"] = self.convert(child, f"{path}{{}}")

    def _inlined(self, node: Schema, path: str) -> Schema:
        """`node` with its `$ref` replaced by what it points at; words beside the reference win over those behind it."""
        while "$ref" in node:
            beside = dict(node)
            name = beside.pop("$ref").removeprefix("#/$defs/")
            if name not in self._definitions:
                raise UnsupportedSchemaError(f"{path}: unknown definition {name}")
            node = _merged(self._definitions[name], beside)
        return node

    def _without_null(self, node: Schema, path: str) -> Schema:
        """`X | None` as X: in a resource, absent and null mean the same, and only absent is ever written."""
        if "anyOf" not in node:
            return node
        beside = dict(node)
        choices = [choice for choice in beside.pop("anyOf") if choice != {"type": "null"}]
        if len(choices) != 1:
            raise UnsupportedSchemaError(f"{path}: a union must be an object with one optional field per case")
        return _merged(self._inlined(choices[0], path), beside)


def _merged(behind: Schema, beside: Schema) -> Schema:
    """Both together; `beside` wins, but validations add up."""
    merged = behind | beside
    validations = [*behind.get("x-kubernetes-validations", []), *beside.get("x-kubernetes-validations", [])]
    if validations:
        merged["x-kubernetes-validations"] = validations
    return merged


def _with_const_as_enum(node: Schema) -> Schema:
    if "const" not in node:
        return node
    node = dict(node)
    return node | {"enum": [node.pop("const")]}


def _with_key_limits(node: Schema, path: str) -> Schema:
    """A structural schema has no `propertyNames`; a CEL rule stands for the length of a map's keys.

    A pattern on keys is refused: CEL's cost estimate takes a key to be as long as the whole request, so that
    `matches` on it exceeds the budget.
    """
    if "propertyNames" not in node:
        return node
    node = dict(node)
    limits = node.pop("propertyNames")
    if limits.keys() != {"minLength", "maxLength"}:
        raise UnsupportedSchemaError(
            f"{path}: keys can be limited by minLength and maxLength together only, not {limits}"
        )
    low, high = limits["minLength"], limits["maxLength"]
    validation = {
        "rule": f"self.all(key, size(key) >= {low} && size(key) <= {high})",
        "message": f"a key must have {low} to {high} characters: shorten it",
    }
    return node | {"x-kubernetes-validations": [*node.get("x-kubernetes-validations", []), validation]}


def one_paragraph(text: str) -> str:
    """`text` with its line breaks and runs of blanks made single blanks, as kubectl explain wraps by itself."""
    return re.sub(r"\s+", " ", text).strip()


def _ordered(schema: Schema) -> Schema:
    known = {key: schema[key] for key in _ORDER if key in schema}
    return known | {key: schema[key] for key in sorted(schema) if key not in known}
