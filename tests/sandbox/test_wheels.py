"""Wheel tasks: really installed from the workspace or a volume, and really run."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import InvalidParameterValue
from databricks.sdk.service import compute, jobs
from databricks.sdk.service.catalog import VolumeType
from databricks.sdk.service.workspace import ImportFormat

from trainyard_sandbox.client import SandboxControl

from .conftest import ended
from .wheels import a_wheel

TRAIN = "import sys\n\ndef main():\n    print('trained', *sys.argv[1:])\n\ndef plain():\n    print('plainly')\n"


@pytest.fixture
def put_wheel(workspace: WorkspaceClient, principal: str) -> Callable[..., str]:
    """Put a wheel into the principal's home; returns its path."""

    def put(content: bytes, name: str) -> str:
        path = f"/Users/{principal}/{name}-py3-none-any.whl"
        encoded = base64.b64encode(content).decode()
        workspace.workspace.import_(path, content=encoded, format=ImportFormat.RAW, overwrite=True)
        return f"/Workspace{path}"

    return put


def run(workspace: WorkspaceClient, wheel: jobs.PythonWheelTask, dependencies: Sequence[str]) -> jobs.RunOutput:
    """Run a wheel task serverless to its end."""
    environment = compute.Environment(environment_version="5", dependencies=list(dependencies))
    task = jobs.SubmitTask(
        task_key="train", python_wheel_task=wheel, environment_key="default", disable_auto_optimization=True
    )
    waiter: Any = workspace.jobs.submit(tasks=[task], environments=[jobs.JobEnvironment("default", environment)])
    [only] = ended(workspace, waiter.response.run_id, 60).tasks or []
    assert only.run_id is not None
    return workspace.jobs.get_run_output(only.run_id)


def test_a_wheels_entry_point_runs_with_its_parameters(
    workspace: WorkspaceClient, put_wheel: Callable[..., str]
) -> None:
    path = put_wheel(a_wheel("trainpkg", "1.0", TRAIN, {"train": "trainpkg:main"}), "trainpkg-1.0")
    listed = jobs.PythonWheelTask("trainpkg", "train", parameters=["--trees", "7"])
    assert run(workspace, listed, [path]).logs == "trained --trees 7\n"
    named = jobs.PythonWheelTask("trainpkg", "train", named_parameters={"trees": "7"})
    assert run(workspace, named, [path]).logs == "trained --trees=7\n"
    plain = jobs.PythonWheelTask("trainpkg", "plain")
    assert run(workspace, plain, [path]).logs == "plainly\n", "without an entry point of that name, the function"


def test_a_wheel_replaced_in_place_is_installed_anew(workspace: WorkspaceClient, put_wheel: Callable[..., str]) -> None:
    for word in ("first", "second"):
        source = f"def main():\n    print({word!r})\n"
        path = put_wheel(a_wheel("fresh", "1.0", source, {"train": "fresh:main"}), "fresh-1.0")
        assert run(workspace, jobs.PythonWheelTask("fresh", "train"), [path]).logs == f"{word}\n"


def test_a_wheel_finds_another_that_it_requires(workspace: WorkspaceClient, put_wheel: Callable[..., str]) -> None:
    base = put_wheel(a_wheel("basepkg", "1.0", "WORD = 'base'\n"), "basepkg-1.0")
    source = "import basepkg\n\ndef main():\n    print(basepkg.WORD)\n"
    top = put_wheel(a_wheel("toppkg", "1.0", source, {"train": "toppkg:main"}, ["basepkg>=1", "mlflow"]), "toppkg-1.0")
    assert run(workspace, jobs.PythonWheelTask("toppkg", "train"), [top, base]).logs == "base\n"


def test_a_cluster_library_from_a_volume_is_installed(
    workspace: WorkspaceClient, control: SandboxControl, principal: str
) -> None:
    control.grant(principal, "main", "USE CATALOG")
    control.grant(principal, "main.ml", "USE SCHEMA", "CREATE VOLUME")
    workspace.volumes.create("main", "ml", "wheels", VolumeType.MANAGED)
    path = "/Volumes/main/ml/wheels/volpkg-1.0-py3-none-any.whl"

    wheel = a_wheel("volpkg", "1.0", "def main():\n    print('from a volume')\n", {"train": "volpkg:main"})
    workspace.files.upload(path, io.BytesIO(wheel))
    cluster = compute.ClusterSpec(spark_version="16.4.x-scala2.12", node_type_id="i3.xlarge", num_workers=0)
    task = jobs.SubmitTask(
        task_key="train",
        python_wheel_task=jobs.PythonWheelTask("volpkg", "train"),
        new_cluster=cluster,
        libraries=[compute.Library(whl=path)],
    )
    waiter: Any = workspace.jobs.submit(tasks=[task])
    [only] = ended(workspace, waiter.response.run_id, 60).tasks or []
    assert only.run_id is not None
    assert workspace.jobs.get_run_output(only.run_id).logs == "from a volume\n"


@pytest.mark.parametrize("content", [b"no zip at all", None], ids=["broken", "absent"])
def test_a_wheel_that_cannot_be_installed_is_a_library_installation_error(
    workspace: WorkspaceClient, put_wheel: Callable[..., str], content: bytes | None
) -> None:
    path = put_wheel(content, "broken-1.0") if content else "/Workspace/Shared/absent-1.0-py3-none-any.whl"
    output = run(workspace, jobs.PythonWheelTask("broken", "train"), [path])
    assert output.metadata is not None
    assert output.metadata.status is not None
    details = output.metadata.status.termination_details
    assert details is not None
    assert details.code is jobs.TerminationCodeCode.LIBRARY_INSTALLATION_ERROR
    assert "Library installation failed for library due to user error" in (output.error or "")


def test_an_entry_point_that_is_not_there_fails_as_code(
    workspace: WorkspaceClient, put_wheel: Callable[..., str]
) -> None:
    path = put_wheel(a_wheel("trainpkg", "1.0", TRAIN), "trainpkg-1.0")
    output = run(workspace, jobs.PythonWheelTask("trainpkg", "absent"), [path])
    assert output.error is not None
    assert "has no attribute 'absent'" in output.error


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"python_wheel_task": {"package_name": "p"}}, "entry_point"),
        (
            {
                "python_wheel_task": {
                    "package_name": "p",
                    "entry_point": "e",
                    "parameters": [],
                    "named_parameters": {},
                }
            },
            "only one of",
        ),
        ({"libraries": [{"whl": "/a.whl"}]}, "not supported for serverless"),
    ],
)
def test_a_wheel_task_that_the_platform_would_refuse_is_refused(
    workspace: WorkspaceClient, change: dict[str, Any], said: str
) -> None:
    task = {"task_key": "a", "environment_key": "e", "python_wheel_task": {"package_name": "p", "entry_point": "e"}}
    environments = [{"environment_key": "e", "spec": {"environment_version": "5"}}]
    with pytest.raises(InvalidParameterValue, match=said):
        workspace.api_client.do(
            "POST", "/api/2.2/jobs/runs/submit", body={"tasks": [task | change], "environments": environments}
        )
