"""What Azure ML's states mean."""

from datetime import UTC, datetime

import pytest

from trainyard.core.remote import End, Stage
from trainyard.platforms.azureml.states import STATES, moment, remote_run, tags_of

KNOWN = [
    ("NotStarted", Stage.QUEUED, None),
    ("Starting", Stage.QUEUED, None),
    ("Provisioning", Stage.QUEUED, None),
    ("Queued", Stage.QUEUED, None),
    ("Preparing", Stage.BUILDING, None),
    ("Running", Stage.RUNNING, None),
    ("Finalizing", Stage.RUNNING, None),
    ("CancelRequested", Stage.RUNNING, None),
    ("Completed", Stage.ENDED, End.SUCCEEDED),
    ("Failed", Stage.ENDED, End.CODE),
    ("Canceled", Stage.ENDED, End.CANCELLED),
    ("NotResponding", Stage.UNKNOWN, None),
    ("Paused", Stage.UNKNOWN, None),
    ("Unknown", Stage.UNKNOWN, None),
]


@pytest.mark.parametrize(("state", "stage", "end"), KNOWN)
def test_each_state_of_azure_ml_is_known(state: str, stage: Stage, end: End | None) -> None:
    run = remote_run({"name": "ty-1", "properties": {"status": state}})
    assert (run.remote_id, run.mlflow_run_id, run.stage, run.end, run.state) == ("ty-1", "ty-1", stage, end, state)


def test_the_sdks_own_list_of_states_has_none_that_is_not_known() -> None:
    from azure.ai.ml._restclient.arm_ml_service.models import JobStatus

    # A schedule's own, of no job that is submitted.
    assert {state.value for state in JobStatus} - {"Scheduled"} == set(STATES)


@pytest.mark.parametrize("properties", [{}, {"status": None}, {"status": "Succeeded"}, {"status": "COMPLETED"}, None])
def test_what_is_not_known_is_unknown(properties: object) -> None:
    run = remote_run({"name": "ty-1", "properties": properties})
    assert (run.stage, run.end) == (Stage.UNKNOWN, None)


def test_only_the_making_of_its_software_is_no_wait_for_machines() -> None:
    building = {state for state in STATES if remote_run({"properties": {"status": state}}).builds_image}
    assert building == {"Preparing"}


def test_a_state_that_says_neither_is_told_in_words() -> None:
    assert "may come back" in remote_run({"properties": {"status": "NotResponding"}}).message


def test_the_page_is_the_one_that_the_service_names() -> None:
    services = {"Studio": {"endpoint": "https://ml.azure.com/runs/ty-1?wsid=/subscriptions/s"}}
    assert remote_run({"properties": {"services": services}}).url == services["Studio"]["endpoint"]
    assert remote_run({"properties": {"services": {"Studio": {"endpoint": "javascript:alert(1)"}}}}).url is None


def test_who_made_it_and_when_is_told() -> None:
    run = remote_run({"systemData": {"createdAt": "2026-11-23T08:00:01.1234567Z", "createdBy": "trainer"}})
    assert (run.ran_as, run.started_at) == ("trainer", datetime(2026, 11, 23, 8, 0, 1, 123456, UTC))


MOMENTS = [
    ("2026-11-23T08:00:00Z", datetime(2026, 11, 23, 8, tzinfo=UTC)),
    ("2026-11-23T08:00:00.5+00:00", datetime(2026, 11, 23, 8, 0, 0, 500_000, tzinfo=UTC)),
    ("2026-11-23T08:00:00", datetime(2026, 11, 23, 8, tzinfo=UTC)),
    ("0001-01-01T00:00:00+00:00", datetime(1, 1, 1, tzinfo=UTC)),
    ("soon", None),
    ("", None),
    (None, None),
    (17, None),
]


@pytest.mark.parametrize(("text", "expected"), MOMENTS)
def test_a_time_is_read_as_azure_writes_it(text: object, expected: datetime | None) -> None:
    assert moment(text) == expected


def test_tags_are_text() -> None:
    assert tags_of({"properties": {"tags": {"trainyard_token": "ty-1", "n": 3}}}) == {
        "trainyard_token": "ty-1",
        "n": "3",
    }
    assert tags_of({"properties": {"tags": None}}) == {}
