"""What Entra's refusals of an assertion, secret or certificate mean, and what mends them. Pure.

Called by `identity.entra`. Entra answers 400 or 401 with `error`, `error_description` ("AADSTS<number>: ... Trace ID:
...") and `error_codes`. Read in: Microsoft's "Microsoft Entra authentication and authorization error codes", and, for
numbers that it does not list (70021x, 90061, 50166), the answers quoted in the issues and the troubleshooting page of
Azure/azure-workload-identity.
"""

import json
import re
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime

from trainyard.audit.transport import Answer
from trainyard.core.errors import IdentityError, Throttled, TrainyardError, Unreachable
from trainyard.identity import clocks, refusals
from trainyard.identity.assertion import Assertion
from trainyard.identity.cached import utc_now
from trainyard.identity.signing_in import block_of

# No federated credential has this issuer, subject and audience: 70021, and by what differs 700211, 700212, 700213;
# longer ones (7002138) say that only the case of a letter does. 70025: there is none at all.
_NO_MATCH = ("70021", "70025")
_DIFFERS = {
    "700211": refusals.issuer_not_trusted,
    "700212": refusals.audience_not_accepted,
    "700213": refusals.subject_not_trusted,
}
_PRINCIPAL_UNKNOWN = frozenset({"70001", "700011", "700016"})
_PRINCIPAL_DISABLED = frozenset({"7000112"})
_TENANT_UNKNOWN = frozenset({"90002", "90019", "90038", "900021", "900023"})
# Entra could not fetch the issuer's discovery document or keys.
_ISSUER_UNREACHABLE = frozenset({"90061", "50166", "501661"})
_NOT_IN_TIME = frozenset({"700024", "500133"})
# The signature is not one of the keys that the issuer publishes.
_SIGNATURE_REFUSED = frozenset({"50012", "50013", "500131", "700027"})
# Another claim is not as the issuer's documents say; also every number that begins with 50027.
_ASSERTION_REFUSED = frozenset({"50048", "900384"})
_INVALID_JWT = "50027"
# Of what a Secret holds: no such secret of the application, one that has expired, no such certificate.
_SECRET_WRONG, _SECRET_EXPIRED, _CERTIFICATE_UNKNOWN = "7000215", "7000222", "700027"
# A certificate that Entra finds outside of its own time (AzureAD/microsoft-identity-web pull request 2840).
_CERTIFICATE_EXPIRED = "1000502"
_TRANSIENT = frozenset({"50033", "90006", "90012", "90024", "90033", "90036"})
# The same request again and again (50196), or too many of the tenant (90055).
_TOO_OFTEN = frozenset({"50196", "90055"})
TOO_OFTEN_SECONDS = 60.0

