"""Faults of Azure ML's own: its names, its storage, its limits, its data plane and its states."""

import itertools
import json
import ssl
from collections.abc import Iterator
from typing import Any
from urllib.request import Request, urlopen

import pytest

from stand import Team, wait_for
from tests.e2e.faulting import Row, Step, finish, lasting, play, show, status, teams, told
from tests.e2e.scene import Scene
from tests.platforms.base import End

OPERATOR_FLAGS = {"tell_after_seconds": "1"}

UNREACHABLE, THROTTLED = "PlatformUnreachable", "PlatformThrottled"
ARM, BLOB, DETAILS, MLFLOW = "/subscriptions/.*", "/blob/.*", "/history/.*/details", "/mlflow/.*/runs/get"
JOB = "/subscriptions/.*/jobs/[^/]+"
TRACEBACK = "Traceback (most recent call last):\nValueError: no rows left"
STATES = ("NotResponding", "Paused", "Unknown", "HIBERNATING")


def at(kind: str, path: str, **fields: Any) -> Step:
    """Injects the fault for requests of that path; for one, unless `times` says otherwise."""
    return lambda scene, _: scene.control.add_fault(kind, path, **fields)


def both(*steps: Step) -> Step:
    """Several faults at once; what is waited for is the last one's hit."""
    return lambda scene, run: [step(scene, run) for step in steps][-1]


# The look before the submission and the one after its answer was lost say that there is no job of the name.
BLIND = at("status", JOB, method="GET", times=2, **status(404, error_code="ResourceNotFound"))
IMMUTABLE = status(400, error_code="JobPropertyImmutable", message="A job with this name already exists.")
ROWS = [
    Row(
        "submit: answer lost, not seen for a moment, then there already",
        "submit",
        both(
            BLIND,
            at("reset", JOB, method="PUT", after_effect=True),
            at("status", JOB, method="PUT", **IMMUTABLE),
        ),
    ),
    Row(
        "upload: the blob is there already",
        "submit",
        at("status", BLOB, method="PUT", after_effect=True, **status(409)),
        unnoticed=True,
    ),
    Row("upload: storage busy", "submit", at("status", BLOB, method="PUT", **status(503))),
    Row(
        "upload: storage behind a private endpoint",
        "submit",
        at("status", BLOB, method="PUT", times=0, **status(403)),
        ("Stalled", "PermissionDenied"),
    ),
    Row("history: 500 for long", "collect", at("status", DETAILS, times=0, **status(500)), ("Running", UNREACHABLE)),
    Row("history: 404", "collect", at("status", DETAILS, **status(404))),
    Row(
        "history: 404 of a job that failed",
        "collect",
        at("status", DETAILS, **status(404)),
        end=("Failed", "CodeFailed"),
        code=End("code", "ValueError: no rows left", TRACEBACK),
        says="the job's run history can not be read",
    ),
    Row(
        "history: 500 of a job that failed",
        "collect",
        at("status", DETAILS, **status(500)),
        end=("Failed", "CodeFailed"),
        code=End("code", "ValueError: no rows left", TRACEBACK),
        says="ValueError: no rows left",
    ),
    Row("MLflow: 404", "collect", at("status", MLFLOW, **status(404))),
    Row("MLflow: 500 for long", "collect", at("status", MLFLOW, times=0, **status(500)), ("Running", UNREACHABLE)),
    Row("get: not shown for a moment", "run", at("status", JOB, method="GET", times=3, **status(404))),
    Row("cancel: not shown for a moment", "cancel", at("status", f"{JOB}/cancel", method="POST", **status(404))),
]


@pytest.fixture
def platform_name() -> str:
    return "azureml"


