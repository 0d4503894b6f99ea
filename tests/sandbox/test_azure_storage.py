"""The workspace's storage account, with the unmodified azure-storage-blob and signatures of both sides."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.storage.blob import (
    BlobBlock,
    BlobClient,
    BlobSasPermissions,
    ContainerClient,
    ContentSettings,
    generate_blob_sas,
)

from trainyard_sandbox.client import SandboxControl

STORE = "workspaceblobstore"
Container = Callable[..., ContainerClient]


@pytest.fixture
def container(control: SandboxControl, monkeypatch: pytest.MonkeyPatch) -> Container:
    """A client of a container of its own, with a signature: `container("rl")`."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(control.address.ca_file))
    name = f"test-{uuid.uuid4().hex[:12]}"
    control.add_datastore(name, name)

    def client(permissions: str = "racwdl", **options: Any) -> ContainerClient:
        url = control.sign_azure_url(name, permissions=permissions)
        return ContainerClient.from_container_url(url, retry_total=0, **options)

    return client


def test_a_blob_that_was_written_is_read_with_its_bytes_metadata_and_type(container: Container) -> None:
    with container() as client, client.get_blob_client("a/b c/d+é.txt") as blob:
        assert not blob.exists()
        blob.upload_blob(b"hello", metadata={"origin": "here"}, content_settings=ContentSettings("text/x"))
        properties = blob.get_blob_properties()
        assert (properties.size, properties.metadata) == (5, {"origin": "here"})
        assert properties.content_settings.content_type == "text/x"
        assert blob.download_blob().readall() == b"hello"
        assert blob.download_blob(offset=1, length=3).readall() == b"ell"
        blob.set_blob_metadata({"upload_status": "completed"})
        assert blob.get_blob_properties().metadata == {"upload_status": "completed"}
        blob.delete_blob()
        with pytest.raises(ResourceNotFoundError) as missing:
            blob.delete_blob()
        assert missing.value.error_code == "BlobNotFound"


def test_an_empty_blob_is_read_as_nothing(container: Container) -> None:
    with container() as client, client.get_blob_client("empty") as blob:
        blob.upload_blob(b"")
        assert blob.download_blob().readall() == b""


def test_a_large_blob_goes_up_in_blocks_and_comes_down_in_ranges(container: Container) -> None:
    data = bytes(range(256)) * 1024
    options = {
        "max_single_put_size": 4096,
        "max_block_size": 65536,
        "max_single_get_size": 10000,
        "max_chunk_get_size": 50000,
    }
    with container(**options) as client, client.get_blob_client("large") as blob:
        blob.upload_blob(data, length=len(data))
        assert blob.download_blob().readall() == data


def test_a_block_list_takes_staged_and_committed_blocks_and_no_others(container: Container) -> None:
    with container() as client, client.get_blob_client("blocks") as blob:
        blob.stage_block("one", b"1")
        blob.stage_block("two", b"2")
        blob.commit_block_list([BlobBlock("two"), BlobBlock("one")])
        assert blob.download_blob().readall() == b"21"
        blob.stage_block("three", b"3")
        blob.commit_block_list([BlobBlock("one"), BlobBlock("three")])
        assert blob.download_blob().readall() == b"13"
        with pytest.raises(HttpResponseError) as unknown:
            blob.commit_block_list([BlobBlock("four")])
        assert (unknown.value.status_code, unknown.value.error_code) == (400, "InvalidBlockList")


def test_who_writes_without_overwriting_is_told_that_the_blob_exists(container: Container) -> None:
    with container() as client, client.get_blob_client("once") as blob:
        blob.upload_blob(b"1")
        with pytest.raises(ResourceExistsError) as exists:
            blob.upload_blob(b"2")
        assert exists.value.error_code == "BlobAlreadyExists"
        etag = blob.get_blob_properties().etag
        blob.upload_blob(b"3", overwrite=True)
        with pytest.raises(ResourceModifiedError):
            blob.download_blob(etag=etag, match_condition=_if_not_modified())
        assert blob.download_blob().readall() == b"3"


def _if_not_modified() -> Any:
    from azure.core import MatchConditions

    return MatchConditions.IfNotModified


def test_listing_knows_prefixes_folders_pages_and_metadata(container: Container) -> None:
    with container() as client:
        for name in ("a/1", "a/2", "a/b/3", "c"):
            client.upload_blob(name, b"x" * len(name), metadata={"n": name.replace("/", "-")})
        assert [blob.name for blob in client.list_blobs()] == ["a/1", "a/2", "a/b/3", "c"]
        pages = client.list_blobs(results_per_page=2).by_page()
        assert [[blob.name for blob in page] for page in pages] == [["a/1", "a/2"], ["a/b/3", "c"]]
        assert {entry.name for entry in client.walk_blobs("a/", delimiter="/")} == {"a/1", "a/2", "a/b/"}
        listed = next(iter(client.list_blobs(name_starts_with="a/b", include=["metadata"])))
        assert (listed.name, listed.size, listed.metadata) == ("a/b/3", 5, {"n": "a-b-3"})


