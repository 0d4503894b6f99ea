"""Unity Catalog's permissions as they are shown: exactly what the sandbox enforces, to those who may see it."""

from __future__ import annotations

from typing import Any

import pytest
from databricks.sdk.errors import InvalidParameterValue, NotFound, PermissionDenied
from databricks.sdk.service.catalog import PermissionsChange, Privilege, SecurableType

from trainyard_sandbox.client import SandboxControl

from .members import Member, MemberFactory, member

__all__ = ["member"]  # the fixture

CREATE = {"main": ["USE CATALOG"], "main.shown": ["USE SCHEMA", "CREATE MODEL"]}


@pytest.fixture
def author(member: MemberFactory) -> Member:
    return member("author", CREATE)


@pytest.fixture
def model(author: Member, request: pytest.FixtureRequest) -> str:
    name = f"m{abs(hash(request.node.name))}"
    author.client.registered_models.create(catalog_name="main", schema_name="shown", name=name)
    return f"main.shown.{name}"


def effective(
    who: Member, kind: str, name: str, principal: str | None = None
) -> dict[str, set[tuple[str, str | None]]]:
    """By principal: privileges with where they are inherited from."""
    shown: Any = who.client.api_client.do(
        "GET",
        f"/api/2.1/unity-catalog/effective-permissions/{kind}/{name}",
        query={"principal": principal} if principal else {},
    )
    return {
        entry["principal"]: {(one["privilege"], one.get("inherited_from_name")) for one in entry["privileges"]}
        for entry in shown.get("privilege_assignments", [])
    }


def test_effective_permissions_name_what_is_inherited_and_from_where(
    control: SandboxControl, author: Member, model: str
) -> None:
    control.grant(author.application_id, model, "APPLY TAG")
    assert effective(author, "function", model, author.application_id) == {
        author.application_id: {
            ("USE_CATALOG", "main"),
            ("USE_SCHEMA", "main.shown"),
            ("CREATE_MODEL", "main.shown"),
            ("APPLY_TAG", None),
        }
    }
    typed = author.client.grants.get_effective(
        SecurableType.SCHEMA.value, "main.shown", principal=author.application_id
    )
    (assignment,) = typed.privilege_assignments or []
    inherited = {one.privilege: one.inherited_from_type for one in assignment.privileges or []}
    assert inherited == {
        Privilege.USE_CATALOG: SecurableType.CATALOG,
        Privilege.USE_SCHEMA: None,
        Privilege.CREATE_MODEL: None,
    }


def test_what_is_shown_is_what_is_enforced(control: SandboxControl, author: Member, member: MemberFactory) -> None:
    trainer = member("trainer")
    create: dict[str, Any] = {"catalog_name": "main", "schema_name": "shown", "name": f"m{trainer.application_id}"}
    needed = [("main", "USE_CATALOG"), ("main.shown", "USE_SCHEMA"), ("main.shown", "CREATE_MODEL")]
    for securable, privilege in needed:
        held = {one for one, _ in effective(trainer, "schema", "main.shown").get(trainer.application_id, set())}
        assert privilege not in held
        with pytest.raises(PermissionDenied, match=privilege.replace("_", " ")):
            trainer.client.registered_models.create(**create)
        control.grant(trainer.application_id, securable, privilege)
    assert {one for one, _ in effective(trainer, "schema", "main.shown")[trainer.application_id]} == {
        privilege for _, privilege in needed
    }
    trainer.client.registered_models.create(**create)


def test_all_privileges_is_shown_as_such_and_does_not_mean_manage(
    control: SandboxControl, author: Member, member: MemberFactory, model: str
) -> None:
    power = member("power")
    control.grant(power.application_id, "main", "ALL PRIVILEGES")
    assert effective(power, "function", model) == {power.application_id: {("ALL_PRIVILEGES", "main")}}
    assert power.client.registered_models.get(model).owner == author.application_id
    with pytest.raises(PermissionDenied, match="MANAGE"):
        power.client.registered_models.delete(model)


