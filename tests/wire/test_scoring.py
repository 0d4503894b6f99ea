"""Rows scored as the caller, by the unmodified SDKs, at endpoints of the sandbox."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.service import serving as sdk

from tests.sandbox.azure_fixtures import Arm, arm
from tests.sandbox.azure_online import Online
from tests.sandbox.conftest import client_for, wait_until, workspace
from tests.sandbox.serving_models import DOUBLES, model_files, register
from tests.unit.deployments import deployment, served
from tests.wire.azureml import cloud, data_scientist
from trainyard.client import Deployment, NotAllowed, NotFound, ScoringFailed
from trainyard.client.scoring import score
from trainyard.identity.clouds import Cloud
from trainyard_sandbox.client import SandboxControl

__all__ = ["arm", "client_for", "cloud", "data_scientist", "workspace"]

ROWS = [{"x": 1.0}, {"x": 2.5}]
SECONDS = 30.0


def pinned(platform: str, host: str, name: str, url: str, **more: Any) -> Deployment:
    """A deployment whose status names that endpoint, with one model behind it."""
    endpoint = {"name": name, "platform": platform, "host": host, "url": url, "principal": "p", "mode": "federated"}
    return deployment("Ready", endpoint=endpoint, servedModels=[served("1", "model-aaaa", 100, 100)], **more)


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, control: SandboxControl, tmp_path: Path) -> Iterator[None]:
    """A caller without any credential, who trusts the sandbox's certificate; no endpoint is left."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(control.address.ca_file))
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "none"))
    for name in ("DATABRICKS_HOST", "DATABRICKS_TOKEN", "DATABRICKS_CLIENT_ID", "ARM_CLIENT_ID"):
        monkeypatch.delenv(name, raising=False)
    yield
    control.clear_serving_scripts()
    for each in control.databricks_endpoints():
        control.delete_databricks_endpoint(each["name"])
    for each in control.azure_endpoints():
        control.delete_azure_endpoint(each["name"])


# --- Databricks


@pytest.fixture
def lakehouse(control: SandboxControl, workspace: WorkspaceClient, principal: str) -> Deployment:
    """A model that doubles, behind an endpoint of the principal's."""
    control.grant(principal, "main", "USE_CATALOG")
    control.grant(principal, "main.serving", "USE_SCHEMA", "CREATE_MODEL")
    model, name = f"main.serving.m{uuid.uuid4().hex[:8]}", f"e{uuid.uuid4().hex[:8]}"
    register(workspace, model, model_files(DOUBLES), str(control.address.ca_file))
    entity = sdk.ServedEntityInput(
        entity_name=model, entity_version="1", name="model-aaaa", workload_size="Small", scale_to_zero_enabled=False
    )
    workspace.serving_endpoints.create(name, config=sdk.EndpointCoreConfigInput(name, served_entities=[entity]))
    wait_until(lambda: is_ready(workspace, name), 60)
    host = control.address.host
    return pinned("databricks", host, name, f"{host}/serving-endpoints/{name}/invocations")


def is_ready(workspace: WorkspaceClient, name: str) -> bool:
    state = workspace.serving_endpoints.get(name).state
    return state is not None and state.ready is sdk.EndpointStateReady.READY


def at_lakehouse(control: SandboxControl, found: Deployment, one: str | None = None) -> list[Any]:
    """Predictions for ROWS, with the sandbox's host allowed as --allowed-host does."""
    allowed = [control.address.host.removeprefix("https://")]
    return score.score(found, ROWS, one, SECONDS, allowed_hosts=allowed).predictions


def as_token(monkeypatch: pytest.MonkeyPatch, control: SandboxControl, owner: str) -> None:
    monkeypatch.setenv("DATABRICKS_HOST", control.address.host)
    monkeypatch.setenv("DATABRICKS_TOKEN", control.add_personal_access_token(owner).value)


def test_rows_are_scored_at_databricks_as_whom_the_callers_own_settings_name(
    control: SandboxControl, lakehouse: Deployment, principal: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secret = control.add_oauth_secret(principal).value
    profile = f"[wine]\nhost = {control.address.host}/\nclient_id = {principal}\nclient_secret = {secret}\n"
    (tmp_path / "cfg").write_text(profile)
    with monkeypatch.context() as patch:
        patch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "cfg"))
        assert at_lakehouse(control, lakehouse) == [2.0, 5.0]
    as_token(monkeypatch, control, principal)
    assert at_lakehouse(control, lakehouse, "forest") == [2.0, 5.0]