@pytest.fixture(scope="module")
def team(_pretending_scene: Scene) -> Iterator[Team]:
    """One team for the whole table."""
    with teams(_pretending_scene, "azureml") as made:
        yield made["azureml"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_fault_of_azure_costs_neither_the_run_nor_a_second_one(scene: Scene, team: Team, row: Row) -> None:
    play(scene, team, row, f"row-{ROWS.index(row)}")


def put_job(scene: Scene, principal: str, name: str) -> None:
    """Another principal makes a job of that name."""
    azure = scene.control.address.azure
    token = scene.control.issue_azure_token(principal, azure.resource_manager)
    properties = {
        "jobType": "Command",
        "command": "echo hello",
        "environmentId": f"{azure.workspace_scope}/environments/theirs/versions/1",
        "resources": {"instanceType": "Standard_DS3_v2", "instanceCount": 1},
    }
    request = Request(
        f"{azure.workspace_url}/jobs/{name}?api-version=2025-01-01-preview",
        json.dumps({"properties": properties}).encode(),
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        method="PUT",
    )
    urlopen(request, context=ssl.create_default_context(cafile=str(scene.control.address.ca_file))).close()


def test_a_name_that_somebody_elses_job_has_is_told_and_not_taken_over(scene: Scene, team: Team) -> None:
    scene.platform.pretend()
    scene.control.add_azure_asset("environments", "theirs", "1", image="python:3.11")
    scene.control.add_fault("status", JOB, method="GET", times=0, **status(503))
    run = scene.run(team, "taken").because(UNREACHABLE)
    name = run.status["attempts"][0]["submissionToken"]
    mallory = scene.control.add_application("mallory", roles={"workspace": ["AzureML Data Scientist"]})
    put_job(scene, mallory, name)
    scene.control.clear_faults()
    run.until("Failed")
    assert run.reason == "RemoteNameTaken"
    assert name in run.message
    assert run.remote() == []
    theirs = scene.control.azure_job(name)
    assert (theirs["creator"], theirs["active"]) == (mallory, True)
    scene.platform.end(name)


def after_refusals(scene: Scene, principal: str, since: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each answer 429 of the resource manager since then, with the request that came next."""
    asked = scene.control.requests(path=ARM, since=since, principal=principal)
    pairs = itertools.pairwise(asked)
    return [(first, then) for first, then in pairs if first["status"] == 429 and then["at"] > _end(first)]


def _end(request: dict[str, Any]) -> float:
    return float(request["at"] + request["duration_seconds"])


def test_a_limit_of_the_resource_manager_is_told_and_its_pause_is_kept(scene: Scene, team: Team) -> None:
    scene.platform.pretend()
    run = scene.run(team, "throttled").until("Running")
    before = max(entry["sequence"] for entry in scene.control.requests())
    # A pause of at least three seconds is asked for; one that is cut short ends in another refusal.
    scene.control.azure_settings(limits={"reads": {"size": 1, "per_second": 0.25}})
    try:
        told(run, "Running", THROTTLED)
        wait_for("pauses", lambda: len(after_refusals(scene, team.principal, before)) >= 2)
        pairs = after_refusals(scene, team.principal, before)
    finally:
        scene.control.azure_settings(limits={"reads": {"size": 250, "per_second": 25}})
    assert [then["status"] for _, then in pairs] == [200] * len(pairs)
    assert all(then["at"] - _end(first) >= 2 for first, then in pairs)
    scene.platform.end(run.only_remote().id)
    run.until("Succeeded")
    assert run.paid() == 1


def test_storage_that_hangs_holds_up_nobody_else(scene: Scene, team: Team) -> None:
    scene.platform.pretend()
    neighbour, code = scene.team(), "print('uploaded before')"
    early = scene.run(neighbour, "early", code=code).until("Running")
    hanging = scene.control.add_fault("hang", BLOB, times=0)
    held_up = [scene.run(team, f"held-up-{n}", code=f"print('new {n}')") for n in range(6)]
    wait_for("uploads to hang", lambda: scene.hits(hanging) >= 4)
    # The whole way of the neighbour's runs, while every thread for the other workspace hangs.
    late = scene.run(neighbour, "late", code=code).until("Running", seconds=15)
    for run in (early, late):
        scene.platform.end(run.only_remote().id)
        run.until("Succeeded", seconds=15)
    for run in held_up:
        told(run, "Submitting", UNREACHABLE)
    scene.control.clear_faults()
    for run in held_up:
        run.until("Running")
        assert run.paid() == 1


def test_a_state_that_says_nothing_is_shown_and_left_again(scene: Scene, team: Team) -> None:
    scene.platform.pretend()
    runs = {state: scene.run(team, f"is-{state.lower()}") for state in STATES}
    for state, run in runs.items():
        show(state)(scene, run.until("Running"))
    for state, run in runs.items():
        told(run, "Running", "RemoteStateUnknown")
        assert run.status["attempts"][0]["remoteState"] == state
        assert state in run.message
        show(None)(scene, run)
    for run in runs.values():
        run.wait("to be running again", lambda obj: obj["status"]["conditions"][0]["reason"] == "Running")
        finish(scene, Row("", "run", lasting("status", "get")), run)
        assert run.paid() == 1


def test_a_job_deleted_before_its_answer_came_is_made_again_under_the_same_name(scene: Scene, team: Team) -> None:
    scene.platform.pretend()
    scene.control.add_fault("hang", JOB, method="PUT", after_effect=True)
    run = scene.run(team, "deleted-early")
    first = wait_for("the job", lambda: next(iter(run.remote()), None))
    scene.control.add_fault("status", JOB, method="GET", times=0, **status(503))
    scene.platform.vanish(first.id)
    told(run, "Submitting", UNREACHABLE)
    scene.control.clear_faults()
    run.until("Running")
    assert run.only_remote().id == first.id
    assert len(run.status["attempts"]) == 1
