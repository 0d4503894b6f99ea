"""Secret scopes: kept, permitted, and resolved for the identity that a run runs as."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import BadRequest, InvalidParameterValue, NotFound, PermissionDenied, ResourceAlreadyExists
from databricks.sdk.service import compute, jobs
from databricks.sdk.service.workspace import AclPermission

from trainyard_sandbox.client import SandboxControl

from .conftest import ended
from .members import MemberFactory, member

__all__ = ["member"]

SHOW = "import os\nprint(os.environ['PASSWORD'])\n"


@pytest.fixture
def scope(workspace: WorkspaceClient) -> str:
    """A scope of the principal's with the secret `password`."""
    name = f"scope-{os.urandom(4).hex()}"
    workspace.secrets.create_scope(name)
    workspace.secrets.put_secret(name, "password", string_value="hunter2")
    return name


def run(workspace: WorkspaceClient, path: str, spec: dict[str, Any], **fields: Any) -> jobs.Run:
    """Run a file on a cluster of its own with `spec`, to its end."""
    cluster = compute.ClusterSpec(spark_version="16.4.x-scala2.12", node_type_id="i3.xlarge", num_workers=0, **spec)
    task = jobs.SubmitTask(task_key="train", spark_python_task=jobs.SparkPythonTask(path), new_cluster=cluster)
    waiter: Any = workspace.jobs.submit(tasks=[task], **fields)
    return ended(workspace, waiter.response.run_id)


def logs(workspace: WorkspaceClient, run: jobs.Run) -> str | None:
    [only] = run.tasks or []
    assert only.run_id is not None
    return workspace.jobs.get_run_output(only.run_id).logs


def test_scopes_and_secrets_are_kept_but_values_never_shown(workspace: WorkspaceClient, scope: str) -> None:
    assert scope in [found.name for found in workspace.secrets.list_scopes()]
    assert [found.key for found in workspace.secrets.list_secrets(scope)] == ["password"]
    with pytest.raises(BadRequest, match="from within a run only"):
        workspace.secrets.get_secret(scope, "password")
    workspace.secrets.delete_secret(scope, "password")
    assert not list(workspace.secrets.list_secrets(scope))
    with pytest.raises(NotFound, match="Secret does not exist"):
        workspace.secrets.delete_secret(scope, "password")
    workspace.secrets.delete_scope(scope)
    with pytest.raises(NotFound, match="does not exist"):
        workspace.secrets.list_secrets(scope)


def test_a_scope_that_the_platform_would_refuse_is_refused(workspace: WorkspaceClient, scope: str) -> None:
    with pytest.raises(ResourceAlreadyExists):
        workspace.secrets.create_scope(scope)
    with pytest.raises(InvalidParameterValue, match="alphanumeric"):
        workspace.secrets.create_scope("a b")
    with pytest.raises(InvalidParameterValue, match="group 'users'"):
        workspace.secrets.create_scope("of-others", initial_manage_principal="others")
    with pytest.raises(BadRequest, match="Exactly one of"):
        workspace.secrets.put_secret(scope, "key")
    with pytest.raises(InvalidParameterValue, match="131072"):
        workspace.secrets.put_secret(scope, "key", string_value="x" * (128 * 1024 + 1))


def test_permissions_on_a_scope_include_those_below(
    workspace: WorkspaceClient, scope: str, member: MemberFactory, control: SandboxControl
) -> None:
    other = member("reader")
    with pytest.raises(PermissionDenied, match="READ permission on scope"):
        list(other.client.secrets.list_secrets(scope))
    workspace.secrets.put_acl(scope, other.application_id, AclPermission.READ)
    assert [found.key for found in other.client.secrets.list_secrets(scope)] == ["password"]
    with pytest.raises(PermissionDenied, match="WRITE permission on scope"):
        other.client.secrets.put_secret(scope, "mine", string_value="x")
    with pytest.raises(PermissionDenied, match="MANAGE permission on scope"):
        list(other.client.secrets.list_acls(scope))
    workspace.secrets.put_acl(scope, other.application_id, AclPermission.WRITE)
    other.client.secrets.put_secret(scope, "mine", string_value="x")
    assert workspace.secrets.get_acl(scope, other.application_id).permission is AclPermission.WRITE
    workspace.secrets.delete_acl(scope, other.application_id)
    with pytest.raises(PermissionDenied):
        list(other.client.secrets.list_secrets(scope))
    with pytest.raises(InvalidParameterValue, match="nobody does not exist"):
        workspace.secrets.put_acl(scope, "nobody", AclPermission.READ)


