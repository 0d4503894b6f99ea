"""Jobs 2.2 as the unmodified SDK meets it: what is accepted, refused, shown and stopped."""

from __future__ import annotations

import base64
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import BadRequest, InvalidParameterValue, NotFound, PermissionDenied, ResourceDoesNotExist
from databricks.sdk.errors.platform import InvalidState
from databricks.sdk.service import compute, jobs
from databricks.sdk.service.workspace import ImportFormat

from trainyard_sandbox.client import SandboxControl

from .conftest import AUDIENCE, SUBJECT, ended, wait_until

SERVERLESS = [jobs.JobEnvironment("default", compute.Environment(environment_version="5", dependencies=["mlflow<3"]))]


def task(path: str, *parameters: str, **fields: Any) -> jobs.SubmitTask:
    python = jobs.SparkPythonTask(python_file=path, parameters=list(parameters))
    settings = {"environment_key": "default", "disable_auto_optimization": True} | fields
    return jobs.SubmitTask(task_key="train", spark_python_task=python, **settings)


def submit(workspace: WorkspaceClient, path: str, *parameters: str, **fields: Any) -> int:
    request: dict[str, Any] = {"tasks": [task(path, *parameters)], "environments": SERVERLESS, "run_name": "iris"}
    waiter: Any = workspace.jobs.submit(**request | fields)
    run_id: int = waiter.response.run_id
    return run_id


def output(workspace: WorkspaceClient, run_id: int) -> jobs.RunOutput:
    [only] = workspace.jobs.get_run(run_id).tasks or []
    assert only.run_id is not None
    return workspace.jobs.get_run_output(only.run_id)


def test_a_submitted_file_really_runs_with_its_parameters(
    workspace: WorkspaceClient, upload: Callable[..., str], control: SandboxControl
) -> None:
    path = upload("import sys\nprint('hello', *sys.argv[1:])\nprint('oops', file=sys.stderr)\n")
    run_id = submit(workspace, path, "--epochs", "3")
    run = ended(workspace, run_id)
    assert run_id > 2**53
    assert run.state is not None
    assert run.state.life_cycle_state is jobs.RunLifeCycleState.TERMINATED
    assert run.state.result_state is jobs.RunResultState.SUCCESS
    assert run.status is not None
    assert run.status.termination_details is not None
    assert run.status.termination_details.code is jobs.TerminationCodeCode.SUCCESS
    assert run.run_type is jobs.RunType.SUBMIT_RUN
    assert run.run_page_url is not None
    assert str(run_id) in run.run_page_url
    logs = output(workspace, run_id).logs
    assert logs is not None
    assert "hello --epochs 3\n" in logs
    assert "oops" in logs
    shown = next(entry for entry in control.runs() if entry["run_id"] == str(run_id))
    assert shown["paid"]


def test_a_failing_file_ends_failed_with_its_error_and_trace(
    workspace: WorkspaceClient, upload: Callable[..., str]
) -> None:
    run = ended(workspace, submit(workspace, upload("def f():\n    raise ValueError('boom')\nf()\n")))
    assert run.state is not None
    assert run.state.result_state is jobs.RunResultState.FAILED
    assert run.state.life_cycle_state is jobs.RunLifeCycleState.TERMINATED
    assert run.state.state_message == ("Task train failed with message: Workload failed, see run output for details.")
    assert run.status is not None
    assert run.status.termination_details is not None
    assert run.status.termination_details.code is jobs.TerminationCodeCode.RUN_EXECUTION_ERROR
    assert run.run_id is not None
    shown = output(workspace, run.run_id)
    assert shown.error == "ValueError: boom"
    assert shown.error_trace is not None
    assert shown.error_trace.startswith("Traceback")
    assert "in f" in shown.error_trace


