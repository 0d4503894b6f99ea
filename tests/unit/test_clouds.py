"""Which hosts are Azure: a resource names a cloud and never a host; an administrator's file is read strictly."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trainyard.api.azureml import AzureMLTarget
from trainyard.core.errors import IdentityError
from trainyard.identity import clouds

SUBSCRIPTION = "3f2504e0-4f89-11d3-9a0c-0305e82c3301"
STACK = {
    "name": "AzureStack",
    "resourceManager": "https://127.0.0.1:7443",
    "authority": "https://login.stack.example/",
    "storageSuffix": "core.stack.example",
    "mlResource": "https://ml.stack.example/",
    "dataHosts": ["*.api.stack.example", "127.0.0.1:7443"],
}


@pytest.fixture(autouse=True)
def _built_in_afterwards() -> Iterator[None]:
    yield
    clouds.install(())


def target(**changes: str) -> AzureMLTarget:
    fields = {
        "subscriptionId": SUBSCRIPTION,
        "resourceGroup": "rg-ml",
        "workspaceName": "wine",
        "tenantId": "contoso.onmicrosoft.com",
        **changes,
    }
    return AzureMLTarget.model_validate(fields)


def odd(**changes: str) -> AzureMLTarget:
    """A target that nobody has checked: as if the schema of the resource let it pass."""
    return target().model_copy(update=changes)


def url(path: str = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-ml", name: str = "wine") -> str:
    return f"https://management.azure.com{path}/providers/Microsoft.MachineLearningServices/workspaces/{name}"


def refused(ask: Any, *args: Any) -> str:
    with pytest.raises(IdentityError) as raised:
        ask(*args)
    assert raised.value.reason == "HostNotAllowed"
    assert not raised.value.waiting
    return raised.value.message


def test_a_workspace_of_the_public_cloud_is_its_url_in_resource_manager() -> None:
    found = clouds.workspace_at(target(subscriptionId=SUBSCRIPTION.upper()))
    assert found.url == url()
    assert clouds.workspace_of(found.url) == found
    assert clouds.of(found.url) is clouds.AZURE_PUBLIC


def test_a_resource_group_with_parentheses_survives_the_way_there_and_back() -> None:
    found = clouds.workspace_at(target(resourceGroup="rg_(ml).2"))
    assert clouds.workspace_of(found.url).resource_group == "rg_(ml).2"


@pytest.mark.parametrize(
    ("name", "authority", "scopes"),
    [
        (None, "login.microsoftonline.com", ("https://management.azure.com/.default", "https://ml.azure.com/.default")),
        (
            "AzureUSGovernment",
            "login.microsoftonline.us",
            ("https://management.usgovcloudapi.net/.default", "https://ml.azure.us/.default"),
        ),
        (
            "AzureChina",
            "login.chinacloudapi.cn",
            ("https://management.chinacloudapi.cn/.default", "https://ml.azure.cn/.default"),
        ),
    ],
)
def test_each_cloud_has_its_own_authority_and_scopes(name: str | None, authority: str, scopes: tuple[str, str]) -> None:
    cloud = clouds.named(name)
    assert cloud.authority == f"https://{authority}"
    assert (cloud.arm_scope, cloud.ml_scope) == scopes


def test_a_cloud_that_the_operator_was_not_started_with_is_refused_with_the_flag_that_adds_it() -> None:
    assert "--azure-cloud" in refused(clouds.named, "AzureStack")
    assert "--azure-cloud" in refused(clouds.workspace_of, url().replace("management.azure.com", "127.0.0.1:7443"))


HOSTILE_URLS = [
    url().replace("https://", "http://"),
    url().replace("management.azure.com", "management.azure.com@evil.example"),
    url().replace("management.azure.com", "evil.example@management.azure.com"),
    url().replace("management.azure.com", "management.azure.com.evil.example"),
    url().replace("management.azure.com", "evil.example#.management.azure.com"),
    url().replace("management.azure.com", "management.azure.com:8443"),
    url().replace("management.azure.com", "mаnagement.azure.com"),
    url().replace("management.azure.com", "MANAGEMENT.azure.com"),
    url() + "/",
    url() + "/../../evil",
    url() + "?api-version=x",
    url() + "#x",
    url(name="wine%2F..%2Fevil"),
    url(name="wine%3Fx"),
    url(name=".."),
    url(name="%77ine"),
    url(name=""),
    url(f"/subscriptions/{SUBSCRIPTION}/resourceGroups/.."),
    url("/subscriptions/../resourceGroups/rg-ml"),
    url(f"/subscriptions/{SUBSCRIPTION.upper()}/resourceGroups/rg-ml"),
    "https://management.azure.com",
    "",
]


@pytest.mark.parametrize("hostile", HOSTILE_URLS)
def test_an_attempt_is_pinned_to_nothing_but_a_workspace_of_a_known_cloud(hostile: str) -> None:
    """A status may have been written by hand."""
    refused(clouds.workspace_of, hostile)


ODD = [
    ("resource_group", "rg/../x"),
    ("resource_group", "rg@evil.example"),
    ("resource_group", "rg?x="),
    ("resource_group", ".."),
    ("resource_group", "rg\n"),
    ("resource_group", ""),
    ("workspace_name", "wine/../../evil"),
    ("workspace_name", "wine#"),
    ("workspace_name", "wine%2f"),
    ("workspace_name", "wi ne"),
    ("subscription_id", "../../evil"),
    ("subscription_id", SUBSCRIPTION + "\n"),
    ("cloud", "https://evil.example"),
]


@pytest.mark.parametrize(("field", "value"), ODD)
def test_what_a_team_writes_never_becomes_another_path_or_host(field: str, value: str) -> None:
    refused(clouds.workspace_at, odd(**{field: value}))


def test_tokens_go_to_the_clouds_own_hosts_alone() -> None:
    cloud = clouds.AZURE_PUBLIC
    assert cloud.is_arm("https://management.azure.com/subscriptions")
    assert not cloud.is_arm("https://westeurope.api.azureml.ms/subscriptions")
    assert cloud.is_data("https://westeurope.api.azureml.ms/history/v1.0/x")
    for elsewhere in ("https://api.azureml.ms/x", "https://x.api.azureml.ms.evil.example/", "http://x.api.azureml.ms/"):
        assert not cloud.is_data(elsewhere)
    assert cloud.is_storage("https://account.blob.core.windows.net/c/b?sig=x")
    for elsewhere in ("https://evil.example/c/b?sig=x", "https://account.blob.core.windows.net.evil.example/"):
        assert not cloud.is_storage(elsewhere)
    assert not cloud.is_data("https://account.blob.core.windows.net/c/b")


def test_a_cloud_of_the_administrators_is_known_once_installed(tmp_path: Path) -> None:
    file = tmp_path / "stack.json"
    file.write_text(json.dumps(STACK))
    clouds.install([clouds.read(file)])
    cloud = clouds.named("AzureStack")
    assert (cloud.authority, cloud.ml_resource) == ("https://login.stack.example", "https://ml.stack.example")
    assert cloud.is_data("https://127.0.0.1:7443/history")
    assert not cloud.is_data("https://127.0.0.1:7444/history")
    found = clouds.workspace_at(target(cloud="AzureStack"))
    assert clouds.of(found.url) is cloud
    assert {each.name for each in clouds.known()} == {"AzurePublic", "AzureUSGovernment", "AzureChina", "AzureStack"}


@pytest.mark.parametrize(
    ("cloud", "host"),
    [
        (clouds.AZURE_PUBLIC, "wine.westeurope.inference.ml.azure.com"),
        (clouds.AZURE_US_GOVERNMENT, "wine.usgovvirginia.inference.ml.azure.us"),
        (clouds.AZURE_CHINA, "wine.chinanorth3.inference.ml.azure.cn"),
    ],
)
def test_endpoints_are_asked_on_hosts_of_their_own_cloud_alone(cloud: clouds.Cloud, host: str) -> None:
    assert cloud.is_scoring(f"https://{host}/score")
    assert not cloud.is_data(f"https://{host}/score")
    for elsewhere in (f"http://{host}/score", f"https://{host}.evil.example/score", f"https://{host}:8443/score"):
        assert not cloud.is_scoring(elsewhere)
    for other in set(clouds.BUILT_IN) - {cloud}:
        assert not other.is_scoring(f"https://{host}/score")


def test_a_cloud_of_the_administrators_says_where_endpoints_are_asked() -> None:
    cloud = clouds.parse({**STACK, "scoringHosts": ["*.inference.stack.example"]})
    assert cloud.is_scoring("https://wine.north.inference.stack.example/score")
    assert cloud.is_scoring("https://127.0.0.1:7443/online/wine/score")
    assert not clouds.parse(STACK).is_scoring("https://wine.north.inference.stack.example/score")


BAD: list[tuple[dict[str, Any], str]] = [
    ({"name": "a b"}, "name"),
    ({"name": None}, "name"),
    ({"resourceManager": "http://arm.example"}, "resourceManager"),
    ({"resourceManager": "https://arm.example/path"}, "resourceManager"),
    ({"resourceManager": "https://user@arm.example"}, "resourceManager"),
    ({"authority": "login.example"}, "authority"),
    ({"authority": 7}, "authority"),
    ({"storageSuffix": "net/evil"}, "storageSuffix"),
    ({"storageSuffix": ""}, "storageSuffix"),
    ({"storageSuffix": None}, "storageSuffix"),
    ({"mlResource": "ml"}, "mlResource"),
    ({"dataHosts": []}, "dataHosts"),
    ({"dataHosts": "*.api.example"}, "dataHosts"),
    ({"dataHosts": ["*"]}, "dataHosts"),
    ({"dataHosts": ["https://x.example"]}, "dataHosts"),
    ({"studio": "https://ml.example/x"}, "studio"),
    ({"datahosts": []}, "datahosts"),
    ({"scoringHosts": "*.inference.example"}, "scoringHosts"),
    ({"scoringHosts": ["https://x.example/y"]}, "scoringHosts"),
    ({"scoringHosts": [7]}, "scoringHosts"),
]


@pytest.mark.parametrize(("change", "field"), BAD)
def test_a_cloud_that_makes_no_sense_is_refused_with_the_file_and_the_field(
    change: dict[str, Any], field: str, tmp_path: Path
) -> None:
    file = tmp_path / "bad.json"
    file.write_text(json.dumps({**STACK, **change}))
    with pytest.raises(ValueError, match=field) as raised:
        clouds.read(file)
    assert str(file) in str(raised.value)


@pytest.mark.parametrize("field", sorted(STACK))
def test_a_cloud_without_one_of_its_fields_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} is missing"):
        clouds.parse({name: value for name, value in STACK.items() if name != field})


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_a_file_that_is_no_object_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"bad\.json"):
        clouds.read(file)
    with pytest.raises(ValueError, match=r"absent\.json"):
        clouds.read(tmp_path / "absent.json")


@pytest.mark.parametrize("field", ["name", "resourceManager"])
def test_two_clouds_of_one_name_or_resource_manager_are_refused(field: str) -> None:
    """A file must not take the place of Azure's own cloud."""
    public = {"name": "AzurePublic", "resourceManager": "https://management.azure.com"}
    with pytest.raises(ValueError, match="AzurePublic"):
        clouds.install([clouds.parse({**STACK, field: public[field]})])
    assert clouds.named(None) is clouds.AZURE_PUBLIC
