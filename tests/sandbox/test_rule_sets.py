"""Who may use a service principal: its rule set, as its managers see it and as `run_as` enforces it."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from databricks.sdk.errors import InvalidParameterValue, NotFound, PermissionDenied, ResourceConflict
from databricks.sdk.service import compute, iam, jobs
from databricks.sdk.service.workspace import ImportFormat

from trainyard_sandbox.client import SandboxControl

from .conftest import ended
from .members import Member, MemberFactory, member

__all__ = ["member"]  # the fixture

USER, MANAGER = "roles/servicePrincipal.user", "roles/servicePrincipal.manager"


def rule_set_name(control: SandboxControl, application_id: str) -> str:
    return f"accounts/{control.address.account_id}/servicePrincipals/{application_id}/ruleSets/default"


def submit_as(who: Member, run_as: str) -> int:
    path = f"/Users/{who.application_id}/train.py"
    who.client.workspace.import_(path, content=base64.b64encode(b"1").decode(), format=ImportFormat.RAW, overwrite=True)
    python = jobs.SparkPythonTask(python_file=path)
    waiter: Any = who.client.jobs.submit(
        tasks=[jobs.SubmitTask(task_key="train", spark_python_task=python, environment_key="default")],
        environments=[jobs.JobEnvironment("default", compute.Environment(environment_version="5"))],
        run_as=jobs.JobRunAs(service_principal_name=run_as),
    )
    run_id: int = waiter.response.run_id
    return run_id


def test_the_rule_set_shows_exactly_who_may_run_as(control: SandboxControl, member: MemberFactory) -> None:
    target, manager, submitter = member("target"), member("manager"), member("submitter")
    name = rule_set_name(control, target.application_id)
    control.grant_role(manager.application_id, target.application_id, manager=True)
    proxy = manager.client.account_access_control_proxy
    with pytest.raises(PermissionDenied, match="run jobs as"):
        submit_as(submitter, target.application_id)
    found = proxy.get_rule_set(name, "")
    assert [(rule.role, rule.principals) for rule in found.grant_rules or []] == [
        (MANAGER, [f"servicePrincipals/{manager.application_id}"])
    ]
    rules = [
        *(found.grant_rules or []),
        iam.GrantRule(role=USER, principals=[f"servicePrincipals/{submitter.application_id}"]),
    ]
    update = iam.RuleSetUpdateRequest(name=name, etag=found.etag, grant_rules=rules)
    changed = proxy.update_rule_set(name, update)
    assert {rule.role for rule in changed.grant_rules or []} == {MANAGER, USER}
    assert submit_as(submitter, target.application_id)
    with pytest.raises(ResourceConflict, match="etag"):
        proxy.update_rule_set(name, update)


def test_a_manager_does_not_inherit_the_user_role_and_a_group_passes_it_on(
    control: SandboxControl, member: MemberFactory
) -> None:
    target, manager = member("target"), member("manager")
    control.grant_role(manager.application_id, target.application_id, manager=True)
    with pytest.raises(PermissionDenied):
        submit_as(manager, target.application_id)
    group = f"deployers-{target.application_id}"
    control.change_group(group)
    control.grant_role(group, target.application_id)
    with pytest.raises(PermissionDenied):
        submit_as(manager, target.application_id)
    control.change_principal(manager.application_id, groups=[group])
    assert submit_as(manager, target.application_id)
    found = manager.client.account_access_control_proxy.get_rule_set(rule_set_name(control, target.application_id), "")
    assert {(rule.role, *(rule.principals or [])) for rule in found.grant_rules or []} == {
        (MANAGER, f"servicePrincipals/{manager.application_id}"),
        (USER, f"groups/{group}"),
    }
    control.revoke_role(group, target.application_id)
    with pytest.raises(PermissionDenied):
        submit_as(manager, target.application_id)


def test_only_managers_see_it(control: SandboxControl, member: MemberFactory) -> None:
    target, user, admin, manager = member("target"), member("user"), member("admin"), member("manager")
    control.grant_role(user.application_id, target.application_id)
    control.grant_role(manager.application_id, target.application_id, manager=True)
    control.change_principal(admin.application_id, groups=["admins"])
    name = rule_set_name(control, target.application_id)
    resource = name.removesuffix("/ruleSets/default")
    for who in (user, admin, target):
        with pytest.raises(PermissionDenied, match=r"servicePrincipal\.manager"):
            who.client.account_access_control_proxy.get_rule_set(name, "")
        with pytest.raises(PermissionDenied):
            who.client.account_access_control_proxy.get_assignable_roles_for_resource(resource)
    found = manager.client.account_access_control_proxy.get_assignable_roles_for_resource(resource).roles or []
    assert {role.name for role in found} == {USER, MANAGER}


def test_a_name_that_means_nothing_is_refused(control: SandboxControl, member: MemberFactory) -> None:
    proxy = member("anyone").client.account_access_control_proxy
    with pytest.raises(NotFound):
        proxy.get_rule_set(rule_set_name(control, "nobody"), "")
    with pytest.raises(InvalidParameterValue, match="service principals only"):
        proxy.get_rule_set(f"accounts/{control.address.account_id}/ruleSets/default", "")


def test_the_identity_that_runs_needs_to_read_the_code(control: SandboxControl, member: MemberFactory) -> None:
    submitter, target = member("submitter"), member("target")
    control.grant_role(submitter.application_id, target.application_id)
    run = ended(submitter.client, submit_as(submitter, target.application_id), timeout_seconds=60)
    assert run.state is not None
    assert run.state.result_state is jobs.RunResultState.FAILED
    assert "does not have View permissions" in (run.state.state_message or "")
    home = submitter.client.workspace.get_status(f"/Users/{submitter.application_id}").object_id
    reads = iam.AccessControlRequest(
        service_principal_name=target.application_id, permission_level=iam.PermissionLevel.CAN_READ
    )
    submitter.client.permissions.update("directories", str(home), access_control_list=[reads])
    run = ended(submitter.client, submit_as(submitter, target.application_id), timeout_seconds=60)
    assert run.state is not None
    assert run.state.result_state is jobs.RunResultState.SUCCESS