def test_manage_alone_gives_no_other_privilege(control: SandboxControl, member: MemberFactory, model: str) -> None:
    steward = member("steward", {"main": ["USE CATALOG"], "main.shown": ["USE SCHEMA"], model: ["MANAGE"]})
    with pytest.raises(PermissionDenied, match="EXECUTE"):
        steward.client.registered_models.get(model)
    change = PermissionsChange(principal=steward.application_id, add=[Privilege.EXECUTE])
    steward.client.grants.update("function", model, changes=[change])
    assert steward.client.registered_models.get(model).full_name == model


def test_grants_of_groups_are_shown_as_the_groups_and_count(
    control: SandboxControl, author: Member, member: MemberFactory, model: str
) -> None:
    analyst = member("analyst")
    control.change_principal(analyst.application_id, groups=["analysts"])
    control.grant("analysts", "main", "USE CATALOG", "USE SCHEMA", "EXECUTE")
    shown = effective(analyst, "function", model)
    assert shown == {"analysts": {("USE_CATALOG", "main"), ("USE_SCHEMA", "main"), ("EXECUTE", "main")}}
    assert effective(analyst, "function", model, analyst.application_id) == {}
    assert analyst.client.registered_models.get(model).full_name == model
    control.revoke("analysts", "main", "USE CATALOG", "USE SCHEMA", "EXECUTE")


def test_only_who_manages_a_securable_sees_the_grants_of_others(
    control: SandboxControl, author: Member, member: MemberFactory, model: str
) -> None:
    other = member("other", {"main": ["USE CATALOG"], model: ["EXECUTE"]})
    assert set(effective(other, "function", model)) == {other.application_id}
    assert effective(other, "function", model, author.application_id) == {}
    assert {other.application_id, author.application_id} <= set(effective(author, "function", model))
    shown = author.client.grants.get("function", model).privilege_assignments or []
    assert [(one.principal, one.privileges) for one in shown] == [(other.application_id, [Privilege.EXECUTE])]


def test_grants_are_changed_only_by_who_manages_the_securable(
    control: SandboxControl, author: Member, member: MemberFactory, model: str
) -> None:
    other = member("other", {"main": ["USE CATALOG"], "main.shown": ["USE SCHEMA"]})
    change = PermissionsChange(principal=other.application_id, add=[Privilege.EXECUTE])
    with pytest.raises(PermissionDenied):
        other.client.grants.update("function", model, changes=[change])
    author.client.grants.update("function", model, changes=[change])
    assert other.client.registered_models.get(model).full_name == model
    removal = PermissionsChange(principal=other.application_id, remove=[Privilege.EXECUTE])
    left = author.client.grants.update("function", model, changes=[removal])
    assert not left.privilege_assignments
    with pytest.raises(PermissionDenied):
        other.client.registered_models.get(model)
    control.change_owner("main.shown", other.application_id)
    other.client.grants.update("function", model, changes=[change])
    control.change_owner("main.shown", "admins")


def test_a_grant_that_makes_no_sense_is_refused(author: Member, model: str) -> None:
    select = PermissionsChange(principal=author.application_id, add=[Privilege.SELECT])
    with pytest.raises(InvalidParameterValue, match="SELECT is not applicable"):
        author.client.grants.update("function", model, changes=[select])
    nobody = PermissionsChange(principal="nobody", add=[Privilege.EXECUTE])
    with pytest.raises(NotFound, match="Could not find principal"):
        author.client.grants.update("function", model, changes=[nobody])
    with pytest.raises(NotFound):
        author.client.grants.get_effective("volume", model)
    with pytest.raises(InvalidParameterValue, match="securable type 'model'"):
        author.client.grants.get_effective("model", model)
    with pytest.raises(InvalidParameterValue, match="max_results"):
        author.client.grants.get_effective("function", model, max_results=10)


def test_grants_go_with_their_model(control: SandboxControl, author: Member, member: MemberFactory, model: str) -> None:
    reader = member("reader", {"main": ["USE CATALOG"], "main.shown": ["USE SCHEMA"], model: ["EXECUTE"]})
    author.client.registered_models.delete(model)
    author.client.registered_models.create(catalog_name="main", schema_name="shown", name=model.split(".")[2])
    with pytest.raises(PermissionDenied, match="EXECUTE"):
        reader.client.registered_models.get(model)
