"""Links 2 and 3: who speaks for the namespace, and the token that it would speak with.

Both go through `identity.broker` and the mode itself, so that what they find is what the operator meets. Of a token
only claims are shown, never the token.
"""

from trainyard.api.identity import (
    MANAGED_IDENTITY,
    OPERATOR_WIDE,
    SECRET_REF,
)
from trainyard.api.workspace import ClusterMLWorkspaceSpec
from trainyard.client.doctor import claims, mending, remedies
from trainyard.client.doctor.case import Case
from trainyard.client.doctor.results import Result, failed, not_applicable, not_seen, passed, warned
from trainyard.core.errors import TrainyardError
from trainyard.identity.asserting import Asserting
from trainyard.identity.secret_ref import personal


def speaker(case: Case) -> Result:
    """Link 2."""
    mode, namespace = case.workspace.identity.mode, case.subject.namespace
    if isinstance(case.workspace, ClusterMLWorkspaceSpec) and namespace not in case.workspace.allowed_namespaces:
        return failed(
            "NamespaceNotAllowed",
            f"{case.subject} does not allow namespace {namespace}: its runs are refused",
            mending.allow_namespace(case),
        )
    if mode in OPERATOR_WIDE and not case.means.is_operator:
        why = f"{mode} is the operator's own identity, which only its pod can use"
        return not_seen("OnlyInOperator", why, case.in_operator())
    try:
        target = case.found_target = case.means.broker.target(case.workspace, namespace)
    except TrainyardError as error:
        return mending.of(case, error)
    lacking = _operator_lacks(case)
    if lacking is not None:
        return lacking
    account, secret = mending.account_of(case), mending.secret_of(case)
    if account is not None:
        return passed(
            f"ServiceAccount {account.namespace}/{account.name} opts in for {target.principal}",
            serviceAccount=f"{account.namespace}/{account.name}",
            principal=target.principal,
        )
    if secret is not None:
        return _secret(case)
    return passed(f"the operator speaks for {target.principal}", principal=target.principal)


def _operator_lacks(case: Case) -> Result | None:
    """Whether the operator lacks a right that the mode needs, as far as whoever asks may know."""
    if case.means.is_operator:
        return None
    for right in mending.rights_of_operator(case):
        if case.means.cluster.may(case.means.operator_name, right) is False:
            return failed(
                "OperatorForbidden",
                f"the operator ({case.means.operator_name}) may not {right}",
                remedies.permit(right, case.means.operator_name),
                goes_on=True,
            )
    return None


def _secret(case: Case) -> Result:
    """The Secret has opted in and is not too old, or `Broker.target` would have said so; what it warns of."""
    secret = mending.secret_of(case)
    assert secret is not None  # noqa: S101
    facts = {"secret": f"{secret.namespace}/{secret.name}", "principal": case.target.principal}
    told = f"Secret {secret.namespace}/{secret.name} opts in for {case.target.principal}"
    cautions = [*case.means.broker.cautions(case.workspace, case.subject.namespace)]
    standing = personal(case.workspace.identity)
    cautions += [standing] if standing is not None else []
    if cautions:
        return warned(cautions[0].reason, f"{told}. {' '.join(each.message for each in cautions)}", **facts)
    return passed(told, **facts)


def token(case: Case) -> Result:
    """Link 3. The assertion, by the very way that the sign-in takes."""
    mode = case.workspace.identity.mode
    if mode in (SECRET_REF, MANAGED_IDENTITY):
        return not_applicable(f"the mode {mode} has no assertion")
    try:
        source = case.tokens()(mending.first_scope(case))
        if not isinstance(source, Asserting):
            return not_applicable(f"the mode {mode} has no assertion")
        assertion = case.assertion = source.assertion()
    except TrainyardError as error:
        return mending.of(case, error)
    if assertion is None:
        return not_applicable(f"the mode {mode} has no assertion")
    found = claims.read(assertion.value)
    life = found.life if found is not None else None
    return passed(
        f"iss {assertion.issuer}, sub {assertion.subject}, aud {assertion.audience}"
        + (f", good for {life} s" if life is not None else ""),
        issuer=assertion.issuer,
        subject=assertion.subject,
        audience=assertion.audience,
        **({"seconds": life} if life is not None else {}),
    )
