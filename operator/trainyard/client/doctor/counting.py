"""Link 12: how many of the 20 federated credentials, or federation policies, of the principal are used.

Only who administers the principal can list them, and they do so with the clouds' own command lines, if these are here
(`tools`). Limits: Microsoft Entra, "Important considerations and restrictions for federated identity credentials" (20
of an application or managed identity); Databricks, "Configure a federation policy" (20 of a service principal).
"""

from typing import Any

from trainyard.api.identity import MANAGED_IDENTITY, SECRET_REF
from trainyard.client.doctor import mending, remedies
from trainyard.client.doctor.case import Case
from trainyard.client.doctor.results import Remedy, Result, not_applicable, not_seen, passed, warned
from trainyard.client.doctor.tools import ToolError

LIMIT = 20
WARN_FROM = 18


def look(case: Case) -> Result:
    """Counts them."""
    mode = case.workspace.identity.mode
    if mode in (MANAGED_IDENTITY, SECRET_REF):
        return not_applicable(f"the mode {mode} needs none")
    try:
        rows, whose = _of_entra(case) if mending.by_entra(case) else _of_databricks(case)
    except ToolError as error:
        return not_seen("NotListed", f"{error.message}; only who administers the principal sees them", *_by_hand(case))
    return _counted(case, rows, whose)


def _counted(case: Case, rows: list[dict[str, Any]], whose: str) -> Result:
    used = len(rows)
    limit = 0 if mending.by_account(case) else LIMIT
    facts: dict[str, str | int] = {"used": used, **({"limit": limit} if limit else {})}
    trusted = "" if case.assertion is None else "; one of them" if _trusts(case, rows) else "; none of them"
    told = f"{used}{f' of {limit}' if limit else ''} {whose} are used"
    told += f"{trusted} has the token's issuer, subject and audience" if trusted else ""
    if limit and used >= WARN_FROM:
        return warned(
            "CredentialsNearlyUsed",
            f"{told}. There is room for {max(0, limit - used)} more: remove those of clusters and ServiceAccounts that "
            "are gone, or give namespaces principals of their own.",
            **facts,
        )
    return passed(told, **facts)


def _trusts(case: Case, rows: list[dict[str, Any]]) -> bool:
    wanted = case.assertion
    assert wanted is not None  # noqa: S101 - asked where there is one
    for row in rows:
        policy = row.get("oidc_policy", row)
        subject = policy.get("subject", wanted.subject if mending.by_account(case) else None)
        audiences = policy.get("audiences") or ()
        if (policy.get("issuer"), subject) == (wanted.issuer, wanted.subject) and wanted.audience in audiences:
            return True
    return False


def _of_databricks(case: Case) -> tuple[list[dict[str, Any]], str]:
    tools = case.means.tools
    if mending.by_account(case):
        return tools.rows(remedies.LIST_ACCOUNT_POLICIES), "federation policies of the account"
    found = tools.rows(remedies.list_principals(case.target.principal))
    if not found or "id" not in found[0]:
        raise ToolError(f"the account that databricks is signed in to has no service principal {case.target.principal}")
    case.principal_id = str(found[0]["id"])
    return tools.rows(remedies.list_policies(case.principal_id)), "federation policies of the service principal"


def _of_entra(case: Case) -> tuple[list[dict[str, Any]], str]:
    tools, client_id = case.means.tools, case.target.principal
    try:
        return tools.rows(remedies.list_credentials(client_id)), "federated credentials of the application"
    except ToolError:
        # Not an application that we may see: a managed identity is found by its client id.
        found = tools.rows(remedies.list_identities(client_id))
        if not found:
            raise
        name, group = str(found[0].get("name")), str(found[0].get("resourceGroup"))
        return tools.rows(remedies.list_identity_credentials(name, group)), "federated credentials of the identity"


def _by_hand(case: Case) -> tuple[Remedy, ...]:
    client_id = case.target.principal
    if mending.by_entra(case):
        return (
            Remedy("if it is an application, list them", remedies.command(*remedies.list_credentials(client_id))),
            Remedy("if it is a managed identity, find it", remedies.command(*remedies.list_identities(client_id))),
        )
    if mending.by_account(case):
        return (Remedy("as an account admin, list them", remedies.command(*remedies.LIST_ACCOUNT_POLICIES)),)
    return (remedies.list_policies_by_hand(client_id),)
