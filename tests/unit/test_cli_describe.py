"""What `trainyard describe` and `get` tell a person."""

from datetime import UTC, datetime
from typing import Any

import pytest

from trainyard.cli.describe import description, sized
from trainyard.cli.options import Output
from trainyard.cli.tables import rendered
from trainyard.cli.tree import by_dependency
from trainyard.client import Event, Run

Object = dict[str, Any]
NOW = datetime(2026, 11, 23, 13, 0, tzinfo=UTC)


def at(moment: str) -> str:
    return f"2026-11-23T12:{moment}Z"


def attempt(number: int, **more: Any) -> Object:
    return {
        "number": number,
        "submissionToken": "t",
        "platform": "databricks",
        "host": "adb-1.azuredatabricks.net",
        "principal": "sp-1",
        "mode": "federated",
        "serviceAccount": "trainer",
        "specDigest": "d",
        "codeDigest": "d",
        "intendedAt": at("00:01"),
    } | more


def ready(reason: str, message: str) -> list[Object]:
    words = {"reason": reason, "message": message, "lastTransitionTime": at("10:00")}
    return [{"type": "Ready", "status": "False"} | words]


TASKS = [{"name": "fit", "dependsOn": ["prepare"], "jobRef": {"id": "1"}}, {"name": "prepare", "jobRef": {"id": "2"}}]


def run(spec: Object | None = None, status: Object | None = None, **meta: Any) -> Run:
    base = {"name": "churn", "namespace": "team", "uid": "u", "resourceVersion": "1", "creationTimestamp": at("00:00")}
    shape = {"workspaceRef": {"name": "databricks"}, "code": {"inline": "pass"}, "compute": {"class": "small"}}
    return Run({"metadata": base | meta, "spec": shape | (spec or {}), "status": status or {}})


RICH = run(
    {"tasks": TASKS},
    {
        "phase": "Succeeded",
        "conditions": ready("Succeeded", "the code ended well"),
        "attempt": 2,
        "attempts": [
            attempt(
                1,
                submittedAt=at("00:02"),
                startedAt=at("00:42"),
                endedAt=at("02:42"),
                remoteId="4711",
                url="https://page/1",
                reason="InfrastructureFailed",
                message="the cluster went away",
                tasks=[{"name": "fit", "state": "Skipped"}, {"name": "prepare", "state": "Failed", "message": "oops"}],
            ),
            attempt(
                2,
                commit="abc123",
                submittedAt=at("03:00"),
                startedAt=at("03:10"),
                endedAt=at("10:00"),
                remoteId="4712",
                logsUri="s3://logs/2",
                tasks=[
                    {"name": "fit", "state": "Succeeded", "startedAt": at("03:10"), "endedAt": at("09:10")},
                    {"name": "prepare", "state": "Succeeded", "attempt": 1, "failures": 1},
                ],
            ),
        ],
        "identity": {"submittedAs": "sp-submit", "ranAs": "sp-run"},
        "startedAt": at("00:01"),
        "endedAt": at("10:00"),
        "duration": "9m59s",
        "url": "https://page/2",
        "mlflowUrl": "https://mlflow/1",
        "model": {"name": "main.ml.churn", "version": "3", "uri": "models:/main.ml.churn/3", "alias": "challenger"},
        "metrics": {"auc": "0.91", "loss": "NaN"},
        "params": {"trees": "100"},
        "outputs": {"scores": {"uri": "/Volumes/a/b/c", "sizeBytes": 1536, "files": 1}},
    },
)


def text(of: Run, events: list[Event] | None = None) -> str:
    return "\n".join(description(of, events, NOW))


def test_the_timeline_tells_the_attempts_in_order_with_reasons_and_durations() -> None:
    told = text(RICH, [])
    order = [
        "created",
        "seen by the operator",
        "attempt 1 submitted to adb-1.azuredatabricks.net as run 4711",
        "attempt 1 started running, 40s after submission",
        "attempt 1 ended after 2m: InfrastructureFailed: the cluster went away",
        "page: https://page/1",
        "attempt 2 submitted to adb-1.azuredatabricks.net as run 4712",
        "attempt 2 ended after 6m50s",
        "whole log: s3://logs/2",
        "ended: Succeeded",
    ]
    found = [told.index(words) for words in order]
    assert found == sorted(found)


