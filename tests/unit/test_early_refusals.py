"""Why a platform refuses an assertion: each cause has its own reason, and its fix in the message."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import requests

from trainyard.audit.transport import Answer
from trainyard.core.errors import IdentityError
from trainyard.identity import aadsts, oauth
from trainyard.identity.assertion import Assertion
from trainyard.identity.clocks import told_now

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ISSUER, SUBJECT, AUDIENCE = "https://audience.example/expired", "system:serviceaccount:team:trainer", "trainyard"
HOUR = timedelta(hours=1)
JWKS = f"jwks_uri in {ISSUER}/.well-known/openid-configuration"


def assertion(issued: timedelta = timedelta(), issuer: str = ISSUER, subject: str = SUBJECT) -> Assertion:
    issued_at = NOW + issued
    return Assertion("a.b.c", issuer, subject, AUDIENCE, "jti", "key-1", issued_at, issued_at + timedelta(minutes=10))


def dated(ahead: timedelta | None) -> dict[str, str]:
    return {} if ahead is None else {"Date": format_datetime(NOW + ahead, usegmt=True)}


def by_databricks(
    words: str,
    code: str = "invalid_request",
    ahead: timedelta | None = timedelta(),
    made: Assertion | None = None,
    *,
    account: bool = False,
) -> IdentityError:
    response = requests.Response()
    response.status_code = 400
    response.headers.update(dated(ahead))
    response._content = json.dumps({"error": code, "error_description": words}).encode()
    return oauth.refusal(response, made or assertion(), "app-1", account=account, now=NOW)


def by_entra(
    number: int, words: str = "words", headers: Mapping[str, str] | None = None, made: Assertion | None = None
) -> IdentityError:
    body = {
        "error": "invalid_client",
        "error_description": f"AADSTS{number}: {words}. Trace ID: 1",
        "error_codes": [number],
    }
    answer = Answer("POST", "https://login/t/oauth2/v2.0/token", 401, headers or {}, json.dumps(body).encode(), b"")
    error = aadsts.refusal(answer, aadsts.SignIn("t", "app-1", "scope", made or assertion()), NOW)
    assert isinstance(error, IdentityError)
    return error


# The sentences are of the sandbox, and such as other servers of OAuth use: Databricks publishes none.
WORDS = [
    ("Token exchange failed: the token is expired.", "AssertionExpired", False, "clock"),
    ("JWT has expired", "AssertionExpired", False, "clock"),
    ("Token exchange failed: the token is not valid yet.", "AssertionNotYetValid", False, "clock"),
    ("Token is not yet valid (nbf)", "AssertionNotYetValid", False, "clock"),
    ("the token's audience matches no audience of the federation policy", "AudienceNotAccepted", True, "audiences"),
    ("Invalid aud claim", "AudienceNotAccepted", True, "audiences"),
    (f"the issuer {ISSUER} has no signing key 'key-1'", "SignatureRefused", True, JWKS),
    ("the token cannot be verified: Signature verification failed", "SignatureRefused", True, JWKS),
    (f"no federation policy trusts the issuer '{ISSUER}'", "IssuerNotTrusted", True, "federation-policy create"),
    ("Unknown issuer", "IssuerNotTrusted", True, "federation-policy create"),
    (f"GET {ISSUER}/jwks: the issuer {ISSUER} cannot be reached: ConnectError", "IssuerUnreachable", True, "reachable"),
    ("Failed to fetch the discovery document", "IssuerUnreachable", True, "reachable"),
    ("Invalid subject claim", "SubjectNotTrusted", True, "federation-policy create"),
    # Not plain: more than one thing is spoken of, or only the assertion as such.
    ("no federation policy of this issuer matches the token's subject", "TokenExchangeRefused", True, "subject"),
    ("Check issuer, subject and audience of the policy", "TokenExchangeRefused", True, "subject"),
    ("The subject_token is invalid", "TokenExchangeRefused", True, "federation-policy create"),
    ("The subject token is invalid", "TokenExchangeRefused", True, "federation-policy create"),
    ("no federation policy is configured for service principal app-1", "TokenExchangeRefused", True, "subject"),
    ("", "TokenExchangeRefused", True, "federation-policy create"),
]


@pytest.mark.parametrize(("words", "reason", "waiting", "fix"), WORDS)
def test_databricks_words_tell_causes_apart_as_far_as_they_are_plain(
    words: str, reason: str, waiting: bool, fix: str
) -> None:
    error = by_databricks(words)
    assert (error.reason, error.waiting) == (reason, waiting)
    assert fix in error.message
    assert words.rstrip(".") in error.message


def test_what_the_words_say_of_the_assertions_own_names_is_no_hint() -> None:
    """The issuer of these tests is called audience and expired, and a team may call its things so too."""
    assert by_databricks(f"{ISSUER} is wrong").reason == "TokenExchangeRefused"


@pytest.mark.parametrize("code", ["invalid_scope", "unsupported_grant_type", "server_error"])
def test_what_time_does_not_mend_is_not_waited_for(code: str) -> None:
    error = by_databricks("no", code)
    assert (error.reason, error.waiting) == ("TokenExchangeRefused", False)


def test_an_unknown_principal_is_told_whatever_the_clocks_say() -> None:
    assert by_databricks("Client authentication failed.", "invalid_client", HOUR).reason == "ServicePrincipalUnknown"


def test_the_command_that_makes_the_policy_has_all_that_it_needs() -> None:
    command = by_databricks("").message.partition("databricks account ")[2]
    assert command == (
        "service-principal-federation-policy create SERVICE_PRINCIPAL_NUMBER --json "
        f'\'{{"oidc_policy":{{"issuer":"{ISSUER}","audiences":["{AUDIENCE}"],"subject":"{SUBJECT}"}}}}\''
    )
    account = by_databricks("", account=True).message.partition("databricks account ")[2]
    assert account.startswith("federation-policy create --json ")
    assert '"subject_claim":"sub"' in account


PLATFORM = [
    # The platform's clock against ours, the API server's against ours; what is said.
    (
        HOUR,
        timedelta(),
        "the clock of {} is about 60 minutes ahead of the operator's, and it takes a new token for expired",
    ),
    (-HOUR, timedelta(), "the clock of {} is about 60 minutes behind the operator's, and a new token is not valid yet"),
    (timedelta(), timedelta(minutes=3), "the API server's clock is about 3 minutes ahead of the operator's"),
    (timedelta(minutes=7), -timedelta(minutes=4), "the API server's clock is about 4 minutes behind the operator's"),
    (-timedelta(minutes=2), timedelta(), "the clock of {} is about 2 minutes behind the operator's"),
]


@pytest.mark.parametrize(("ahead", "servers", "told"), PLATFORM)
@pytest.mark.parametrize("platform", ["Databricks", "Entra", "Entra, by its Date"])
def test_a_clock_that_is_wrong_is_told_whosever_it_is(
    platform: str, ahead: timedelta, servers: timedelta, told: str
) -> None:
    made = assertion(servers)
    if platform == "Databricks":
        error = by_databricks("something is wrong", ahead=ahead, made=made)
    elif platform == "Entra":
        time = f"{(NOW + ahead).replace(tzinfo=None).isoformat()}.0000000Z"
        error = by_entra(
            700024, f"Not within its valid time range. Current time: {time}, assertion valid from x", made=made
        )
    else:
        error = by_entra(700024, headers=dated(ahead), made=made)
    assert (error.reason, error.waiting) == ("ClockSkew", False)
    assert told.format(platform.partition(",")[0]) in error.message


@pytest.mark.parametrize("ahead", [timedelta(minutes=3), timedelta(seconds=20), -timedelta(seconds=20), None])
def test_a_clock_that_is_not_the_cause_is_not_told(ahead: timedelta | None) -> None:
    assert by_databricks("Invalid aud claim", ahead=ahead).reason == "AudienceNotAccepted"


@pytest.mark.parametrize("date", ["", "soon", "Mon, 99 Nov 2026 12:00:00 GMT"])
def test_a_date_that_is_none_tells_nothing(date: str) -> None:
    assert told_now({"Date": date}) is None
    assert told_now({}) is None


def test_the_words_about_a_clock_stay_the_same_while_it_is_as_wrong() -> None:
    said = [by_databricks("expired", ahead=HOUR + timedelta(seconds=seconds)).message for seconds in (0, 7, 20)]
    assert len(set(said)) == 1


def test_entra_not_in_time_without_a_wrong_clock_is_told_as_entra_says() -> None:
    over = assertion(-timedelta(minutes=10, seconds=1))
    within = by_entra(700024, headers=dated(timedelta()))
    assert within.reason == "AssertionRefused"
    assert by_entra(700024, headers=dated(timedelta()), made=over).reason == "ClockSkew"
    assert "clock" in within.message


NUMBERS = [
    (700211, "IssuerNotTrusted", "--issuer"),
    (700212, "AudienceNotAccepted", "--audiences"),
    (700213, "SubjectNotTrusted", "--subject"),
    (70025, "TokenExchangeRefused", "federated-credential create"),
    (50013, "SignatureRefused", JWKS),
    (90061, "IssuerUnreachable", "reachable"),
]


@pytest.mark.parametrize(("number", "reason", "fix"), NUMBERS)
def test_entras_numbers_tell_causes_apart(number: int, reason: str, fix: str) -> None:
    error = by_entra(number)
    assert (error.reason, error.waiting) == (reason, True)
    assert fix in error.message
    assert f"AADSTS{number}" in error.message


INSIDE = ["https://kubernetes.default.svc", "https://kubernetes.default.svc.cluster.local", "https://10.0.0.1:6443"]


@pytest.mark.parametrize("issuer", INSIDE)
@pytest.mark.parametrize("words", ["Unknown signing key", "the issuer cannot be reached", ""])
def test_an_issuer_that_only_the_cluster_can_reach_is_pointed_at(issuer: str, words: str) -> None:
    assert "private issuers" in by_databricks(words, made=assertion(issuer=issuer)).message
    assert "private issuers" not in by_databricks(words).message


def test_another_issuers_token_is_not_compared_with_the_clusters_keys() -> None:
    assert "kubectl" in by_databricks("bad signature").message
    other = by_databricks("bad signature", made=assertion(subject="client-7"))
    assert "kubectl" not in other.message
    assert "key-1" in other.message