def test_the_code_sees_a_clean_environment_with_the_jobs_variables(
    workspace: WorkspaceClient, upload: Callable[..., str], monkeypatch: pytest.MonkeyPatch, principal: str
) -> None:
    path = upload("import os\nfor key in sorted(os.environ): print(key)\nprint(os.environ['COLOUR'])\n")
    cluster = compute.ClusterSpec(
        spark_version="16.4.x-scala2.12",
        node_type_id="i3.xlarge",
        num_workers=0,
        data_security_mode=compute.DataSecurityMode.SINGLE_USER,
        spark_env_vars={"COLOUR": "blue"},
    )
    run_id = submit(workspace, path, tasks=[task(path, environment_key=None, new_cluster=cluster)], environments=None)
    ended(workspace, run_id)
    assert (output(workspace, run_id).logs or "").split() == [
        "COLOUR",
        "DATABRICKS_HOST",
        "DATABRICKS_TOKEN",
        "HOME",
        "LANG",
        "MLFLOW_ENABLE_DB_SDK",
        "MLFLOW_REGISTRY_URI",
        "MLFLOW_TRACKING_URI",
        "PATH",
        "PYTHONUNBUFFERED",
        "REQUESTS_CA_BUNDLE",
        "TMPDIR",
        "blue",
    ]


def test_code_can_import_the_files_beside_it(workspace: WorkspaceClient, upload: Callable[..., str]) -> None:
    path = upload("import beside\nprint(beside.WORD)\n")
    content = base64.b64encode(b"WORD = 'neighbour'").decode()
    folder = path.rpartition("/")[0]
    workspace.workspace.import_(f"{folder}/beside.py", content=content, format=ImportFormat.RAW, overwrite=True)
    run_id = submit(workspace, path)
    ended(workspace, run_id)
    assert output(workspace, run_id).logs == "neighbour\n"


def test_serverless_variables_reach_the_code_from_environment_version_5(
    workspace: WorkspaceClient, upload: Callable[..., str]
) -> None:
    path = upload("import os\nprint(os.environ['COLOUR'])\n")
    variables = [jobs.JobEnvironmentVariables("vars", jobs.JobEnvironmentVariablesSpec(variables={"COLOUR": "green"}))]
    tasks = [task(path, environment_variables_key="vars")]
    run_id = submit(workspace, path, tasks=tasks, environment_variables=variables)
    ended(workspace, run_id)
    assert output(workspace, run_id).logs == "green\n"
    older = [jobs.JobEnvironment("default", compute.Environment(environment_version="4"))]
    with pytest.raises(InvalidParameterValue, match="environment version 5"):
        submit(workspace, path, tasks=tasks, environment_variables=variables, environments=older)


def test_cancelling_ends_the_process_and_what_it_started(
    workspace: WorkspaceClient, upload: Callable[..., str]
) -> None:
    source = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(os.getpid(), child.pid, flush=True)\n"
        "open('pids', 'w').write(f'{os.getpid()} {child.pid}')\n"
        "time.sleep(600)\n"
    )
    run_id = submit(workspace, upload(source))
    pids = [int(text) for text in wait_until(lambda: _pids(run_id)).split()]
    workspace.jobs.cancel_run(run_id)
    run = ended(workspace, run_id)
    assert run.state is not None
    assert run.state.result_state is jobs.RunResultState.CANCELED
    assert run.state.user_cancelled_or_timedout
    assert run.status is not None
    assert run.status.termination_details is not None
    assert run.status.termination_details.code is jobs.TerminationCodeCode.USER_CANCELED
    for pid in pids:
        assert not _alive(pid)
    workspace.jobs.cancel_run(run_id)


def test_code_that_ignores_sigterm_is_killed(workspace: WorkspaceClient, upload: Callable[..., str]) -> None:
    source = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "open('pids', 'w').write(str(os.getpid()))\n"
        "while True: time.sleep(1)\n"
    )
    run_id = submit(workspace, upload(source))
    pid = int(wait_until(lambda: _pids(run_id)))
    workspace.jobs.cancel_run(run_id)
    ended(workspace, run_id)
    assert not _alive(pid)


def _pids(run_id: int) -> str:
    # The sandbox keeps everything under its directory; the test's own process list shows who runs there.
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                directory = os.readlink(f"/proc/{entry}/cwd")
            except OSError:
                continue
            if f"/runs/{run_id}/" in directory and os.path.exists(f"{directory}/pids"):
                with open(f"{directory}/pids") as source:
                    return source.read()
    return ""


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as source:
            return source.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_run_past_its_timeout_is_stopped_and_timed_out(
    workspace: WorkspaceClient, upload: Callable[..., str]
) -> None:
    run_id = submit(workspace, upload("import time\ntime.sleep(600)\n"), timeout_seconds=1)
    run = ended(workspace, run_id)
    assert run.state is not None
    assert run.state.result_state is jobs.RunResultState.TIMEDOUT


