"""What every word of Databricks means, and that a word of tomorrow never means success."""

from datetime import UTC, datetime
from typing import Any

import pytest
from databricks.sdk.service import jobs

from trainyard.core.remote import End, Stage
from trainyard.platforms.databricks import states
from trainyard.platforms.databricks.states import remote_run, remote_tasks


def run(**parts: Any) -> dict[str, Any]:
    return {"run_id": 9007199254740993, **parts}


def ended(code: str | None = None, kind: str | None = None, result: str | None = None, life: str = "TERMINATED") -> Any:
    details = {key: value for key, value in (("code", code), ("type", kind)) if value}
    state = {"life_cycle_state": life} | ({"result_state": result} if result else {})
    return run(state=state, status={"state": "TERMINATED", "termination_details": details})


@pytest.mark.parametrize(
    "word", sorted({m.value for m in jobs.RunLifeCycleState} | {m.value for m in jobs.RunLifecycleStateV2State})
)
def test_every_state_of_the_sdk_is_known(word: str) -> None:
    assert word in states.LIFE_CYCLE


@pytest.mark.parametrize("word", sorted(m.value for m in jobs.TerminationCodeCode))
def test_every_termination_code_of_the_sdk_is_known(word: str) -> None:
    assert word in states.TERMINATION_CODE


@pytest.mark.parametrize("word", sorted(m.value for m in jobs.RunResultState))
def test_every_result_of_the_sdk_is_known(word: str) -> None:
    assert word in states.RESULT


@pytest.mark.parametrize("word", sorted({m.value for m in jobs.TerminationTypeType} - {"SUCCESS"}))
def test_every_termination_type_of_the_sdk_is_known(word: str) -> None:
    assert word in states.TERMINATION_TYPE


LIVE = [
    ("QUEUED", Stage.QUEUED),
    ("BLOCKED", Stage.QUEUED),
    ("WAITING", Stage.QUEUED),
    ("WAITING_FOR_RETRY", Stage.QUEUED),
    ("PENDING", Stage.BUILDING),
    ("RUNNING", Stage.RUNNING),
    ("TERMINATING", Stage.RUNNING),
    ("HIBERNATING", Stage.UNKNOWN),
]


@pytest.mark.parametrize(("word", "stage"), LIVE)
@pytest.mark.parametrize("shape", ["old", "new", "both"])
def test_a_live_state(word: str, stage: Stage, shape: str) -> None:
    parts: dict[str, Any] = {}
    if shape != "new":
        parts["state"] = {"life_cycle_state": word}
    if shape != "old":
        parts["status"] = {"state": word}
    remote = remote_run(run(**parts))
    assert (remote.stage, remote.end, remote.state) == (stage, None, remote.state)
    assert word in remote.state


