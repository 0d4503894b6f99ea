"""Runs of several tasks: what another attempt runs again, and whether there is one."""

from collections.abc import Mapping
from typing import Any

from tests.unit.runs import Run
from trainyard.api.training_run import Task, TaskStatus
from trainyard.core.graph import planned_tasks
from trainyard.core.remote import End, RemoteTask, Result, Stage, Submitted

ID = "9007199254740993"
DIAMOND = {"load": [], "left": ["load"], "right": ["load"], "join": ["left", "right"]}


def task(name: str, depends_on: list[str], **more: Any) -> dict[str, Any]:
    return {"name": name, "entrypoint": {"pythonFile": f"{name}.py"}, "dependsOn": depends_on, **more}


def again(shape: Mapping[str, list[str]], states: Mapping[str, str], **run_if: str) -> set[str]:
    """The names of the tasks that the next attempt runs."""
    specs = [
        Task.model_validate(task(name, deps, **({"runIf": run_if[name]} if name in run_if else {})))
        for name, deps in shape.items()
    ]
    before = [TaskStatus(name=name, state=state) for name, state in states.items()]
    return {each.name for each in planned_tasks(specs, before, 1) if each.attempt is None}


class TestWhatRunsAgain:
    def test_the_first_attempt_runs_everything(self) -> None:
        assert again(DIAMOND, {}) == set(DIAMOND)

    def test_only_what_failed_and_what_depends_on_it(self) -> None:
        states = {"load": "Succeeded", "left": "CodeFailed", "right": "Succeeded", "join": "Skipped"}
        assert again(DIAMOND, states) == {"left", "join"}

    def test_what_succeeded_after_a_failure_it_depends_on_runs_again(self) -> None:
        states = {"load": "Succeeded", "left": "CodeFailed", "right": "Succeeded", "join": "Succeeded"}
        assert again(DIAMOND, states, join="AllDone") == {"left", "join"}

    def test_a_task_that_the_platform_never_told_of_runs_again(self) -> None:
        assert again({"a": [], "b": []}, {"a": "Succeeded"}) == {"b"}

    def test_a_task_that_was_skipped_for_good_stays_skipped(self) -> None:
        shape: dict[str, list[str]] = {"a": [], "alarm": ["a"], "b": []}
        states = {"a": "Succeeded", "alarm": "Skipped", "b": "CodeFailed"}
        assert again(shape, states, alarm="AtLeastOneFailed") == {"b"}

    def test_a_task_for_all_failing_stays_skipped_once_one_has_succeeded(self) -> None:
        shape: dict[str, list[str]] = {"a": [], "b": [], "alarm": ["a", "b"]}
        states = {"a": "Succeeded", "b": "CodeFailed", "alarm": "Skipped"}
        assert again(shape, states, alarm="AllFailed") == {"b"}

    def test_what_is_left_out_names_the_attempt_that_settled_it(self) -> None:
        specs = [Task.model_validate(task(name, deps)) for name, deps in DIAMOND.items()]
        before = [
            TaskStatus(name="load", state="Succeeded", attempt=1),
            TaskStatus(name="left", state="Succeeded"),
            TaskStatus(name="right", state="CodeFailed", failures=2),
            TaskStatus(name="join", state="Skipped"),
        ]
        found = {each.name: (each.attempt, each.failures) for each in planned_tasks(specs, before, 3)}
        assert found == {"load": (1, None), "left": (3, None), "right": (None, 2), "join": (None, None)}


class Dag:
    """A run of a chain a → b and of c beside it."""

    def __init__(self, **spec: Any) -> None:
        c = task("c", [], **({"retry": spec.pop("c_retry")} if "c_retry" in spec else {}))
        b = task("b", ["a"], **({"runIf": spec.pop("b_run_if")} if "b_run_if" in spec else {}))
        self.run = Run(tasks=[task("a", []), b, c], **spec)
        self.run.wire.pop("entrypoint", None)
        self.run.intended()

    def attempt(self, overall: End, **ends: End | None) -> "Dag":
        """Submits the attempt and ends it; a task with None was skipped."""
        run = self.run
        run.see(submitted=Submitted(ID, None, run.now)).turn()
        tasks = tuple(
            RemoteTask(
                name, f"{ID}{name}", Stage.ENDED, "TERMINATED", end, end is None, started_at=run.now, ended_at=run.now
            )
            for name, end in ends.items()
        )
        run.ended(overall, Result(tasks=tasks)).turn()
        return self

    @property
    def states(self) -> dict[str, str]:
        return {each.name: each.state for each in self.run.status.attempts[-1].tasks}


