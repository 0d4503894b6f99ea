"""What the operator's Azure ML connection really does on the wire, through the unmodified vendor SDKs."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.wire.azureml import (
    TokensFor,
    accounts,
    attempt,
    cloud,
    connect,
    connection,
    data_scientist,
    ended,
    hasty,
    request_for,
    target,
    tokens_for,
)
from trainyard.core.errors import Denied, Missing, Refused, TrainyardError, Unreachable
from trainyard.core.remote import End, Stage
from trainyard.core.snapshot import Target
from trainyard.identity.clouds import Cloud
from trainyard.platforms.azureml.connection import CLOCK_MARGIN, AzureMLConnection
from trainyard.platforms.azureml.putting import put_version
from trainyard.platforms.azureml.translate import translate
from trainyard.platforms.base import START_WITHIN, Request, Wanted
from trainyard.platforms.limits import QuotaReached
from trainyard_sandbox.client import SandboxControl

__all__ = [
    "accounts",
    "cloud",
    "connect",
    "connection",
    "data_scientist",
    "hasty",
    "request_for",
    "target",
    "tokens_for",
]

JOBS = ".*/jobs/[^/]+"
LITERAL = {"jobInputType": "literal", "value": "4"}


def test_whoami_tells_of_the_workspace(
    connection: AzureMLConnection, data_scientist: str, control: SandboxControl
) -> None:
    account = connection.whoami()
    assert account.principal == data_scientist
    assert account.details is not None
    assert account.details.region == control.address.azure.region
    assert account.details.default_datastore == "workspaceblobstore"
    assert (account.details.tracking_uri or "").startswith("azureml://")


def test_a_workspace_whose_services_can_not_be_asked_does_not_pass_for_one_that_works(
    connection: AzureMLConnection, control: SandboxControl
) -> None:
    control.add_fault("status", ".*discovery.*", status=503)
    with pytest.raises(Unreachable):
        connection.whoami()
    assert connection.whoami().details is not None


def test_a_submitted_attempt_runs_with_its_arguments_and_variables(
    connection: AzureMLConnection, request_for: Callable[..., Request], data_scientist: str
) -> None:
    source = (
        "import os, sys\n"
        "names = ('TRAINYARD_NAME', 'MLFLOW_RUN_ID', 'TRAINYARD_ATTEMPT')\n"
        "print(sys.argv[1:], *map(os.environ.get, names))\n"
        "raise SystemExit(3)\n"
    )
    request = request_for(
        source, entrypoint={"args": ["--depth=$(params.depth)", "$$(params.depth)"]}, params={"depth": "4"}
    )
    submitted = connection.submit(request)
    assert submitted.remote_id == submitted.mlflow_run_id == request.submission_token
    remote = ended(connection, submitted.remote_id)
    assert (remote.stage, remote.end) == (Stage.ENDED, End.CODE)
    assert remote.url is not None
    result = connection.collect(remote, submitted.mlflow_run_id, Wanted(log_characters=1000))
    assert f"['--depth=4', '$(params.depth)'] iris {submitted.mlflow_run_id} 1" in result.error
    assert "--depth=4" in result.logs[0].text


def test_submitting_twice_makes_one_job_and_one_code_asset(
    connection: AzureMLConnection, request_for: Callable[..., Request], control: SandboxControl
) -> None:
    made = control.azure_created_total()
    request = request_for(f"print({time.time_ns()})")
    control.clear_requests()
    first, second = connection.submit(request), connection.submit(request)
    assert (first.remote_id, first.mlflow_run_id) == (second.remote_id, second.mlflow_run_id)
    assert control.azure_created_total() == made + 1
    assert len(control.requests(path=f".*/{request.code_folder}", method="PUT")) == 1


def test_an_answer_lost_after_the_effect_does_not_make_a_second_job(
    connection: AzureMLConnection, request_for: Callable[..., Request], control: SandboxControl
) -> None:
    made = control.azure_created_total()
    request = request_for()
    control.add_fault("reset", JOBS, method="PUT", after_effect=True)
    with pytest.raises(Unreachable):
        connection.submit(request)
    assert control.azure_created_total() == made + 1
    ended(connection, connection.submit(request).remote_id)
    assert control.azure_created_total() == made + 1
    assert control.azure_job(request.submission_token)["paid"] is True


UPLOAD_STEPS = [
    (".*/startPendingUpload", "POST"),
    ("/blob/.*", "PUT"),
    (".*/codes/[^/]+/versions/1", "PUT"),
    (".*/environments/.*", "PUT"),
]


@pytest.mark.parametrize("after_effect", [False, True])
@pytest.mark.parametrize(("path", "method"), UPLOAD_STEPS)
def test_an_upload_that_was_broken_off_anywhere_is_finished_by_the_next_one(
    connection: AzureMLConnection,
    request_for: Callable[..., Request],
    control: SandboxControl,
    path: str,
    method: str,
    after_effect: bool,
) -> None:
    request = request_for(f"print('whole {path} {after_effect} {time.time_ns()}')")
    control.add_fault("reset", path, method=method, after_effect=after_effect)
    with pytest.raises(Unreachable):
        connection.submit(request)
    with pytest.raises(Missing):
        connection.get(request.submission_token)
    remote = ended(connection, connection.submit(request).remote_id)
    assert remote.end is End.SUCCEEDED
    result = connection.collect(remote, None, Wanted(log_characters=1000))
    assert "whole" in result.logs[0].text


def test_two_attempts_of_one_source_at_the_same_time_both_start(
    connection: AzureMLConnection, request_for: Callable[..., Request]
) -> None:
    source = f"print({time.time_ns()})"
    requests = [request_for(source) for _ in range(4)]
    assert len({request.code_folder for request in requests}) == 1
    found: list[object] = []

    def submit(request: Request) -> None:
        try:
            found.append(connection.submit(request).remote_id)
        except TrainyardError as error:
            found.append(error)

    threads = [threading.Thread(target=submit, args=(request,)) for request in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, found)) == sorted(request.submission_token for request in requests)


def test_the_name_of_somebody_elses_job_is_not_taken_over(
    connection: AzureMLConnection, request_for: Callable[..., Request], control: SandboxControl
) -> None:
    request = request_for()
    properties = request.body["properties"]
    foreign = {**properties, "command": "sleep 60", "tags": {"owner": "mallory"}}
    del foreign["codeId"], foreign["environmentId"]
    environment = request.environment
    assert environment is not None
    connection._uploads.environment(environment)
    foreign["environmentId"] = properties["environmentId"]
    body = {"properties": foreign}
    connection._client.do("PUT", f"/jobs/{request.submission_token}", put_version(body), body=body)
    with pytest.raises(Refused) as raised:
        connection.submit(request)
    assert raised.value.reason == "RemoteNameTaken"
    assert connection.locate(request.label, datetime.now(UTC)) is None
    swept = [run.remote_id for page in connection.sweep(datetime.now(UTC)) for run in page]
    assert request.submission_token not in swept
    connection.retire(request.submission_token)
    control.end_azure_job(request.submission_token, status="Completed")
    connection.retire(request.submission_token)
    assert connection._jobs.get(request.submission_token)["properties"]["isArchived"] is False


def test_a_job_that_appears_between_the_look_and_the_put_is_judged_by_its_tag(
    connection: AzureMLConnection, request_for: Callable[..., Request], control: SandboxControl
) -> None:
    request = request_for()
    connection.submit(request)
    look, looks = connection._jobs.ours, []

    def blind_once(token: str) -> Any:
        looks.append(token)
        return None if len(looks) == 1 else look(token)

    connection._jobs.ours = blind_once  # type: ignore[method-assign]
    other = replace(request, body={"properties": {**request.body["properties"], "command": "echo other"}})
    assert connection.submit(other).remote_id == request.submission_token
    assert len(looks) == 2


def test_a_job_that_is_made_but_not_shown_yet_is_no_refusal_of_the_run(
    connection: AzureMLConnection, request_for: Callable[..., Request]
) -> None:
    request, look = request_for(), connection._jobs.ours
    connection.submit(request)
    other = replace(request, body={"properties": {**request.body["properties"], "command": "echo other"}})
    connection._jobs.ours = lambda token: None  # type: ignore[method-assign]
    with pytest.raises(Unreachable):
        connection.submit(other)
    connection._jobs.ours = look  # type: ignore[method-assign]
    assert connection.submit(other).remote_id == request.submission_token


def test_nothing_is_started_late_not_even_when_its_token_was_refused(
    connection: AzureMLConnection,
    request_for: Callable[..., Request],
    control: SandboxControl,
    tokens_for: TokensFor,
    cloud: Cloud,
) -> None:
    made = control.azure_created_total()
    request, tokens, ahead = request_for(), tokens_for(cloud.arm_scope), 0.0
    forget = tokens.forget

    def much_later() -> None:
        nonlocal ahead
        ahead = START_WITHIN
        forget()

    tokens.forget = much_later  # type: ignore[method-assign]
    connection._client._arm._clock = lambda: time.monotonic() + ahead
    control.clear_requests()
    control.add_fault("status", JOBS, method="PUT", status=401)
    with pytest.raises(Unreachable):
        connection.submit(request)
    assert (len(control.requests(path=JOBS, method="PUT")), control.azure_created_total()) == (1, made)
    ahead = 0.0
    ended(connection, connection.submit(request).remote_id)
    assert control.azure_created_total() == made + 1


def test_a_copied_job_runs_again_with_other_parameters_under_its_own_name(
    connection: AzureMLConnection, request_for: Callable[..., Request], target: Target, control: SandboxControl
) -> None:
    first = request_for("import sys\nprint('told', sys.argv[1:])", azureML={"inputs": {"depth": LITERAL}})
    body = {"properties": {**first.body["properties"]}}
    body["properties"]["command"] += " ${{inputs.depth}}"
    connection.submit(replace(first, body=body))
    ended(connection, first.submission_token)
    spec: dict[str, Any] = {
        "code": None,
        "compute": None,
        "jobRef": {"name": first.submission_token, "parameters": {"depth": "7"}},
    }
    again = translate(attempt(control, target, {}, **spec))
    remote = ended(connection, connection.submit(again).remote_id)
    result = connection.collect(remote, None, Wanted(log_characters=1000))
    assert remote.end is End.SUCCEEDED
    assert "told ['7']" in result.logs[0].text
    missing = translate(attempt(control, target, {}, **{**spec, "jobRef": {"name": "no-such-job"}}))
    with pytest.raises(Missing):
        connection.submit(missing)


def test_a_deleted_job_is_gone(
    connection: AzureMLConnection, request_for: Callable[..., Request], control: SandboxControl
) -> None:
    submitted = connection.submit(request_for())
    ended(connection, submitted.remote_id)
    control.delete_azure_job(submitted.remote_id)
    for ask in (connection.get, connection.cancel, connection.retire):
        with pytest.raises(Missing):
            ask(submitted.remote_id)


def test_a_lost_job_is_found_by_its_label_and_nothing_else_is(
    connection: AzureMLConnection, request_for: Callable[..., Request]
) -> None:
    request, other = request_for(), request_for()
    submitted = connection.submit(request)
    found = connection.locate(request.label, datetime.now(UTC))
    assert found is not None
    assert (found.remote_id, found.mlflow_run_id) == (submitted.remote_id, submitted.mlflow_run_id)
    assert connection.locate(other.label, datetime.now(UTC)) is None


@pytest.mark.parametrize("step", ["startPendingUpload", "codes/[^/]+/versions/1", "environments/.*"])
def test_only_a_refused_job_is_a_verdict_on_the_run(
    connection: AzureMLConnection, request_for: Callable[..., Request], control: SandboxControl, step: str
) -> None:
    request = request_for(f"print({step!r}, {time.time_ns()})")
    control.add_fault("status", f".*/{step}", method="POST" if "Pending" in step else "PUT", status=400)
    with pytest.raises(Denied):
        connection.submit(request)
    control.add_fault("status", JOBS, method="PUT", status=400)
    with pytest.raises(Refused):
        connection.submit(request)


def test_a_limit_on_submissions_holds_up_submissions_only(
    connection: AzureMLConnection, request_for: Callable[..., Request], control: SandboxControl
) -> None:
    control.add_fault("status", JOBS, method="PUT", status=429, retry_after="9")
    with pytest.raises(QuotaReached) as raised:
        connection.submit(request_for())
    assert raised.value.retry_after == 9


def test_a_sweep_shows_every_job_of_ours_and_stops_at_older_ones(
    connection: AzureMLConnection, request_for: Callable[..., Request], control: SandboxControl
) -> None:
    for _ in range(3):
        connection.submit(request_for())
    time.sleep(0.01)
    since = datetime.now(UTC) + CLOCK_MARGIN
    made = {connection.submit(request_for()).remote_id for _ in range(31)}
    control.clear_requests()
    pages = list(connection.sweep(since))
    assert {run.remote_id for page in pages for run in page} == made
    assert len(pages) == len(control.requests(path=".*/jobs", method="GET")) == 2


def test_a_live_job_is_cancelled_and_cancelling_again_is_fine(
    connection: AzureMLConnection, request_for: Callable[..., Request]
) -> None:
    submitted = connection.submit(request_for("import time\ntime.sleep(60)"))
    threads = threading.active_count()
    connection.cancel(submitted.remote_id)
    assert threading.active_count() == threads
    remote = ended(connection, submitted.remote_id)
    assert remote.end is End.CANCELLED
    connection.cancel(submitted.remote_id)


def test_a_job_that_outlives_its_timeout_has_timed_out(
    connection: AzureMLConnection, request_for: Callable[..., Request]
) -> None:
    submitted = connection.submit(request_for("import time\ntime.sleep(60)", timeout_seconds=1))
    remote = ended(connection, submitted.remote_id)
    assert connection.collect(remote, None, Wanted()).end is End.TIMED_OUT


def test_an_unknown_state_is_unknown_and_never_done(
    connection: AzureMLConnection, request_for: Callable[..., Request], control: SandboxControl
) -> None:
    submitted = connection.submit(request_for())
    ended(connection, submitted.remote_id)
    control.set_azure_job_state(submitted.remote_id, "Hibernating")
    remote = connection.get(submitted.remote_id)
    assert (remote.stage, remote.end, remote.state) == (Stage.UNKNOWN, None, "Hibernating")
    swept = [run for page in connection.sweep(datetime.now(UTC)) for run in page]
    assert [run.stage for run in swept if run.remote_id == submitted.remote_id] == [Stage.UNKNOWN]


@pytest.mark.parametrize("by_history", [True, False])
def test_an_ended_job_is_taken_out_of_the_lists_and_a_live_one_is_not(
    connection: AzureMLConnection, request_for: Callable[..., Request], control: SandboxControl, by_history: bool
) -> None:
    submitted = connection.submit(request_for("import time\ntime.sleep(60)"))

    def listed() -> bool:
        return submitted.remote_id in {run.remote_id for page in connection.sweep(datetime.now(UTC)) for run in page}

    connection.retire(submitted.remote_id)
    assert listed()
    connection.cancel(submitted.remote_id)
    ended(connection, submitted.remote_id)
    if not by_history:
        control.add_fault("status", "/history/.*", method="PATCH", status=400)
    connection.retire(submitted.remote_id)
    assert not listed()
    connection.retire(submitted.remote_id)
    assert connection.get(submitted.remote_id).end is End.CANCELLED


def test_uploaded_code_is_not_said_to_be_removed(
    connection: AzureMLConnection, request_for: Callable[..., Request], control: SandboxControl
) -> None:
    request = request_for()
    connection.submit(request)
    control.clear_requests()
    assert connection.clean(request.code_folder) is False
    assert control.requests() == []