def test_a_clusters_variables_take_secrets_and_the_run_shows_only_the_reference(
    workspace: WorkspaceClient, scope: str, upload: Callable[..., str]
) -> None:
    reference = f"{{{{secrets/{scope}/password}}}}"
    found = run(workspace, upload(SHOW), {"spark_env_vars": {"PASSWORD": reference}})
    assert logs(workspace, found) == "hunter2\n"
    assert "hunter2" not in str(workspace.jobs.get_run(found.run_id or 0).as_dict())
    [only] = found.tasks or []
    assert only.cluster_instance is not None
    assert "hunter2" not in str(workspace.clusters.get(str(only.cluster_instance.cluster_id)).as_dict())


@pytest.mark.parametrize("where", ["spark_env_vars", "spark_conf"])
@pytest.mark.parametrize("name", ["absent/password", "SCOPE/absent"])
def test_a_secret_that_is_not_there_keeps_the_cluster_from_starting(
    workspace: WorkspaceClient, scope: str, upload: Callable[..., str], where: str, name: str
) -> None:
    reference = f"{{{{secrets/{name.replace('SCOPE', scope)}}}}}"
    found = run(workspace, upload(SHOW), {where: {"PASSWORD": reference}})
    assert found.status is not None
    assert found.status.termination_details is not None
    assert found.status.termination_details.code is jobs.TerminationCodeCode.CLUSTER_ERROR
    message = found.status.termination_details.message or ""
    assert "SECRET_RESOLUTION_ERROR(SERVICE_FAULT)" in message
    assert "Failed to fetch secrets referred to in Spark Conf" in message


def test_secrets_are_read_as_the_identity_that_the_run_runs_as(
    workspace: WorkspaceClient, scope: str, upload: Callable[..., str], control: SandboxControl, principal: str
) -> None:
    runner = control.add_principal("runner")
    control.grant(runner, f"/Users/{principal}", "CAN_READ")
    control.change_principal(principal, usable_service_principals=[runner])
    spec = {"spark_env_vars": {"PASSWORD": f"{{{{secrets/{scope}/password}}}}"}}
    run_as = jobs.JobRunAs(service_principal_name=runner)
    path = upload(SHOW)
    denied = run(workspace, path, spec, run_as=run_as)
    assert denied.state is not None
    assert "SECRET_PERMISSION_DENIED(CLIENT_ERROR)" in (denied.state.state_message or "")
    workspace.secrets.put_acl(scope, runner, AclPermission.READ)
    assert logs(workspace, run(workspace, path, spec, run_as=run_as)) == "hunter2\n"


def test_a_serverless_variable_takes_no_secret_reference(
    workspace: WorkspaceClient, scope: str, upload: Callable[..., str]
) -> None:
    reference = f"{{{{secrets/{scope}/password}}}}"
    variables = jobs.JobEnvironmentVariablesSpec(variables={"PASSWORD": reference})
    task = jobs.SubmitTask(
        task_key="train",
        spark_python_task=jobs.SparkPythonTask(upload(SHOW)),
        environment_key="default",
        environment_variables_key="vars",
    )
    waiter: Any = workspace.jobs.submit(
        tasks=[task],
        environments=[jobs.JobEnvironment("default", compute.Environment(environment_version="5"))],
        environment_variables=[jobs.JobEnvironmentVariables("vars", variables)],
    )
    assert logs(workspace, ended(workspace, waiter.response.run_id)) == f"{reference}\n"