class TestRetriesOfTasks:
    def test_a_task_whose_cluster_was_lost_is_tried_again_without_those_that_are_done(self) -> None:
        dag = Dag().attempt(End.INFRASTRUCTURE, a=End.SUCCEEDED, b=End.INFRASTRUCTURE, c=End.SUCCEEDED)
        assert dag.run.reason == "RetryBackoff"
        assert dag.states == {"a": "Succeeded", "b": "InfrastructureFailed", "c": "Succeeded"}
        dag.run.later(700).turn()
        assert {each.name: each.attempt for each in dag.run.status.attempts[-1].tasks} == {"a": 1, "b": None, "c": 1}
        dag.attempt(End.SUCCEEDED, b=End.SUCCEEDED)
        assert dag.run.status.phase == "Succeeded"
        assert dag.states == {"a": "Succeeded", "b": "Succeeded", "c": "Succeeded"}

    def test_failed_code_ends_the_run_unless_the_task_says_otherwise(self) -> None:
        ends = {"a": End.SUCCEEDED, "b": End.SUCCEEDED, "c": End.CODE}
        assert Dag().attempt(End.CODE, **ends).run.status.phase == "Failed"
        assert Dag(c_retry={"when": "Any"}).attempt(End.CODE, **ends).run.reason == "RetryBackoff"

    def test_one_task_that_may_not_be_retried_ends_the_run(self) -> None:
        dag = Dag().attempt(End.CODE, a=End.INFRASTRUCTURE, b=None, c=End.CODE)
        assert dag.run.status.phase == "Failed"

    def test_each_task_has_its_own_limit(self) -> None:
        dag = Dag(c_retry={"limit": 1}, retry={"limit": 5})
        dag.attempt(End.INFRASTRUCTURE, a=End.SUCCEEDED, b=End.SUCCEEDED, c=End.INFRASTRUCTURE)
        assert dag.run.reason == "RetryBackoff"
        dag.run.later(700).turn()
        dag.attempt(End.INFRASTRUCTURE, c=End.INFRASTRUCTURE)
        assert dag.run.status.phase == "Failed"
        assert dag.run.status.attempts[-1].tasks[-1].failures == 2

    def test_failures_of_another_task_do_not_count_against_it(self) -> None:
        dag = Dag(retry={"limit": 1})
        dag.attempt(End.INFRASTRUCTURE, a=End.INFRASTRUCTURE, b=None, c=End.SUCCEEDED)
        dag.run.later(700).turn()
        dag.attempt(End.INFRASTRUCTURE, a=End.SUCCEEDED, b=End.INFRASTRUCTURE)
        assert dag.run.reason == "RetryBackoff"

    def test_a_person_who_cancelled_is_not_overruled_by_a_retry(self) -> None:
        dag = Dag().attempt(End.CANCELLED, a=End.INFRASTRUCTURE, b=None, c=End.CANCELLED)
        assert dag.run.status.phase == "Cancelled"

    def test_a_clean_up_that_went_well_does_not_make_a_failed_training_a_success(self) -> None:
        dag = Dag(b_run_if="AllDone").attempt(End.SUCCEEDED, a=End.CODE, b=End.SUCCEEDED, c=End.SUCCEEDED)
        assert (dag.run.status.phase, dag.run.reason) == ("Failed", "CodeFailed")
        assert "task a failed" in dag.run.message

    def test_one_success_among_several_is_enough_where_the_graph_asks_for_no_more(self) -> None:
        dag = Dag(b_run_if="AtLeastOneSucceeded").attempt(End.SUCCEEDED, a=End.CODE, b=End.SUCCEEDED, c=End.SUCCEEDED)
        assert dag.run.status.phase == "Succeeded"

    def test_where_nothing_is_known_of_the_tasks_none_is_paid_for_again(self) -> None:
        assert Dag().attempt(End.INFRASTRUCTURE).run.status.phase == "Failed"

    def test_a_run_that_failed_before_any_task_started_is_retried_as_a_run(self) -> None:
        assert Dag().attempt(End.QUOTA, a=None, b=None, c=None).run.reason == "RetryBackoff"

    def test_a_task_that_was_cancelled_has_not_failed(self) -> None:
        dag = Dag().attempt(End.CANCELLED, a=End.CANCELLED, b=None, c=End.SUCCEEDED)
        assert [each.failures for each in dag.run.status.attempts[-1].tasks] == [None, None, None]
