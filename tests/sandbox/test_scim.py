"""Who exists, and who am I: SCIM through the unmodified SDK."""

from __future__ import annotations

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import InvalidParameterValue, NotFound

from trainyard_sandbox.client import SandboxControl

from .members import MemberFactory, member

__all__ = ["member"]  # the fixture


def test_me_shows_my_own_entitlements_and_all_my_groups(
    control: SandboxControl, workspace: WorkspaceClient, principal: str
) -> None:
    control.change_group("ml-team", groups=["everyone-in-ml"])
    control.change_principal(principal, groups=["ml-team"], entitlements=["workspace-access"])
    found = workspace.current_user.me()
    assert (found.user_name, found.display_name) == (principal, "trainer")
    assert {(one.display, one.type) for one in found.groups or []} == {
        ("users", "direct"),
        ("ml-team", "direct"),
        ("everyone-in-ml", "indirect"),
    }
    assert [one.value for one in found.entitlements or []] == ["workspace-access"]
    group = next(one for one in found.groups or [] if one.display == "ml-team")
    assert group.value is not None
    assert workspace.groups_v2.get(group.value).display_name == "ml-team"


def test_an_entitlement_of_a_group_counts_and_is_the_groups(
    control: SandboxControl, workspace: WorkspaceClient, principal: str, member: MemberFactory
) -> None:
    name = f"builders-{principal}"
    control.change_principal(principal, entitlements=["workspace-access"], groups=[name])
    with pytest.raises(Exception, match="not authorized to create instance pools"):
        workspace.instance_pools.create(instance_pool_name=f"pool-{principal}", node_type_id="i3.xlarge")
    control.change_group(name, entitlements=["allow-instance-pool-create"])
    assert [one.value for one in workspace.current_user.me().entitlements or []] == ["workspace-access"]
    assert workspace.instance_pools.create(instance_pool_name=f"pool-{principal}", node_type_id="i3.xlarge")
    admin = member("admin")
    control.change_principal(admin.application_id, groups=["admins"])
    (group,) = admin.client.groups_v2.list(filter=f'displayName eq "{name}"')
    assert [one.value for one in group.entitlements or []] == ["allow-instance-pool-create"]
    assert [one.display for one in group.members or []] == [principal]


def test_a_service_principal_is_found_by_its_application_id(
    control: SandboxControl, workspace: WorkspaceClient, principal: str, member: MemberFactory
) -> None:
    other = member("other").application_id
    (found,) = workspace.service_principals_v2.list(filter=f'applicationId eq "{other}"')
    assert (found.application_id, found.display_name) == (other, "other")
    assert found.id is not None
    assert not found.entitlements, "only an administrator sees the entitlements of others"
    assert workspace.service_principals_v2.get(found.id).application_id == other
    (mine,) = workspace.service_principals_v2.list(filter=f'applicationId eq "{principal}"')
    assert {one.value for one in mine.entitlements or []} == {"workspace-access", "allow-cluster-create"}
    assert list(workspace.service_principals_v2.list(filter='applicationId eq "nobody"')) == []
    with pytest.raises(NotFound):
        workspace.service_principals_v2.get("1")


def test_users_are_found_by_name_and_pages_hold_as_many_as_asked_for(
    control: SandboxControl, workspace: WorkspaceClient
) -> None:
    names = [f"user{number}@paged.example" for number in range(5)]
    control.add_names(users=names)
    assert [one.user_name for one in workspace.users_v2.list(filter='userName co "@paged.example"', count=2)] == names
    (one,) = workspace.users_v2.list(filter='userName eq "user3@paged.example"')
    assert one.id is not None
    assert workspace.users_v2.get(one.id).user_name == "user3@paged.example"
    either = 'userName eq "user1@paged.example" or userName eq "user2@paged.example"'
    assert [one.user_name for one in workspace.users_v2.list(filter=either)] == names[1:3]


def test_a_filter_that_is_not_understood_is_refused(workspace: WorkspaceClient) -> None:
    with pytest.raises(InvalidParameterValue, match="filter"):
        list(workspace.groups_v2.list(filter="displayName pr"))
