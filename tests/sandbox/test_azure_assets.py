"""The workspace, its datastores and its assets, with the unmodified MLClient and with plain requests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from trainyard_sandbox.client import SandboxControl

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

Arm = Callable[..., requests.Response]


@pytest.fixture
def client(ml_client: Callable[..., MLClient], data_scientist: str) -> MLClient:
    """The unmodified SDK, signed in as a data scientist."""
    return ml_client(data_scientist)


def test_the_workspace_tells_what_the_sdk_and_mlflow_need(control: SandboxControl, client: MLClient) -> None:
    azure = control.address.azure
    found = client.workspaces.get(azure.workspace_name)
    host = azure.resource_manager.removeprefix("https://")
    assert found.mlflow_tracking_uri == f"azureml://{host}/mlflow/v1.0{azure.workspace_scope}"
    assert (found.location, found.resource_group) == (azure.region, azure.resource_group)
    services = requests.get(found.discovery_url, verify=str(control.address.ca_file), timeout=10).json()
    assert services["history"] == azure.resource_manager
    control.change_azure_workspace(publicNetworkAccess="Disabled")
    assert client.workspaces.get(azure.workspace_name).public_network_access == "Disabled"
    control.change_azure_workspace()


def test_the_default_datastore_is_listed_and_gives_a_signature(client: MLClient) -> None:
    store = client.datastores.get_default(include_secrets=True)
    assert store.name == "workspaceblobstore"
    assert "sig=" in store.credentials.sas_token
    assert {"workspaceblobstore", "workspaceartifactstore"} <= {found.name for found in client.datastores.list()}
    with pytest.raises(ResourceNotFoundError):
        client.datastores.get("nowhere")


def test_datastores_come_in_pages_of_the_length_asked_for(arm: Arm, data_scientist: str) -> None:
    params = {"count": "1", "names": "workspaceblobstore,workspaceartifactstore"}
    first = arm(data_scientist, "GET", "/datastores", version="2023-04-01", params=params).json()
    assert ([store["name"] for store in first["value"]], "nextLink" in first) == (["workspaceblobstore"], True)
    second = arm(data_scientist, "GET", "/datastores", version="2023-04-01", params=params | {"$skip": "1"}).json()
    assert [store["name"] for store in second["value"]] == ["workspaceartifactstore"]
    assert "nextLink" not in second


def test_a_folder_of_code_is_uploaded_once_and_known_by_its_hash(
    control: SandboxControl, client: MLClient, arm: Arm, data_scientist: str, tmp_path: Path
) -> None:
    from azure.ai.ml.entities._assets import Code

    folder = tmp_path / "src"
    (folder / "lib").mkdir(parents=True)
    (folder / "main.py").write_text(f"print('{tmp_path.name}')")
    (folder / "lib" / "__init__.py").write_text("")
    before = len(control.azure_assets("codes"))
    first = client._code.create_or_update(Code(name="6ba7b810-9dad-11d1-80b4-00c04fd430c8", version="1", path=folder))
    listed = control.azure_assets("codes")
    assert len(listed) == before + 1
    control.clear_requests()
    again = client._code.create_or_update(Code(name="6ba7b810-9dad-11d1-80b4-00c04fd430c8", version="1", path=folder))
    assert again.id == first.id
    assert not [entry for entry in control.requests() if entry["path"].startswith("/blob/")]
    path = "/codes/6ba7b810-9dad-11d1-80b4-00c04fd430c8/versions"
    other = {"hash": "0" * 64, "hashVersion": "202208"}
    assert arm(data_scientist, "GET", path, version="2023-04-01", params=other).json()["value"] == []


def start_upload(arm: Arm, client_id: str, name: str) -> dict[str, Any]:
    body = {"pendingUploadType": "TemporaryBlobReference"}
    path = f"/codes/{name}/versions/1/startPendingUpload"
    answer = arm(client_id, "POST", path, version="2023-04-01", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["blobReferenceForConsumption"]
    return found


def test_code_is_what_lies_at_its_uri_and_its_uri_cannot_change(
    control: SandboxControl, arm: Arm, data_scientist: str
) -> None:
    def put(uri: str, **tags: str) -> requests.Response:
        body = {"properties": {"codeUri": uri, "tags": tags}}
        return arm(data_scientist, "PUT", "/codes/c1/versions/1", version="2023-04-01", json=body)

    area = start_upload(arm, data_scientist, "c1")
    empty = put(area["blobUri"] + "/src")
    assert (empty.status_code, empty.json()["error"]["code"]) == (400, "UserError")
    base, _, signature = area["credential"]["sasUri"].partition("?")
    headers = {"x-ms-blob-type": "BlockBlob"}
    url = f"{base}/src/main.py?{signature}"
    assert requests.put(url, b"1", headers=headers, verify=str(control.address.ca_file), timeout=10).status_code == 201
    assert put(area["blobUri"] + "/src").status_code == 201
    assert put(area["blobUri"] + "/src", team="a").status_code == 200
    moved = put(area["blobUri"])
    assert (moved.status_code, moved.json()["error"]["message"]) == (400, "Asset paths cannot be updated.")
    elsewhere = put("https://elsewhere.test/c/src")
    assert "not in the workspace's storage account" in elsewhere.json()["error"]["message"]


def test_an_environment_keeps_its_image_and_its_latest_version_is_found(client: MLClient) -> None:
    from azure.ai.ml.entities import Environment

    conda = {"name": "train", "dependencies": ["python=3.11", {"pip": ["scikit-learn==1.9.1"]}]}
    for version in ("1", "2"):
        made = client.environments.create_or_update(
            Environment(name="sk", version=version, image=f"base:{version}", conda_file=conda)
        )
        assert made.version == version
    latest = client.environments.get("sk", label="latest")
    assert (latest.version, latest.image) == ("2", "base:2")
    assert latest.conda_file["dependencies"] == conda["dependencies"]
    with pytest.raises(HttpResponseError) as changed:
        client.environments.create_or_update(Environment(name="sk", version="1", image="other:1", conda_file=conda))
    assert changed.value.status_code == 409
    with pytest.raises(ResourceNotFoundError):
        client.environments.get("sk", "3")
    assert [found.version for found in client.environments.list(name="sk")] == ["2", "1"]


def test_an_environment_without_an_image_or_with_a_build_is_refused(arm: Arm, data_scientist: str) -> None:
    path = "/environments/CliV2AnonymousEnvironment/versions/0123456789abcdef0123456789abcdef"
    for properties in ({}, {"image": "x", "build": {"contextUri": "x"}}, {"image": "x", "dockerfile": "y"}):
        answer = arm(data_scientist, "PUT", path, version="2023-04-01-preview", json={"properties": properties})
        assert answer.status_code == 400, properties
    good = {"properties": {"image": "x", "isAnonymous": True}}
    assert arm(data_scientist, "PUT", path, version="2023-04-01-preview", json=good).status_code == 201
    assert arm(data_scientist, "PUT", path, version="2023-04-01-preview", json=good).status_code == 200


def test_data_keeps_its_type_and_its_uri(client: MLClient) -> None:
    from azure.ai.ml.entities import Data

    uri = "azureml://datastores/workspaceblobstore/paths/wine/"
    client.data.create_or_update(Data(name="wine", version="1", path=uri, type="uri_folder"))
    found = client.data.get("wine", "1")
    assert (found.path, found.type) == (uri, "uri_folder")
    assert client.data.get("wine", label="latest").version == "1"
    for change in ({"type": "uri_file"}, {"path": uri + "other/"}):
        fields = {"name": "wine", "version": "1", "path": uri, "type": "uri_folder"} | change
        with pytest.raises(HttpResponseError) as refused:
            client.data.create_or_update(Data(**fields))
        assert refused.value.status_code == 400
    with pytest.raises(ResourceNotFoundError):
        client.data.get("wine", "2")


def test_a_local_file_becomes_data_in_the_default_datastore(
    control: SandboxControl, client: MLClient, tmp_path: Path, connect_here: None
) -> None:
    from azure.ai.ml.entities import Data

    (tmp_path / "wine.csv").write_text("a,b\n1,2\n")
    made = client.data.create_or_update(Data(name="local", version="1", path=tmp_path / "wine.csv", type="uri_file"))
    path = made.path.partition("/datastores/workspaceblobstore/paths/")[2]
    assert control.azure_blob("workspaceblobstore", path) == b"a,b\n1,2\n"


def test_a_table_is_refused_by_name(arm: Arm, data_scientist: str) -> None:
    body = {"properties": {"dataType": "mltable", "dataUri": "azureml://datastores/workspaceblobstore/paths/t"}}
    answer = arm(data_scientist, "PUT", "/data/t/versions/1", version="2023-04-01-preview", json=body)
    assert (answer.status_code, "mltable" in answer.json()["error"]["message"]) == (400, True)


def test_a_model_names_its_job_and_takes_new_tags(client: MLClient, arm: Arm, data_scientist: str) -> None:
    from azure.ai.ml.entities import Model

    for version, job in (("1", "job-a"), ("2", "job-b")):
        path = f"azureml://jobs/{job}/outputs/artifacts/paths/model/"
        client.models.create_or_update(Model(name="wine-model", version=version, path=path, type="mlflow_model"))
    latest = client.models.get("wine-model", label="latest")
    assert (latest.version, latest.job_name) == ("2", "job-b")
    assert latest.path.endswith("/datastores/workspaceartifactstore/paths/ExperimentRun/dcid.job-b/model/")
    listed = arm(
        data_scientist,
        "GET",
        "/models/wine-model/versions",
        version="2023-08-01-preview",
        params={"$orderBy": "createdtime desc", "$top": "1"},
    ).json()
    assert [entry["name"] for entry in listed["value"]] == ["2"]
    body = listed["value"][0]
    body["properties"]["tags"] = {"alias": "champion"}
    path = "/models/wine-model/versions/2"
    changed = arm(data_scientist, "PUT", path, version="2023-08-01-preview", json=body)
    assert (changed.status_code, changed.json()["properties"]["tags"]) == (200, {"alias": "champion"})
    assert client.models.get("wine-model", "2").job_name == "job-b"
    assert [found.version for found in client.models.list(name="wine-model")] == ["2", "1"]
    assert [found.name for found in client.models.list()] == ["wine-model"]


def test_lists_go_on_where_a_page_ends(control: SandboxControl, arm: Arm, data_scientist: str) -> None:
    for number in range(1, 103):
        uri = f"azureml://datastores/workspaceblobstore/paths/{number}"
        control.add_azure_asset("models", "many", str(number), modelUri=uri)
    first = arm(data_scientist, "GET", "/models/many/versions", version="2023-04-01").json()
    assert [len(first["value"]), "nextLink" in first] == [100, True]
    token = control.issue_azure_token(data_scientist, control.address.azure.resource_manager)
    headers = {"Authorization": f"Bearer {token}"}
    ca_file = str(control.address.ca_file)
    second = requests.get(first["nextLink"], headers=headers, verify=ca_file, timeout=10).json()
    assert [entry["name"] for entry in second["value"]] == ["2", "1"]
    assert "nextLink" not in second


def test_an_archived_version_is_listed_only_where_it_is_asked_for(
    control: SandboxControl, arm: Arm, data_scientist: str
) -> None:
    uri = "azureml://datastores/workspaceblobstore/paths/x"
    control.add_azure_asset("models", "old", "1", modelUri=uri, isArchived=True)
    control.add_azure_asset("models", "old", "2", modelUri=uri, tags={"alias": "champion"})

    def listed(**params: str) -> list[str]:
        answer = arm(data_scientist, "GET", "/models/old/versions", version="2023-04-01", params=params)
        return [entry["name"] for entry in answer.json()["value"]]

    assert listed() == ["2"]
    assert listed(listViewType="ArchivedOnly") == ["1"]
    assert listed(listViewType="All", **{"$orderBy": "createdtime asc"}) == ["1", "2"]
    assert listed(tags="alias=champion") == ["2"]
    assert listed(tags="alias=challenger") == []


def test_an_unknown_field_name_or_parameter_is_refused_by_name(arm: Arm, data_scientist: str) -> None:
    def put(path: str, **properties: Any) -> str:
        answer = arm(data_scientist, "PUT", path, version="2023-04-01", json={"properties": properties})
        assert answer.status_code == 400
        return str(answer.json()["error"]["message"])

    uri = "azureml://datastores/workspaceblobstore/paths/x"
    assert "properties.modelPath" in put("/models/m/versions/1", modelUri=uri, modelPath="x")
    assert "modelUri" in put("/models/m/versions/1")
    assert "_bad" in put("/models/_bad/versions/1", modelUri=uri)
    assert "https://x.test" in put("/models/m/versions/1", modelUri="https://x.test")
    answer = arm(data_scientist, "GET", "/models", version="2023-04-01", params={"colour": "red"})
    assert (answer.status_code, "'colour'" in answer.json()["error"]["message"]) == (400, True)
