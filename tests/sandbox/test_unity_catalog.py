"""Unity Catalog's models through the unmodified SDK: what each privilege allows, and that both views show one store."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import (
    DatabricksError,
    InvalidParameterValue,
    NotFound,
    PermissionDenied,
    ResourceAlreadyExists,
    ResourceDoesNotExist,
)
from databricks.sdk.service.catalog import ModelVersionInfoStatus

from trainyard_sandbox.client import SandboxControl

from .members import Member, MemberFactory, member

__all__ = ["member"]  # the fixture

CATALOG = {"main": ["USE_CATALOG"]}
SCHEMA = CATALOG | {"main.ml": ["USE_SCHEMA"]}
AUTHOR = CATALOG | {"main.ml": ["USE_SCHEMA", "CREATE_MODEL"]}


@pytest.fixture
def author(member: MemberFactory) -> Member:
    """Somebody who may create models in main.ml."""
    return member("author", AUTHOR)


@pytest.fixture
def model(author: Member) -> str:
    """A registered model of the author's."""
    name = f"model-{uuid.uuid4().hex[:8]}"
    return author.client.registered_models.create(catalog_name="main", schema_name="ml", name=name).full_name or ""


def registry(client: WorkspaceClient, method: str, path: str, **body: Any) -> dict[str, Any]:
    """A call of MLflow's registry client."""
    where = "query" if method == "GET" else "body"
    answer: Any = client.api_client.do(method, f"/api/2.0/mlflow/unity-catalog/{path}", **{where: body})
    return dict(answer)


def add_version(client: WorkspaceClient, model: str, **fields: Any) -> int:
    made = registry(client, "POST", "model-versions/create", name=model, source="dbfs:/x", **fields)
    number = made["model_version"]["version"]
    registry(client, "POST", "model-versions/finalize", name=model, version=number)
    return int(number)


@pytest.mark.parametrize(
    ("grants", "sentence"),
    [
        ({}, "User does not have USE CATALOG on Catalog 'main'."),
        (CATALOG, "User does not have USE SCHEMA on Schema 'main.ml'."),
        (SCHEMA, "User does not have CREATE MODEL on Schema 'main.ml'."),
    ],
)
def test_creating_a_model_names_the_privilege_that_is_missing(
    member: MemberFactory, author: Member, grants: dict[str, list[str]], sentence: str
) -> None:
    client = member("newcomer", grants).client
    creations: list[Callable[[], Any]] = [
        lambda: client.registered_models.create(catalog_name="main", schema_name="ml", name="m"),
        lambda: registry(client, "POST", "registered-models/create", name="main.ml.m"),
    ]
    for create in creations:
        with pytest.raises(PermissionDenied) as refused:
            create()
        assert str(refused.value).startswith(sentence)


def test_privileges_on_a_catalog_hold_for_what_is_in_it(member: MemberFactory) -> None:
    client = member("wide", {"lake": ["USE CATALOG", "USE SCHEMA", "CREATE MODEL"], "lake.raw": []}).client
    assert client.registered_models.create(catalog_name="lake", schema_name="raw", name="m").full_name == "lake.raw.m"


def test_a_preflight_sees_catalog_and_schema(author: Member, member: MemberFactory) -> None:
    assert author.client.catalogs.get("main").name == "main"
    assert author.client.schemas.get("main.ml").full_name == "main.ml"
    with pytest.raises(PermissionDenied, match="USE CATALOG"):
        member("stranger").client.catalogs.get("main")
    with pytest.raises(NotFound, match=r"Catalog 'nowhere' does not exist."):
        author.client.catalogs.get("nowhere")
    with pytest.raises(NotFound, match=r"Schema 'main.nothing' does not exist."):
        author.client.schemas.get("main.nothing")


def test_a_model_is_seen_with_execute_and_owned_by_its_creator(
    control: SandboxControl, author: Member, member: MemberFactory, model: str
) -> None:
    info = author.client.registered_models.get(model)
    assert (info.owner, info.created_by) == (author.application_id, author.application_id)
    analyst = member("analyst", SCHEMA)
    with pytest.raises(PermissionDenied, match=f"User does not have EXECUTE on Routine or Model '{model}'."):
        analyst.client.registered_models.get(model)
    assert model not in [m.full_name for m in analyst.client.registered_models.list()]
    control.grant(analyst.application_id, model, "EXECUTE")
    assert analyst.client.registered_models.get(model).full_name == model
    listed = analyst.client.registered_models.list(catalog_name="main", schema_name="ml")
    assert [m.full_name for m in listed] == [model]


def test_an_unknown_model_and_an_existing_one_are_worded_as_the_platform_words_them(author: Member, model: str) -> None:
    with pytest.raises(ResourceDoesNotExist, match=r"Routine or Model 'main.ml.none' does not exist."):
        author.client.registered_models.get("main.ml.none")
    with pytest.raises(ResourceAlreadyExists, match="already exists"):
        author.client.registered_models.create(catalog_name="MAIN", schema_name="ml", name=model.split(".")[2].upper())
    with pytest.raises(InvalidParameterValue, match="three-level name"):
        registry(author.client, "POST", "registered-models/create", name="iris")


