"""What the operator's Databricks connection really does on the wire, through the unmodified SDK."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.wire.conftest import Accounts, Clock, Trail
from tests.wire.jobs import job
from trainyard.core.errors import (
    Denied,
    Missing,
    PlatformError,
    Refused,
    SubmissionDeleted,
    Throttled,
    Unauthenticated,
    Unreachable,
)
from trainyard.core.remote import End, RemoteRun, Stage
from trainyard.core.snapshot import Target
from trainyard.identity.base import AccessToken, TokenSource
from trainyard.identity.cached import FORGET_HOLDS
from trainyard.platforms.base import START_WITHIN, ModelWanted, Request, Wanted
from trainyard.platforms.databricks.connection import DatabricksConnection
from trainyard.platforms.databricks.translate import translate
from trainyard.platforms.limits import QuotaReached
from trainyard_sandbox.client import SandboxControl

SUBMIT = "/api/2.2/jobs/runs/submit"


class Nobody:
    """Tokens for a client that sends nothing."""

    def token(self) -> AccessToken:
        raise AssertionError("nothing is sent")

    def describe(self) -> Mapping[str, str]:
        return {}

    def forget(self) -> None:
        """Nothing to forget."""


@pytest.fixture
def request_for(control: SandboxControl, principal: str) -> Any:
    def build(source: str = "print('hello')", **fields: Any) -> Request:
        uid = f"{time.time_ns():032x}"
        return translate(job(source, host=control.address.host, principal=principal, **({"uid": uid} | fields)))

    return build


def ended(connection: DatabricksConnection, remote_id: str, seconds: float = 60) -> RemoteRun:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        remote = connection.get(remote_id)
        if remote.stage is Stage.ENDED:
            return remote
        time.sleep(0.05)
    raise AssertionError(f"still {remote.state} after {seconds} s")


def test_whoami_names_the_principal_and_the_workspace(
    connection: DatabricksConnection, principal: str, control: SandboxControl
) -> None:
    account = connection.whoami()
    assert account.principal == principal
    assert account.workspace_id in (None, control.address.workspace_id)


@pytest.mark.parametrize("compute", ["small", "cluster"])
def test_a_submitted_attempt_runs_with_its_arguments_and_variables(
    connection: DatabricksConnection, request_for: Any, principal: str, compute: str
) -> None:
    source = (
        "import os, sys\n"
        "names = ('TRAINYARD_NAME', 'MLFLOW_RUN_ID', 'TRAINYARD_ATTEMPT')\n"
        "print(sys.argv[1:], *map(os.environ.get, names))\n"
        "raise SystemExit(3)\n"
    )
    request = request_for(
        source,
        compute={"class": compute},
        entrypoint={"args": ["--depth=$(params.depth)", "$$(params.depth)"]},
        params={"depth": "4"},
    )
    submitted = connection.submit(request)
    remote = ended(connection, submitted.remote_id)
    assert (remote.stage, remote.end) == (Stage.ENDED, End.CODE)
    assert remote.ran_as == principal
    assert remote.url is not None
    error = connection.collect(remote, submitted.mlflow_run_id, Wanted()).error
    assert f"['--depth=4', '$(params.depth)'] iris {submitted.mlflow_run_id} 1" in error


def test_submitting_twice_starts_one_run_and_one_mlflow_run(
    connection: DatabricksConnection, request_for: Any, control: SandboxControl
) -> None:
    started = len(control.runs())
    request = request_for()
    first, second = connection.submit(request), connection.submit(request)
    assert (first.remote_id, first.mlflow_run_id) == (second.remote_id, second.mlflow_run_id)
    assert len(control.runs()) == started + 1


def test_an_answer_lost_after_the_effect_does_not_start_a_second_run(
    connection: DatabricksConnection, request_for: Any, control: SandboxControl
) -> None:
    started = len(control.runs())
    request = request_for()
    control.add_fault("reset", SUBMIT, after_effect=True)
    with pytest.raises(Unreachable):
        connection.submit(request)
    assert len(control.runs()) == started + 1
    ended(connection, connection.submit(request).remote_id)
    assert [run["paid"] for run in control.runs()[started:]] == [True]


def test_nothing_is_started_late_not_even_when_its_token_was_refused(
    connection: DatabricksConnection, request_for: Any, control: SandboxControl, tokens: TokenSource
) -> None:
    started = len(control.runs())
    request, forget, ahead = request_for(), tokens.forget, 0.0

    def much_later() -> None:
        nonlocal ahead
        ahead = START_WITHIN
        forget()

    tokens.forget = much_later  # type: ignore[method-assign]
    connection._client._clock = lambda: time.monotonic() + ahead
    control.clear_requests()
    control.add_fault("status", SUBMIT, status=401)
    with pytest.raises(Unreachable):
        connection.submit(request)
    assert (len(control.requests(path=SUBMIT)), len(control.runs())) == (1, started)
    ahead = 0.0
    ended(connection, connection.submit(request).remote_id)
    assert len(control.runs()) == started + 1


def test_the_sdk_does_not_repeat_a_request_by_itself(
    connection: DatabricksConnection, request_for: Any, control: SandboxControl
) -> None:
    connection.whoami()
    for kind, fields in [("reset", {}), ("status", {"status": 429, "retry_after": "1"}), ("status", {"status": 503})]:
        control.clear_requests()
        control.add_fault(kind, ".*/scim/v2/Me", **fields)
        began = time.monotonic()
        with pytest.raises(Unreachable):
            connection.whoami()
        assert time.monotonic() - began < 1
        assert len(control.requests(path=".*/scim/v2/Me")) == 1


def test_a_token_whose_run_was_deleted_is_told_apart(
    connection: DatabricksConnection, request_for: Any, control: SandboxControl
) -> None:
    request = request_for()
    submitted = connection.submit(request)
    control.delete_run(submitted.remote_id)
    with pytest.raises(SubmissionDeleted):
        connection.submit(request)
    with pytest.raises(Missing):
        connection.get(submitted.remote_id)
    with pytest.raises(Missing):
        connection.cancel(submitted.remote_id)


@pytest.mark.parametrize("compute", ["small", "cluster"])
def test_a_lost_run_is_found_by_its_label_and_nothing_else_is(
    connection: DatabricksConnection, request_for: Any, compute: str
) -> None:
    request, other = request_for(compute={"class": compute}), request_for()
    submitted = connection.submit(request)
    since = datetime.now(UTC) - timedelta(minutes=1)
    found = connection.locate(request.label, since)
    assert found is not None
    assert found.remote_id == submitted.remote_id
    assert found.mlflow_run_id == submitted.mlflow_run_id is not None
    assert connection.locate(other.label, since) is None


def test_a_lost_run_is_found_though_the_platforms_clock_is_hours_behind(
    connection: DatabricksConnection, request_for: Any
) -> None:
    request = request_for()
    submitted = connection.submit(request)
    found = connection.locate(request.label, datetime.now(UTC) + timedelta(hours=23))
    assert found is not None
    assert found.remote_id == submitted.remote_id


def test_of_two_mlflow_runs_of_one_attempt_the_older_is_taken(
    connection: DatabricksConnection, request_for: Any
) -> None:
    request = request_for()
    experiment_id = connection._mlflow.experiment(request.experiment)
    tags = [{"key": key, "value": value} for key, value in request.tags.items()]
    made = []
    for start in (2_000, 1_000, 3_000):
        body = {"experiment_id": experiment_id, "start_time": start, "tags": tags}
        made.append(connection._client.do("POST", "/api/2.0/mlflow/runs/create", body=body)["run"]["info"]["run_id"])
    assert connection.submit(request).mlflow_run_id == made[1]


PREPARATION = [
    "/api/2.0/workspace/get-status",
    "/api/2.0/workspace/import",
    "/api/2.0/mlflow/experiments/get-by-name",
    "/api/2.0/mlflow/runs/search",
    "/api/2.0/mlflow/runs/create",
]


@pytest.mark.parametrize("path", PREPARATION)
def test_only_a_refused_submission_is_a_verdict_on_the_run(
    connection: DatabricksConnection, request_for: Any, control: SandboxControl, path: str
) -> None:
    request = request_for(f"print({path!r})")
    control.add_fault("status", path, status=400)
    with pytest.raises(Denied) as raised:
        connection.submit(request)
    assert raised.value.reason == "RequestRefused"
    control.add_fault("status", SUBMIT, status=400)
    with pytest.raises(Refused):
        connection.submit(request)


def test_a_host_without_the_api_is_no_verdict_on_the_run_but_one_on_the_workspace() -> None:
    connection = DatabricksConnection(
        Target("databricks", "https://127.0.0.1:1", "app", "federated", "trainer"), Nobody(), Trail().log
    )
    nowhere = Refused("no such API", reason="EndpointNotFound")

    def refuse(_: object) -> None:
        raise nowhere

    connection._client.call = refuse  # type: ignore[method-assign, assignment]
    asked: list[Callable[[], object]] = [
        lambda: connection.get("1"),
        lambda: connection.cancel("1"),
        lambda: connection.locate("x", datetime.now(UTC)),
        lambda: list(connection.sweep(datetime.now(UTC))),
        lambda: connection.submit(translate(job())),
        lambda: connection.collect(RemoteRun("1", Stage.ENDED, "x", End.CODE), None, Wanted()),
    ]
    for ask in asked:
        with pytest.raises(Unreachable) as raised:
            ask()
        assert raised.value.reason == "EndpointNotFound"
    with pytest.raises(Refused):
        connection.whoami()


def test_too_many_runs_hold_up_submissions_only(
    connection: DatabricksConnection, request_for: Any, control: SandboxControl
) -> None:
    control.add_fault("status", SUBMIT, status=429, retry_after="9")
    with pytest.raises(QuotaReached) as raised:
        connection.submit(request_for())
    assert raised.value.retry_after == 9


def test_a_sweep_shows_every_run_over_several_pages(connection: DatabricksConnection, request_for: Any) -> None:
    since = datetime.now(UTC)
    made = {connection.submit(request_for()).remote_id for _ in range(27)}
    pages = list(connection.sweep(since))
    assert max(len(page) for page in pages) <= 25
    assert len(pages) >= 2
    assert made <= {remote.remote_id for page in pages for remote in page}


def test_a_live_run_is_cancelled_and_cancelling_again_is_fine(
    connection: DatabricksConnection, request_for: Any
) -> None:
    submitted = connection.submit(request_for("import time\ntime.sleep(60)"))
    connection.cancel(submitted.remote_id)
    remote = ended(connection, submitted.remote_id)
    assert remote.end is End.CANCELLED
    connection.cancel(submitted.remote_id)


def test_a_run_that_outlives_its_timeout_has_timed_out(connection: DatabricksConnection, request_for: Any) -> None:
    submitted = connection.submit(request_for("import time\ntime.sleep(60)", timeout_seconds=1))
    assert ended(connection, submitted.remote_id).end is End.TIMED_OUT


def test_an_unknown_state_is_unknown_and_never_done(
    connection: DatabricksConnection, request_for: Any, control: SandboxControl
) -> None:
    submitted = connection.submit(request_for())
    ended(connection, submitted.remote_id)
    control.show_state(submitted.remote_id, "HIBERNATING")
    remote = connection.get(submitted.remote_id)
    assert (remote.stage, remote.end) == (Stage.UNKNOWN, None)
    assert "HIBERNATING" in remote.state
    swept = [
        run for page in connection.sweep(datetime.now(UTC)) for run in page if run.remote_id == submitted.remote_id
    ]
    assert [run.stage for run in swept] == [Stage.UNKNOWN]


def test_a_training_leaves_metrics_and_its_model_version_with_alias_and_tags(
    connection: DatabricksConnection, request_for: Any, control: SandboxControl, principal: str
) -> None:
    for securable, privileges in {
        "main": ["USE_CATALOG"],
        "main.ml": ["USE_SCHEMA", "CREATE_MODEL", "APPLY_TAG"],
    }.items():
        control.grant(principal, securable, *privileges)
    source = (
        "import os, mlflow, numpy as np\n"
        "from sklearn.linear_model import LinearRegression\n"
        "x, y = np.array([[1.0], [2.0]]), np.array([1.0, 2.0])\n"
        "with mlflow.start_run():\n"
        "    mlflow.log_metric('accuracy', 0.75)\n"
        "    mlflow.log_metric('loss', float('nan'))\n"
        "    mlflow.sklearn.log_model(LinearRegression().fit(x, y), 'model', input_example=x,\n"
        "        registered_model_name=os.environ['TRAINYARD_MODEL_NAME'])\n"
    )
    request = request_for(source, model={"name": "wire"})
    submitted = connection.submit(request)
    remote = ended(connection, submitted.remote_id, 120)
    wanted = ModelWanted("main.ml.wire", "challenger", {"data": "two points"})
    result = connection.collect(remote, submitted.mlflow_run_id, Wanted(wanted))
    assert (remote.end, result.error, result.shortfall) == (End.SUCCEEDED, "", None)
    assert result.metrics == {"accuracy": "0.75", "loss": "NaN"}
    assert result.model is not None
    assert (result.model.name, result.model.alias) == ("main.ml.wire", "challenger")
    assert connection.collect(remote, submitted.mlflow_run_id, Wanted(wanted)) == result


def test_a_training_that_registers_nothing_falls_short(connection: DatabricksConnection, request_for: Any) -> None:
    submitted = connection.submit(request_for())
    remote = ended(connection, submitted.remote_id)
    result = connection.collect(remote, submitted.mlflow_run_id, Wanted(ModelWanted("main.ml.nothing", None, {})))
    assert result.model is None
    assert result.shortfall is not None


def test_an_mlflow_run_that_no_code_ever_closed_is_closed(
    connection: DatabricksConnection, request_for: Any, control: SandboxControl
) -> None:
    submitted = connection.submit(request_for("raise SystemExit(1)"))
    remote = ended(connection, submitted.remote_id)
    connection.collect(remote, submitted.mlflow_run_id, Wanted())
    control.clear_requests()
    connection.collect(remote, submitted.mlflow_run_id, Wanted())
    assert not control.requests(path=".*/runs/update")


FAULTS: list[tuple[str, dict[str, Any], type[PlatformError], str]] = [
    ("status", {"status": 429, "retry_after": "7"}, Throttled, "PlatformThrottled"),
    ("status", {"status": 500}, Unreachable, "PlatformUnreachable"),
    ("status", {"status": 503}, Unreachable, "PlatformUnreachable"),
    ("status", {"status": 504}, Unreachable, "PlatformUnreachable"),
    ("status", {"status": 403}, Denied, "PermissionDenied"),
    ("status", {"status": 400}, Refused, "RequestRefused"),
    ("status", {"status": 404}, Missing, "NotFound"),
    ("reset", {}, Unreachable, "PlatformUnreachable"),
    ("reset", {"after_effect": True}, Unreachable, "PlatformUnreachable"),
    ("hang", {}, Unreachable, "PlatformUnreachable"),
    ("slow_body", {"seconds": 30.0}, Unreachable, "PlatformUnreachable"),
    ("malformed_json", {}, Unreachable, "PlatformAnswerMalformed"),
    ("redirect", {"location": "https://evil.example/"}, Unreachable, "RedirectRefused"),
]


@pytest.mark.parametrize(("kind", "fields", "error", "reason"), FAULTS)
def test_each_fault_is_its_own_error_in_bounded_time(
    hasty: DatabricksConnection,
    control: SandboxControl,
    kind: str,
    fields: dict[str, Any],
    error: type[PlatformError],
    reason: str,
) -> None:
    hasty.whoami()
    control.add_fault(kind, "/api/2.2/jobs/runs/get", **fields)
    began = time.monotonic()
    with pytest.raises(PlatformError) as raised:
        hasty.get("1")
    assert time.monotonic() - began < 5
    assert (type(raised.value), raised.value.reason) == (error, reason)
    if isinstance(raised.value, Throttled):
        assert raised.value.retry_after == 7


def test_an_expired_token_is_replaced_once_and_the_request_made_again(
    connection: DatabricksConnection, control: SandboxControl, principal: str, accounts: Accounts, clock: Clock
) -> None:
    connection.whoami()
    control.expire_tokens(principal)
    assert connection.whoami().principal == principal
    assert len(accounts.minted) == 2
    clock.ahead = FORGET_HOLDS
    control.add_fault("status", ".*/scim/v2/Me", status=401, times=0)
    with pytest.raises(Unauthenticated):
        connection.whoami()
    assert len(accounts.minted) == 3


def test_every_request_has_a_record_before_and_after_and_none_has_a_token(
    connection: DatabricksConnection, request_for: Any, control: SandboxControl, audit: Trail, accounts: Accounts
) -> None:
    control.clear_requests()
    submitted = connection.submit(request_for())
    asked = [record for record in audit.records() if record["event"] == "request"]
    answered = {record["id"]: record for record in audit.records() if record["event"] == "response"}
    assert sorted((r["method"], r["path"]) for r in asked) == sorted(
        (r["method"], r["path"]) for r in control.requests()
    )
    assert {record["id"] for record in asked} == set(answered)
    assert all(record["service_account"] == "team-a/trainer" for record in asked)
    submission = next(record for record in asked if record["path"] == SUBMIT)
    assert submission["assertion_jti"] == "jti-0"
    assert answered[submission["id"]]["remote_id"] == submitted.remote_id
    secrets = [*accounts.minted, *(token["value"] for token in control.tokens())]
    assert not [secret for secret in secrets if secret in audit.stream.getvalue()]
