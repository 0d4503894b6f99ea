"""Runs of many tasks: order, concurrency, conditions, results by leaf tasks, timeouts, the platform's own retries."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.service import compute, jobs

from trainyard_sandbox.client import SandboxControl

from .conftest import ended, wait_until

SERVERLESS = [jobs.JobEnvironment("default", compute.Environment(environment_version="5"))]
Result = jobs.RunResultState
GOOD, BAD = "print(1)\n", "raise SystemExit(3)\n"


@pytest.fixture
def task(upload: Callable[..., str]) -> Callable[..., jobs.SubmitTask]:
    """A serverless task: `task("b", BAD, "a", run_if=jobs.RunIf.ALL_DONE)`."""

    def make(key: str, source: str = GOOD, *needs: str, **fields: Any) -> jobs.SubmitTask:
        return jobs.SubmitTask(
            task_key=key,
            spark_python_task=jobs.SparkPythonTask(upload(source, f"{key}.py")),
            environment_key="default",
            depends_on=[jobs.TaskDependency(task_key=need) for need in needs],
            **{"disable_auto_optimization": True} | fields,
        )

    return make


def submit(workspace: WorkspaceClient, tasks: Sequence[jobs.SubmitTask], **fields: Any) -> int:
    waiter: Any = workspace.jobs.submit(tasks=list(tasks), environments=SERVERLESS, **fields)
    run_id: int = waiter.response.run_id
    return run_id


def results(run: jobs.Run) -> dict[str, Result | None]:
    return {entry.task_key: entry.state.result_state for entry in run.tasks or [] if entry.state}


def overall(run: jobs.Run) -> Result | None:
    assert run.state is not None
    return run.state.result_state


def test_tasks_that_need_nothing_of_each_other_run_at_the_same_time(
    workspace: WorkspaceClient, task: Callable[..., jobs.SubmitTask]
) -> None:
    # Each waits for the other's mark in the run's folder: one after the other they would wait for ever.
    meet = (
        "import pathlib, time\npathlib.Path('../../{0}').touch()\n"
        "while not pathlib.Path('../../{1}').exists(): time.sleep(0.01)\n"
    )
    run = ended(workspace, submit(workspace, [task("a", meet.format("a", "b")), task("b", meet.format("b", "a"))]))
    assert results(run) == {"a": Result.SUCCESS, "b": Result.SUCCESS}
    assert overall(run) is Result.SUCCESS


def test_a_run_whose_leaf_tasks_succeed_is_a_success_with_failures(
    workspace: WorkspaceClient, task: Callable[..., jobs.SubmitTask]
) -> None:
    tasks = [task("bad", BAD), task("cleanup", GOOD, "bad", run_if=jobs.RunIf.ALL_DONE)]
    run = ended(workspace, submit(workspace, tasks))
    assert overall(run) is Result.SUCCESS_WITH_FAILURES
    assert run.status is not None
    assert run.status.termination_details is not None
    assert run.status.termination_details.code is jobs.TerminationCodeCode.SUCCESS_WITH_FAILURES


def test_a_run_fails_when_a_leaf_task_did_not_run_for_a_failure_before_it(
    workspace: WorkspaceClient, task: Callable[..., jobs.SubmitTask]
) -> None:
    tasks = [task("bad", BAD), task("after", GOOD, "bad"), task("last", GOOD, "after", run_if=jobs.RunIf.NONE_FAILED)]
    run = ended(workspace, submit(workspace, tasks))
    assert results(run) == {"bad": Result.FAILED, "after": Result.UPSTREAM_FAILED, "last": Result.UPSTREAM_FAILED}
    assert overall(run) is Result.FAILED
    assert run.state is not None
    assert "Task bad failed with message" in (run.state.state_message or "")


def test_excluded_and_disabled_tasks_count_as_successful(
    workspace: WorkspaceClient, task: Callable[..., jobs.SubmitTask]
) -> None:
    tasks = [
        task("good"),
        task("repair", GOOD, "good", run_if=jobs.RunIf.AT_LEAST_ONE_FAILED),
        task("after", GOOD, "repair"),
        task("off", BAD, disabled=True),
        task("both", GOOD, "off", "good"),
    ]
    run = ended(workspace, submit(workspace, tasks))
    expected = [Result.SUCCESS, Result.EXCLUDED, Result.EXCLUDED, Result.DISABLED, Result.SUCCESS]
    assert list(results(run).values()) == expected
    assert overall(run) is Result.SUCCESS


def test_each_task_has_its_own_output_state_and_times(
    workspace: WorkspaceClient, task: Callable[..., jobs.SubmitTask]
) -> None:
    run = ended(workspace, submit(workspace, [task("a", "print('of a')\n"), task("b", "print('of b')\n", "a")]))
    first, second = run.tasks or []
    for entry in (first, second):
        assert entry.run_id is not None
        assert workspace.jobs.get_run_output(entry.run_id).logs == f"of {entry.task_key}\n"
        alone = workspace.jobs.get_run(entry.run_id)
        assert alone.job_run_id == run.run_id
        assert entry.attempt_number == 0
    assert first.end_time is not None
    assert second.end_time is not None
    assert first.end_time <= second.end_time


def test_a_task_past_its_own_timeout_is_stopped_and_the_others_go_on(
    workspace: WorkspaceClient, task: Callable[..., jobs.SubmitTask]
) -> None:
    tasks = [
        task("slow", "import time\ntime.sleep(600)\n", timeout_seconds=1),
        task("other"),
        task("cleanup", GOOD, "slow", run_if=jobs.RunIf.ALL_FAILED),
    ]
    run = ended(workspace, submit(workspace, tasks))
    assert results(run) == {"slow": Result.TIMEDOUT, "other": Result.SUCCESS, "cleanup": Result.SUCCESS}
    assert overall(run) is Result.SUCCESS_WITH_FAILURES


def test_cancelling_one_task_reaches_those_that_need_it(
    workspace: WorkspaceClient, task: Callable[..., jobs.SubmitTask]
) -> None:
    tasks = [
        task("slow", "import time\ntime.sleep(600)\n"),
        task("after", GOOD, "slow"),
        task("cleanup", GOOD, "slow", run_if=jobs.RunIf.AT_LEAST_ONE_FAILED),
    ]
    run_id = submit(workspace, tasks)

    def running() -> int | None:
        first = (workspace.jobs.get_run(run_id).tasks or [])[0]
        assert first.state is not None
        return first.run_id if first.state.life_cycle_state is jobs.RunLifeCycleState.RUNNING else None

    workspace.jobs.cancel_run(wait_until(running))
    run = ended(workspace, run_id)
    assert results(run) == {"slow": Result.CANCELED, "after": Result.UPSTREAM_CANCELED, "cleanup": Result.SUCCESS}


def attempts(run: jobs.Run) -> list[tuple[int | None, Result | None]]:
    return [(entry.attempt_number, entry.state.result_state if entry.state else None) for entry in run.tasks or []]


def test_the_platform_tries_a_failed_task_again_as_often_as_it_says(
    workspace: WorkspaceClient, task: Callable[..., jobs.SubmitTask]
) -> None:
    flaky = (
        "import pathlib\nmark = pathlib.Path('../../mark')\n"
        "if not mark.exists():\n    mark.touch()\n    raise SystemExit(3)\n"
    )
    run = ended(workspace, submit(workspace, [task("flaky", flaky, max_retries=2, min_retry_interval_millis=50)]))
    assert attempts(run) == [(0, Result.FAILED), (1, Result.SUCCESS)]
    assert overall(run) is Result.SUCCESS
    ids = [entry.run_id for entry in run.tasks or []]
    assert len(set(ids)) == 2
    hopeless = ended(workspace, submit(workspace, [task("hopeless", BAD, max_retries=2)]))
    assert attempts(hopeless) == [(0, Result.FAILED), (1, Result.FAILED), (2, Result.FAILED)]


def test_serverless_retries_by_itself_unless_auto_optimization_is_disabled(
    workspace: WorkspaceClient, task: Callable[..., jobs.SubmitTask]
) -> None:
    optimized = ended(workspace, submit(workspace, [task("bad", BAD, max_retries=0, disable_auto_optimization=None)]))
    assert attempts(optimized) == [(0, Result.FAILED), (1, Result.FAILED)]
    plain = ended(workspace, submit(workspace, [task("bad", BAD, max_retries=0)]))
    assert attempts(plain) == [(0, Result.FAILED)]


def test_cancelling_a_run_between_attempts_makes_no_further_one(
    workspace: WorkspaceClient, task: Callable[..., jobs.SubmitTask]
) -> None:
    run_id = submit(workspace, [task("bad", BAD, max_retries=-1, min_retry_interval_millis=600_000)])
    wait_until(lambda: len(workspace.jobs.get_run(run_id).tasks or []) == 2)
    second = (workspace.jobs.get_run(run_id).tasks or [])[1]
    assert second.state is not None
    assert second.state.life_cycle_state is jobs.RunLifeCycleState.WAITING_FOR_RETRY
    workspace.jobs.cancel_run(run_id)
    run = ended(workspace, run_id)
    assert attempts(run) == [(0, Result.FAILED), (1, Result.CANCELED)]
    assert overall(run) is Result.CANCELED


def test_a_run_past_its_timeout_makes_no_further_attempt(
    workspace: WorkspaceClient, task: Callable[..., jobs.SubmitTask]
) -> None:
    slow = task("slow", "import time\ntime.sleep(600)\n", max_retries=1, retry_on_timeout=True)
    run = ended(workspace, submit(workspace, [slow], timeout_seconds=1))
    assert attempts(run) == [(0, Result.TIMEDOUT)]
    assert overall(run) is Result.TIMEDOUT


def test_a_pretended_run_ends_by_its_tasks_as_scripted(
    control: SandboxControl, workspace: WorkspaceClient, task: Callable[..., jobs.SubmitTask]
) -> None:
    control.add_script(
        run_name="graph",
        states=[("PENDING", 0), ("RUNNING", 0)],
        tasks={"prepare": {"result_state": "FAILED", "message": "no data"}},
    )
    tasks = [task("prepare"), task("train", GOOD, "prepare"), task("tell", GOOD, "train", run_if=jobs.RunIf.ALL_DONE)]
    run = ended(workspace, submit(workspace, tasks, run_name="graph"))
    assert results(run) == {"prepare": Result.FAILED, "train": Result.UPSTREAM_FAILED, "tell": Result.SUCCESS}
    assert overall(run) is Result.SUCCESS_WITH_FAILURES


def test_forty_tasks_in_a_chain_of_layers_end_in_order(
    workspace: WorkspaceClient, control: SandboxControl, task: Callable[..., jobs.SubmitTask]
) -> None:
    control.add_script(run_name="wide", states=[("RUNNING", 0)])
    layers = [[f"l{layer}-{number}" for number in range(8)] for layer in range(5)]
    tasks = [task(key, GOOD, *(layers[index - 1] if index else [])) for index, row in enumerate(layers) for key in row]
    began = time.monotonic()
    run = ended(workspace, submit(workspace, tasks, run_name="wide"))
    assert set(results(run).values()) == {Result.SUCCESS}
    assert time.monotonic() - began < 10