def test_runs_do_not_outlive_a_killed_sandbox(
    serve: Callable[..., Any], client_for: Callable[..., WorkspaceClient], issuer: Any
) -> None:
    control, process = serve()
    application_id = control.add_principal("trainer")
    control.add_policy(application_id, issuer.url, SUBJECT, [AUDIENCE])
    workspace = client_for(control, application_id)
    path = f"/Users/{application_id}/sleep.py"
    source = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "open('pids', 'w').write(f'{os.getpid()} {child.pid}')\n"
        "time.sleep(600)\n"
    )
    workspace.workspace.import_(path, content=base64.b64encode(source.encode()).decode(), format=ImportFormat.RAW)
    run_id = submit(workspace, path)
    pids = [int(text) for text in wait_until(lambda: _pids(run_id)).split()]
    os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: not any(_alive(pid) for pid in pids), timeout_seconds=10)


def test_the_same_idempotency_token_returns_the_same_run(
    workspace: WorkspaceClient, upload: Callable[..., str]
) -> None:
    path, token = upload("print(1)\n"), os.urandom(32).hex()
    first = submit(workspace, path, idempotency_token=token)
    assert submit(workspace, path, idempotency_token=token) == first
    ended(workspace, first)
    assert submit(workspace, path, idempotency_token=token) == first
    with pytest.raises(InvalidParameterValue, match="64"):
        submit(workspace, path, idempotency_token="x" * 65)


def test_a_token_whose_run_was_deleted_answers_with_an_error(
    workspace: WorkspaceClient, upload: Callable[..., str], control: SandboxControl
) -> None:
    path, token = upload("print(1)\n"), os.urandom(16).hex()
    run_id = submit(workspace, path, idempotency_token=token)
    ended(workspace, run_id)
    workspace.jobs.delete_run(run_id)
    with pytest.raises(InvalidParameterValue, match="deleted"):
        submit(workspace, path, idempotency_token=token)
    with pytest.raises(ResourceDoesNotExist, match=f"Run {run_id} does not exist"):
        workspace.jobs.get_run(run_id)


def test_an_active_run_is_not_deleted(workspace: WorkspaceClient, upload: Callable[..., str]) -> None:
    run_id = submit(workspace, upload("import time\ntime.sleep(600)\n"))
    with pytest.raises(InvalidState):
        workspace.jobs.delete_run(run_id)
    workspace.jobs.cancel_run(run_id)
    ended(workspace, run_id)


def test_the_output_of_a_parent_run_is_refused(workspace: WorkspaceClient, upload: Callable[..., str]) -> None:
    run_id = submit(workspace, upload("print(1)\n"))
    with pytest.raises(InvalidParameterValue, match="each individual task run"):
        workspace.jobs.get_run_output(run_id)


def test_only_the_last_5_mb_of_the_logs_are_given(workspace: WorkspaceClient, upload: Callable[..., str]) -> None:
    run_id = submit(workspace, upload("print('first')\nfor _ in range(6): print('x' * 2**20)\nprint('last')\n"))
    ended(workspace, run_id)
    shown = output(workspace, run_id)
    assert shown.logs is not None
    assert shown.logs_truncated
    assert len(shown.logs) == 5 * 1024 * 1024
    assert shown.logs.endswith("last\n")


def test_a_file_that_is_not_there_ends_the_run_in_internal_error(workspace: WorkspaceClient, principal: str) -> None:
    run = ended(workspace, submit(workspace, f"/Users/{principal}/absent.py"))
    assert run.state is not None
    assert run.state.life_cycle_state is jobs.RunLifeCycleState.INTERNAL_ERROR
    assert run.state.result_state is jobs.RunResultState.FAILED
    assert run.status is not None
    assert run.status.termination_details is not None
    assert run.status.termination_details.code is jobs.TerminationCodeCode.RESOURCE_NOT_FOUND


def test_a_package_that_cannot_be_installed_ends_the_run_in_internal_error(
    workspace: WorkspaceClient, upload: Callable[..., str]
) -> None:
    # A local path that is not a project: pip refuses it without asking any index.
    environment = compute.Environment(environment_version="5", dependencies=["/nowhere/at/all"])
    run_id = submit(workspace, upload("print(1)\n"), environments=[jobs.JobEnvironment("default", environment)])
    run = ended(workspace, run_id, 60)
    assert run.state is not None
    assert run.state.life_cycle_state is jobs.RunLifeCycleState.INTERNAL_ERROR
    assert "Library installation failed" in (run.state.state_message or "")
    assert run.status is not None
    assert run.status.termination_details is not None
    assert run.status.termination_details.code is jobs.TerminationCodeCode.LIBRARY_INSTALLATION_ERROR


