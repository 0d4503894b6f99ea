"""A ServiceAccount's consent to speak for a principal: an annotation of its own, looked at before each mint.

Asked by `identity.federated` and `identity.entra` at each exchange, by the session controller before an attempt is
pinned, and by `controllers.destinations`.
"""

from collections.abc import Mapping

from trainyard.core.errors import IdentityError
from trainyard.identity.base import (
    AZURE_CLIENT_ID,
    AZURE_WORKLOAD_CLIENT_ID,
    DATABRICKS_CLIENT_ID,
    ServiceAccountRef,
    ServiceAccounts,
)

# By platform, the annotations that opt in: the first that is there counts, even if it is empty.
OPT_IN: Mapping[str, tuple[str, ...]] = {
    "databricks": (DATABRICKS_CLIENT_ID,),
    "azureml": (AZURE_CLIENT_ID, AZURE_WORKLOAD_CLIENT_ID),
}
# Characters. Ids of platforms have 36; an attempt's status has room for these.
LONGEST = 255
_WHOSE = {
    "databricks": "application id of the service principal that trusts it",
    "azureml": "client id of the application or managed identity that trusts it",
}


def principal_named(
    annotations: Mapping[str, str], account: ServiceAccountRef, platform: str, *, waiting: bool = True
) -> str:
    """The principal that the ServiceAccount has opted in to, on that platform.

    Raises:
        IdentityError: ServiceAccountNotOptedIn. `waiting`: nothing is under way yet, and an annotation may come.
    """
    names = OPT_IN[platform]
    found = next((name for name in names if name in annotations), names[0])
    named = annotations.get(found, "")
    if not named:
        raise IdentityError(
            f"ServiceAccount {account.name} in namespace {account.namespace} has not opted in; annotate it with "
            f"{names[0]}=<{_WHOSE[platform]}>",
            reason="ServiceAccountNotOptedIn",
            waiting=waiting,
        )
    if len(named) > LONGEST or not named.isascii() or not named.isprintable() or " " in named:
        raise IdentityError(
            f"annotation {found} of ServiceAccount {account.name} in namespace {account.namespace} is no client id; "
            f"write the {_WHOSE[platform]}",
            reason="ServiceAccountNotOptedIn",
            waiting=waiting,
        )
    return named


def require_consent(accounts: ServiceAccounts, account: ServiceAccountRef, platform: str, client_id: str) -> None:
    """Checks that the ServiceAccount opts in, now, to be used for this principal.

    Raises:
        IdentityError: ServiceAccountNotOptedIn or ClientIdMismatch, or what `accounts` raises.
    """
    named = principal_named(accounts.annotations(account), account, platform, waiting=False)
    if named != client_id:
        raise IdentityError(
            f"ServiceAccount {account.namespace}/{account.name} opts in for {named}, not for {client_id}, which this "
            "attempt is pinned to.",
            reason="ClientIdMismatch",
        )
