"""What the CRDs promise their readers, checked on the schemas without a server."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from crdgen.crds import KINDS, MAX_CRD_BYTES, Kind, crd, render_crd, root_schema
from crdgen.schema import UnsupportedSchemaError, structural_schema
from generate import drifted, write
from trainyard.api.databricks_block import OWNED_FIELDS
from trainyard.core.tokens import MUTABLE
from trainyard.platforms.databricks.overrides import OWNED

Schema = dict[str, Any]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def walk(node: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every node of a schema with the path that kubectl explain knows it by."""
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    for inner in ("items", "additionalProperties"):
        if inner in node:
            yield from walk(node[inner], f"{path}[]")


def fields(node: Schema, path: str = "") -> Iterator[tuple[str, Schema, bool]]:
    """Every named field: path, schema, whether it is required."""
    for parent, child in walk(node, path):
        for name, field in child.get("properties", {}).items():
            yield f"{parent}.{name}", field, name in child.get("required", [])


def parts(kind: Kind) -> list[tuple[str, Schema]]:
    """spec, and status where the kind has one: a record has none."""
    schema = root_schema(kind)["properties"]
    return [(part, schema[part]) for part in ("spec", "status") if part in schema]


@every_kind
def test_every_field_has_a_description(kind: Kind) -> None:
    assert [p for part, schema in parts(kind) for p, f, _ in fields(schema, part) if not f.get("description")] == []


@every_kind
def test_every_optional_field_of_a_spec_says_what_its_absence_means(kind: Kind) -> None:
    spec = root_schema(kind)["properties"]["spec"]
    silent = [path for path, field, required in fields(spec, "spec") if not required and not speaks_of_absence(field)]
    assert silent == []


def speaks_of_absence(field: Schema) -> bool:
    return re.search(r"\babsen(t|ce)\b", field["description"], re.IGNORECASE) is not None


@every_kind
def test_every_number_says_its_unit(kind: Kind) -> None:
    spec = root_schema(kind)["properties"]["spec"]
    numbers = [(p, f) for p, f, _ in fields(spec, "spec") if f["type"] in ("integer", "number")]
    units = re.compile(r"\b(seconds|milliseconds|percent|percentile|number|refused)\b", re.IGNORECASE)
    assert [path for path, field in numbers if not units.search(field["description"])] == []


@every_kind
def test_no_schema_writes_a_default_into_the_stored_object(kind: Kind) -> None:
    assert [path for path, node in walk(root_schema(kind)) if "default" in node] == []


@every_kind
def test_every_string_list_and_map_has_a_maximum(kind: Kind) -> None:
    assert [path for part, schema in parts(kind) for path, node in walk(schema, part) if unbounded(node)] == []


def unbounded(node: Schema) -> bool:
    if node["type"] == "string":
        return not node.keys() & {"maxLength", "enum", "format"}
    if node["type"] == "array":
        return "maxItems" not in node
    return "additionalProperties" in node and "maxProperties" not in node


@every_kind
def test_a_crd_stays_small_enough_to_be_applied(kind: Kind) -> None:
    assert len(render_crd(kind).encode()) < MAX_CRD_BYTES


@every_kind
def test_a_plural_is_what_airflow_guesses(kind: Kind) -> None:
    assert crd(kind)["spec"]["names"]["plural"] == kind.name.lower() + "s"


def test_only_a_record_of_the_operators_has_no_status() -> None:
    assert {kind.name for kind in KINDS if kind.status is None} == {"MLRunLog"}
    assert all(("subresources" in crd(kind)["spec"]["versions"][0]) == (kind.status is not None) for kind in KINDS)


def test_the_schema_refuses_the_fields_of_the_databricks_block_that_the_translator_refuses() -> None:
    assert set(OWNED_FIELDS) == OWNED


def test_every_field_of_a_run_is_immutable_unless_the_digest_is_blind_to_it() -> None:
    spec = root_schema(KINDS[0])["properties"]["spec"]
    rules = [rule["rule"] for rule in spec["x-kubernetes-validations"]]
    free = {name for name in spec["properties"] if not any(f"self.{name} == oldSelf.{name}" in rule for rule in rules)}
    may_change = {"cancel", "deletionPolicy", "retry", "suspend", "ttlSecondsAfterFinished"}
    assert free == may_change == {path[0] for path in MUTABLE}
    assert {path for path in MUTABLE if len(path) > 1} == {("retry", "limit")}


def test_optional_means_absent_and_literals_become_enums() -> None:
    class Model(BaseModel):
        choice: Literal["A", "B"]
        only: Literal["C"]
        count: Annotated[int | None, Field(default=None, ge=1, description="n")] = None

    assert structural_schema(Model) == {
        "type": "object",
        "required": ["choice", "only"],
        "properties": {
            "choice": {"type": "string", "enum": ["A", "B"]},
            "only": {"type": "string", "enum": ["C"]},
            "count": {"description": "n", "type": "integer", "format": "int64", "minimum": 1},
        },
    }


def test_limits_on_keys_become_a_rule() -> None:
    class Model(BaseModel):
        tags: Annotated[dict[Annotated[str, Field(min_length=1, max_length=5)], str], Field(max_length=2)]

    tags = structural_schema(Model)["properties"]["tags"]
    assert tags["x-kubernetes-validations"][0]["rule"] == "self.all(key, size(key) >= 1 && size(key) <= 5)"
    assert "propertyNames" not in tags


def test_the_rules_of_a_type_and_of_its_field_add_up() -> None:
    class Inner(BaseModel):
        model_config = {"json_schema_extra": {"x-kubernetes-validations": [{"rule": "type"}]}}

    class Model(BaseModel):
        inner: Annotated[Inner, Field(json_schema_extra={"x-kubernetes-validations": [{"rule": "field"}]})]

    inner = structural_schema(Model)["properties"]["inner"]
    assert [rule["rule"] for rule in inner["x-kubernetes-validations"]] == ["type", "field"]


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int | str, "union"),
        (Annotated[float, Field(multiple_of=2)], "multipleOf"),
        (dict[str, Any], "a map needs a type"),
        (Annotated[dict[Annotated[str, Field(min_length=1)], str], Field(max_length=2)], "keys can be limited"),
        (Any, "no single type"),
    ],
)
def test_what_a_structural_schema_can_not_say_is_refused_with_the_fields_path(annotation: Any, words: str) -> None:
    class Model(BaseModel):
        field: annotation

    with pytest.raises(UnsupportedSchemaError, match=words) as caught:
        structural_schema(Model)
    assert "Model.field" in str(caught.value)


def test_drift_is_found_in_a_changed_a_missing_and_a_stale_file(tmp_path: Path) -> None:
    write(tmp_path)
    assert drifted(tmp_path) == []
    changed, missing, stale = (
        tmp_path / "crds/mltrainingruns.yaml",
        tmp_path / "docs/reference",
        tmp_path / "crds/x.yaml",
    )
    changed.write_text(changed.read_text() + "\n")
    (missing / "mlworkspace.md").unlink()
    stale.write_text("kind: Left\n")
    assert [str(path) for path in drifted(tmp_path)] == [
        "crds/mltrainingruns.yaml",
        "crds/x.yaml",
        "docs/reference/mlworkspace.md",
    ]