ENDS = [
    (ended("SUCCESS", "SUCCESS", "SUCCESS"), End.SUCCEEDED),
    (ended("SUCCESS", "SUCCESS"), End.SUCCEEDED),
    (ended(result="SUCCESS"), End.SUCCEEDED),
    (ended("RUN_EXECUTION_ERROR", "CLIENT_ERROR", "FAILED"), End.CODE),
    (ended(result="FAILED"), End.CODE),
    # Whatever failed was provided for by a run_if: every leaf has succeeded.
    (ended("SUCCESS_WITH_FAILURES", "SUCCESS", "SUCCESS_WITH_FAILURES"), End.SUCCEEDED),
    (ended(result="SUCCESS_WITH_FAILURES"), End.SUCCEEDED),
    (ended("SUCCESS_WITH_FAILURES", "SUCCESS", "FAILED"), End.CODE),
    (ended("LIBRARY_INSTALLATION_ERROR", "CLIENT_ERROR", "FAILED"), End.PACKAGES),
    (ended("LIBRARY_INSTALLATION_ERROR", "CLIENT_ERROR", "FAILED", "INTERNAL_ERROR"), End.PACKAGES),
    (ended("USER_CANCELED", "SUCCESS", "CANCELED"), End.CANCELLED),
    (ended("CANCELED", "SUCCESS", "CANCELED"), End.CANCELLED),
    (ended("CANCELED", "SUCCESS", "TIMEDOUT"), End.TIMED_OUT),
    (ended(result="TIMEDOUT"), End.TIMED_OUT),
    (ended("UNAUTHORIZED_ERROR", "CLIENT_ERROR", "FAILED"), End.PERMISSION),
    (ended("BUDGET_POLICY_LIMIT_EXCEEDED", "CLIENT_ERROR", "FAILED"), End.QUOTA),
    (ended("INVALID_CLUSTER_REQUEST", "CLIENT_ERROR", "FAILED"), End.CONFIGURATION),
    (ended("CLOUD_FAILURE", "CLOUD_FAILURE", "FAILED"), End.INFRASTRUCTURE),
    (ended("DRIVER_ERROR", "INTERNAL_ERROR", "FAILED"), End.INFRASTRUCTURE),
    (ended("SKIPPED", life="SKIPPED"), End.INFRASTRUCTURE),
    (run(state={"life_cycle_state": "SKIPPED"}), End.INFRASTRUCTURE),
    (run(state={"life_cycle_state": "INTERNAL_ERROR", "result_state": "FAILED"}), End.INFRASTRUCTURE),
    (run(state={"life_cycle_state": "INTERNAL_ERROR"}), End.INFRASTRUCTURE),
    (ended(result="MAXIMUM_CONCURRENT_RUNS_REACHED"), End.QUOTA),
    # Codes of tomorrow: the type or the result still says whose fault it was.
    (ended("GPU_MELTED", "CLOUD_FAILURE", "FAILED"), End.INFRASTRUCTURE),
    (ended("TYPO", "CLIENT_ERROR", "FAILED"), End.CODE),
    (ended("NEW_WORD", "NEW_TYPE", "FAILED"), End.CODE),
    # Two words that contradict each other are never a success.
    (ended("SUCCESS", "SUCCESS", "FAILED"), End.CODE),
]


@pytest.mark.parametrize(("raw", "end"), ENDS)
def test_an_end_is_told_by_who_has_to_act(raw: dict[str, Any], end: End) -> None:
    remote = remote_run(raw)
    assert (remote.stage, remote.end) == (Stage.ENDED, end)


UNDECIDED = [
    ended(),
    ended("NEW_WORD", "SUCCESS", "SUCCESS"),
    ended("NEW_WORD", "SUCCESS"),
    ended("NEW_WORD"),
    ended(result="NEW_RESULT"),
    ended("SUCCESS", "SUCCESS", "NEW_RESULT"),
    ended("SUCCESS", "SUCCESS", "SUCCESS", life="HIBERNATED"),
    run(state={"life_cycle_state": "TERMINATED", "result_state": "SUCCESS"}, status={"state": "HIBERNATED"}),
    run(),
    run(state="TERMINATED", status=None),
]


@pytest.mark.parametrize("raw", UNDECIDED)
def test_what_is_not_known_is_unknown(raw: dict[str, Any]) -> None:
    remote = remote_run(raw)
    assert (remote.stage, remote.end) == (Stage.UNKNOWN, None)


def test_ids_beyond_53_bits_times_and_words_survive() -> None:
    remote = remote_run(
        ended("RUN_EXECUTION_ERROR", "CLIENT_ERROR", "FAILED")
        | {
            "start_time": 1_700_000_000_000,
            "end_time": 0,
            "run_page_url": "https://dbc.example/run",
            "creator_user_name": "app-id",
        }
    )
    assert remote.remote_id == "9007199254740993"
    assert remote.started_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert remote.ended_at is None
    assert remote.state == "TERMINATED/RUN_EXECUTION_ERROR"
    assert (remote.url, remote.ran_as) == ("https://dbc.example/run", "app-id")


