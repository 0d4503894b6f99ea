"""What a run's code does with /Volumes paths: ordinary Python file operations, under the run's own privileges."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.service import compute, jobs

from trainyard_sandbox.client import SandboxControl

from .conftest import ended

ENVIRONMENTS = [jobs.JobEnvironment("default", compute.Environment(environment_version="5"))]

FILE_OPERATIONS = """
import csv, glob, os, pathlib, shutil, subprocess, sys
import pandas
root = pathlib.Path(sys.argv[1])
assert pandas.read_csv(root / 'in/train.csv')['y'].sum() == 6
with open(f'{root}/in/train.csv', newline='') as source:
    assert len(list(csv.reader(source))) == 3
os.makedirs(root / 'out' / 'deep', exist_ok=True)
os.makedirs(root / 'out' / 'deep', exist_ok=True)
(root / 'out' / 'a.txt').write_text('one')
(root / 'out' / 'a.txt').rename(root / 'out' / 'b.txt')
shutil.copy(root / 'out' / 'b.txt', 'here.txt')
assert open('here.txt').read() == 'one'
shutil.copytree(root / 'out', root / 'copy')
assert sorted(glob.glob(f'{root}/copy/*')) == [f'{root}/copy/b.txt', f'{root}/copy/deep']
assert [(folder, sorted(names)) for folder, names, _ in os.walk(root)][0] == (str(root), ['copy', 'in', 'out'])
assert sorted(path.name for path in root.rglob('*.txt')) == ['b.txt', 'b.txt']
shutil.rmtree(root / 'copy')
assert not os.path.exists(root / 'copy') and (root / 'out').is_dir()
child = "import sys; print(open(sys.argv[1]).read())"
assert subprocess.check_output([sys.executable, '-c', child, str(root / 'out/b.txt')], text=True) == 'one\\n'
for missing in (root / 'none', '/Volumes/main/files/none/x', '/Volumes/elsewhere'):
    try:
        open(missing)
    except FileNotFoundError as error:
        assert error.errno == 2 and error.filename == str(missing), error
    else:
        raise AssertionError(missing)
"""

REFUSALS = """
import os, pathlib, sys
root = pathlib.Path(sys.argv[1])
print(pathlib.Path(root, 'in/train.csv').read_text())
for attempt in (
    lambda: (root / 'x').write_text('x'),
    lambda: os.remove(root / 'in/train.csv'),
    lambda: os.mkdir(root / 'y'),
    lambda: os.open(root / 'z', os.O_CREAT | os.O_WRONLY),
    lambda: os.rename(root / 'in', root / 'elsewhere'),
):
    try:
        attempt()
    except PermissionError as error:
        assert 'WRITE VOLUME' in str(error) and str(root) in str(error), error
    else:
        raise AssertionError('written')
"""

READS = "import sys\nprint(open(sys.argv[1] + '/in/train.csv').read())\n"


@pytest.fixture
def root(control: SandboxControl, request: pytest.FixtureRequest) -> str:
    """The path of a volume that nobody may use yet, with a file in it."""
    name = f"v{abs(hash(request.node.name))}"
    control.add_volume(f"main.files.{name}")
    return f"/Volumes/main/files/{name}"


def full_name(root: str) -> str:
    return ".".join(root.split("/")[2:])


def run(workspace: WorkspaceClient, path: str, root: str) -> tuple[jobs.RunResultState | None, str]:
    """The result of a run of the file, and what it printed or raised."""
    python = jobs.SparkPythonTask(python_file=path, parameters=[root])
    tasks = [jobs.SubmitTask(task_key="train", spark_python_task=python, environment_key="default")]
    waiter: Any = workspace.jobs.submit(run_name="volumes", tasks=tasks, environments=ENVIRONMENTS)
    finished = ended(workspace, waiter.response.run_id, timeout_seconds=60)
    assert finished.state is not None
    assert finished.tasks is not None
    assert finished.tasks[0].run_id is not None
    output = workspace.jobs.get_run_output(finished.tasks[0].run_id)
    return finished.state.result_state, f"{output.logs}{output.error}"


def test_a_run_reads_and_writes_a_volume_with_ordinary_file_operations(
    control: SandboxControl, workspace: WorkspaceClient, principal: str, upload: Callable[..., str], root: str
) -> None:
    control.grant(principal, "main", "USE CATALOG")
    control.grant(principal, "main.files", "USE SCHEMA")
    control.grant(principal, full_name(root), "READ VOLUME", "WRITE VOLUME")
    workspace.files.upload(f"{root}/in/train.csv", io.BytesIO(b"x,y\n1,2\n3,4\n"))
    result, said = run(workspace, upload(textwrap.dedent(FILE_OPERATIONS)), root)
    assert result is jobs.RunResultState.SUCCESS, said
    contents = workspace.files.download(f"{root}/out/b.txt").contents
    assert contents is not None
    assert contents.read() == b"one"


def test_a_run_may_do_no_more_than_its_identity(
    control: SandboxControl, workspace: WorkspaceClient, principal: str, upload: Callable[..., str], root: str
) -> None:
    control.grant(principal, "main", "USE CATALOG")
    control.grant(principal, "main.files", "USE SCHEMA")
    control.grant(principal, full_name(root), "READ VOLUME", "WRITE VOLUME")
    control.add_volume_file(f"{root}/in/train.csv", b"x,y\n")
    control.revoke(principal, full_name(root), "WRITE VOLUME")
    result, said = run(workspace, upload(REFUSALS, "refusals.py"), root)
    assert result is jobs.RunResultState.SUCCESS, said
    control.revoke(principal, full_name(root), "READ VOLUME")
    result, said = run(workspace, upload(READS, "reads.py"), root)
    assert result is jobs.RunResultState.FAILED
    assert "PermissionError" in said
    assert "READ VOLUME" in said
    control.revoke(principal, "main.files", "USE SCHEMA")
    result, said = run(workspace, upload(READS, "reads.py"), root)
    assert result is jobs.RunResultState.FAILED
    assert "FileNotFoundError" in said