def test_both_views_show_the_same_version(author: Member, model: str) -> None:
    number = add_version(author.client, model, run_id="r1", run_tracking_server_id="77", description="first")
    info = author.client.model_versions.get(model, number)
    assert (info.run_id, info.run_workspace_id, info.comment) == ("r1", 77, "first")
    assert info.status is ModelVersionInfoStatus.READY
    seen = registry(author.client, "GET", "model-versions/get", name=model, version=str(number))["model_version"]
    assert (seen["run_id"], seen["status"], seen["storage_location"]) == ("r1", "READY", info.storage_location)
    found = registry(author.client, "GET", "model-versions/search", filter="run_id='r1'")["model_versions"]
    assert [(v["name"], v["version"]) for v in found] == [(model, str(number))]


def test_a_version_is_pending_until_it_is_finalized_and_only_once(author: Member, model: str) -> None:
    registry(author.client, "POST", "model-versions/create", name=model, source="dbfs:/x")
    assert author.client.model_versions.get(model, 1).status is ModelVersionInfoStatus.PENDING_REGISTRATION
    path = f"/Models/{model.replace('.', '/')}/1/MLmodel"
    with pytest.raises(DatabricksError, match="not READY"):
        author.client.api_client.do("POST", "/api/2.0/fs/create-download-url", body={"path": path})
    registry(author.client, "POST", "model-versions/finalize", name=model, version="1")
    with pytest.raises(DatabricksError, match="not in PENDING_REGISTRATION"):
        registry(author.client, "POST", "model-versions/finalize", name=model, version="1")


def test_a_new_version_needs_its_privilege_and_an_alias_needs_the_owner(
    control: SandboxControl, author: Member, member: MemberFactory, model: str
) -> None:
    trainer = member("versioner", SCHEMA | {model: ["EXECUTE"]})
    with pytest.raises(PermissionDenied, match="User does not have CREATE MODEL VERSION on Routine or Model"):
        add_version(trainer.client, model)
    control.grant(trainer.application_id, model, "CREATE_MODEL_VERSION")
    number = add_version(trainer.client, model)
    with pytest.raises(PermissionDenied, match="User does not have MANAGE on Routine or Model"):
        trainer.client.registered_models.set_alias(model, "champion", number)
    control.grant(trainer.application_id, model, "MANAGE")
    trainer.client.registered_models.set_alias(model, "champion", number)
    assert author.client.model_versions.get_by_alias(model, "champion").version == number


def test_an_alias_moves_is_shown_and_goes_with_its_version(author: Member, model: str) -> None:
    first, second = add_version(author.client, model), add_version(author.client, model)
    author.client.registered_models.set_alias(model, "champion", first)
    registry(author.client, "POST", "registered-models/alias", name=model, alias="champion", version=str(second))
    aliases = author.client.registered_models.get(model, include_aliases=True).aliases or []
    assert [(a.alias_name, a.version_num) for a in aliases] == [("champion", second)]
    author.client.model_versions.delete(model, second)
    with pytest.raises(ResourceDoesNotExist, match="champion"):
        author.client.model_versions.get_by_alias(model, "champion")
    assert add_version(author.client, model) == second + 1, "a version number is never used twice"


@pytest.mark.parametrize("alias", ["latest", "Latest", "v1"])
def test_a_reserved_alias_is_refused(author: Member, model: str, alias: str) -> None:
    number = add_version(author.client, model)
    with pytest.raises(InvalidParameterValue, match="reserved"):
        author.client.registered_models.set_alias(model, alias, number)


def test_tags_need_apply_tag(control: SandboxControl, author: Member, member: MemberFactory, model: str) -> None:
    number = str(add_version(author.client, model))
    tagger = member("tagger", SCHEMA | {model: ["EXECUTE"]})
    tag = {"name": model, "version": number, "key": "team", "value": "a"}
    with pytest.raises(PermissionDenied, match="APPLY TAG"):
        registry(tagger.client, "POST", "model-versions/set-tag", **tag)
    control.grant(tagger.application_id, model, "APPLY_TAG")
    registry(tagger.client, "POST", "model-versions/set-tag", **tag)
    seen = registry(author.client, "GET", "model-versions/get", name=model, version=number)["model_version"]
    assert seen["tags"] == [{"key": "team", "value": "a"}]


def test_versions_come_in_pages(author: Member, model: str) -> None:
    for _ in range(5):
        add_version(author.client, model)
    path = f"/api/2.1/unity-catalog/models/{model}/versions"
    page: Any = author.client.api_client.do("GET", path, query={"max_results": 2})
    assert len(page["model_versions"]) == 2
    listed = [version.version for version in author.client.model_versions.list(model, max_results=2)]
    assert sorted(listed) == [1, 2, 3, 4, 5]


def test_a_new_owner_takes_over(author: Member, member: MemberFactory, model: str) -> None:
    heir = member("heir", SCHEMA)
    author.client.registered_models.update(model, owner=heir.application_id, comment="yours")
    with pytest.raises(PermissionDenied):
        author.client.registered_models.delete(model)
    assert heir.client.registered_models.get(model).comment == "yours"
    heir.client.registered_models.delete(model)
    with pytest.raises(ResourceDoesNotExist):
        heir.client.registered_models.get(model)