def test_a_run_that_is_over_in_unknown_words_is_watched_and_said_to_be_over() -> None:
    seen = remote_run({"run_id": 1, "state": {"life_cycle_state": "TERMINATED", "result_state": "EVAPORATED"}})
    assert (seen.stage, seen.end, seen.over) == (Stage.UNKNOWN, None, True)
    running = remote_run({"run_id": 1, "state": {"life_cycle_state": "RUNNING"}})
    assert not running.over


def task(
    key: str, result: str | None, code: str | None = None, life: str = "TERMINATED", **more: Any
) -> dict[str, Any]:
    state = {"life_cycle_state": life} | ({"result_state": result} if result else {})
    details = {"termination_details": {"code": code, "message": more.pop("message", "")}} if code else {}
    return {"task_key": key, "run_id": 7, "state": state, "status": {"state": life, **details}, **more}


TASKS: list[tuple[dict[str, Any], Stage, End | None, bool]] = [
    (task("a", "SUCCESS", "SUCCESS"), Stage.ENDED, End.SUCCEEDED, False),
    (task("a", "FAILED", "RUN_EXECUTION_ERROR"), Stage.ENDED, End.CODE, False),
    (task("a", "TIMEDOUT", "CANCELED"), Stage.ENDED, End.TIMED_OUT, False),
    (task("a", "CANCELED", "USER_CANCELED"), Stage.ENDED, End.CANCELLED, False),
    (task("a", "EXCLUDED", "SKIPPED", "SKIPPED"), Stage.ENDED, None, True),
    (task("a", "UPSTREAM_FAILED", "SKIPPED"), Stage.ENDED, None, True),
    (task("a", "UPSTREAM_CANCELED"), Stage.ENDED, None, True),
    (task("a", "DISABLED", "DISABLED"), Stage.ENDED, None, True),
    (task("a", None, "SKIPPED", "SKIPPED"), Stage.ENDED, None, True),
    (task("a", None, life="SKIPPED"), Stage.ENDED, None, True),
    (task("a", None, life="BLOCKED"), Stage.QUEUED, None, False),
    (task("a", None, life="RUNNING"), Stage.RUNNING, None, False),
    (task("a", None, life="HIBERNATING"), Stage.UNKNOWN, None, False),
    (task("a", "EVAPORATED"), Stage.UNKNOWN, None, False),
]


@pytest.mark.parametrize(("row", "stage", "end", "skipped"), TASKS)
def test_a_task_that_was_never_started_did_not_fail(
    row: dict[str, Any], stage: Stage, end: End | None, skipped: bool
) -> None:
    (seen,) = remote_tasks({"tasks": [row]})
    assert (seen.stage, seen.end, seen.skipped) == (stage, end, skipped)


def test_of_a_task_that_was_tried_again_the_last_try_counts() -> None:
    again = [task("a", "SUCCESS", attempt_number=1), task("a", "FAILED", attempt_number=0), task("b", "FAILED")]
    seen = remote_tasks({"tasks": again})
    assert [(each.name, each.end) for each in seen] == [("a", End.SUCCEEDED), ("b", End.CODE)]


def test_a_failed_run_of_several_says_which_task_failed_and_one_of_one_what_the_platform_says() -> None:
    overall = ended("RUN_EXECUTION_ERROR", "CLIENT_ERROR", "FAILED")
    failed = task("prepare", "FAILED", "RUN_EXECUTION_ERROR", message="exit 3")
    skipped = task("train", "UPSTREAM_FAILED", "SKIPPED", message="upstream")
    assert remote_run(overall | {"tasks": [failed, skipped]}).message == "task prepare failed: exit 3"
    assert "task" not in remote_run(overall | {"tasks": [failed]}).message
    good = ended("SUCCESS", "SUCCESS", "SUCCESS") | {"tasks": [failed, skipped]}
    assert remote_run(good).message == ""
