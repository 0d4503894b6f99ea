"""Tables, through the unmodified SDK: what is described, and to whom."""

from __future__ import annotations

import pytest
from databricks.sdk.errors import NotFound, PermissionDenied
from databricks.sdk.service.catalog import ColumnTypeName, TableType

from trainyard_sandbox.client import SandboxControl

from .members import MemberFactory, member

__all__ = ["member"]  # the fixture

SCHEMA = {"main": ["USE CATALOG"], "main.sales": ["USE SCHEMA"]}


@pytest.fixture
def table(control: SandboxControl, request: pytest.FixtureRequest) -> str:
    name = f"main.sales.t{abs(hash(request.node.name))}"
    size = {"spark.sql.statistics.totalSize": "4096", "spark.sql.statistics.numRows": "7"}
    control.add_table(name, {"id": "bigint", "price": "decimal(10,2)", "label": "string"}, properties=size)
    return name


def test_a_table_is_described_to_who_may_read_it(control: SandboxControl, member: MemberFactory, table: str) -> None:
    reader = member("reader", SCHEMA)
    with pytest.raises(PermissionDenied, match="User does not have SELECT on Table"):
        reader.client.tables.get(table)
    with pytest.raises(PermissionDenied, match="SELECT"):
        reader.client.tables.exists(table)
    assert table not in [one.full_name for one in reader.client.tables.list("main", "sales")]
    control.grant(reader.application_id, "main.sales", "SELECT")
    found = reader.client.tables.get(table)
    assert found.table_type is TableType.MANAGED
    assert [(one.name, one.type_name, one.position) for one in found.columns or []] == [
        ("id", ColumnTypeName.LONG, 0),
        ("price", ColumnTypeName.DECIMAL, 1),
        ("label", ColumnTypeName.STRING, 2),
    ]
    assert (found.properties or {})["spark.sql.statistics.totalSize"] == "4096"
    assert reader.client.tables.exists(table).table_exists
    (listed,) = [
        one
        for one in reader.client.tables.list("main", "sales", omit_columns=True, omit_properties=True)
        if one.full_name == table
    ]
    assert not listed.columns
    assert not listed.properties
    assert listed.owner == "admins"


def test_a_missing_table_is_told_apart_from_a_closed_one(member: MemberFactory, table: str) -> None:
    reader = member("reader", SCHEMA)
    assert not reader.client.tables.exists(f"{table}x").table_exists
    with pytest.raises(NotFound, match=f"Table '{table}x' does not exist"):
        reader.client.tables.get(f"{table}x")
    with pytest.raises(PermissionDenied, match="USE CATALOG"):
        member("outsider").client.tables.get(table)


def test_the_owner_of_the_schema_sees_and_deletes_its_tables(
    control: SandboxControl, member: MemberFactory, table: str
) -> None:
    keeper = member("keeper", {"main": ["USE CATALOG"]})
    with pytest.raises(PermissionDenied):
        keeper.client.tables.get(table)
    control.change_owner("main.sales", keeper.application_id)
    assert keeper.client.tables.get(table).full_name == table
    keeper.client.tables.delete(table)
    with pytest.raises(NotFound):
        keeper.client.tables.get(table)
    control.change_owner("main.sales", "admins")


def test_tables_come_in_pages(control: SandboxControl, member: MemberFactory) -> None:
    reader = member("reader", {"main": ["USE CATALOG", "USE SCHEMA", "SELECT"]})
    names = [f"main.paged.t{number}" for number in range(5)]
    for name in names:
        control.add_table(name, {"id": "int"})
    path = "/api/2.1/unity-catalog/tables"
    wanted = {"catalog_name": "main", "schema_name": "paged", "max_results": 2}
    first = reader.client.api_client.do("GET", path, query=wanted)
    assert isinstance(first, dict)
    assert len(first["tables"]) == 2
    assert [one.full_name for one in reader.client.tables.list("main", "paged", max_results=2)] == names
