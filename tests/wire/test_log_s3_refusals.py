"""What S3 and STS refuse, as their references and error lists write it: which error it is, and what it says to do."""

import io
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.wire.answering import Answering, Asked, Told, serve_answers
from tests.wire.test_log_s3 import ASSERTION, ROLE, Clock, Minter, refusal
from trainyard.audit.log import AuditLog
from trainyard.audit.transport import Bounds
from trainyard.core.errors import Denied, IdentityError, Missing, Refused, Throttled, Unauthenticated, Unreachable
from trainyard.keeping.s3 import S3LogStore, S3Place

GRANTED = b"""<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleWithWebIdentityResult><Credentials><SessionToken>session-token</SessionToken>
<SecretAccessKey>secret-key</SecretAccessKey><Expiration>2126-10-24T23:00:23Z</Expiration>
<AccessKeyId>ASgeIAIOSFODNN7EXAMPLE</AccessKeyId></Credentials></AssumeRoleWithWebIdentityResult>
</AssumeRoleWithWebIdentityResponse>"""


def s3_error(code: str, message: str = "words", more: str = "") -> bytes:
    return f"<Error><Code>{code}</Code><Message>{message}</Message>{more}<RequestId>1</RequestId></Error>".encode()


def sts_error(code: str, message: str) -> bytes:
    return (
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
        f"<Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
    ).encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answering]:
    with serve_answers(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def answering(server: Answering, monkeypatch: pytest.MonkeyPatch) -> Answering:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.ca_file))
    server.asked.clear()
    return server


@pytest.fixture
def trail() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def store(answering: Answering, trail: io.StringIO) -> S3LogStore:
    place = S3Place("logs", "runs", "eu-west-1", ROLE, answering.origin, f"{answering.origin}/sts")
    bounds = Bounds(connect=2.0, read=2.0, total=4.0)
    return S3LogStore(
        place, "team-a", assertion=Minter(), allow=lambda url: url, log=AuditLog(trail), bounds=bounds, now=Clock()
    )


def answers(told: Told, sts: Told | None = None) -> Callable[[Asked], Told]:
    return lambda asked: (sts or Told(200, GRANTED)) if asked.path == "/sts/" else told


S3 = [
    (Told(404, s3_error("NoSuchBucket")), Missing, "logs does not exist"),
    (Told(403, s3_error("AccessDenied", "no &lt;policy&gt; allows it")), Denied, "no <policy> allows it"),
    (Told(403, s3_error("AccessDenied")), Denied, "s3:PutObject"),
    (Told(404, s3_error("NoSuchUpload")), Refused, "NoSuchUpload"),
    (Told(400, s3_error("InvalidArgument")), Refused, "InvalidArgument"),
    (Told(301, s3_error("PermanentRedirect"), {"x-amz-bucket-region": "us-east-1"}), Refused, "but in us-east-1"),
    (
        Told(400, s3_error("AuthorizationHeaderMalformed", more="<Region>us-east-1</Region>")),
        Refused,
        "but in us-east-1",
    ),
    (Told(302, b"", {"Location": "https://evil.example/"}), Refused, "refused"),
    (Told(403, s3_error("RequestTimeTooSkewed")), Refused, "clock"),
    (Told(403, s3_error("InvalidAccessKeyId")), Unauthenticated, ROLE),
    (Told(503, s3_error("SlowDown"), {"Retry-After": "7"}), Throttled, "fewer requests"),
    (Told(503, s3_error("ServiceUnavailable")), Unreachable, "503"),
    (Told(500, s3_error("InternalError")), Unreachable, "500"),
]


@pytest.mark.parametrize(("told", "kind", "words"), S3)
def test_each_refusal_of_s3_is_its_own_error(
    answering: Answering, store: S3LogStore, told: Told, kind: type[Exception], words: str
) -> None:
    answering.answer = answers(told)
    error = refusal(lambda: store.put("a/log", b"x", "text/plain"))
    assert type(error) is kind
    assert words in str(error)
    assert "secret-key" not in str(error)


