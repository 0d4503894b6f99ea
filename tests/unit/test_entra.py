"""What Entra's numbers mean, and which token sources there are."""

import json
import subprocess
import sys

import pytest

from trainyard.audit.transport import Answer
from trainyard.core.errors import IdentityError, Throttled, TrainyardError, Unreachable
from trainyard.identity.aadsts import SignIn, refusal
from trainyard.identity.assertion import Assertion

ASSERTION = Assertion("a.b.c", "https://issuer.example/x/", "system:serviceaccount:team:o'neil", "api://X", "jti")
TRIED = SignIn("contoso", "app; rm -rf /", "https://arm/.default", ASSERTION)
TAIL = "\r\nTrace ID: 1-2\r\nCorrelation ID: 3-4\r\nTimestamp: 2026-11-01 12:00:00Z"


def refused(
    number: int | None, words: str = "words", error: str = "invalid_client", *, tail: str = TAIL
) -> TrainyardError:
    description = words if number is None else f"AADSTS{number}: {words}{tail}"
    body = {"error": error, "error_description": description, "error_codes": [number]}
    url = "https://login.example/contoso/oauth2/v2.0/token"
    return refusal(Answer("POST", url, 401, {}, json.dumps(body).encode(), b""), TRIED)


MEANINGS = [
    (70021, "TokenExchangeRefused", True),
    (700211, "IssuerNotTrusted", True),
    (700212, "AudienceNotAccepted", True),
    (700213, "SubjectNotTrusted", True),
    (7002138, "SubjectNotTrusted", True),
    (70025, "TokenExchangeRefused", True),
    (700016, "ServicePrincipalUnknown", True),
    (7000112, "ServicePrincipalDisabled", False),
    (90002, "TenantUnknown", False),
    (900023, "TenantUnknown", False),
    (90061, "IssuerUnreachable", True),
    (50166, "IssuerUnreachable", True),
    (501661, "IssuerUnreachable", True),
    (700024, "AssertionRefused", False),
    (50012, "SignatureRefused", True),
    (50013, "SignatureRefused", True),
    (50027, "AssertionRefused", False),
    (500275, "AssertionRefused", False),
    (700027, "SignatureRefused", True),
    (500011, "TokenExchangeRefused", False),
    (53003, "TokenExchangeRefused", False),
]


@pytest.mark.parametrize(("number", "reason", "waiting"), MEANINGS)
def test_a_refusal_says_what_to_mend_and_whether_time_may(number: int, reason: str, waiting: bool) -> None:
    error = refused(number)
    assert isinstance(error, IdentityError)
    assert (error.reason, error.waiting) == (reason, waiting)
    assert str(number) in error.message
    assert (
        "app; rm" in error.message
        or "contoso" in error.message
        or "issuer.example" in error.message
        or "clock" in error.message
    )


@pytest.mark.parametrize("number", [number for number, _, _ in MEANINGS])
@pytest.mark.parametrize("tail", [TAIL, " " + " ".join(TAIL.split())])
def test_what_differs_from_answer_to_answer_is_left_out(number: int, tail: str) -> None:
    message = refused(number, tail=tail).message
    for passing in ("Trace ID", "Correlation ID", "Timestamp", "2026-11-01"):
        assert passing not in message


@pytest.mark.parametrize("number", [50033, 90006, 90012, 90024, 90033, None])
def test_a_trouble_of_entras_own_is_waited_out(number: int | None) -> None:
    error = refused(number, error="temporarily_unavailable")
    assert type(error) is Unreachable


@pytest.mark.parametrize("number", [50196, 90055])
def test_asking_too_often_is_a_pause(number: int) -> None:
    error = refused(number)
    assert isinstance(error, Throttled)
    assert error.retry_after == 60


def test_a_command_can_be_pasted_whatever_a_team_wrote_into_an_annotation() -> None:
    message = refused(700213).message
    assert "--id 'app; rm -rf /' --parameters" in message
    command = message.split("For an application: ")[1].split(". For a managed identity:")[0]
    echoed = subprocess.run(
        ["/bin/sh", "-c", f"set -- {command}; printf '%s\\n' \"$@\""], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert echoed[echoed.index("--id") + 1] == "app; rm -rf /"
    assert json.loads(echoed[-1]) == {
        "name": "trainyard",
        "issuer": "https://issuer.example/x/",
        "subject": "system:serviceaccount:team:o'neil",
        "audiences": ["api://X"],
    }


def test_long_words_are_clipped() -> None:
    assert len(refused(53003, "x" * 10_000).message) < 500


def test_an_operator_without_azure_workspaces_imports_no_azure() -> None:
    code = (
        "import sys, trainyard.cli.wiring, trainyard.identity.entra\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('azure', 'msal')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
