"""Jobs that live on the platform: kept, listed, run with parameters, and run by tasks of other runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import BadRequest, InvalidParameterValue, PermissionDenied, ResourceDoesNotExist
from databricks.sdk.service import compute, jobs

from trainyard_sandbox.client import SandboxControl

from .conftest import ended, wait_until
from .members import MemberFactory, member

__all__ = ["member"]

SERVERLESS = [jobs.JobEnvironment("default", compute.Environment(environment_version="5"))]
SHOW = "import sys\nprint(*sys.argv[1:])\n"
SLEEP = "import time\ntime.sleep(600)\n"


def a_task(path: str, *parameters: str) -> jobs.Task:
    return jobs.Task(
        task_key="train",
        spark_python_task=jobs.SparkPythonTask(path, parameters=list(parameters)),
        environment_key="default",
        disable_auto_optimization=True,
    )


@pytest.fixture
def job(workspace: WorkspaceClient, upload: Callable[..., str]) -> Callable[..., int]:
    """A saved job of one file; returns its id."""

    def make(source: str = SHOW, *parameters: str, **fields: Any) -> int:
        path = upload(source, f"job{os.urandom(4).hex()}.py")
        tasks = [a_task(path, *parameters)]
        made = workspace.jobs.create(**{"tasks": tasks, "environments": SERVERLESS} | fields)
        assert made.job_id is not None
        return made.job_id

    return make


def start(workspace: WorkspaceClient, job_id: int, **fields: Any) -> int:
    waiter: Any = workspace.jobs.run_now(job_id, **fields)
    run_id: int = waiter.response.run_id
    return run_id


def output(workspace: WorkspaceClient, run: jobs.Run) -> jobs.RunOutput:
    [only] = run.tasks or []
    assert only.run_id is not None
    return workspace.jobs.get_run_output(only.run_id)


def as_task(job_id: int, parameters: dict[str, str] | None = None) -> jobs.SubmitTask:
    return jobs.SubmitTask(task_key="ref", run_job_task=jobs.RunJobTask(job_id, job_parameters=parameters))


def submit(workspace: WorkspaceClient, *tasks: jobs.SubmitTask, **fields: Any) -> int:
    waiter: Any = workspace.jobs.submit(tasks=list(tasks), **fields)
    run_id: int = waiter.response.run_id
    return run_id


def test_a_job_runs_with_its_parameters_and_those_given(workspace: WorkspaceClient, job: Callable[..., int]) -> None:
    parameters = [jobs.JobParameterDefinition("trees", "10"), jobs.JobParameterDefinition("depth", "3")]
    references = ("{{job.parameters.trees}}", "{{ job.parameters.depth }}", "{{task.name}}", "{{no.such}}")
    job_id = job(SHOW, *references, name="nightly", parameters=parameters)
    run = ended(workspace, start(workspace, job_id, job_parameters={"trees": "7"}))
    assert output(workspace, run).logs == "7 3 train {{no.such}}\n"
    assert run.job_id == job_id
    assert run.run_type is jobs.RunType.JOB_RUN
    assert run.run_name == "nightly"
    shown = {entry.name: (entry.default, entry.value) for entry in run.job_parameters or []}
    assert shown == {"trees": ("10", "7"), "depth": ("3", "3")}
    with pytest.raises(InvalidParameterValue, match="no parameter named 'colour'"):
        start(workspace, job_id, job_parameters={"colour": "blue"})
    with pytest.raises(InvalidParameterValue, match="use job_parameters"):
        start(workspace, job_id, python_params=["x"])


def test_a_job_is_shown_listed_by_name_in_any_case_and_deleted(
    workspace: WorkspaceClient, job: Callable[..., int], principal: str
) -> None:
    name = f"Nightly {os.urandom(4).hex()}"
    ids = [job(name=name) for _ in range(5)]
    shown = workspace.jobs.get(ids[0])
    assert shown.creator_user_name == principal
    assert shown.run_as_user_name == principal
    assert shown.settings is not None
    assert shown.settings.name == name
    assert [task.task_key for task in shown.settings.tasks or []] == ["train"]
    listed = list(workspace.jobs.list(name=name.upper(), limit=2))
    assert [found.job_id for found in listed] == ids[::-1]
    assert listed[0].settings is not None
    assert not listed[0].settings.tasks
    assert not list(workspace.jobs.list(name=name[:-1])), "the name must be exact"
    workspace.jobs.delete(ids[0])
    with pytest.raises(ResourceDoesNotExist, match=f"Job {ids[0]} does not exist"):
        workspace.jobs.get(ids[0])
    for query in ({"limit": 101}, {"limit": 0}, {"page_token": "x"}, {"colour": "blue"}):
        with pytest.raises(BadRequest):
            workspace.api_client.do("GET", "/api/2.2/jobs/list", query=query)


def test_a_jobs_rights_decide_who_sees_and_runs_it(
    control: SandboxControl, job: Callable[..., int], member: MemberFactory
) -> None:
    job_id = job()
    other = member("other")
    with pytest.raises(PermissionDenied, match="View"):
        other.client.jobs.get(job_id)
    assert job_id not in [found.job_id for found in other.client.jobs.list()]
    control.grant(other.application_id, f"jobs/{job_id}", "CAN_VIEW")
    assert other.client.jobs.get(job_id).job_id == job_id
    with pytest.raises(PermissionDenied, match="Manage Run"):
        start(other.client, job_id)
    with pytest.raises(PermissionDenied, match="Manage Run"):
        submit(other.client, as_task(job_id))
    control.grant(other.application_id, f"jobs/{job_id}", "CAN_MANAGE_RUN")
    run = ended(other.client, start(other.client, job_id))
    assert run.creator_user_name == other.application_id
    with pytest.raises(PermissionDenied, match="Manage"):
        other.client.jobs.delete(job_id)


def test_the_same_token_starts_a_job_once(workspace: WorkspaceClient, job: Callable[..., int]) -> None:
    job_id, token = job(), os.urandom(16).hex()
    first = start(workspace, job_id, idempotency_token=token)
    assert start(workspace, job_id, idempotency_token=token) == first
    ended(workspace, first)
    workspace.jobs.delete_run(first)
    with pytest.raises(InvalidParameterValue, match="deleted"):
        start(workspace, job_id, idempotency_token=token)


def test_a_job_has_no_more_runs_at_once_than_it_may(workspace: WorkspaceClient, job: Callable[..., int]) -> None:
    job_id = job(SLEEP, max_concurrent_runs=1)
    first = start(workspace, job_id)
    skipped = ended(workspace, start(workspace, job_id))
    assert skipped.state is not None
    assert skipped.state.life_cycle_state is jobs.RunLifeCycleState.SKIPPED
    assert skipped.state.result_state is jobs.RunResultState.MAXIMUM_CONCURRENT_RUNS_REACHED
    waiting = [start(workspace, job_id, queue=jobs.QueueSettings(enabled=True)) for _ in range(2)]
    queued = workspace.jobs.get_run(waiting[0])
    assert queued.status is not None
    assert queued.status.state is jobs.RunLifecycleStateV2State.QUEUED
    assert queued.status.queue_details is not None
    assert queued.status.queue_details.code is jobs.QueueDetailsCodeCode.MAX_CONCURRENT_RUNS_REACHED
    workspace.jobs.cancel_run(waiting[1])
    assert ended(workspace, waiting[1]).state is not None
    workspace.jobs.cancel_run(first)
    wait_until(lambda: _life(workspace, waiting[0]) is jobs.RunLifeCycleState.RUNNING)
    workspace.jobs.cancel_run(waiting[0])
    ended(workspace, waiting[0])


def _life(workspace: WorkspaceClient, run_id: int) -> jobs.RunLifeCycleState | None:
    state = workspace.jobs.get_run(run_id).state
    assert state is not None
    return state.life_cycle_state


def child_of(workspace: WorkspaceClient, run_id: int) -> int | None:
    [only] = workspace.jobs.get_run(run_id).tasks or []
    assert only.run_id is not None
    told = workspace.jobs.get_run_output(only.run_id).run_job_output
    return told.run_id if told else None


@pytest.mark.parametrize("pretended", [False, True], ids=["run", "pretend"])
def test_a_run_job_task_follows_the_run_that_it_starts(
    control: SandboxControl, workspace: WorkspaceClient, job: Callable[..., int], pretended: bool
) -> None:
    job_id = job(SHOW, "{{job.parameters.trees}}", parameters=[jobs.JobParameterDefinition("trees", "10")])
    if pretended:
        control.add_script(run_name="parent", states=[("RUNNING", 0)])
    run_id = submit(workspace, as_task(job_id, {"trees": "7"}), run_name="parent")
    parent = ended(workspace, run_id)
    assert parent.state is not None
    assert parent.state.result_state is jobs.RunResultState.SUCCESS
    child_id = child_of(workspace, run_id)
    assert child_id is not None
    child = workspace.jobs.get_run(child_id)
    assert child.trigger is jobs.TriggerType.RUN_JOB_TASK
    assert output(workspace, child).logs == "7\n"
    assert child_id in [run.run_id for run in workspace.jobs.list_runs(run_type=jobs.RunType.JOB_RUN)]
    assert child_id not in [run.run_id for run in workspace.jobs.list_runs(run_type=jobs.RunType.SUBMIT_RUN)]


def test_a_failing_child_fails_the_task(workspace: WorkspaceClient, job: Callable[..., int]) -> None:
    run = ended(workspace, submit(workspace, as_task(job("raise SystemExit(3)\n"))))
    assert run.state is not None
    assert run.state.result_state is jobs.RunResultState.FAILED
    assert "Workload failed, see run output for details" in (run.state.state_message or "")


@pytest.mark.parametrize("pretended", [False, True], ids=["run", "pretend"])
def test_cancelling_the_parent_cancels_the_child(
    control: SandboxControl, workspace: WorkspaceClient, job: Callable[..., int], pretended: bool
) -> None:
    if pretended:
        control.add_script(run_name="parent", states=[("RUNNING", 600)])
    run_id = submit(workspace, as_task(job(SLEEP)), run_name="parent")
    child_id = wait_until(lambda: child_of(workspace, run_id))
    workspace.jobs.cancel_run(run_id)
    for one in (run_id, child_id):
        run = ended(workspace, one)
        assert run.state is not None
        assert run.state.result_state is jobs.RunResultState.CANCELED


@pytest.mark.parametrize("pretended", ["parent", "child", "neither"])
def test_a_child_that_is_deleted_behind_everyones_back_fails_its_parent(
    control: SandboxControl, workspace: WorkspaceClient, job: Callable[..., int], pretended: str
) -> None:
    control.add_script(run_name=pretended, states=[("RUNNING", 0 if pretended == "parent" else 600)])
    run_id = submit(workspace, as_task(job(SLEEP, name="child")), run_name="parent")
    child_id = wait_until(lambda: child_of(workspace, run_id))
    control.delete_run(child_id)
    run = ended(workspace, run_id)
    assert run.state is not None
    assert run.state.result_state is jobs.RunResultState.FAILED
    assert f"Run {child_id} does not exist" in (run.state.state_message or "")


def test_a_reference_to_a_job_that_is_not_there_is_refused(workspace: WorkspaceClient, job: Callable[..., int]) -> None:
    with pytest.raises(InvalidParameterValue, match="Job 12345 does not exist"):
        submit(workspace, as_task(12345))
    with pytest.raises(InvalidParameterValue, match="no parameter named"):
        submit(workspace, as_task(job(), {"colour": "blue"}))


def test_a_job_runs_as_it_says_whoever_starts_it(
    control: SandboxControl, workspace: WorkspaceClient, upload: Callable[..., str], principal: str
) -> None:
    other = control.add_principal("runner")
    who = "import os, jwt\nprint(jwt.decode(os.environ['DATABRICKS_TOKEN'], options={'verify_signature': 0})['sub'])\n"
    path = upload(who, "who.py")
    run_as = jobs.JobRunAs(service_principal_name=other)
    fields: dict[str, Any] = {"tasks": [a_task(path)], "environments": SERVERLESS, "run_as": run_as}
    with pytest.raises(PermissionDenied, match="servicePrincipal/user"):
        workspace.jobs.create(**fields)
    control.change_principal(principal, usable_service_principals=[other])
    job_id = workspace.jobs.create(**fields).job_id
    assert job_id is not None
    denied = ended(workspace, start(workspace, job_id))
    assert denied.status is not None
    assert denied.status.termination_details is not None
    assert denied.status.termination_details.code is jobs.TerminationCodeCode.UNAUTHORIZED_ERROR
    control.grant(other, f"/Users/{principal}", "CAN_READ")
    assert output(workspace, ended(workspace, start(workspace, job_id))).logs == f"{other}\n"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"tasks": []}, "at least one task"),
    ({"schedule": {}}, "schedule is not offered"),
    ({"parameters": [{"name": "a b", "default": ""}]}, "parameter name"),
    ({"max_concurrent_runs": 1001}, "max_concurrent_runs"),
    ({"colour": "blue"}, "unknown field"),
    ({"tasks": [{"task_key": "a", "run_job_task": {"job_id": 1}, "environment_key": "e"}]}, "Job 1 does not exist"),
    (
        {
            "tasks": [
                {"task_key": "a", "spark_python_task": {"python_file": "/a.py"}, "job_cluster_key": "absent"},
            ]
        },
        "not defined",
    ),
]


@pytest.mark.parametrize(("change", "said"), REFUSED)
def test_a_job_that_the_platform_would_refuse_is_refused(
    workspace: WorkspaceClient, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidParameterValue, match=said):
        workspace.api_client.do("POST", "/api/2.2/jobs/create", body={"name": "refused"} | change)


def test_a_shared_job_cluster_runs_the_tasks_that_name_it(
    workspace: WorkspaceClient, upload: Callable[..., str]
) -> None:
    cluster = compute.ClusterSpec(
        spark_version="16.4.x-scala2.12", node_type_id="i3.xlarge", num_workers=0, spark_env_vars={"COLOUR": "blue"}
    )
    task = jobs.Task(
        task_key="train",
        spark_python_task=jobs.SparkPythonTask(upload("import os\nprint(os.environ['COLOUR'])\n", "colour.py")),
        job_cluster_key="shared",
    )
    shared = jobs.JobCluster("shared", new_cluster=cluster)
    job_id = workspace.jobs.create(tasks=[task], job_clusters=[shared]).job_id
    assert job_id is not None
    assert output(workspace, ended(workspace, start(workspace, job_id))).logs == "blue\n"
