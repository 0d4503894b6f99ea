"""Unity Catalog's tables as far as their description: names, columns, properties, privileges; no rows, no HTTP here.

databricks/tables.py serves it. A table is made by the control API, as Spark or a pipeline would have made it. It must
never show a table to a principal without having asked `Securables`.

Read in: databricks-sdk `service/catalog.py` (docstrings of TablesAPI: who may get, list, delete, and ask for
existence).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from trainyard_sandbox.errors import permission_denied
from trainyard_sandbox.principals import Principal
from trainyard_sandbox.state import sandbox_state
from trainyard_sandbox.stores.securables import Securables, SecurableType, checked_name


@dataclass
class Table:
    """A managed Delta table. Times are milliseconds since the epoch; `columns` as ColumnInfo has them."""

    full_name: str
    owner: str
    created_at: int
    columns: list[dict[str, Any]]
    properties: dict[str, str]
    comment: str | None = None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def securable_type(self) -> SecurableType:
        """TABLE."""
        return "TABLE"


class TableStore:
    """All tables of one sandbox.

    Args:
        securables: the namespace they live in, with its privileges.
        now: the sandbox's clock, Unix seconds.
    """

    def __init__(self, securables: Securables, now: Callable[[], float]) -> None:
        self.securables = securables
        self._now = now
        self._tables: dict[str, Table] = {}

    def add(
        self, full_name: str, owner: str, columns: dict[str, str], properties: dict[str, str], comment: str | None
    ) -> Table:
        """A new table, whoever asks: for the control API. `columns` maps names to SQL types."""
        infos = [
            {
                "name": name,
                "type_text": text,
                "type_name": _type_name(text),
                "position": position,
                "nullable": True,
            }
            for position, (name, text) in enumerate(columns.items())
        ]
        table = Table(_checked(full_name), owner, int(self._now() * 1000), infos, dict(properties), comment)
        self.securables.add(table)
        self._tables[table.full_name] = table
        return table

    def get(self, principal: Principal, full_name: str) -> Table:
        """A table, for who may read it or owns what it is in (TablesAPI.get)."""
        name = _checked(full_name)
        if name not in self._tables or not self._owns_parent(principal, name):
            self.securables.require(principal, name, "TABLE", "SELECT")
        return self._tables[name]

    def exists(self, principal: Principal, full_name: str) -> bool:
        """Whether there is such a table, for who may know (TablesAPI.exists)."""
        name = _checked(full_name)
        schema = name.rpartition(".")[0]
        if self._owns_parent(principal, name) or self.securables.has(principal, schema, "BROWSE"):
            return name in self._tables
        self.securables.require_schema(principal, schema)
        if name in self._tables and not self.securables.allowed(principal, name, "SELECT"):
            raise permission_denied(f"User does not have SELECT on Table '{name}'.")
        return name in self._tables

    def in_schema(self, principal: Principal, schema: str) -> list[Table]:
        """The tables of a schema that the principal may read (TablesAPI.list)."""
        schema = self.securables.require_schema(principal, schema)
        return [
            table
            for name, table in sorted(self._tables.items())
            if name.rpartition(".")[0] == schema
            and (self._owns_parent(principal, name) or self.securables.allowed(principal, name, "SELECT"))
        ]

    def delete(self, principal: Principal, full_name: str) -> None:
        """Delete a table (TablesAPI.delete): for its owner, who has MANAGE, or who owns what it is in."""
        name = _checked(full_name)
        if name not in self._tables or not self._owns_parent(principal, name):
            self.securables.require(principal, name, "TABLE")
        del self._tables[name]
        self.securables.remove(name)

    def _owns_parent(self, principal: Principal, name: str) -> bool:
        """Owner of the catalog; or owner of the schema who may use the catalog."""
        catalog, schema = name.split(".")[0], name.rpartition(".")[0]
        return self.securables.owns(principal, catalog) or (
            self.securables.owns(principal, schema) and self.securables.allowed(principal, catalog, "USE CATALOG")
        )


def _type_name(text: str) -> str:
    """ColumnTypeName of a SQL type: bigint is LONG, decimal(10,2) is DECIMAL."""
    word = text.partition("(")[0].partition("<")[0].strip().upper()
    return {"BIGINT": "LONG", "SMALLINT": "SHORT", "TINYINT": "BYTE", "INTEGER": "INT"}.get(word, word)


def _checked(full_name: str) -> str:
    return checked_name(full_name, "table", "Tables")


def tables_of(request: Request) -> TableStore:
    """The tables of the sandbox that serves this request."""
    tables = sandbox_state(request).tables
    if not isinstance(tables, TableStore):
        raise TypeError("SandboxState.tables is not a TableStore")
    return tables