def test_who_may_not_ask_at_databricks_is_told_the_change_that_lets_him(
    control: SandboxControl, lakehouse: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = control.add_principal("stranger", entitlements=["workspace-access"])
    as_token(monkeypatch, control, stranger)
    with pytest.raises(NotAllowed) as refused:
        at_lakehouse(control, lakehouse)
    wanted = f'{{"servicePrincipal": "{stranger}", "level": "CAN_QUERY"}}'
    assert "kubectl patch modeldeployment wine -n team --type=merge" in refused.value.message
    assert wanted in refused.value.message


def test_what_the_model_could_not_score_is_told_in_its_words(
    control: SandboxControl, lakehouse: Deployment, principal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_token(monkeypatch, control, principal)
    allowed = [control.address.host.removeprefix("https://")]
    with pytest.raises(ScoringFailed) as failed:
        score.score(lakehouse, [{"y": 1}], None, SECONDS, allowed_hosts=allowed)
    assert failed.value.status == 400
    assert "x" in failed.value.message.partition("answered 400")[2]


def test_an_endpoint_that_has_gone_is_not_found(
    control: SandboxControl, lakehouse: Deployment, principal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_token(monkeypatch, control, principal)
    control.delete_databricks_endpoint(lakehouse.resource["status"]["endpoint"]["name"])
    with pytest.raises(NotFound, match="is not there"):
        at_lakehouse(control, lakehouse)


# --- Azure ML


@pytest.fixture
def made(control: SandboxControl, arm: Arm, data_scientist: str, cloud: Cloud) -> Callable[[str], Deployment]:
    """Make an endpoint of that auth, with a pretended model behind it."""
    control.script_serving(platform="azure", pretend=True, predictions=[7, 8])
    online = Online(control, arm, data_scientist)

    def make(auth: str) -> Deployment:
        model = f"m-{uuid.uuid4().hex[:8]}"
        properties = {"modelUri": "azureml://datastores/workspaceblobstore/paths/m", "modelType": "mlflow_model"}
        control.add_azure_asset("models", model, "1", **properties)
        azure = control.address.azure
        mode = "Key" if auth == "Key" else "AADToken"
        name = online.make(mode)
        online.deployed(name, "model-aaaa", f"{azure.workspace_scope}/models/{model}/versions/1")
        assert online.put(name, mode, traffic={"model-aaaa": 100}).status_code == 200
        online.settled(name)
        url = online.get(name)["properties"]["scoringUri"]
        host = azure.resource_manager + azure.workspace_scope
        return pinned("azureml", host, name, url, spec={"auth": auth})

    return make


def as_application(monkeypatch: pytest.MonkeyPatch, control: SandboxControl, client_id: str) -> None:
    monkeypatch.setenv("AZURE_TENANT_ID", control.address.azure.tenant_id)
    monkeypatch.setenv("AZURE_CLIENT_ID", client_id)
    monkeypatch.setenv("AZURE_CLIENT_SECRET", control.add_client_secret(client_id))


@pytest.mark.parametrize("auth", ["Token", "Key"])
def test_rows_are_scored_at_azure_ml_with_the_callers_token_or_the_key_that_it_opens(
    control: SandboxControl,
    made: Callable[[str], Deployment],
    data_scientist: str,
    monkeypatch: pytest.MonkeyPatch,
    auth: str,
) -> None:
    as_application(monkeypatch, control, data_scientist)
    found = made(auth)
    assert score.score(found, ROWS, None, SECONDS).predictions == [7, 8]
    assert score.score(found, ROWS, "forest", SECONDS).served == "model-aaaa"


def test_who_may_not_even_see_an_endpoint_of_azure_ml_is_told_so(
    control: SandboxControl, made: Callable[[str], Deployment], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = made("Token")
    as_application(monkeypatch, control, control.add_application("stranger"))
    with pytest.raises(NotAllowed, match="you may not see endpoint"):
        score.score(found, ROWS, None, SECONDS)


@pytest.mark.parametrize(
    ("auth", "words"), [("Token", "you may not ask endpoint"), ("Key", "you may not read the key")]
)
def test_who_may_not_ask_at_azure_ml_is_told_the_role_assignment(
    control: SandboxControl,
    made: Callable[[str], Deployment],
    monkeypatch: pytest.MonkeyPatch,
    auth: str,
    words: str,
) -> None:
    found = made(auth)
    as_application(monkeypatch, control, control.add_application("stranger", roles={"workspace": ["Reader"]}))
    with pytest.raises(NotAllowed, match=words) as refused:
        score.score(found, ROWS, None, SECONDS)
    name = found.resource["status"]["endpoint"]["name"]
    assert 'az role assignment create --role "AzureML Data Scientist" --assignee-object-id ' in refused.value.message
    assert refused.value.message.endswith(f"/onlineEndpoints/{name}")