STS = [
    (Told(403, sts_error("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")), True),
    (Told(400, sts_error("InvalidIdentityToken", "No OpenIDConnect provider found in your account")), True),
    (Told(400, sts_error("IDPCommunicationError", "Couldn't reach it")), True),
    (Told(400, sts_error("ValidationError", "1 validation error detected")), False),
    (Told(403, sts_error("RegionDisabledException", "STS is not activated in this region")), False),
    (Told(302, b"", {"Location": "https://evil.example/"}), False),
]


@pytest.mark.parametrize(("told", "waiting"), STS)
def test_each_refusal_of_sts_says_whether_time_may_mend_it(
    answering: Answering, store: S3LogStore, told: Told, waiting: bool
) -> None:
    answering.answer = answers(Told(), told)
    error = refusal(lambda: store.get("a"))
    assert isinstance(error, IdentityError)
    assert error.waiting is waiting


def test_a_role_that_does_not_trust_is_told_what_to_trust(answering: Answering, store: S3LogStore) -> None:
    signature = ASSERTION.rpartition(".")[2]
    said = f"Not authorized: {signature} of {ASSERTION}"
    answering.answer = answers(Told(), Told(403, sts_error("AccessDenied", said)))
    told = str(refusal(lambda: store.get("a")))
    for words in ("https://issuer.example", "system:serviceaccount:team-a:trainer", "sts.amazonaws.com", ROLE):
        assert words in told
    assert "Not authorized" in told
    assert signature not in told
    assert ASSERTION[:40] not in told


def test_plain_http_is_refused_whoever_allows_it(answering: Answering, trail: io.StringIO) -> None:
    minter = Minter()
    place = S3Place("logs", None, "eu-west-1", ROLE, "http://localhost:1", "http://localhost:1")
    store = S3LogStore(place, "team-a", assertion=minter, allow=lambda url: url, log=AuditLog(trail))
    assert refusal(lambda: store.get("a")).reason == "HostNotAllowed"


def test_an_answer_without_credentials_is_no_answer(answering: Answering, store: S3LogStore) -> None:
    for body in (b"", b"<html>", GRANTED.replace(b"2126-10-24T23:00:23Z", b"soon"), GRANTED.replace(b"Key>", b"K>")):
        answering.answer = answers(Told(), Told(200, body))
        assert isinstance(refusal(lambda: store.get("a")), Unreachable)


def test_an_ended_session_is_replaced_once_and_no_more(answering: Answering, store: S3LogStore) -> None:
    ended = [Told(400, s3_error("ExpiredToken")), Told(200, b"kept")]
    answering.answer = lambda asked: Told(200, GRANTED) if asked.path == "/sts/" else ended.pop(0)
    assert store.get("a") == b"kept"
    answering.answer = answers(Told(400, s3_error("ExpiredToken")))
    asked = len(answering.asked)
    assert isinstance(refusal(lambda: store.get("a")), Unauthenticated)
    assert [each.method for each in answering.asked[asked:]] == ["GET", "POST", "GET"]


def test_a_store_that_hangs_is_given_up_in_time(answering: Answering, store: S3LogStore) -> None:
    over = threading.Event()

    def hang(asked: Asked) -> Told:
        if asked.path != "/sts/":
            over.wait(20)
        return Told(200, GRANTED)

    answering.answer = hang
    began = time.monotonic()
    try:
        assert isinstance(refusal(lambda: store.get("a")), Unreachable)
    finally:
        over.set()
    assert time.monotonic() - began < 6


def test_nothing_that_was_sent_or_kept_is_on_record(
    answering: Answering, store: S3LogStore, trail: io.StringIO
) -> None:
    answering.answer = answers(Told(200, b"printed by the run"))
    store.put("a", b"printed by the run", "text/plain")
    assert store.get("a") == b"printed by the run"
    for secret in (ASSERTION, "secret-key", "session-token", "printed by the run"):
        assert secret not in trail.getvalue()
