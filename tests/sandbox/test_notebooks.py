"""Notebook tasks: both formats really run, with the part of dbutils that jobs use."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import InvalidParameterValue
from databricks.sdk.service import compute, jobs
from databricks.sdk.service.workspace import ImportFormat, Language

from trainyard_sandbox.client import SandboxControl

from .conftest import ended
from .wheels import a_wheel

SERVERLESS = [jobs.JobEnvironment("default", compute.Environment(environment_version="5"))]

SOURCE = """# Databricks notebook source
# MAGIC %md
# MAGIC # A title

# COMMAND ----------
# MAGIC %pip install packaging

# COMMAND ----------
total = 0
for number in range(4):
    total += number

# COMMAND ----------
# MAGIC %python
# MAGIC dbutils.widgets.text("trees", "10")
# MAGIC print("never in the output of a notebook task")

# COMMAND ----------
dbutils.notebook.exit(f"{total} {dbutils.widgets.get('trees')} {__name__}")

# COMMAND ----------
raise RuntimeError("not reached")
"""


@pytest.fixture
def notebook(workspace: WorkspaceClient, principal: str) -> Callable[..., str]:
    """Import a notebook into the principal's home; returns its workspace path, without a suffix."""

    def put(source: str, name: str = "notebook", kind: ImportFormat = ImportFormat.SOURCE) -> str:
        path = f"/Users/{principal}/{name}"
        content = base64.b64encode(source.encode()).decode()
        language = Language.PYTHON if kind is ImportFormat.SOURCE else None
        workspace.workspace.import_(path, content=content, format=kind, language=language, overwrite=True)
        return path

    return put


