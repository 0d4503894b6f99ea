"""Access control lists of workspace objects: what is shown is what is enforced, and only who manages may change it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import InvalidParameterValue, NotFound, PermissionDenied
from databricks.sdk.service import compute, iam, jobs
from databricks.sdk.service.iam import AccessControlRequest, PermissionLevel
from databricks.sdk.service.workspace import ImportFormat

from trainyard_sandbox.client import SandboxControl

from .members import Member, MemberFactory, member

__all__ = ["member"]  # the fixture


def put(client: WorkspaceClient, path: str, text: str = "1", **options: Any) -> None:
    content = base64.b64encode(text.encode()).decode()
    client.workspace.import_(path, content=content, **({"format": ImportFormat.RAW} | options))


def shown(permissions: iam.ObjectPermissions) -> dict[str, list[tuple[str, list[str]]]]:
    """By name: (level, what it is inherited from)."""
    return {
        entry.service_principal_name or entry.user_name or entry.group_name or "": [
            (one.permission_level.value if one.permission_level else "", list(one.inherited_from_object or []))
            for one in entry.all_permissions or []
        ]
        for entry in permissions.access_control_list or []
    }


def to(who: str, level: PermissionLevel) -> AccessControlRequest:
    return AccessControlRequest(service_principal_name=who, permission_level=level)


def object_id(client: WorkspaceClient, path: str) -> str:
    return str(client.workspace.get_status(path).object_id)


def test_a_folders_list_names_direct_and_inherited_levels(
    workspace: WorkspaceClient, principal: str, member: MemberFactory, control: SandboxControl
) -> None:
    reader = member("reader").application_id
    control.add_names(users=["ada@example.com"], groups=["data-science"])
    workspace.workspace.mkdirs(f"/Users/{principal}/runs")
    put(workspace, f"/Users/{principal}/runs/train.py")
    folder = object_id(workspace, f"/Users/{principal}/runs")
    home = object_id(workspace, f"/Users/{principal}")
    changed = workspace.permissions.update(
        "directories",
        folder,
        access_control_list=[
            to(reader, PermissionLevel.CAN_READ),
            AccessControlRequest(user_name="ada@example.com", permission_level=PermissionLevel.CAN_EDIT),
            AccessControlRequest(group_name="data-science", permission_level=PermissionLevel.CAN_RUN),
        ],
    )
    assert (changed.object_id, changed.object_type) == (f"/directories/{folder}", "directory")
    assert shown(changed) == {
        principal: [("CAN_MANAGE", [f"/directories/{home}"])],
        reader: [("CAN_READ", [])],
        "ada@example.com": [("CAN_EDIT", [])],
        "data-science": [("CAN_RUN", [])],
        "admins": [("CAN_MANAGE", ["/directories/"])],
    }
    file = object_id(workspace, f"/Users/{principal}/runs/train.py")
    below = shown(workspace.permissions.get("files", file))
    assert below[reader] == [("CAN_READ", [f"/directories/{folder}"])]
    assert below["data-science"] == [("CAN_RUN", [f"/directories/{folder}"])]


def test_a_level_opens_what_it_is_for_and_goes_again(
    workspace: WorkspaceClient, principal: str, member: MemberFactory
) -> None:
    other = member("other")
    workspace.workspace.mkdirs(f"/Users/{principal}/runs")
    put(workspace, f"/Users/{principal}/runs/train.py")
    put(workspace, f"/Users/{principal}/runs/old.py")
    folder = object_id(workspace, f"/Users/{principal}/runs")
    reads: list[Callable[[], object]] = [lambda: other.client.workspace.export(f"/Users/{principal}/runs/train.py")]
    edits: list[Callable[[], object]] = [
        lambda: put(other.client, f"/Users/{principal}/runs/train.py", "2", overwrite=True)
    ]
    manages: list[Callable[[], object]] = [
        lambda: put(other.client, f"/Users/{principal}/runs/new.py"),
        lambda: other.client.workspace.delete(f"/Users/{principal}/runs/old.py"),
        lambda: other.client.workspace.mkdirs(f"/Users/{principal}/runs/new"),
        lambda: other.client.permissions.get("directories", folder),
    ]
    steps = [
        (None, []),
        (PermissionLevel.CAN_READ, reads),
        (PermissionLevel.CAN_RUN, reads),
        (PermissionLevel.CAN_EDIT, reads + edits),
        (PermissionLevel.CAN_MANAGE, reads + edits + manages),
        (None, []),
    ]
    for level, allowed in steps:
        entries = [to(other.application_id, level)] if level else []
        workspace.permissions.set("directories", folder, access_control_list=entries)
        for attempt in reads + edits + manages:
            if attempt in allowed:
                attempt()
            else:
                with pytest.raises(PermissionDenied):
                    attempt()


def test_a_group_and_the_groups_in_it_inherit_a_level(
    workspace: WorkspaceClient, principal: str, member: MemberFactory, control: SandboxControl
) -> None:
    other = member("other")
    put(workspace, f"/Users/{principal}/train.py")
    control.change_group("inner", groups=["outer"])
    control.change_principal(other.application_id, groups=["inner"])
    entry = AccessControlRequest(group_name="outer", permission_level=PermissionLevel.CAN_READ)
    file = object_id(workspace, f"/Users/{principal}/train.py")
    workspace.permissions.update("files", file, access_control_list=[entry])
    assert other.client.workspace.export(f"/Users/{principal}/train.py").content


def test_a_deleted_files_list_does_not_come_back_with_its_name(
    workspace: WorkspaceClient, principal: str, member: MemberFactory
) -> None:
    other = member("other")
    path = f"/Users/{principal}/train.py"
    put(workspace, path)
    entries = [to(other.application_id, PermissionLevel.CAN_READ)]
    workspace.permissions.update("files", object_id(workspace, path), access_control_list=entries)
    workspace.workspace.delete(path)
    put(workspace, path)
    with pytest.raises(PermissionDenied):
        other.client.workspace.export(path)


def test_a_list_that_makes_no_sense_is_refused(workspace: WorkspaceClient, principal: str) -> None:
    put(workspace, f"/Users/{principal}/train.py")
    file = object_id(workspace, f"/Users/{principal}/train.py")
    with pytest.raises(InvalidParameterValue, match="not defined for file"):
        workspace.permissions.update("files", file, access_control_list=[to(principal, PermissionLevel.CAN_VIEW)])
    with pytest.raises(NotFound, match="ServicePrincipalName"):
        workspace.permissions.update("files", file, access_control_list=[to("nobody", PermissionLevel.CAN_READ)])
    entry = AccessControlRequest(user_name=principal, permission_level=PermissionLevel.CAN_READ)
    with pytest.raises(NotFound, match="UserName"):
        workspace.permissions.update("files", file, access_control_list=[entry])
    entry = AccessControlRequest(group_name="admins", permission_level=PermissionLevel.CAN_READ)
    with pytest.raises(InvalidParameterValue, match="admins"):
        workspace.permissions.update("files", file, access_control_list=[entry])
    with pytest.raises(NotFound):
        workspace.permissions.get("directories", file)
    with pytest.raises(InvalidParameterValue, match="no permissions of warehouses"):
        workspace.permissions.get("warehouses", "1")
    levels = workspace.permissions.get_permission_levels("files", file).permission_levels or []
    assert [one.permission_level.value for one in levels if one.permission_level] == [
        "CAN_READ",
        "CAN_RUN",
        "CAN_EDIT",
        "CAN_MANAGE",
    ]


def test_an_experiment_inherits_from_its_folder_and_edit_is_what_logging_needs(
    workspace: WorkspaceClient, principal: str, member: MemberFactory
) -> None:
    other = member("other")
    experiment = workspace.experiments.create_experiment(f"/Users/{principal}/iris").experiment_id
    assert experiment is not None
    home = object_id(workspace, f"/Users/{principal}")
    found = workspace.permissions.get("experiments", experiment)
    assert (found.object_id, found.object_type) == (f"/experiments/{experiment}", "mlflowExperiment")
    assert shown(found)[principal] == [("CAN_MANAGE", [f"/directories/{home}"])]

    def log(client: WorkspaceClient) -> None:
        run = client.experiments.create_run(experiment_id=experiment).run
        assert run is not None
        assert run.info is not None
        client.experiments.log_param("lr", "0.1", run_id=run.info.run_id)

    with pytest.raises(PermissionDenied):
        other.client.experiments.get_experiment(experiment)
    for level, may_log in ((PermissionLevel.CAN_READ, False), (PermissionLevel.CAN_EDIT, True)):
        entries = [to(other.application_id, level)]
        workspace.permissions.update("experiments", experiment, access_control_list=entries)
        other.client.experiments.get_experiment(experiment)
        if may_log:
            log(other.client)
        else:
            with pytest.raises(PermissionDenied):
                log(other.client)
    workspace.experiments.update_experiment(experiment, new_name=f"/Users/{principal}/renamed")
    log(other.client)
    with pytest.raises(PermissionDenied, match="Manage permissions on mlflowExperiment"):
        other.client.permissions.get("experiments", experiment)
    with pytest.raises(NotFound):
        workspace.permissions.get("experiments", "12345")


def test_a_job_has_exactly_one_owner(workspace: WorkspaceClient, principal: str, member: MemberFactory) -> None:
    other = member("other")
    put(workspace, f"/Users/{principal}/train.py")
    python = jobs.SparkPythonTask(python_file=f"/Users/{principal}/train.py")
    environment = jobs.JobEnvironment("default", compute.Environment(environment_version="5"))
    job = workspace.jobs.create(
        name="nightly",
        tasks=[jobs.Task(task_key="train", spark_python_task=python, environment_key="default")],
        environments=[environment],
    ).job_id
    assert job is not None
    found = workspace.permissions.get("jobs", str(job))
    assert found.object_type == "job"
    assert shown(found) == {principal: [("IS_OWNER", [])], "admins": [("CAN_MANAGE", ["/jobs/"])]}
    with pytest.raises(PermissionDenied):
        other.client.jobs.get(job)
    view = [to(other.application_id, PermissionLevel.CAN_VIEW)]
    with pytest.raises(InvalidParameterValue, match="exactly one owner"):
        workspace.permissions.set("jobs", str(job), access_control_list=view)
    workspace.permissions.update("jobs", str(job), access_control_list=view)
    assert other.client.jobs.get(job).job_id == job
    with pytest.raises(PermissionDenied):
        other.client.jobs.run_now(job)
    workspace.permissions.update(
        "jobs", str(job), access_control_list=[to(other.application_id, PermissionLevel.CAN_MANAGE_RUN)]
    )
    other.client.jobs.run_now(job)


def test_the_job_of_a_one_time_run_shows_the_list_it_came_with(
    workspace: WorkspaceClient, principal: str, member: MemberFactory, control: SandboxControl
) -> None:
    other = member("other")
    control.add_names(groups=["data-science"])
    put(workspace, f"/Users/{principal}/train.py")
    entry = AccessControlRequest(group_name="data-science", permission_level=PermissionLevel.CAN_VIEW)
    python = jobs.SparkPythonTask(python_file=f"/Users/{principal}/train.py")
    waiter: Any = workspace.jobs.submit(
        tasks=[jobs.SubmitTask(task_key="train", spark_python_task=python, environment_key="default")],
        environments=[jobs.JobEnvironment("default", compute.Environment(environment_version="5"))],
        access_control_list=[
            jobs.JobAccessControlRequest(group_name="data-science", permission_level=jobs.JobPermissionLevel.CAN_VIEW)
        ],
    )
    job = str(workspace.jobs.get_run(waiter.response.run_id).job_id)
    found = workspace.permissions.get("jobs", job)
    assert shown(found) == {
        principal: [("IS_OWNER", [])],
        "data-science": [("CAN_VIEW", [])],
        "admins": [("CAN_MANAGE", ["/jobs/"])],
    }
    with pytest.raises(PermissionDenied):
        other.client.permissions.get("jobs", job)
    with pytest.raises(InvalidParameterValue, match="one-time run"):
        workspace.permissions.update("jobs", job, access_control_list=[entry])


def test_policies_are_the_admins_to_share(
    workspace: WorkspaceClient, member: MemberFactory, control: SandboxControl, principal: str
) -> None:
    admin: Member = member("admin")
    control.change_principal(admin.application_id, groups=["admins"])
    definition = json.dumps({"num_workers": {"type": "range", "maxValue": 2}})
    name = f"small-{admin.application_id}"
    policy = admin.client.cluster_policies.create(name=name, definition=definition).policy_id
    assert policy is not None
    with pytest.raises(PermissionDenied):
        workspace.permissions.get("cluster-policies", policy)
    assert policy not in [one.policy_id for one in workspace.cluster_policies.list()]
    changed = admin.client.permissions.update(
        "cluster-policies", policy, access_control_list=[to(principal, PermissionLevel.CAN_USE)]
    )
    assert shown(changed)[principal] == [("CAN_USE", [])]
    assert policy in [one.policy_id for one in workspace.cluster_policies.list()]


def test_a_pool_is_attached_to_with_its_level_only(
    workspace: WorkspaceClient, member: MemberFactory, control: SandboxControl, principal: str
) -> None:
    other = member("other")
    control.change_principal(
        principal, entitlements=["workspace-access", "allow-cluster-create", "allow-instance-pool-create"]
    )
    pool = workspace.instance_pools.create(instance_pool_name=f"p-{principal}", node_type_id="i3.xlarge")
    assert pool.instance_pool_id is not None
    found = workspace.permissions.get("instance-pools", pool.instance_pool_id)
    assert shown(found) == {principal: [("CAN_MANAGE", [])], "admins": [("CAN_MANAGE", ["/instance-pools/"])]}
    assert pool.instance_pool_id not in [one.instance_pool_id for one in other.client.instance_pools.list()]
    entries = [to(other.application_id, PermissionLevel.CAN_ATTACH_TO)]
    workspace.permissions.update("instance-pools", pool.instance_pool_id, access_control_list=entries)
    assert pool.instance_pool_id in [one.instance_pool_id for one in other.client.instance_pools.list()]