def test_a_task_stands_below_what_it_depends_on() -> None:
    lines = [line.strip() for line in text(RICH, []).splitlines() if line.strip().startswith(("fit", "prepare"))]
    assert [line.split()[:2] for line in lines] == [
        ["prepare", "Failed"],
        ["fit", "Skipped"],
        ["prepare", "Succeeded"],
        ["fit", "Succeeded"],
    ]
    assert "of attempt 1; failed once before" in lines[2]
    assert "6m" in lines[3]


@pytest.mark.parametrize(
    "words",
    [
        "Submitted as: sp-submit",
        "Ran as: sp-run",
        "Commit: abc123",
        "MLflow: https://mlflow/1",
        "Page: https://page/2",
        "main.ml.churn version 3, alias challenger",
        "loss   NaN",
        "/Volumes/a/b/c   1.5 KiB, 1 file",
        "Duration: 9m59s",
    ],
)
def test_what_people_ask_for_is_there(words: str) -> None:
    flat = "\n".join(" ".join(line.split()) for line in text(RICH, []).splitlines())
    assert " ".join(words.split()) in flat


def test_events_are_told_or_why_not() -> None:
    event = Event(datetime(2026, 11, 23, 12, 59, tzinfo=UTC), "Warning", "PermissionMissing", "grant it", 3)
    assert "1m ago   Warning   PermissionMissing   grant it (x3)" in text(RICH, [event])
    assert "may not be listed" in text(RICH, None)
    assert "Events" not in text(RICH, [])


def test_the_checks_of_a_plan_are_told_with_what_mends_them() -> None:
    check = {"name": "USE CATALOG on main", "outcome": "Missing", "message": "GRANT USE CATALOG"}
    told = text(run(status={"phase": "Failed", "plan": {"request": "{}", "checks": [check]}}), [])
    assert "Checks:\n  OUTCOME   CHECK" in told
    assert "GRANT USE CATALOG" in told


def test_a_run_that_nobody_has_seen_yet_can_be_described() -> None:
    assert "not yet seen by the operator" in text(run(), [])


def test_a_run_of_a_job_says_which() -> None:
    of_job = run({"jobRef": {"name": "nightly"}})
    assert "job nightly" in text(of_job, [])


def test_attempts_that_are_no_longer_listed_are_said_to_be_missing() -> None:
    assert "attempts 1 to 4 are no longer listed" in text(
        run(status={"phase": "Running", "attempts": [attempt(5)]}), []
    )


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 * 1024**3, "5.0 GiB"), (2**52, "4.0 PiB")]
)
def test_sizes_are_told_in_units_of_people(count: int, words: str) -> None:
    assert sized(count) == words


def test_tasks_stand_in_an_order_in_which_they_can_run() -> None:
    needs = {"report": ["fit", "prepare"], "fit": ["prepare"], "prepare": [], "other": []}
    names = ["report", "other", "fit", "prepare"]
    assert by_dependency(names, needs) == [("other", 0), ("prepare", 0), ("fit", 1), ("report", 2)]


def test_tasks_that_wait_for_each_other_are_shown_all_the_same() -> None:
    assert by_dependency(["a", "b"], {"a": ["b"], "b": ["a"]}) == [("a", 0), ("b", 0)]


def test_a_table_has_the_columns_that_kubectl_has() -> None:
    running = run(status={"phase": "Running", "startedAt": at("30:00"), "attempt": 1})
    lines = rendered([RICH, running, run()], Output.table, NOW).splitlines()
    assert [line.split() for line in lines] == [
        ["NAME", "PHASE", "WORKSPACE", "ATTEMPT", "DURATION", "AGE"],
        ["churn", "Succeeded", "databricks", "2", "9m59s", "1h"],
        ["churn", "Running", "databricks", "1", "30m", "1h"],
        ["churn", "<none>", "databricks", "<none>", "<none>", "1h"],
    ]


def test_wide_and_all_namespaces_add_columns() -> None:
    head, row = rendered([RICH], Output.wide, NOW, namespaces=True).splitlines()
    assert head.split()[0] == "NAMESPACE"
    assert head.endswith("REMOTE ID   MODEL VERSION   REASON")
    assert row.split()[0] == "team"
    assert row.split()[-2:] == ["3", "Succeeded"]


def test_an_object_that_only_a_newer_version_can_read_is_listed_all_the_same() -> None:
    newer = run(status={"phase": "Dreaming", "attempts": "?"})
    assert "Dreaming" in rendered([newer], Output.table, NOW)
