"""What serves models on every platform: shares, metrics, scripts, cold starts and the end of a model."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import psutil
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.service import serving as sdk

from trainyard_sandbox.client import SandboxControl
from trainyard_sandbox.errors import ApiError
from trainyard_sandbox.serving.fleet import Fleet
from trainyard_sandbox.serving.metrics import Metrics
from trainyard_sandbox.serving.model_server import Answer
from trainyard_sandbox.serving.scripts import Identity, parse_script
from trainyard_sandbox.serving.served_model import NotServing, ServedModel, Source
from trainyard_sandbox.serving.traffic import TrafficSplit

from .conftest import AUDIENCE, SUBJECT, wait_until
from .issuer import TestIssuer
from .serving_models import DOUBLES, model_files, register

ROWS = json.dumps({"dataframe_records": [{"x": 1.0}, {"x": 2.0}, {"x": 3.0}]}).encode()


def test_any_hundred_requests_in_a_row_follow_the_shares_exactly() -> None:
    split = TrafficSplit({"old": 83, "new": 17, "idle": 0})
    drawn = [split.next() for _ in range(250)]
    for start in range(150):
        assert Counter(drawn[start : start + 100]) == {"old": 83, "new": 17}
    split.change({"old": 0, "new": 100})
    assert {split.next() for _ in range(10)} == {"new"}
    assert TrafficSplit({"idle": 0}).next() is None


def test_metrics_count_and_rank_since_a_moment() -> None:
    clock = [0.0]
    metrics = Metrics(lambda: clock[0])
    for second, (status, seconds) in enumerate([(500, 9.0), (200, 0.1), (404, 0.2), (503, 0.3), (200, 0.4)]):
        clock[0] = float(second)
        metrics.add(status, seconds)
    assert (metrics.total, metrics.count(), metrics.count(1.0), metrics.count(1.0, 4.0)) == (5, 5, 4, 3)
    assert (metrics.count(status_class=5), metrics.count(1.0, status_class=5)) == (2, 1)
    assert (metrics.percentile(50, 1.0), metrics.percentile(99, 1.0), metrics.percentile(100)) == (0.2, 0.4, 9.0)
    assert metrics.percentile(50, 10.0) is None


def pretending(tmp_path: Path, *scripts: dict[str, Any], scale_to_zero: bool = False) -> tuple[Fleet, ServedModel]:
    fleet = Fleet(tmp_path, time.time, pretend=True)
    for script in scripts:
        fleet.add_script(parse_script(script))
    source = Source(tmp_path / "none", {}, scale_to_zero=scale_to_zero)
    return fleet, fleet.serve(Identity("databricks", "e", "v1"), source)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 20))


def test_a_later_script_wins_field_by_field_and_one_for_two_models_leaves_the_third_alone(tmp_path: Path) -> None:
    async def work() -> list[str]:
        fleet, first = pretending(
            tmp_path,
            {"provisioning_error": "no machines", "served": "v.", "times": 2},
            {"endpoint": "other", "provisioning_error": "never"},
            {"latency_seconds": 0.5, "predictions": [1]},
            {"platform": "databricks", "latency_seconds": 0.0},
        )
        models = [first, *(fleet.serve(first.identity, first.source) for _ in range(2))]
        for model in models:
            await model.provision()
        assert json.loads((await models[2].score(ROWS)).body) == {"predictions": [1, 1, 1]}
        assert models[2].metrics.percentile(100) < 0.5  # type: ignore[operator]
        return [f"{model.state} {model.message}".strip() for model in models]

    assert run(work()) == ["failed no machines", "failed no machines", "ready"]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ({"served": "("}, "served is not a regular expression"),
        ({"error_rate": 1.5}, "a share from 0 to 1"),
        ({"predictions": []}, "must not be empty"),
    ],
)
def test_a_script_that_makes_no_sense_is_refused(script: dict[str, Any], said: str) -> None:
    with pytest.raises(ApiError, match=said):
        parse_script(script)


def test_errors_are_spread_evenly_and_predictions_go_round_the_rows(tmp_path: Path) -> None:
    async def work() -> tuple[list[int], Answer]:
        _, model = pretending(tmp_path, {"error_rate": 0.25, "error_status": 502, "predictions": ["a", "b"]})
        await model.provision()
        answers = [await model.score(ROWS) for _ in range(8)]
        return [answer.status for answer in answers], answers[0]

    statuses, first = run(work())
    assert statuses == [200, 200, 200, 502] * 2
    assert json.loads(first.body) == {"predictions": ["a", "b", "a"]}


def test_requests_that_come_during_a_cold_start_wait_for_that_one_start(tmp_path: Path) -> None:
    async def work() -> tuple[set[int], int]:
        _, model = pretending(tmp_path, {"cold_start_seconds": 0.05}, scale_to_zero=True)
        await model.provision()
        await model.scale_to_zero()
        assert model.state == "stopped"
        answers = await asyncio.gather(*(model.score(ROWS) for _ in range(5)))
        return {answer.status for answer in answers}, model.cold_starts

    assert run(work()) == ({200}, 1)


def test_a_model_that_is_retired_answers_what_it_was_given_and_nothing_more(tmp_path: Path) -> None:
    async def work() -> Answer:
        fleet, model = pretending(tmp_path, {"latency_seconds": 0.05})
        await model.provision()
        asked = asyncio.create_task(model.score(ROWS))
        await asyncio.sleep(0)
        await model.retire()
        assert asked.done()
        assert fleet.live() == []
        with pytest.raises(NotServing, match="gone"):
            await model.score(ROWS)
        return await asked

    assert run(work()).status == 200


def test_a_sandbox_that_stops_waits_for_no_request(tmp_path: Path) -> None:
    async def work() -> str:
        fleet, model = pretending(tmp_path, {"latency_seconds": 3600})
        await model.provision()
        asked = asyncio.create_task(model.score(ROWS))
        await asyncio.sleep(0)
        await fleet.stop()
        asked.cancel()
        return model.state

    assert run(work()) == "gone"


def test_a_model_that_is_retired_while_it_is_provisioned_never_serves(tmp_path: Path) -> None:
    async def work() -> str:
        _, model = pretending(tmp_path, {"provisioning_seconds": 0.02})
        coming = asyncio.create_task(model.provision())
        await asyncio.sleep(0)
        await model.retire()
        await coming
        return model.state

    assert run(work()) == "gone"


def test_no_models_process_outlives_a_sandbox_that_is_killed(
    serve: Callable[..., tuple[SandboxControl, subprocess.Popen[bytes]]],
    issuer: TestIssuer,
    client_for: Callable[..., WorkspaceClient],
) -> None:
    control, process = serve()
    principal = control.add_principal("trainer", grants={"main": ["USE_CATALOG"]})
    control.grant(principal, "main.ml", "USE_SCHEMA", "CREATE_MODEL")
    control.add_policy(principal, issuer.url, SUBJECT, [AUDIENCE])
    workspace = client_for(control, principal)
    register(workspace, "main.ml.doubles", model_files(DOUBLES), str(control.address.ca_file))
    entity = sdk.ServedEntityInput(entity_name="main.ml.doubles", entity_version="1", workload_size="Small", name="v1")
    config = sdk.EndpointCoreConfigInput("doubles", served_entities=[entity])
    workspace.serving_endpoints.create("doubles", config=config)
    wait_until(lambda: [one["state"] for one in control.served_models()] == ["ready"], 60)
    children = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "trainyard_sandbox.serving.nursery_process" in child.cmdline()
    ]
    assert len(children) == 3  # the leash, the nursery, the model
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    assert psutil.wait_procs(children, timeout=20)[1] == []