def ipynb(*cells: str) -> str:
    made: list[dict[str, Any]] = [{"cell_type": "markdown", "metadata": {}, "source": ["# Title"]}]
    for cell in cells:
        source = cell.splitlines(keepends=True)
        made.append({"cell_type": "code", "metadata": {}, "source": source, "outputs": [], "execution_count": None})
    return json.dumps({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


def run(workspace: WorkspaceClient, path: str, **fields: Any) -> tuple[jobs.Run, jobs.RunOutput]:
    """Run a notebook serverless to its end."""
    base_parameters = fields.pop("base_parameters", None)
    task = jobs.SubmitTask(
        task_key="train",
        notebook_task=jobs.NotebookTask(path, base_parameters=base_parameters),
        environment_key="default",
        disable_auto_optimization=True,
    )
    waiter: Any = workspace.jobs.submit(tasks=[task], environments=fields.pop("environments", SERVERLESS), **fields)
    found = ended(workspace, waiter.response.run_id, 60)
    [only] = found.tasks or []
    assert only.run_id is not None
    return found, workspace.jobs.get_run_output(only.run_id)


def test_a_source_notebook_runs_and_its_exit_value_is_told(
    workspace: WorkspaceClient, notebook: Callable[..., str]
) -> None:
    _, output = run(workspace, notebook(SOURCE), base_parameters={"trees": "7"})
    assert output.error is None, output.error_trace
    assert output.notebook_output is not None
    assert output.notebook_output.result == "6 7 __main__"
    assert not output.notebook_output.truncated
    assert output.logs is None, "the API gives no logs of a notebook task"


def test_an_ipynb_notebook_runs_and_takes_the_widgets_default(
    workspace: WorkspaceClient, notebook: Callable[..., str]
) -> None:
    source = ipynb(
        "%pip install packaging\nimport json",
        "dbutils.widgets.text('trees', '10')",
        "dbutils.notebook.exit(json.dumps({'trees': dbutils.widgets.get('trees')}))",
    )
    _, output = run(workspace, notebook(source, kind=ImportFormat.JUPYTER))
    assert output.notebook_output is not None
    assert output.notebook_output.result == '{"trees": "10"}', output.error_trace


def test_a_notebook_that_does_not_call_exit_succeeds_without_a_result(
    workspace: WorkspaceClient, notebook: Callable[..., str]
) -> None:
    found, output = run(workspace, notebook(ipynb("x = 1 + 1", "x"), kind=ImportFormat.JUPYTER))
    assert found.state is not None
    assert found.state.result_state is jobs.RunResultState.SUCCESS
    assert output.notebook_output is not None
    assert output.notebook_output.result is None


def test_a_failing_cell_ends_the_task_with_its_error_and_coloured_trace(
    workspace: WorkspaceClient, notebook: Callable[..., str]
) -> None:
    found, output = run(
        workspace, notebook("# Databricks notebook source\ndef f():\n    raise ValueError('boom')\nf()")
    )
    assert found.state is not None
    assert found.state.result_state is jobs.RunResultState.FAILED
    assert "Workload failed, see run output for details" in (found.state.state_message or "")
    assert output.error == "ValueError: boom"
    assert output.error_trace is not None
    assert "\x1b[0;31m" in output.error_trace
    assert "raise ValueError('boom')" in output.error_trace
    assert "notebook_driver" not in output.error_trace


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("dbutils.widgets.get('absent')", "No input widget named absent is defined"),
        ("dbutils.secrets.get('nowhere', 'key')", "Scope nowhere does not exist!"),
        ("# MAGIC %sql select 1", "not offered by this sandbox"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_what_a_notebook_cannot_do_is_its_error(
    workspace: WorkspaceClient, notebook: Callable[..., str], line: str, said: str
) -> None:
    _, output = run(workspace, notebook(f"# Databricks notebook source\n{line}\n"))
    assert said in (output.error or "")


def test_a_notebook_reads_secrets_that_its_identity_may_read(
    workspace: WorkspaceClient, notebook: Callable[..., str], control: SandboxControl, principal: str
) -> None:
    workspace.secrets.create_scope("of-notebooks")
    workspace.secrets.put_secret("of-notebooks", "key", string_value="hunter2")
    path = notebook("# Databricks notebook source\ndbutils.notebook.exit(dbutils.secrets.get('of-notebooks', 'KEY'))\n")
    _, output = run(workspace, path)
    assert output.notebook_output is not None
    assert output.notebook_output.result == "hunter2"
    other = control.add_principal("other", usable_service_principals=[])
    control.grant(other, f"/Users/{principal}", "CAN_READ")
    control.change_principal(principal, usable_service_principals=[other])
    _, output = run(workspace, path, run_as=jobs.JobRunAs(service_principal_name=other))
    assert "does not have READ permission on scope of-notebooks" in (output.error or "")


def test_a_notebook_imports_the_files_beside_it_and_installs_a_wheel(
    workspace: WorkspaceClient, notebook: Callable[..., str], upload: Callable[..., str], principal: str
) -> None:
    upload("WORD = 'neighbour'\n", "beside_notebook.py")
    wheel = f"/Users/{principal}/greeter-1.0-py3-none-any.whl"
    content = base64.b64encode(a_wheel("greeter", "1.0", "def greet():\n    return 'hello'\n")).decode()
    workspace.workspace.import_(wheel, content=content, format=ImportFormat.RAW, overwrite=True)
    path = notebook(
        f"# Databricks notebook source\n# MAGIC %pip install /Workspace{wheel}\n\n# COMMAND ----------\n"
        "dbutils.library.restartPython()\n\n# COMMAND ----------\n"
        "import beside_notebook, greeter\ndbutils.notebook.exit(greeter.greet() + ' ' + beside_notebook.WORD)\n"
    )
    _, output = run(workspace, path)
    assert output.notebook_output is not None, output.error_trace
    assert output.notebook_output.result == "hello neighbour"


def test_a_notebook_reads_and_writes_files_of_a_volume(
    workspace: WorkspaceClient, notebook: Callable[..., str], control: SandboxControl, principal: str
) -> None:
    control.add_volume("main.notes.data")
    control.add_volume_file("/Volumes/main/notes/data/in.txt", b"wine")
    control.grant(principal, "main", "USE CATALOG")
    control.grant(principal, "main.notes", "USE SCHEMA")
    control.grant(principal, "main.notes.data", "READ VOLUME", "WRITE VOLUME")
    source = ipynb(
        "from pathlib import Path\nfolder = Path('/Volumes/main/notes/data')",
        "(folder / 'out.txt').write_text((folder / 'in.txt').read_text().upper())",
    )
    _, output = run(workspace, notebook(source, kind=ImportFormat.JUPYTER))
    assert output.error is None, output.error_trace
    written = workspace.files.download("/Volumes/main/notes/data/out.txt").contents
    assert written is not None
    assert written.read() == b"WINE"


def test_a_notebook_that_cannot_be_read_ends_the_run_in_internal_error(
    workspace: WorkspaceClient, principal: str
) -> None:
    found, output = run(workspace, f"/Users/{principal}/absent")
    assert found.status is not None
    assert found.status.termination_details is not None
    assert found.status.termination_details.code is jobs.TerminationCodeCode.RESOURCE_NOT_FOUND
    assert "Unable to access the notebook" in (output.error or "")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"notebook_path": "relative"}, "begin with"),
        ({"notebook_path": "/a", "source": "GIT"}, "git_source"),
        ({"notebook_path": "/a", "warehouse_id": "w"}, "warehouse_id"),
        ({"notebook_path": "/a", "base_parameters": {"x": "y" * 1024 * 1024}}, "1MB"),
        ({"notebook_path": "/a", "colour": "blue"}, "unknown field"),
    ],
)
def test_a_notebook_task_that_the_platform_would_refuse_is_refused(
    workspace: WorkspaceClient, spec: dict[str, Any], said: str
) -> None:
    body = {"tasks": [{"task_key": "a", "notebook_task": spec}]}
    with pytest.raises(InvalidParameterValue, match=said):
        workspace.api_client.do("POST", "/api/2.2/jobs/runs/submit", body=body)
