"""The workspace's files, through the unmodified SDK: what is kept, and what is refused as the platform refuses it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import (
    BadRequest,
    InvalidParameterValue,
    NotFound,
    PermissionDenied,
    ResourceAlreadyExists,
    ResourceDoesNotExist,
)
from databricks.sdk.service.workspace import ExportFormat, ImportFormat, Language, ObjectType

from trainyard_sandbox.stores.workspace_tree import MAX_IMPORT_BYTES

from .members import MemberFactory, member

__all__ = ["member"]  # the fixture


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def put(workspace: WorkspaceClient, path: str, text: str = "print(1)", **options: Any) -> None:
    options.setdefault("format", ImportFormat.RAW)
    workspace.workspace.import_(path, content=encoded(text), **options)


def test_a_file_is_kept_and_read_back_under_both_names_of_its_path(workspace: WorkspaceClient, principal: str) -> None:
    workspace.workspace.mkdirs(f"/Users/{principal}/runs/a/b")
    put(workspace, f"/Workspace/Users/{principal}/runs/a/b/train.py", "print('hello')")
    status = workspace.workspace.get_status(f"/Users/{principal}/runs/a/b/train.py")
    assert status.object_type is ObjectType.FILE
    assert status.size == len("print('hello')")
    for root in ("", "/Workspace"):
        exported = workspace.workspace.export(f"{root}/Users/{principal}/runs/a/b/train.py")
        assert exported.content == encoded("print('hello')")


def test_every_principal_has_a_home_folder(workspace: WorkspaceClient, principal: str) -> None:
    assert workspace.workspace.get_status(f"/Users/{principal}").object_type is ObjectType.DIRECTORY
    assert list(workspace.workspace.list(f"/Users/{principal}")) == []


def test_a_second_import_needs_overwrite(workspace: WorkspaceClient, principal: str) -> None:
    path = f"/Users/{principal}/train.py"
    put(workspace, path, "1")
    with pytest.raises(ResourceAlreadyExists, match="Please pass overwrite=true"):
        put(workspace, path, "2")
    put(workspace, path, "3", overwrite=True)
    assert workspace.workspace.export(path).content == encoded("3")


def test_an_import_into_a_missing_folder_is_refused(workspace: WorkspaceClient, principal: str) -> None:
    with pytest.raises(ResourceDoesNotExist, match=rf"The parent folder \(/Users/{principal}/none\) does not exist."):
        put(workspace, f"/Users/{principal}/none/train.py")


def test_auto_makes_a_notebook_only_of_a_notebook_source(workspace: WorkspaceClient, principal: str) -> None:
    put(workspace, f"/Users/{principal}/book.py", "# Databricks notebook source\n1", format=ImportFormat.AUTO)
    assert workspace.workspace.get_status(f"/Users/{principal}/book").object_type is ObjectType.NOTEBOOK
    put(workspace, f"/Users/{principal}/plain.py", "1", format=ImportFormat.AUTO)
    assert workspace.workspace.get_status(f"/Users/{principal}/plain.py").object_type is ObjectType.FILE


def test_the_default_format_is_source_and_needs_a_language(workspace: WorkspaceClient, principal: str) -> None:
    with pytest.raises(InvalidParameterValue, match="language"):
        workspace.workspace.import_(f"/Users/{principal}/x.py", content=encoded("1"))
    workspace.workspace.import_(f"/Users/{principal}/x.py", content=encoded("1"), language=Language.PYTHON)
    with pytest.raises(InvalidParameterValue, match=r"Requested node type \[FILE\] is different"):
        put(workspace, f"/Users/{principal}/x.py", overwrite=True)


def test_a_file_over_ten_megabytes_is_refused(workspace: WorkspaceClient, principal: str) -> None:
    with pytest.raises(BadRequest, match="exceeded the limit") as refused:
        put(workspace, f"/Users/{principal}/big.py", "x" * (MAX_IMPORT_BYTES + 1))
    assert refused.value.error_code == "MAX_NOTEBOOK_SIZE_EXCEEDED"


@pytest.mark.parametrize("path", ["train.py", "Users/x", "/Users/../Shared/x", "/Users//x"])
def test_a_path_that_is_not_absolute_and_plain_is_refused(workspace: WorkspaceClient, path: str) -> None:
    with pytest.raises(InvalidParameterValue, match="Path"):
        workspace.workspace.mkdirs(path)


def test_nobody_gets_into_the_home_of_another(
    workspace: WorkspaceClient, principal: str, member: MemberFactory
) -> None:
    stranger = member("stranger").client
    put(workspace, f"/Users/{principal}/secret.py")
    attempts: list[Callable[[], object]] = [
        lambda: stranger.workspace.get_status(f"/Users/{principal}/secret.py"),
        lambda: stranger.workspace.export(f"/Users/{principal}/secret.py"),
        lambda: put(stranger, f"/Users/{principal}/planted.py"),
        lambda: stranger.workspace.mkdirs(f"/Users/{principal}/planted"),
        lambda: stranger.workspace.delete(f"/Users/{principal}/secret.py"),
        lambda: list(stranger.workspace.list(f"/Users/{principal}")),
    ]
    for attempt in attempts:
        with pytest.raises(PermissionDenied):
            attempt()


def test_a_grant_on_a_folder_opens_what_is_below_it_and_no_more(
    workspace: WorkspaceClient, principal: str, member: MemberFactory
) -> None:
    workspace.workspace.mkdirs(f"/Users/{principal}/runs")
    put(workspace, f"/Users/{principal}/runs/train.py")
    client = member("reader", {f"/Users/{principal}/runs": ["CAN_READ"]}).client
    assert client.workspace.get_status(f"/Users/{principal}/runs/train.py").object_type is ObjectType.FILE
    with pytest.raises(PermissionDenied):
        put(client, f"/Users/{principal}/runs/train.py", overwrite=True)
    with pytest.raises(PermissionDenied):
        client.workspace.get_status(f"/Users/{principal}")


def test_shared_is_open_to_all_and_the_root_to_none(workspace: WorkspaceClient) -> None:
    workspace.workspace.mkdirs("/Shared/experiments")
    with pytest.raises(PermissionDenied):
        workspace.workspace.mkdirs("/elsewhere")


def test_a_folder_with_contents_is_deleted_only_recursively(workspace: WorkspaceClient, principal: str) -> None:
    workspace.workspace.mkdirs(f"/Users/{principal}/runs")
    put(workspace, f"/Users/{principal}/runs/train.py")
    with pytest.raises(BadRequest, match="is not empty") as refused:
        workspace.workspace.delete(f"/Users/{principal}/runs")
    assert refused.value.error_code == "DIRECTORY_NOT_EMPTY"
    workspace.workspace.delete(f"/Users/{principal}/runs", recursive=True)
    with pytest.raises(ResourceDoesNotExist):
        workspace.workspace.get_status(f"/Users/{principal}/runs/train.py")


def test_a_folder_is_not_made_through_a_file(workspace: WorkspaceClient, principal: str) -> None:
    put(workspace, f"/Users/{principal}/train.py")
    with pytest.raises(ResourceAlreadyExists, match="already exists and it is not a folder"):
        workspace.workspace.mkdirs(f"/Users/{principal}/train.py/inside")


def test_an_unknown_field_is_refused(workspace: WorkspaceClient) -> None:
    with pytest.raises(InvalidParameterValue, match="unknown field 'recursively'"):
        workspace.api_client.do("POST", "/api/2.0/workspace/mkdirs", body={"path": "/Shared/x", "recursively": True})


def test_what_the_sandbox_lacks_says_so(workspace: WorkspaceClient) -> None:
    with pytest.raises(NotFound, match="No API found") as refused:
        workspace.api_client.do("GET", "/api/2.0/workspace/search")
    assert refused.value.error_code == "ENDPOINT_NOT_FOUND"


NOTEBOOK = "# Databricks notebook source\nx = 1\n\n# COMMAND ----------\n\n# MAGIC %md\n# MAGIC hello\n"


def test_a_notebook_is_kept_in_both_formats_and_exported_as_either(workspace: WorkspaceClient, principal: str) -> None:
    put(workspace, f"/Users/{principal}/source", NOTEBOOK, format=ImportFormat.SOURCE, language=Language.PYTHON)
    exported = base64.b64decode(workspace.workspace.export(f"/Users/{principal}/source").content or "").decode()
    assert exported == NOTEBOOK
    as_ipynb = workspace.workspace.export(f"/Users/{principal}/source", format=ExportFormat.JUPYTER)
    text = base64.b64decode(as_ipynb.content or "").decode()
    cells = [(cell["cell_type"], cell["source"]) for cell in json.loads(text)["cells"]]
    assert cells == [("code", "x = 1"), ("markdown", "hello")]
    put(workspace, f"/Users/{principal}/jupyter", text, format=ImportFormat.JUPYTER)
    assert workspace.workspace.get_status(f"/Users/{principal}/jupyter").language is Language.PYTHON
    back = base64.b64decode(workspace.workspace.export(f"/Users/{principal}/jupyter").content or "").decode()
    assert back == NOTEBOOK
    put(workspace, f"/Users/{principal}/auto.ipynb", text, format=ImportFormat.AUTO)
    assert workspace.workspace.get_status(f"/Users/{principal}/auto").language is Language.PYTHON
    with pytest.raises(BadRequest, match="not a notebook"):
        put(workspace, f"/Users/{principal}/broken", "{}", format=ImportFormat.JUPYTER)
