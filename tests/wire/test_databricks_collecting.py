"""What is collected of runs that have ended, in the sandbox: tasks, logs, outputs, and who has to act."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.wire.jobs import job
from trainyard.core.errors import Refused
from trainyard.core.remote import End, RemoteRun, Result, Stage
from trainyard.core.tokens import code_digest, submission_token
from trainyard.platforms.base import Request, Wanted
from trainyard.platforms.databricks.connection import DatabricksConnection
from trainyard.platforms.databricks.translate import translate, wanted
from trainyard_sandbox.client import SandboxControl

ALL = Wanted(log_characters=10_000)

Make = Callable[..., Request]


@pytest.fixture
def request_of(control: SandboxControl, principal: str) -> Make:
    def build(source: str, notebook: str | None = None, **spec: Any) -> Request:
        uid = f"{time.time_ns():032x}"
        made = translate(job(f"# {uid}\n{source}", host=control.address.host, principal=principal, uid=uid, **spec))
        if notebook is None:
            return made
        (task,) = made.body["tasks"]
        path = f"/Workspace{made.code_folder}/nb"
        changed = {key: value for key, value in task.items() if key != "spark_python_task"}
        changed["notebook_task"] = {"notebook_path": path, "source": "WORKSPACE"}
        files = {**made.files, "nb.py": f"# Databricks notebook source\n{notebook}".encode()}
        return replace(made, files=files, notebooks=frozenset({"nb.py"}), body={**made.body, "tasks": [changed]})

    return build


def graph(request: Request, *tasks: Mapping[str, Any]) -> Request:
    """The request with several tasks instead of its one; `file` names what a task runs."""
    (only,) = request.body["tasks"]
    folder = f"/Workspace{request.code_folder}"
    made = [
        {**only, "spark_python_task": {"python_file": f"{folder}/{task['file']}", "source": "WORKSPACE"}}
        | {key: value for key, value in task.items() if key != "file"}
        for task in tasks
    ]
    return replace(request, body={**request.body, "tasks": made})


def ended(connection: DatabricksConnection, remote_id: str, seconds: float = 90) -> RemoteRun:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        remote = connection.get(remote_id)
        if remote.stage is Stage.ENDED:
            return remote
        time.sleep(0.1)
    raise AssertionError(f"still {remote.state} after {seconds} s")


def ran(connection: DatabricksConnection, request: Request, asked: Wanted = ALL) -> tuple[RemoteRun, Result]:
    submitted = connection.submit(request)
    remote = ended(connection, submitted.remote_id)
    return remote, connection.collect(remote, submitted.mlflow_run_id, asked)


def test_a_run_leaves_its_log_its_mlflow_page_and_its_params(
    connection: DatabricksConnection, request_of: Make, control: SandboxControl
) -> None:
    source = "import mlflow\nwith mlflow.start_run():\n    mlflow.log_param('depth', 4)\nprint('fitted')\n"
    remote, result = ran(connection, request_of(source))
    assert remote.end is End.SUCCEEDED
    (log,) = result.logs
    assert (log.name, "fitted" in log.text, log.truncated, log.missing) == ("train", True, False, "")
    assert result.params == {"depth": "4"}
    assert (result.mlflow_url or "").startswith(f"{control.address.host}/ml/experiments/")
    assert result.tasks == ()


def test_nothing_is_asked_of_a_good_run_of_which_nothing_is_wanted(
    connection: DatabricksConnection, request_of: Make, control: SandboxControl
) -> None:
    submitted = connection.submit(replace(request_of("pass"), experiment=None))
    remote = ended(connection, submitted.remote_id)
    control.clear_requests()
    assert connection.collect(remote, None, Wanted()) == Result()
    assert control.requests() == []


TELLING = [
    ("raise MemoryError('no more')", End.OUT_OF_MEMORY, "MemoryError"),
    ("import no_such_thing", None, "'no_such_thing'"),
    ("raise RuntimeError('PERMISSION_DENIED: no CREATE MODEL')", End.PERMISSION, "CREATE MODEL"),
    ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", End.OUT_OF_MEMORY, ""),
    ("raise SystemExit(3)", None, "3"),
]


@pytest.mark.parametrize(("source", "end", "words"), TELLING)
def test_what_the_code_printed_tells_who_has_to_act(
    connection: DatabricksConnection, request_of: Make, source: str, end: End | None, words: str
) -> None:
    remote, result = ran(connection, request_of(source), Wanted())
    assert remote.end is End.CODE
    assert result.end is end
    assert words in result.error
    assert result.logs == ()


CLUSTERS = [
    ("AZURE_QUOTA_EXCEEDED_EXCEPTION", {}, End.QUOTA),
    ("CLOUD_PROVIDER_LAUNCH_FAILURE", {"azure_error_message": "exceeding approved Total Regional Cores"}, End.QUOTA),
    ("SPOT_INSTANCE_TERMINATION", {}, None),
    ("INVALID_ARGUMENT", {"databricks_error_message": "no such zone"}, End.CONFIGURATION),
    ("AWS_AUTHORIZATION_FAILURE", {}, End.PERMISSION),
]


@pytest.mark.parametrize(("code", "parameters", "end"), CLUSTERS)
def test_a_cluster_that_does_not_start_tells_who_has_to_act(
    connection: DatabricksConnection,
    request_of: Make,
    control: SandboxControl,
    code: str,
    parameters: dict[str, str],
    end: End | None,
) -> None:
    control.fail_cluster_starts(code, parameters=parameters)
    remote, result = ran(connection, request_of("pass", compute={"class": "cluster"}), Wanted())
    control.let_clusters_start()
    assert (result.end or remote.end) is (end or End.INFRASTRUCTURE)
    assert code in result.error


def test_a_graph_tells_each_task_and_what_failed_first(connection: DatabricksConnection, request_of: Make) -> None:
    request = graph(
        replace(request_of("print('prepared')"), files={}),
        {"task_key": "prepare", "file": "main.py"},
        {"task_key": "fit", "file": "bad.py", "depends_on": [{"task_key": "prepare"}]},
        {"task_key": "score", "file": "main.py", "depends_on": [{"task_key": "fit"}]},
    )
    request = replace(request, files={"main.py": b"print('prepared')", "bad.py": b"raise MemoryError('big')"})
    remote, result = ran(connection, request, replace(ALL, tasks=("prepare", "fit", "score")))
    assert remote.end is End.CODE
    assert remote.message.startswith("task fit failed")
    assert result.end is End.OUT_OF_MEMORY
    assert result.error.startswith("task fit failed")
    shown = {task.name: (task.end, task.skipped) for task in result.tasks}
    assert shown == {"prepare": (End.SUCCEEDED, False), "fit": (End.OUT_OF_MEMORY, False), "score": (None, True)}
    logs = {log.name: log for log in result.logs}
    assert "prepared" in logs["prepare"].text
    assert "MemoryError" in logs["fit"].text
    assert (logs["score"].text, logs["score"].missing) == ("", "the task was never started")


def test_a_success_in_spite_of_a_failed_task_is_told_with_that_task(
    connection: DatabricksConnection, request_of: Make
) -> None:
    request = graph(
        request_of("print('cleaned')"),
        {"task_key": "fit", "file": "bad.py"},
        {
            "task_key": "clean",
            "file": "main.py",
            "depends_on": [{"task_key": "fit"}],
            "run_if": "AT_LEAST_ONE_FAILED",
        },
    )
    request = replace(request, files={**request.files, "bad.py": b"raise ValueError('x')"})
    remote, result = ran(connection, request, replace(ALL, tasks=("fit", "clean")))
    assert (remote.end, result.end, result.error) == (End.SUCCEEDED, None, "")
    assert {task.name: task.end for task in result.tasks} == {"fit": End.CODE, "clean": End.SUCCEEDED}


def test_a_notebook_leaves_what_it_ends_with(connection: DatabricksConnection, request_of: Make) -> None:
    _, result = ran(connection, request_of("pass", notebook="dbutils.notebook.exit('0.97')"))
    assert [log.text for log in result.logs] == ["0.97\n"]
    _, silent = ran(connection, request_of("pass", notebook="print('in a cell')"))
    assert [(log.text, "run's page" in log.missing) for log in silent.logs] == [("", True)]


def test_the_whole_text_goes_to_the_destination_and_its_end_is_kept(
    connection: DatabricksConnection, request_of: Make
) -> None:
    stored: dict[str, str] = {}

    def keep(name: str, text: str) -> str:
        stored[name] = text
        return f"s3://bucket/run/{name}.log"

    source = "print('DATABRICKS_TOKEN=dapi0123456789abcdef')\nprint('x' * 500)\nprint('the end')"
    _, result = ran(connection, request_of(source), Wanted(log_characters=50, keep=keep))
    (log,) = result.logs
    assert (log.text.endswith("the end\n"), len(log.text), log.truncated) == (True, 50, True)
    assert len(stored["train"]) > 500
    assert "dapi0123" not in stored["train"]
    assert result.logs_uri == "s3://bucket/run/train.log"


def test_a_log_that_can_not_be_kept_does_not_lose_the_result(
    connection: DatabricksConnection, request_of: Make
) -> None:
    def keep(name: str, text: str) -> str:
        raise Refused("the bucket has gone")

    source = "import mlflow\nwith mlflow.start_run():\n    mlflow.log_metric('loss', 1)\nprint('done')"
    _, result = ran(connection, request_of(source), Wanted(log_characters=50, keep=keep))
    (log,) = result.logs
    assert result.metrics == {"loss": "1.0"}
    assert ("done" in log.text, "the bucket has gone" in log.missing, result.logs_uri) == (True, True, None)


def test_outputs_are_measured_where_the_platform_tells_their_size(
    connection: DatabricksConnection, request_of: Make, control: SandboxControl, principal: str
) -> None:
    schema = f"main.s{time.time_ns()}"
    control.add_volume(f"{schema}.out", owner=principal)
    control.add_table(f"{schema}.scores", {"x": "int"}, owner=principal, properties={"sizeInBytes": "77"})
    control.add_table(f"{schema}.plain", {"x": "int"}, owner=principal)
    for name, privilege in (("main", "USE_CATALOG"), (schema, "USE_SCHEMA")):
        control.grant(principal, name, privilege)
    root = f"/Volumes/main/{schema.partition('.')[2]}/out"
    for path, size in (("run/a.bin", 10), ("run/deep/b.bin", 5), ("one.txt", 3)):
        connection.files.put(f"{root}/{path}", b"x" * size)
    submitted = connection.submit(replace(request_of("pass"), experiment=None))
    outputs: dict[str, tuple[str | None, str | None]] = {
        "folder": (f"{root}/run", None),
        "file": (f"dbfs:{root}/one.txt", None),
        "absent": (f"{root}/nothing", None),
        "table": (None, f"{schema}.scores"),
        "plain": (None, f"{schema}.plain"),
        "gone": (None, f"{schema}.gone"),
        "hidden": (None, "other.closed.t"),
        "bucket": ("s3://bucket/x", None),
    }
    found = connection.collect(ended(connection, submitted.remote_id), None, Wanted(outputs=outputs)).outputs
    sizes = {name: (each.size_bytes, each.files) for name, each in found.items()}
    assert sizes == {
        "folder": (15, 2),
        "file": (3, 1),
        "table": (77, None),
        **dict.fromkeys(("absent", "plain", "gone", "hidden", "bucket"), (None, None)),
    }
    assert found["absent"].message.startswith("is not there")
    assert found["gone"].message.startswith("is not there")
    assert found["plain"].message.startswith("is there")
    assert found["bucket"].message.startswith("is not measured")
    assert [name for name in ("folder", "file", "table") if found[name].message] == []


def test_files_of_a_volume_are_written_read_and_deleted_with_their_folder(
    connection: DatabricksConnection, control: SandboxControl, principal: str
) -> None:
    schema = f"main.s{time.time_ns()}"
    control.add_volume(f"{schema}.logs", owner=principal)
    for name, privilege in (("main", "USE_CATALOG"), (schema, "USE_SCHEMA")):
        control.grant(principal, name, privilege)
    files, root = connection.files, f"/Volumes/main/{schema.partition('.')[2]}/logs"
    data = "größer\n".encode() * 3
    files.put(f"{root}/team a/run/train.log", b"old")
    files.put(f"{root}/team a/run/train.log", data)
    files.put(f"{root}/team a/run/sub/x.log", b"")
    assert files.get(f"{root}/team a/run/train.log") == data
    assert files.get(f"{root}/team a/run/sub/x.log") == b""
    assert files.get(f"{root}/team a/run/none.log") is None
    files.delete(f"{root}/team a/run")
    assert files.get(f"{root}/team a/run/train.log") is None
    files.delete(f"{root}/team a/run")
    for bad in ("/Workspace/x", f"{root}/../x", "/Volumes"):
        with pytest.raises(ValueError, match="no path below"):
            files.put(bad, b"")


def test_a_smaller_attempt_has_what_the_tasks_before_it_logged_and_registered(
    connection: DatabricksConnection, control: SandboxControl, principal: str
) -> None:
    schema = f"main.s{time.time_ns()}"
    for name, privileges in (("main", ["USE_CATALOG"]), (schema, ["USE_SCHEMA", "CREATE_MODEL", "APPLY_TAG"])):
        control.grant(principal, name, *privileges)
    files = {
        "fit.py": b"import os, mlflow\n"
        b"with mlflow.start_run():\n"
        b"    mlflow.log_metric('fitted', 1)\n"
        b"    mlflow.pyfunc.log_model('model', python_model=lambda model_input: model_input, pip_requirements=[],\n"
        b"        registered_model_name=os.environ['TRAINYARD_MODEL_NAME'],\n"
        b"        signature=mlflow.models.infer_signature(['a'], ['a']))\n",
        "score.py": b"import os, mlflow\n"
        b"if os.environ['TRAINYARD_ATTEMPT'] == '1':\n"
        b"    raise SystemExit(3)\n"
        b"with mlflow.start_run():\n"
        b"    mlflow.log_metric('scored', 2)\n",
    }
    tasks = [
        {"name": "fit", "entrypoint": {"pythonFile": "fit.py"}},
        {"name": "score", "entrypoint": {"pythonFile": "score.py"}, "dependsOn": ["fit"]},
    ]
    first = job(
        host=control.address.host,
        principal=principal,
        uid=f"{time.time_ns():032x}",
        workspace={"modelPrefix": schema},
        tasks=tasks,
        model={"name": "iris", "alias": "champion"},
    )
    first = replace(first, files=files, code_digest=code_digest(files))
    second = replace(
        first,
        attempt=2,
        submission_token=submission_token(first.namespace, first.name, first.uid, None, 2),
        done_tasks=frozenset({"fit"}),
    )
    submitted = connection.submit(translate(first))
    failed = connection.collect(ended(connection, submitted.remote_id), submitted.mlflow_run_id, wanted(first))
    assert {task.name: task.end for task in failed.tasks} == {"fit": End.SUCCEEDED, "score": End.CODE}, failed.error
    submitted = connection.submit(translate(second))
    remote = ended(connection, submitted.remote_id)
    result = connection.collect(remote, submitted.mlflow_run_id, wanted(second))
    assert [(task.name, task.end) for task in result.tasks] == [("score", End.SUCCEEDED)], result.error
    assert result.metrics == {"fitted": "1.0", "scored": "2.0"}
    assert result.shortfall is None
    assert result.model is not None
    assert (result.model.name, result.model.alias) == (f"{schema}.iris", "champion")
