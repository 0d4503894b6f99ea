"""Logs in S3: the operator's own store against moto's server, with signatures and policies really checked."""

import base64
import io
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.wire.aws import Aws, serve_aws
from trainyard.audit.log import AuditLog
from trainyard.core.errors import Denied, IdentityError, Missing, Refused, TrainyardError
from trainyard.identity.hosts import HostPolicy
from trainyard.keeping.s3 import S3LogStore, S3Place

ROLE = "arn:aws:iam::123456789012:role/trainyard-logs"
CLAIMS = {"iss": "https://issuer.example", "sub": "system:serviceaccount:team-a:trainer", "aud": ["sts.amazonaws.com"]}
ASSERTION = ".".join(
    base64.urlsafe_b64encode(part).decode().rstrip("=")
    for part in (b'{"alg":"RS256"}', json.dumps(CLAIMS).encode(), b"a-signature-that-nobody-may-see")
)
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Federated": "*"}, "Action": "sts:AssumeRoleWithWebIdentity"}],
}
OBJECTS = ["s3:PutObject", "s3:GetObject", "s3:DeleteObject"]
RIGHTS = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": OBJECTS, "Resource": "arn:aws:s3:::team-logs/*"},
        {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "*"},
    ],
}


class Minter:
    """Mints assertions, and notes for whom."""

    def __init__(self) -> None:
        self.audiences: list[str] = []

    def __call__(self, audience: str) -> str:
        self.audiences.append(audience)
        return ASSERTION


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    with serve_aws(tmp_path_factory.mktemp("aws")) as server:
        server.call("s3", "create_bucket", Bucket="team-logs", CreateBucketConfiguration=IRELAND)
        server.call("s3", "create_bucket", Bucket="foreign", CreateBucketConfiguration=IRELAND)
        server.call("iam", "create_role", RoleName="trainyard-logs", AssumeRolePolicyDocument=json.dumps(TRUST))
        server.call(
            "iam",
            "put_role_policy",
            RoleName="trainyard-logs",
            PolicyName="logs",
            PolicyDocument=json.dumps(RIGHTS),
        )
        yield server


IRELAND = {"LocationConstraint": "eu-west-1"}


@pytest.fixture
def aws(server: Aws, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.ca_file))
    # What a chain of ambient credentials would find.
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ambient")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "ambient")
    server.enforce(True)
    yield server
    server.enforce(False)
    for item in server.call("s3", "list_objects_v2", Bucket="team-logs").get("Contents", []):
        server.call("s3", "delete_object", Bucket="team-logs", Key=item["Key"])


@pytest.fixture
def minter() -> Minter:
    return Minter()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def trail() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def storing(aws: Aws, minter: Minter, clock: Clock, trail: io.StringIO) -> Callable[..., S3LogStore]:
    """Makes a store of the server's, with what a test wants to be otherwise."""

    def make(allowed: str | None = None, **changes: Any) -> S3LogStore:
        place = {
            "bucket": "team-logs",
            "prefix": "runs/eu",
            "region": "eu-west-1",
            "role_arn": ROLE,
            "endpoint": aws.endpoint,
            "sts_endpoint": aws.endpoint,
        } | changes
        return S3LogStore(
            S3Place(**place),
            "team-a-trainer",
            assertion=minter,
            allow=HostPolicy([allowed or aws.endpoint.removeprefix("https://")], ()).check,
            log=AuditLog(trail),
            now=clock,
        )

    return make


@pytest.fixture
def store(storing: Callable[..., S3LogStore]) -> S3LogStore:
    return storing()


def refusal(act: Callable[[], object]) -> TrainyardError:
    with pytest.raises(TrainyardError) as raised:
        act()
    assert "nobody-may-see" not in str(raised.value)
    return raised.value


def test_what_is_put_is_what_boto3_finds_and_what_is_got(store: S3LogStore, aws: Aws, minter: Minter) -> None:
    uri = store.put("team-a/churn-7f3/1/train step+1=ü.log", b"epoch 1\n", "text/plain; charset=utf-8")
    assert uri == "s3://team-logs/runs/eu/team-a/churn-7f3/1/train step+1=ü.log"
    assert store.get("team-a/churn-7f3/1/train step+1=ü.log") == b"epoch 1\n"
    assert minter.audiences == ["sts.amazonaws.com"]
    aws.enforce(False)
    found = aws.call("s3", "get_object", Bucket="team-logs", Key=uri.removeprefix("s3://team-logs/"))
    assert found["Body"] == "epoch 1\n"
    assert found["ContentType"] == "text/plain; charset=utf-8"


def test_putting_again_replaces_and_an_empty_log_is_a_log(store: S3LogStore) -> None:
    store.put("a/log", b"one", "text/plain")
    store.put("a/log", b"", "text/plain")
    assert store.get("a/log") == b""
    assert store.get("a/other") is None


def test_deleting_takes_the_folder_and_nothing_beside_it(store: S3LogStore) -> None:
    for key in ("team-a/run/1/a b+c.log", "team-a/run/2/x", "team-a/run2/1/x", "team-a/ru"):
        store.put(key, b"1", "text/plain")
    store.delete("team-a/run")
    store.delete("team-a/run")
    left = {key: store.get(key) for key in ("team-a/run/1/a b+c.log", "team-a/run/2/x", "team-a/run2/1/x", "team-a/ru")}
    assert left == {"team-a/run/1/a b+c.log": None, "team-a/run/2/x": None, "team-a/run2/1/x": b"1", "team-a/ru": b"1"}


def test_a_bucket_that_is_not_there_is_named(storing: Callable[..., S3LogStore]) -> None:
    store = storing(bucket="team-logz")
    for act in (lambda: store.put("a", b"", "text/plain"), lambda: store.get("a"), lambda: store.delete("a")):
        error = refusal(act)
        assert isinstance(error, Missing | Denied)
        assert "team-logz" in str(error)


def test_a_missing_right_is_told_with_what_to_grant(storing: Callable[..., S3LogStore]) -> None:
    error = refusal(lambda: storing(bucket="foreign").put("a", b"", "text/plain"))
    assert isinstance(error, Denied)
    for told in (ROLE, "s3:PutObject", "arn:aws:s3:::foreign/runs/eu/*", "s3:ListBucket", "arn:aws:s3:::foreign;"):
        assert told in str(error)


def test_credentials_are_shared_and_renewed_before_they_end(store: S3LogStore, minter: Minter, clock: Clock) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: store.put(f"a/{number}", b"x", "text/plain"), range(8)))
    assert len(minter.audiences) == 1
    clock.ahead = timedelta(minutes=56)
    store.put("a/later", b"x", "text/plain")
    assert len(minter.audiences) == 2


def test_credentials_that_the_service_no_longer_knows_are_replaced(store: S3LogStore, aws: Aws, minter: Minter) -> None:
    store.put("a/log", b"one", "text/plain")
    forgotten = store._role.credentials()
    ended = type(forgotten)("ASIAQQQQQQQQENDED000", forgotten.secret, forgotten.token, forgotten.expires_at)
    store._role._kept._kept = ended
    assert store.get("a/log") == b"one"
    assert len(minter.audiences) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"allowed": "*.amazonaws.com"},
        {"sts_endpoint": "https://sts.evil.example"},
        {"endpoint": "https://s3.evil.example"},
        {"endpoint": None, "sts_endpoint": None},
    ],
)
def test_no_assertion_is_minted_for_a_host_that_is_not_allowed(
    storing: Callable[..., S3LogStore], minter: Minter, trail: io.StringIO, changes: dict[str, Any]
) -> None:
    error = refusal(lambda: storing(**changes).put("a", b"", "text/plain"))
    assert isinstance(error, IdentityError)
    assert error.reason == "HostNotAllowed"
    assert minter.audiences == []
    assert trail.getvalue() == ""


@pytest.mark.parametrize(
    ("changes", "url", "sts"),
    [
        ({}, "https://team-logs.s3.eu-west-1.amazonaws.com", "https://sts.eu-west-1.amazonaws.com"),
        ({"bucket": "a.b"}, "https://s3.eu-west-1.amazonaws.com/a.b", "https://sts.eu-west-1.amazonaws.com"),
        (
            {"region": "cn-north-1"},
            "https://team-logs.s3.cn-north-1.amazonaws.com.cn",
            "https://sts.cn-north-1.amazonaws.com.cn",
        ),
    ],
)
def test_each_bucket_is_asked_where_aws_has_it(changes: dict[str, str], url: str, sts: str) -> None:
    place = S3Place(**({"bucket": "team-logs", "prefix": None, "region": "eu-west-1", "role_arn": ROLE} | changes))  # type: ignore[arg-type]  # each is the text that the field takes
    assert (place.url, place.sts) == (url, sts)


@pytest.mark.parametrize(
    ("bucket", "region"),
    [("a@evil.example/", "eu-west-1"), ("logs", "eu-west-1.evil.example/"), ("logs", "evil"), ("LOGS", "eu-west-1")],
)
def test_a_place_that_would_lead_elsewhere_is_refused(bucket: str, region: str) -> None:
    with pytest.raises(Refused):
        S3Place(bucket, None, region, ROLE)


@pytest.mark.parametrize("key", ["../a", "a//b", "/a", "a/", "", "a/./b", "a\nb", "a\\b", "x" * 1025])
def test_a_key_that_means_something_else_elsewhere_is_a_mistake(storing: Callable[..., S3LogStore], key: str) -> None:
    store = storing()
    for act in (lambda: store.put(key, b"", "text/plain"), lambda: store.get(key), lambda: store.delete(key)):
        with pytest.raises(Refused, match="key"):
            act()


def test_every_request_is_on_record_and_none_has_a_secret(store: S3LogStore, trail: io.StringIO) -> None:
    store.put("a/log", b"what was printed", "text/plain")
    records = [json.loads(line) for line in trail.getvalue().splitlines()]
    assert [(r["method"], r["path"], r["principal"]) for r in records if r["event"] == "request"] == [
        ("POST", "/", ROLE),
        ("PUT", "/team-logs/runs/eu/a/log", ROLE),
    ]
    credentials = store._role.credentials()
    for secret in (ASSERTION, credentials.secret, credentials.token, "what was printed"):
        assert secret not in trail.getvalue()
        assert secret not in repr(credentials)


def test_the_test_server_checks_signatures(storing: Callable[..., S3LogStore]) -> None:
    """What the tests above rest on."""
    store = storing()
    real = store._role.credentials()
    store._role._kept._kept = type(real)(real.key_id, real.secret + "x", real.token, real.expires_at)
    assert isinstance(refusal(lambda: store.get("a")), TrainyardError)
