"""Every fault that a platform may have: what the run says meanwhile, and what happens next."""

from collections.abc import Iterator
from typing import Any

import pytest

from stand import Team
from tests.e2e.faulting import Row, expire, fault, lasting, play, show, status, teams, vanish, vanish_and_mend
from tests.e2e.scene import Scene
from tests.platforms import NAMES, on_every_platform

OPERATOR_FLAGS = {"tell_after_seconds": "1"}

UNREACHABLE, THROTTLED, MALFORMED = "PlatformUnreachable", "PlatformThrottled", "PlatformAnswerMalformed"

ROWS = [
    Row("submit: 429 once", "submit", fault("status", "submit", **status(429, retry_after="1"))),
    Row(
        "submit: 429 for long",
        "submit",
        lasting("status", "submit", **status(429, retry_after="1")),
        ("Submitting", THROTTLED),
    ),
    Row("submit: 500", "submit", fault("status", "submit", **status(500))),
    Row("submit: 500 after the effect", "submit", fault("status", "submit", after_effect=True, **status(500))),
    Row("submit: 503 for long", "submit", lasting("status", "submit", **status(503)), ("Submitting", UNREACHABLE)),
    Row("submit: reset before the effect", "submit", fault("reset", "submit")),
    Row("submit: reset after the effect", "submit", fault("reset", "submit", after_effect=True)),
    Row("submit: hangs, then had its effect", "submit", fault("hang", "submit", after_effect=True)),
    Row("submit: slow body", "submit", fault("slow_body", "submit", seconds=2)),
    Row("submit: malformed JSON", "submit", fault("malformed_json", "submit", after_effect=True)),
    Row(
        # On Azure ML the job is found by its name before it is submitted again, so that this does not last.
        "submit: malformed JSON for long",
        "submit",
        lasting("malformed_json", "submit", after_effect=True),
        ("Submitting", MALFORMED),
        platforms=("databricks",),
    ),
    Row("submit: 403", "submit", lasting("status", "submit", **status(403)), ("Stalled", "PermissionDenied")),
    Row("submit: 400 once", "submit", fault("status", "submit", **status(400))),
    Row(
        "submit: 400",
        "submit",
        fault("status", "submit", times=2, **status(400)),
        end=("Failed", "RequestRefused"),
        paid=0,
    ),
    Row(
        # Azure ML forgets a name with its job: test_faults_azure.py.
        "submit: answer lost, run deleted behind our back",
        "submit",
        lasting("reset", "submit", after_effect=True),
        ("Submitting", UNREACHABLE),
        vanish_and_mend,
        end=("Failed", "RemoteRunDeleted"),
        platforms=("databricks",),
    ),
    Row("upload: 429", "submit", fault("status", "upload", **status(429, retry_after="1"))),
    Row("upload: 503", "submit", fault("status", "upload", **status(503))),
    Row("upload: 503 for long", "submit", lasting("status", "upload", **status(503)), ("Submitting", UNREACHABLE)),
    Row("upload: reset", "submit", fault("reset", "upload")),
    Row("get: 429", "run", fault("status", "get", **status(429, retry_after="1"))),
    Row("get: 429 for long", "run", lasting("status", "get", **status(429, retry_after="1")), ("Running", THROTTLED)),
    Row("get: 500", "run", fault("status", "get", **status(500))),
    Row("get: 503 for long", "run", lasting("status", "get", **status(503)), ("Running", UNREACHABLE)),
    Row("get: reset", "run", fault("reset", "get")),
    Row("get: hangs", "run", fault("hang", "get")),
    Row("get: slow body", "run", fault("slow_body", "get", seconds=2)),
    Row("get: malformed JSON for long", "run", lasting("malformed_json", "get"), ("Running", MALFORMED)),
    Row("list: 503 for long", "run", lasting("status", "list", **status(503)), ("Running", UNREACHABLE), runs=2),
    Row("list: malformed JSON", "run", fault("malformed_json", "list"), runs=2),
    Row("run deleted behind our back", "run", vanish, end=("Failed", "RemoteRunVanished")),
    Row("a state never heard of", "run", show("HIBERNATING"), ("Running", "RemoteStateUnknown"), show(None)),
    Row("token expired", "run", expire),
    Row("token: 429", "token", fault("status", "token", **status(429, retry_after="1"))),
    Row("token: 503 for long", "token", lasting("status", "token", **status(503)), ("Running", UNREACHABLE)),
    Row("token: reset", "token", fault("reset", "token")),
    Row("token: malformed JSON", "token", fault("malformed_json", "token")),
    Row("token: hangs", "token", fault("hang", "token")),
    Row("cancel: 429", "cancel", fault("status", "cancel", **status(429, retry_after="1"))),
    Row("cancel: 500 after the effect", "cancel", fault("status", "cancel", after_effect=True, **status(500))),
    Row("cancel: reset before the effect", "cancel", fault("reset", "cancel")),
    Row("cancel: 503 for long", "cancel", lasting("status", "cancel", **status(503)), ("Cancelling", UNREACHABLE)),
    Row("collect: 503 for long", "collect", lasting("status", "metrics", **status(503)), ("Running", UNREACHABLE)),
    Row("collect: reset", "collect", fault("reset", "metrics")),
    Row("collect: malformed JSON", "collect", fault("malformed_json", "metrics")),
]
CASES = [
    pytest.param(platform, row, id=f"{platform}, {row.name}")
    for platform in NAMES
    for row in ROWS
    if platform in row.platforms
]


@pytest.fixture(scope="module")
def faulty(_pretending_scene: Scene) -> Iterator[dict[str, Team]]:
    """One team per platform for the whole table."""
    with teams(_pretending_scene, *NAMES) as made:
        yield made


@pytest.mark.parametrize(("platform_name", "row"), CASES)
def test_a_fault_costs_neither_the_run_nor_a_second_one(scene: Scene, faulty: dict[str, Team], row: Row) -> None:
    play(scene, faulty[scene.platform.name], row, f"row-{ROWS.index(row)}")


CHECKS: list[tuple[str, dict[str, Any], str]] = [
    ("status", status(503), UNREACHABLE),
    ("status", status(429, retry_after="1"), THROTTLED),
    ("reset", {}, UNREACHABLE),
    ("malformed_json", {}, MALFORMED),
]


@on_every_platform
def test_a_fault_when_the_workspace_is_checked_is_told_by_it_and_passes(scene: Scene) -> None:
    told = []
    for kind, fields, reason in CHECKS:
        scene.fault(kind, "whoami", times=0, **fields)
        told.append(scene.team())
        scene.workspace(told[-1].namespace, reason)
        scene.control.clear_faults()
    for team in told:
        scene.workspace(team.namespace, "IdentityWorks")
        scene.run(team).until("Succeeded")