def test_a_signature_permits_what_it_says_where_it_says_it(control: SandboxControl, container: Container) -> None:
    with container() as client:
        client.upload_blob("x", b"1")
        client.upload_blob("y", b"1")
    with container("r") as reader:
        assert reader.download_blob("x").readall() == b"1"
        for refused in (
            lambda: reader.upload_blob("z", b"1"),
            lambda: reader.delete_blob("x"),
            lambda: list(reader.list_blobs()),
        ):
            with pytest.raises(HttpResponseError) as error:
                refused()
            assert (error.value.status_code, error.value.error_code) == (403, "AuthorizationPermissionMismatch")
        name = reader.container_name
    of_x = control.sign_azure_url(name, "x")
    assert BlobClient.from_blob_url(of_x).download_blob().readall() == b"1"
    with pytest.raises(ClientAuthenticationError, match="Signature did not match"):
        BlobClient.from_blob_url(of_x.replace("/x?", "/y?"), retry_total=0).download_blob()


def test_a_signature_ends_with_its_time(control: SandboxControl, container: Container) -> None:
    with container() as client:
        client.upload_blob("x", b"1")
        url = control.sign_azure_url(client.container_name, "x", lifetime_seconds=60)
        control.settings(clock_offset_seconds=61)
        with pytest.raises(ClientAuthenticationError, match="Signature not valid in the specified time frame"):
            BlobClient.from_blob_url(url, retry_total=0).download_blob()


def test_what_the_sdk_signs_with_the_account_key_is_good(
    control: SandboxControl, container: Container, data_scientist: str, arm: Callable[..., requests.Response]
) -> None:
    with container() as client:
        client.upload_blob("folder/x", b"1")
        name = client.container_name
    secret = arm(data_scientist, "POST", f"/datastores/{name}/listSecrets", version="2024-10-01-preview").json()
    url = control.sign_azure_url(name, "folder/x")
    account = urlsplit(url).path.split("/")[2]
    expiry = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=5)
    permission = BlobSasPermissions(read=True)
    token = generate_blob_sas(
        account, name, "folder/x", account_key=secret["key"], permission=permission, expiry=expiry
    )
    response = requests.get(f"{url.partition('?')[0]}?{token}", verify=str(control.address.ca_file), timeout=10)
    assert (response.status_code, response.content) == (200, b"1")


def test_storage_refuses_in_its_own_words_who_has_no_right(
    control: SandboxControl, container: Container, data_scientist: str
) -> None:
    with container() as client:
        client.upload_blob("x", b"1")
        plain = control.sign_azure_url(client.container_name, "x").partition("?")[0]

    def get(**headers: str) -> tuple[int, str]:
        answer = requests.get(plain, headers=headers, verify=str(control.address.ca_file), timeout=10)
        return answer.status_code, answer.headers.get("x-ms-error-code", "")

    token = control.issue_azure_token(data_scientist, "https://storage.azure.com")
    assert get() == (409, "PublicAccessNotPermitted")
    assert get(Authorization="Bearer nonsense") == (401, "InvalidAuthenticationToken")
    assert get(Authorization=f"Bearer {token}") == (403, "AuthorizationPermissionMismatch")
    control.assign_role(data_scientist, "Storage Blob Data Reader", "storage account")
    assert get(Authorization=f"Bearer {token}") == (200, "")


def test_a_fault_of_storage_is_understood_by_the_sdk(control: SandboxControl, container: Container) -> None:
    control.add_fault("status", "/blob/.*/x", status=403)
    with container() as client, pytest.raises(HttpResponseError) as firewall:
        client.upload_blob("x", b"1")
    assert (firewall.value.status_code, firewall.value.error_code) == (403, "AuthorizationFailure")


def test_the_accounts_own_host_serves_the_same_blobs(
    control: SandboxControl, container: Container, connect_here: None
) -> None:
    with container() as client:
        client.upload_blob("folder/x", b"1")
        url = urlsplit(control.sign_azure_url(client.container_name, permissions="rl"))
    account = url.path.split("/")[2]
    suffix = control.address.azure.storage_suffix
    own = f"https://{account}.blob.{suffix}/{client.container_name}?{url.query}"
    with ContainerClient.from_container_url(own, retry_total=0) as other:
        assert [blob.name for blob in other.list_blobs()] == ["folder/x"]
        assert other.download_blob("folder/x").readall() == b"1"


def test_what_storage_does_not_serve_is_refused(control: SandboxControl, container: Container) -> None:
    with container() as client:
        client.upload_blob("x", b"1")
        with pytest.raises(HttpResponseError) as append:
            client.upload_blob("log", b"1", blob_type="AppendBlob")
        assert append.value.status_code == 400
        with pytest.raises(HttpResponseError) as lease:
            client.get_blob_client("x").acquire_lease()
        assert lease.value.error_code == "UnsupportedQueryParameter"
        with pytest.raises(HttpResponseError) as conflict:
            client.upload_blob("x/y", b"1")
        assert conflict.value.error_code == "PathConflict"


def test_the_request_log_shows_no_signature(control: SandboxControl, container: Container) -> None:
    control.clear_requests()
    with container() as client:
        client.upload_blob("x", b"1")
    logged = [entry for entry in control.requests() if entry["path"].startswith("/blob/")]
    assert logged
    assert all("sig=REDACTED" in entry["query"] for entry in logged)
