"""Which commands mend an error of identity, in the case at hand. Pure; used by the links."""

from trainyard.api.identity import OIDC
from trainyard.client.doctor import remedies
from trainyard.client.doctor.case import Case
from trainyard.client.doctor.cluster import NotPermittedError, Right, secret_right, token_right
from trainyard.client.doctor.results import Remedy, Result, failed, not_seen
from trainyard.core.errors import TrainyardError
from trainyard.identity import signing_in
from trainyard.identity.base import SecretRef, ServiceAccountRef
from trainyard.identity.consent import OPT_IN
from trainyard.identity.federated import DATABRICKS, ENTRA
from trainyard.identity.secret_reading import OPT_IN as SECRET_OPT_IN
from trainyard.identity.secret_ref import CLIENT_ID

# What the operator's flags allow, which a person's own command does not know.
_BY_FLAGS = {
    "HostNotAllowed": "--allowed-host or --azure-cloud",
    "IssuerNotAllowed": "--allowed-issuer",
    "TokenEndpointNotAllowed": "--allowed-token-host",
}
# A platform was asked and has no rule that takes the assertion.
NO_TRUST = frozenset({"TokenExchangeRefused", "IssuerNotTrusted", "SubjectNotTrusted", "AudienceNotAccepted"})
PLACEHOLDER = {DATABRICKS: "APPLICATION_ID", ENTRA: "CLIENT_ID"}


def of(case: Case, error: TrainyardError) -> Result:
    """What an error at a link means for whoever runs the command."""
    if isinstance(error, NotPermittedError):
        return forbidden(case, error.right, error.message)
    flag = _BY_FLAGS.get(error.reason)
    if flag and not case.means.is_operator and case.told != error.reason:
        why = f"{error.message} This command does not know what the operator allows: give it the operator's {flag}."
        return not_seen(error.reason, why, case.in_operator())
    mended = of_identity(case, error)
    return failed(error.reason, remedies.without_commands(error.message) if mended else error.message, *mended)


def forbidden(case: Case, right: Right, message: str) -> Result:
    """The API server refuses something: to the operator itself a failure, to a person a link that is not seen."""
    if case.means.is_operator:
        return failed("OperatorForbidden", f"the operator may not {right}", remedies.permit(right, case.means.own_name))
    who = case.means.own_name or "USER"
    return not_seen("NotPermitted", message, case.in_operator(), remedies.permit(right, who))


def of_identity(case: Case, error: TrainyardError) -> tuple[Remedy, ...]:
    """The commands, where there are any; the error's own sentence says what to do as well."""
    if case.found_workspace is None:
        return ()
    account, secret, why = account_of(case), secret_of(case), error.reason
    if why in NO_TRUST:
        return trusting(case)
    if why == "ServiceAccountNotFound" and account is not None:
        return remedies.create_account(account), opt_in(case, account)
    if why == "ServiceAccountNotOptedIn" and account is not None:
        return (opt_in(case, account),)
    if why == "NamespaceNotAllowed":
        return (allow_namespace(case),)
    if why == "SecretNotOptedIn" and secret is not None:
        return (remedies.annotate_secret(secret, SECRET_OPT_IN, _kind_of_secret(case)),)
    if why in ("SecretTooOld", "SecretNotFound", "SecretKeyMissing", "ClientSecretWrong", "ClientSecretExpired"):
        return _new_secret(case)
    if why == "ServicePrincipalUnknown":
        return _unknown_principal(case)
    if why == "IssuerUnreachable":
        return (remedies.publish_issuer(),)
    return ()


def allow_namespace(case: Case) -> Remedy:
    """Has a ClusterMLWorkspace allow the namespace of the runs."""
    allowed = getattr(case.workspace, "allowed_namespaces", ())
    return remedies.allow_namespace(case.subject.name, case.subject.namespace, first=not allowed)


def _new_secret(case: Case) -> tuple[Remedy, ...]:
    secret, given = secret_of(case), case.workspace.identity.secret_ref
    if secret is None or given is None or given.type not in remedies.NEW_SECRETS:
        return ()
    known = case.found_target.principal if case.found_target is not None else given.client_id
    return (remedies.new_secret(secret, given.type, known or _client_id_in(case, secret) or _known(case)),)


def _client_id_in(case: Case, secret: SecretRef) -> str:
    """The principal that a Secret names, which is none of its secrets."""
    try:
        return case.means.cluster.secret_data(secret).data.get(CLIENT_ID, b"").decode().strip()
    except (TrainyardError, UnicodeDecodeError):
        return ""


def trusting(case: Case) -> tuple[Remedy, ...]:
    """What has the principal trust the assertion that was shown."""
    if case.assertion is None:
        return ()
    principal = case.target.principal
    if by_entra(case):
        return remedies.credentials(case.assertion, principal)
    return (remedies.policy(case.assertion, principal, of_account=by_account(case), known_id=case.principal_id),)


def opt_in(case: Case, account: ServiceAccountRef, value: str = "", *, over: bool = False) -> Remedy:
    """Has the ServiceAccount name a principal: the one given, or a word that stands for it."""
    platform = ENTRA if by_entra(case) else DATABRICKS
    return remedies.annotate(account, OPT_IN[platform][0], value or _known(case), over=over)


def _known(case: Case) -> str:
    """The principal that worked before, if the operator knows one; else the word that stands for it."""
    refused = case.found_target.principal if case.found_target is not None else ""
    if case.told_principal not in ("", refused):
        return case.told_principal
    return PLACEHOLDER[ENTRA if by_entra(case) else DATABRICKS]


def by_entra(case: Case) -> bool:
    """Whether the workspace's tokens are Entra's."""
    return case.workspace.azure_ml is not None or case.workspace.identity.entra is not None


def by_account(case: Case) -> bool:
    """Whether it is a federation policy of the Databricks account that has to trust the assertion."""
    given = case.workspace.identity.federated or case.workspace.identity.oidc
    return given is not None and given.policy == "Account"


def first_scope(case: Case) -> str:
    """The first scope that tokens of the target are asked for; empty for Databricks' own exchange."""
    return signing_in.scopes(case.target)[0]


def account_of(case: Case) -> ServiceAccountRef | None:
    """The ServiceAccount that speaks for the namespace, in the mode that has one."""
    given = case.workspace.identity.federated
    return ServiceAccountRef(case.subject.namespace, given.service_account_name) if given is not None else None


def secret_of(case: Case) -> SecretRef | None:
    """The Secret that the mode reads, in those that have one."""
    identity = case.workspace.identity
    name = identity.oidc.secret_name if identity.oidc else identity.secret_ref.name if identity.secret_ref else ""
    return SecretRef(case.subject.namespace, name) if name else None


def rights_of_operator(case: Case) -> tuple[Right, ...]:
    """What the operator needs in the namespace for the mode."""
    account, secret = account_of(case), secret_of(case)
    if account is not None:
        return Right("get", "serviceaccounts", account.namespace, account.name), token_right(account)
    return (secret_right(secret),) if secret is not None else ()


def _kind_of_secret(case: Case) -> str:
    given = case.workspace.identity.secret_ref
    return given.type if given is not None else OIDC


def _unknown_principal(case: Case) -> tuple[Remedy, ...]:
    account, principal = account_of(case), case.target.principal
    renamed = (opt_in(case, account, over=True),) if account is not None else ()
    if by_entra(case):
        return (*renamed, remedies.create_service_principal(principal))
    return (*renamed, remedies.assign_workspace(principal, ""))