def test_tasks_wait_for_what_they_depend_on(workspace: WorkspaceClient, upload: Callable[..., str]) -> None:
    good, bad = upload("print(1)\n", "good.py"), upload("raise SystemExit(3)\n", "bad.py")

    def one(key: str, path: str, *needs: str, run_if: jobs.RunIf | None = None) -> jobs.SubmitTask:
        return jobs.SubmitTask(
            task_key=key,
            spark_python_task=jobs.SparkPythonTask(path),
            environment_key="default",
            depends_on=[jobs.TaskDependency(task_key=need) for need in needs],
            run_if=run_if,
        )

    tasks = [
        one("bad", bad),
        one("after", good, "bad"),
        one("anyway", good, "bad", run_if=jobs.RunIf.ALL_DONE),
        one("excluded", good, "anyway", run_if=jobs.RunIf.AT_LEAST_ONE_FAILED),
    ]
    run = ended(workspace, submit(workspace, good, tasks=tasks))
    results = {entry.task_key: entry.state.result_state for entry in run.tasks or [] if entry.state}
    assert results == {
        "bad": jobs.RunResultState.FAILED,
        "after": jobs.RunResultState.UPSTREAM_FAILED,
        "anyway": jobs.RunResultState.SUCCESS,
        "excluded": jobs.RunResultState.EXCLUDED,
    }
    assert run.state is not None
    assert run.state.result_state is jobs.RunResultState.FAILED


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("an unknown field", {"colour": "blue"}, "unknown field 'colour'"),
    ("an unknown field inside", {"tasks": [{"task_key": "a", "colour": 1}]}, r"unknown field 'tasks\[0\].colour'"),
    ("a wrong type", {"timeout_seconds": "soon"}, "timeout_seconds"),
    ("no tasks", {"tasks": []}, "at least one task"),
    ("no compute", {"tasks": [{"task_key": "a", "spark_python_task": {"python_file": "/a"}}]}, "exactly one of"),
    ("no task type", {"tasks": [{"task_key": "a", "environment_key": "default"}]}, "exactly one task type"),
    ("an undefined environment", {"environments": []}, "not defined"),
    ("a relative path", {"tasks": [{"task_key": "a", "spark_python_task": {"python_file": "a.py"}}]}, "begin with"),
    ("a negative timeout", {"timeout_seconds": -1}, "timeout_seconds"),
    (
        "an unknown data security mode",
        {
            "tasks": [
                {
                    "task_key": "a",
                    "spark_python_task": {"python_file": "/a.py"},
                    "new_cluster": {"spark_version": "16", "node_type_id": "n", "data_security_mode": "SAFE"},
                }
            ]
        },
        "data_security_mode",
    ),
]


