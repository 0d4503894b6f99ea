"""A workspace's logDestination, from the resource to the bucket: moto's server, which checks role and signature."""

import io
import json
import sys
from collections.abc import Iterator

import pytest

from tests.unit.test_code_finder import run
from tests.unit.test_destinations import Accounts
from tests.wire.aws import Aws, serve_aws
from tests.wire.test_log_s3 import IRELAND, RIGHTS, ROLE, TRUST
from trainyard.api.workspace import LogDestination
from trainyard.audit.log import AuditLog
from trainyard.controllers.destinations import Destinations
from trainyard.controllers.settings import StorageEndpoints
from trainyard.core.errors import PlatformError
from trainyard.identity.base import ServiceAccountRef


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    with serve_aws(tmp_path_factory.mktemp("aws")) as server:
        server.call("s3", "create_bucket", Bucket="team-logs", CreateBucketConfiguration=IRELAND)
        server.call("iam", "create_role", RoleName="trainyard-logs", AssumeRolePolicyDocument=json.dumps(TRUST))
        server.call(
            "iam", "put_role_policy", RoleName="trainyard-logs", PolicyName="logs", PolicyDocument=json.dumps(RIGHTS)
        )
        yield server


@pytest.fixture
def aws(server: Aws, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.ca_file))
    server.enforce(True)
    yield server
    server.enforce(False)


def destination(bucket: str = "team-logs") -> LogDestination:
    s3 = {"bucket": bucket, "prefix": "trainyard", "region": "eu-west-1", "roleArn": ROLE}
    return LogDestination.model_validate({"s3": s3})


RUN = run({"inline": "x"}, commit="a" * 40)


def test_the_logs_of_two_attempts_lie_in_the_bucket_under_one_assumed_role(aws: Aws) -> None:
    accounts, trail = Accounts(), io.StringIO()
    made = Destinations(accounts, AuditLog(trail), StorageEndpoints(s3=aws.endpoint, sts=aws.endpoint))
    first = RUN.status.attempts[0]
    for number in (1, 2):
        keeping = made.keeping(RUN, first.model_copy(update={"number": number}), destination(), None)
        assert keeping is not None
        assert keeping("train", f"epoch {number}") == (
            f"s3://team-logs/trainyard/team/iris/iris/attempt-{number}/train.log"
        )
    assert accounts.minted == [(ServiceAccountRef("team", "trainer"), "sts.amazonaws.com")]
    aws.enforce(False)  # the test has no credentials of its own
    found = aws.call("s3", "list_objects_v2", Bucket="team-logs")["Contents"]
    assert [item["Key"] for item in found] == [
        f"trainyard/team/iris/iris/attempt-{number}/train.log" for number in (1, 2)
    ]
    records = [json.loads(line) for line in trail.getvalue().splitlines()]
    assert {record["method"] for record in records if record["event"] == "request"} == {"POST", "PUT"}


def test_a_bucket_that_may_not_be_written_is_told_by_its_field(aws: Aws) -> None:
    endpoints = StorageEndpoints(s3=aws.endpoint, sts=aws.endpoint)
    made = Destinations(Accounts(), AuditLog(sys.stderr), endpoints)
    keeping = made.keeping(RUN, RUN.status.attempts[0], destination("no-such-bucket"), None)
    assert keeping is not None
    for task in ("a", "b"):
        with pytest.raises(PlatformError, match=r"logDestination\.s3"):
            keeping(task, "text")
    assert keeping.failure is not None
