"""What every word of Databricks means, and that a word of tomorrow never means success."""

from datetime import UTC, datetime
from typing import Any

import pytest
from databricks.sdk.service import jobs

from trainyard.core.remote import End, Stage
from trainyard.platforms.databricks import states
from trainyard.platforms.databricks.states import remote_run


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
    (ended("SUCCESS_WITH_FAILURES", "SUCCESS", "SUCCESS_WITH_FAILURES"), End.CODE),
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