@pytest.mark.parametrize(("change", "sentence"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_a_submit_that_the_platform_would_refuse_is_refused(
    workspace: WorkspaceClient, change: dict[str, Any], sentence: str
) -> None:
    body = {
        "tasks": [{"task_key": "a", "spark_python_task": {"python_file": "/a.py"}, "environment_key": "default"}],
        "environments": [{"environment_key": "default", "spec": {"environment_version": "5"}}],
    }
    with pytest.raises(InvalidParameterValue, match=sentence):
        workspace.api_client.do("POST", "/api/2.2/jobs/runs/submit", body=body | change)


def test_a_cluster_needs_the_entitlement(
    control: SandboxControl, principal: str, workspace: WorkspaceClient, upload: Callable[..., str]
) -> None:
    path = upload("print(1)\n")
    cluster = compute.ClusterSpec(spark_version="16.4.x-scala2.12", node_type_id="i3.xlarge", num_workers=1)
    control.change_principal(principal, entitlements=["workspace-access"])
    with pytest.raises(PermissionDenied, match="not authorized to create clusters"):
        submit(workspace, path, tasks=[task(path, environment_key=None, new_cluster=cluster)])
    submit(workspace, path)


def test_running_as_another_principal_needs_its_role(
    control: SandboxControl, principal: str, workspace: WorkspaceClient, upload: Callable[..., str]
) -> None:
    other = control.add_principal("other", groups=["admins"])
    path = upload(
        "import os, jwt\nprint(jwt.decode(os.environ['DATABRICKS_TOKEN'], options={'verify_signature': 0})['sub'])\n"
    )
    run_as = jobs.JobRunAs(service_principal_name=other)
    with pytest.raises(PermissionDenied, match="servicePrincipal/user"):
        submit(workspace, path, run_as=run_as)
    control.change_principal(principal, usable_service_principals=[other])
    run_id = submit(workspace, path, run_as=run_as)
    ended(workspace, run_id)
    assert output(workspace, run_id).logs == f"{other}\n"


def test_a_run_is_seen_and_cancelled_only_by_those_its_access_list_names(
    control: SandboxControl,
    workspace: WorkspaceClient,
    upload: Callable[..., str],
    client_for: Callable[..., WorkspaceClient],
    issuer: Any,
) -> None:
    viewer, stranger = control.add_principal("viewer"), control.add_principal("stranger")
    for name in (viewer, stranger):
        control.add_policy(name, issuer.url, name, [AUDIENCE])
    control.add_script(run_name="acl", states=[("RUNNING", 600)])
    rights = [
        jobs.JobAccessControlRequest(service_principal_name=viewer, permission_level=jobs.JobPermissionLevel.CAN_VIEW)
    ]
    run_id = submit(workspace, upload("print(1)\n"), access_control_list=rights, run_name="acl")
    as_viewer = client_for(control, viewer, subject=viewer)
    as_stranger = client_for(control, stranger, subject=stranger)
    assert as_viewer.jobs.get_run(run_id).run_name == "acl"
    assert run_id in [run.run_id for run in as_viewer.jobs.list_runs()]
    assert run_id not in [run.run_id for run in as_stranger.jobs.list_runs()]
    with pytest.raises(PermissionDenied, match="View"):
        as_stranger.jobs.get_run(run_id)
    with pytest.raises(PermissionDenied, match="Manage Run"):
        as_viewer.jobs.cancel_run(run_id)
    unknown = [jobs.JobAccessControlRequest(user_name="no@one", permission_level=jobs.JobPermissionLevel.CAN_VIEW)]
    with pytest.raises(NotFound, match="no@one"):
        submit(workspace, "/a.py", access_control_list=unknown)
    workspace.jobs.cancel_run(run_id)


def test_lists_are_newest_first_in_pages_of_at_most_25(
    control: SandboxControl, workspace: WorkspaceClient, upload: Callable[..., str]
) -> None:
    control.add_script(run_name="page", states=[("RUNNING", 600)])
    path, before = upload("print(1)\n"), int(time.time() * 1000)
    made = [submit(workspace, path, run_name="page") for _ in range(30)]
    listed = list(workspace.jobs.list_runs(limit=25, start_time_from=before, active_only=True))
    assert [run.run_id for run in listed] == made[::-1]
    assert not list(workspace.jobs.list_runs(completed_only=True, start_time_from=before))
    first = workspace.api_client.do("GET", "/api/2.2/jobs/runs/list", query={"limit": 25, "start_time_from": before})
    assert isinstance(first, dict)
    assert len(first["runs"]) == 25
    assert first["has_more"]
    assert "tasks" not in first["runs"][0]
    second_query = {"limit": 25, "start_time_from": before, "page_token": first["next_page_token"]}
    second = workspace.api_client.do("GET", "/api/2.2/jobs/runs/list", query=second_query)
    assert isinstance(second, dict)
    assert len(second["runs"]) == 5
    assert "next_page_token" not in second
    back = workspace.api_client.do(
        "GET", "/api/2.2/jobs/runs/list", query={"limit": 25, "page_token": second["prev_page_token"]}
    )
    assert isinstance(back, dict)
    assert [run["run_id"] for run in back["runs"]] == made[:4:-1]
    for query in ({"limit": 26}, {"active_only": "true", "completed_only": "true"}, {"page_token": "x"}, {"sort": "a"}):
        with pytest.raises(BadRequest):
            workspace.api_client.do("GET", "/api/2.2/jobs/runs/list", query=query)
    for run_id in made:
        workspace.jobs.cancel_run(run_id)


def test_an_unknown_path_is_answered_as_the_platform_does(workspace: WorkspaceClient) -> None:
    with pytest.raises(NotFound, match="No API found for 'GET /jobs/runs/gett'"):
        workspace.api_client.do("GET", "/api/2.2/jobs/runs/gett")
