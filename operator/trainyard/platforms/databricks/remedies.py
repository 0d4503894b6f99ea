"""The exact statement, command or page that grants what is missing. Pure; used by `preflight` and its parts.

SQL: Databricks documentation, "GRANT" (a registered model is a FUNCTION there: databricks-sdk, RegisteredModelsAPI);
commands: the Databricks CLI's own groups (permissions, secrets).
"""

import shlex

from trainyard.platforms.base import RunsAs
from trainyard.platforms.databricks.grants import command

SQL_TYPE = {
    "catalog": "CATALOG",
    "schema": "SCHEMA",
    "model": "FUNCTION",
    "table": "TABLE",
    "volume": "VOLUME",
    "external-location": "EXTERNAL LOCATION",
}


def grant(right: str, kind: str, name: str, holder: str) -> str:
    """The SQL statement for a right of Unity Catalog."""
    parts = [name] if kind == "external-location" else name.split(".")
    quoted = ".".join(_in_sql(part) for part in parts)
    return f"GRANT {right} ON {SQL_TYPE[kind]} {quoted} TO {_in_sql(holder)}"


def _in_sql(name: str) -> str:
    """Delimited (Databricks SQL reference, "Identifiers": a backtick in it is written twice)."""
    return "`" + name.replace("`", "``") + "`"


def level(kind: str, object_id: str, holder: str, wanted: str) -> str:
    """The command for a permission level on an object of the workspace, for example clusters, 1123-x, CAN_RESTART."""
    identity = RunsAs("user" if "@" in holder else "service_principal", holder)
    return command(f"{kind}/{object_id}", identity, wanted)


def secret_acl(scope: str, holder: str) -> str:
    """The command that lets somebody read the secrets of a scope."""
    return shlex.join(["databricks", "secrets", "put-acl", scope, holder, "READ"])


def secret(scope: str, key: str) -> str:
    """The command that makes a secret."""
    return shlex.join(["databricks", "secrets", "put-secret", scope, key])


def entitlement(holder: str) -> str:
    """The page that gives the right to make any cluster."""
    kind = "Users" if "@" in holder else "Service principals"
    return (
        f"Settings > Identity and access > {kind} > {holder} > Entitlements: switch on Unrestricted cluster creation, "
        "or give the compute class a policyId that this identity may use"
    )


def role(service_principal: str, holder: str) -> str:
    """The page that lets one identity run things as another."""
    return (
        f"Settings > Identity and access > Service principals > {service_principal} > Permissions: "
        f"grant {holder} Service Principal: User"
    )
