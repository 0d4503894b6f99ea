"""Volumes and the files in them, through the unmodified SDK: what is kept, and who may read and write it."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import (
    AlreadyExists,
    BadRequest,
    InvalidParameterValue,
    NotFound,
    PermissionDenied,
    ResourceAlreadyExists,
)
from databricks.sdk.errors.base import DatabricksError
from databricks.sdk.service.catalog import VolumeType

from trainyard_sandbox.client import SandboxControl

from .members import Member, MemberFactory, member

__all__ = ["member"]  # the fixture

SCHEMA = {"main": ["USE CATALOG"], "main.files": ["USE SCHEMA"]}


@pytest.fixture
def owner(member: MemberFactory) -> Member:
    """A principal that may create volumes in main.files."""
    return member("owner", {**SCHEMA, "main.files": ["USE SCHEMA", "CREATE VOLUME"]})


@pytest.fixture
def root(owner: Member, request: pytest.FixtureRequest) -> str:
    """The path of a new volume of `owner`."""
    name = f"v{abs(hash(request.node.name))}"
    volume = owner.client.volumes.create("main", "files", name, VolumeType.MANAGED)
    assert volume.full_name == f"main.files.{name}"
    return f"/Volumes/main/files/{name}"


def full_name(root: str) -> str:
    return ".".join(root.split("/")[2:])


def text(client: WorkspaceClient, path: str) -> bytes:
    contents = client.files.download(path).contents
    assert contents is not None
    return contents.read()


def test_a_file_is_kept_listed_and_deleted(owner: Member, root: str) -> None:
    files = owner.client.files
    files.upload(f"{root}/a/b/train.csv", io.BytesIO(b"x,y\n1,2\n"))
    assert text(owner.client, f"{root}/a/b/train.csv") == b"x,y\n1,2\n"
    assert files.get_metadata(f"{root}/a/b/train.csv").content_length == 8
    files.get_directory_metadata(f"{root}/a")
    (entry,) = files.list_directory_contents(f"{root}/a/b")
    assert (entry.name, entry.path, entry.is_directory, entry.file_size) == (
        "train.csv",
        f"{root}/a/b/train.csv",
        False,
        8,
    )
    files.delete(f"{root}/a/b/train.csv")
    assert list(files.list_directory_contents(f"{root}/a/b")) == []
    for gone in (f"{root}/a/b/train.csv", f"{root}/none", f"{root}/a"):
        with pytest.raises(NotFound):
            files.get_metadata(gone)
    with pytest.raises(NotFound):
        files.get_directory_metadata(f"{root}/none")


def test_a_range_of_a_file_can_be_read(owner: Member, root: str) -> None:
    owner.client.files.upload(f"{root}/digits", io.BytesIO(b"0123456789"))
    path = f"/api/2.0/fs/files{root}/digits"
    answer: Any = owner.client.api_client.do("GET", path, headers={"Range": "bytes=2-4"}, raw=True)
    assert answer["contents"].read() == b"234"


def test_an_existing_file_is_replaced_unless_overwrite_is_false(owner: Member, root: str) -> None:
    for content in (b"1", b"2"):
        owner.client.files.upload(f"{root}/x", io.BytesIO(content))
    with pytest.raises(AlreadyExists):
        owner.client.files.upload(f"{root}/x", io.BytesIO(b"3"), overwrite=False)
    assert text(owner.client, f"{root}/x") == b"2"


def test_a_large_upload_falls_back_to_one_request(owner: Member, root: str) -> None:
    owner.client.config.files_ext_multipart_upload_min_stream_size = 1000
    owner.client.files.upload(f"{root}/large", io.BytesIO(b"x" * 5000))
    assert owner.client.files.get_metadata(f"{root}/large").content_length == 5000


def test_a_directory_is_deleted_only_when_it_is_empty(owner: Member, root: str) -> None:
    owner.client.files.create_directory(f"{root}/a/b")
    owner.client.files.create_directory(f"{root}/a/b")
    with pytest.raises(BadRequest) as refused:
        owner.client.files.delete_directory(f"{root}/a")
    assert [info.reason for info in refused.value.get_error_info()] == ["FILES_API_DIRECTORY_IS_NOT_EMPTY"]
    owner.client.files.delete_directory(f"{root}/a/b")
    owner.client.files.delete_directory(f"{root}/a")
    with pytest.raises(InvalidParameterValue, match="root of a volume"):
        owner.client.files.delete_directory(root)


def test_a_folder_never_takes_a_files_place_nor_a_file_a_folders(owner: Member, root: str) -> None:
    owner.client.files.upload(f"{root}/file", io.BytesIO(b""))
    owner.client.files.create_directory(f"{root}/folder")
    attempts: list[Callable[[], object]] = [
        lambda: owner.client.files.create_directory(f"{root}/file"),
        lambda: owner.client.files.upload(f"{root}/file/inside", io.BytesIO(b"")),
        lambda: owner.client.files.upload(f"{root}/folder", io.BytesIO(b"")),
    ]
    for attempt in attempts:
        with pytest.raises(DatabricksError) as refused:
            attempt()
        assert refused.value.error_code == "ALREADY_EXISTS"


def test_listings_come_in_pages(owner: Member, root: str) -> None:
    for number in range(5):
        owner.client.files.upload(f"{root}/{number}", io.BytesIO(b""))
    path = f"/api/2.0/fs/directories{root}"
    page: Any = owner.client.api_client.do("GET", path, query={"page_size": 2})
    assert len(page["contents"]) == 2
    assert page["next_page_token"]
    names = [entry.name for entry in owner.client.files.list_directory_contents(root, page_size=2)]
    assert names == ["0", "1", "2", "3", "4"]


def test_reading_and_writing_are_privileges_of_their_own(
    control: SandboxControl, owner: Member, root: str, member: MemberFactory
) -> None:
    owner.client.files.upload(f"{root}/x", io.BytesIO(b"1"))
    other = member("other", SCHEMA)
    with pytest.raises(PermissionDenied, match="User does not have READ VOLUME on Volume"):
        text(other.client, f"{root}/x")
    control.grant(other.application_id, full_name(root), "READ_VOLUME")
    assert text(other.client, f"{root}/x") == b"1"
    writes: list[Callable[[], object]] = [
        lambda: other.client.files.upload(f"{root}/y", io.BytesIO(b"")),
        lambda: other.client.files.delete(f"{root}/x"),
        lambda: other.client.files.create_directory(f"{root}/z"),
    ]
    for write in writes:
        with pytest.raises(PermissionDenied, match="User does not have WRITE VOLUME on Volume"):
            write()
    control.grant(other.application_id, full_name(root), "WRITE_VOLUME")
    for write in writes:
        write()
    control.revoke(other.application_id, "main.files", "USE SCHEMA")
    with pytest.raises(PermissionDenied, match="USE SCHEMA"):
        text(other.client, f"{root}/y")


def test_a_privilege_reaches_down_from_the_catalog_and_through_groups(
    control: SandboxControl, owner: Member, root: str, member: MemberFactory
) -> None:
    owner.client.files.upload(f"{root}/x", io.BytesIO(b"1"))
    reader = member("reader")
    control.change_group("data-readers", groups=["everyone-in-data"])
    control.change_principal(reader.application_id, groups=["data-readers"])
    control.grant("everyone-in-data", "main", "USE CATALOG", "USE SCHEMA", "READ VOLUME")
    assert text(reader.client, f"{root}/x") == b"1"
    control.revoke("everyone-in-data", "main", "READ VOLUME")
    with pytest.raises(PermissionDenied):
        reader.client.files.get_metadata(f"{root}/x")


@pytest.mark.parametrize("path", ["/Volumes/main/files", "/Volumes/main/files/v/../../x", "/Volumes/main/files/v//x"])
def test_a_path_that_is_no_volumes_is_refused(owner: Member, path: str) -> None:
    with pytest.raises(InvalidParameterValue, match="Invalid path"):
        owner.client.api_client.do("PUT", f"/api/2.0/fs/files{path.replace('..', '%2E%2E')}")


def test_volumes_are_created_listed_changed_and_deleted(owner: Member, root: str, member: MemberFactory) -> None:
    name = full_name(root)
    client = owner.client
    with pytest.raises(ResourceAlreadyExists):
        client.volumes.create("main", "files", name.split(".")[2], VolumeType.MANAGED)
    with pytest.raises(InvalidParameterValue, match="external locations"):
        client.volumes.create("main", "files", "ext", VolumeType.EXTERNAL, storage_location="s3://x/y")
    assert name in [volume.full_name for volume in client.volumes.list("main", "files")]
    stranger = member("stranger", SCHEMA).client
    assert name not in [volume.full_name for volume in stranger.volumes.list("main", "files")]
    with pytest.raises(PermissionDenied, match="CREATE VOLUME"):
        stranger.volumes.create("main", "files", "mine", VolumeType.MANAGED)
    with pytest.raises(PermissionDenied):
        stranger.volumes.delete(name)
    client.files.upload(f"{root}/x", io.BytesIO(b"1"))
    renamed = client.volumes.update(name, comment="hello", new_name=name.split(".")[2] + "b")
    assert (renamed.comment, renamed.owner) == ("hello", owner.application_id)
    assert text(client, f"{root}b/x") == b"1"
    client.volumes.delete(f"{name}b")
    with pytest.raises(NotFound):
        client.volumes.read(f"{name}b")
    with pytest.raises(NotFound):
        client.files.get_metadata(f"{root}b/x")