_NUMBER = re.compile(r"AADSTS(\d+)")
# Entra's own clock, as 700024 tells it.
_CURRENT_TIME = re.compile(r"Current time: ([0-9T:.+-]+Z?)")
# What differs from one answer to the next, and must not stand in a status.
_PASSING = re.compile(r"\s*(Trace ID|Correlation ID|Timestamp): .*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class SignIn:
    """A sign-in that was tried: of which principal, in which tenant, for what, with which assertion.

    `kept` names the key and the Secret that hold what it was tried with instead: "key KEY of Secret NAMESPACE/NAME".
    """

    tenant: str
    client_id: str
    scope: str
    assertion: Assertion | None
    kept: str = ""


def refusal(answer: Answer, tried: SignIn, now: datetime | None = None) -> TrainyardError:
    """What a 4xx answer of the token endpoint means. `now` is the machine's clock, unless a test has another."""
    code, number, said = _said(answer)
    if number in _TOO_OFTEN:
        return Throttled(f"Entra asks for fewer sign-ins: {said}", retry_after=TOO_OFTEN_SECONDS)
    if number in _TRANSIENT or code == "temporarily_unavailable":
        return Unreachable(f"Entra can not answer now: {said}")
    if number.startswith(_NO_MATCH) and tried.assertion is not None:
        return _no_match(number, tried, tried.assertion)
    if number in _PRINCIPAL_UNKNOWN | _PRINCIPAL_DISABLED | _TENANT_UNKNOWN:
        return _unknown(number, said, tried)
    not_believed = _ISSUER_UNREACHABLE | _NOT_IN_TIME | _SIGNATURE_REFUSED | _ASSERTION_REFUSED
    if (number in not_believed or number.startswith(_INVALID_JWT)) and tried.assertion is not None:
        return _not_believed(answer, number, tried, tried.assertion, now or utc_now())
    if tried.kept and (error := _kept_refused(number, said, tried)) is not None:
        return error
    return IdentityError(
        f"Entra refused a token of {tried.client_id} for {tried.scope} in tenant {tried.tenant}: {said}",
        reason="TokenExchangeRefused",
    )


def _no_match(number: str, tried: SignIn, assertion: Assertion) -> IdentityError:
    credential = {
        "name": "trainyard",
        "issuer": assertion.issuer,
        "subject": assertion.subject,
        "audiences": [assertion.audience],
    }
    issuer, subject = shlex.quote(assertion.issuer), shlex.quote(assertion.subject)
    parameters = shlex.quote(json.dumps(credential, separators=(",", ":")))
    application = f"az ad app federated-credential create --id {shlex.quote(tried.client_id)} --parameters {parameters}"
    identity = (
        "az identity federated-credential create --name trainyard --identity-name IDENTITY --resource-group GROUP "
        f"--issuer {issuer} --subject {subject} --audiences {shlex.quote(assertion.audience)}"
    )
    remedy = f"For an application: {application}. For a managed identity: {identity}"
    return _DIFFERS.get(number[:6], refusals.none_fits)(_case(f"AADSTS{number}", tried, assertion, remedy))


def _case(said: str, tried: SignIn, assertion: Assertion, remedy: str = "") -> refusals.Case:
    return refusals.Case("Entra", tried.client_id, said, "federated credential", remedy, assertion)


def _unknown(number: str, said: str, tried: SignIn) -> IdentityError:
    block = block_of(tried.scope)
    if number in _TENANT_UNKNOWN:
        return IdentityError(
            f"Entra knows no tenant {tried.tenant} in this cloud ({said}). Correct {block}.tenantId or {block}.cloud.",
            reason="TenantUnknown",
        )
    if number in _PRINCIPAL_DISABLED:
        return IdentityError(
            f"application {tried.client_id} is disabled in tenant {tried.tenant} ({said}). Have it enabled.",
            reason="ServicePrincipalDisabled",
        )
    named_by = (
        refusals.names_principal(tried.assertion)
        if tried.assertion is not None
        else f"the client id that goes with {tried.kept}"
    )
    return IdentityError(
        f"tenant {tried.tenant} has no service principal of {tried.client_id} ({said}). Correct {named_by} or "
        f"{block}.tenantId, or add the application to the tenant (az ad sp create --id "
        f"{shlex.quote(tried.client_id)}); a new one takes some minutes to be known.",
        reason="ServicePrincipalUnknown",
        waiting=True,
    )


def _not_believed(answer: Answer, number: str, tried: SignIn, assertion: Assertion, now: datetime) -> IdentityError:
    _, _, said = _said(answer)
    if number in _ISSUER_UNREACHABLE:
        return refusals.issuer_unreachable(_case(said, tried, assertion))
    if number in _SIGNATURE_REFUSED:
        return refusals.signature_refused(_case(said, tried, assertion))
    # Of its words only the number is told: they name the time, and would be others in each status.
    told = refusals.not_in_time(_case(f"AADSTS{number}", tried, assertion), _entras_time(answer), now)
    if number in _NOT_IN_TIME and told is not None:
        return told
    return IdentityError(
        f"Entra does not believe the token of {assertion.issuer} ({said}). Check its claims against what "
        f"{assertion.issuer.rstrip('/')}/.well-known/openid-configuration says, and the clock of the machines that "
        "issue it.",
        reason="AssertionRefused",
    )


def _entras_time(answer: Answer) -> datetime | None:
    found = _CURRENT_TIME.search(_said(answer)[2])
    try:
        moment = datetime.fromisoformat(found[1]) if found else None
    except ValueError:
        moment = None
    if moment is None:
        return clocks.told_now(answer.headers)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _kept_refused(number: str, said: str, tried: SignIn) -> IdentityError | None:
    """What a refusal of a client secret or certificate means; None for one that is of neither."""
    reset = f"az ad app credential reset --id {shlex.quote(tried.client_id)} --append"
    if number == _SECRET_WRONG:
        return IdentityError(
            f"{tried.kept} is no secret of application {tried.client_id} ({said}). Put a secret's value there, not its "
            f"id; a new one is made by {reset}, and takes a moment to be known.",
            reason="ClientSecretWrong",
        )
    if number == _SECRET_EXPIRED:
        return IdentityError(
            f"the secret of application {tried.client_id} in {tried.kept} has expired ({said}). Make a new one "
            f"({reset}) and put it there.",
            reason="ClientSecretExpired",
        )
    if number == _CERTIFICATE_UNKNOWN:
        return IdentityError(
            f"application {tried.client_id} does not have the certificate in {tried.kept} ({said}). Add it: {reset} "
            "--cert @certificate.pem (the certificate without its key); it takes a moment to be known.",
            reason="CertificateUnknown",
        )
    if number == _CERTIFICATE_EXPIRED:
        return IdentityError(
            f"the certificate in {tried.kept} of application {tried.client_id} is not valid now for Entra "
            f"(AADSTS{number}). Put one that is there and add it to the application ({reset} --cert "
            "@certificate.pem), or correct the clock of the operator's machine.",
            reason="CertificateExpired",
        )
    if number in _NOT_IN_TIME:
        return IdentityError(
            f"Entra says that what was signed just now with {tried.kept} is not yet, or no more, valid "
            f"(AADSTS{number}). Correct the clock of the operator's machine.",
            reason="AssertionRefused",
        )
    return None


def _said(answer: Answer) -> tuple[str, str, str]:
    """OAuth's error, Entra's number and the words, without what differs each time."""
    document = answer.json()
    if not isinstance(document, dict):
        return "", "", f"status {answer.status}"
    error = str(document.get("error") or "")[:64]
    words = _PASSING.sub("", str(document.get("error_description") or ""))
    found = _NUMBER.search(words)
    codes = document.get("error_codes")
    number = found.group(1) if found else str(codes[0]) if isinstance(codes, list) and codes else ""
    told = " ".join(words.split())[:300].rstrip(". ")
    return error, number, told or error or f"status {answer.status}"
