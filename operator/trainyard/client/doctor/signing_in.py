"""Links 5 to 7: the exchange or sign-in, whom the platform takes us for, and the workspace itself.

Tokens come from the broker's own sources and stay in them: the connection that the later links ask uses the same ones.
"""

from dataclasses import replace
from datetime import UTC, datetime

from trainyard.client.doctor import claims, mending, remedies
from trainyard.client.doctor.case import Case
from trainyard.client.doctor.results import Remedy, Result, depends, failed, not_seen, passed
from trainyard.core.errors import Denied, Missing, TrainyardError, Unauthenticated
from trainyard.identity import clouds, signing_in
from trainyard.identity.base import is_stand_in
from trainyard.platforms.azureml.remedies import DATA_SCIENTIST
from trainyard.platforms.registry import platform_named


def sign_in(case: Case) -> Result:
    """Link 5: a token for everything that the platform will be asked."""
    for scope in signing_in.scopes(case.target):
        try:
            case.access[scope] = case.tokens()(scope).token()
        except TrainyardError as error:
            return mending.of(case, error)
    platform_named(case.target.platform).load()
    _connect(case)
    left = min(token.expires_at for token in case.access.values()) - datetime.now(UTC)
    seconds = round(left.total_seconds())
    count = f"{len(case.access)} tokens" if len(case.access) > 1 else "a token"
    return passed(f"{case.target.principal} is given {count}, good for {seconds} s", seconds=seconds)


def _connect(case: Case) -> None:
    """The operator's connection as the target's principal. Sends nothing."""
    case.found_connection = platform_named(case.target.platform).connect(case.target, case.tokens(), case.means.log)


def principal(case: Case) -> Result:
    """Link 6: that the platform takes us for the principal that is named."""
    wanted = case.target.principal
    if case.target.platform == "azureml":
        return _of_entra_token(case)
    try:
        case.account = case.connection.whoami()
    except (Denied, Unauthenticated) as error:
        return failed(
            error.reason,
            f"the workspace does not let {wanted} in: {error.message}",
            remedies.assign_workspace(wanted, ""),
        )
    except TrainyardError as error:
        return not_seen(error.reason, f"the workspace was asked, and did not say: {error.message}", goes_on=True)
    found = _compared(case, case.account.principal)
    if is_stand_in(wanted):
        # Databricks names folders after the principal, and rights are its own: what comes is asked as it is named.
        case.found_target = replace(case.target, principal=case.account.principal)
        _connect(case)
    return found


def _of_entra_token(case: Case) -> Result:
    """Azure Resource Manager does not say who asks; the token that Entra gave does, to who looks into it."""
    tokens = list(case.access.values())
    found = claims.read(tokens[0].value) if tokens else None
    said = (found.text("appid") or found.text("azp")) if found is not None else ""
    if found is None or not said:
        return not_seen("PrincipalNotTold", "Entra's token does not say whom it is for", goes_on=True)
    result = _compared(case, said)
    object_id, tenant = found.text("oid"), found.text("tid")
    told = f"{result.message} (object id {object_id}, tenant {tenant})"
    return Result(
        result.outcome,
        told,
        result.word,
        result.remedies,
        {**result.facts, "objectId": object_id, "tenant": tenant},
        result.goes_on,
    )


def _compared(case: Case, said: str) -> Result:
    wanted = case.target.principal
    if is_stand_in(wanted) or said.casefold() == wanted.casefold():
        return passed(f"the platform takes us for {said}", principal=said)
    account = mending.account_of(case)
    remedy: tuple[Remedy, ...] = (mending.opt_in(case, account, said, over=True),) if account is not None else ()
    return failed(
        "PrincipalDiffers",
        f"the platform takes us for {said}, and {wanted} is named",
        *remedy,
        goes_on=True,
        principal=said,
    )


def workspace(case: Case) -> Result:
    """Link 7: that the workspace answers, and lets the principal see it."""
    try:
        account = case.account or case.connection.whoami()
    except (Denied, Missing) as error:
        if case.target.platform != "azureml":
            return depends("the workspace does not let the principal in")
        path = clouds.workspace_of(case.target.host).path
        return failed(
            error.reason,
            f"the workspace can not be read: {remedies.without_commands(error.message)}",
            remedies.assign_role(DATA_SCIENTIST, case.target.principal, path),
        )
    except TrainyardError as error:
        if isinstance(error, Unauthenticated) and case.target.platform != "azureml":
            return depends("the workspace does not let the principal in")
        return failed(error.reason, f"the workspace can not be used: {error.message}")
    case.account = account
    details = account.details
    told = [f"{case.target.host} answers"]
    facts: dict[str, str | int] = {"workspaceId": account.workspace_id or ""}
    for name, words, value in (
        ("workspaceId", "id", account.workspace_id),
        ("region", "region", details and details.region),
        ("defaultDatastore", "default datastore", details and details.default_datastore),
        ("publicNetworkAccess", "public network access", details and details.public_network_access),
    ):
        if value:
            told.append(f"{words} {value}")
            facts[name] = value
    return passed(", ".join(told), **facts)
