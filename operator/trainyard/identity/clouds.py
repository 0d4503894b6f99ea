"""Azure's clouds: which hosts are Azure, in whose name tokens are asked for, and where each kind of token may go.

Filled once by the wiring (`install`), asked by `identity.entra`, `platforms.azureml` and the session controller. No
resource can add a host: a workspace names a cloud, and every origin comes from here. Pure, but for `read`.

Values of the built-in clouds: azure-ai-ml `_azure_environments.py`; data hosts: those of its regional endpoints
(`REGION.api.azureml.ms`) and of the discovery URL of a workspace; scoring hosts: Azure documentation, "How to use your
workspace with a custom DNS server" (`ENDPOINT.REGION.inference.ml.azure.com`; other clouds have their own suffix).
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from trainyard.api.azureml import AzureMLTarget
from trainyard.core.errors import IdentityError
from trainyard.identity.hosts import HostPattern, origin_of

DEFAULT_CLOUD = "AzurePublic"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}")
_RESOURCE = re.compile(r"https://[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]+)?")
# What a path of ARM may hold of a tenant's writing; the API's patterns (api/azureml.py) say the same or less.
_SUBSCRIPTION = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_GROUP = re.compile(r"[A-Za-z0-9_.()-]*[A-Za-z0-9_()-]")
_WORKSPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_PATH = re.compile(
    r"/subscriptions/([^/]+)/resourceGroups/([^/]+)/providers/Microsoft\.MachineLearningServices/workspaces/([^/]+)"
)


@dataclass(frozen=True, slots=True)
class Cloud:
    """One cloud of Azure.

    `resource_manager` and `authority` are origins (`https://host[:port]`); `storage_suffix` is what follows
    `ACCOUNT.blob.`; `ml_resource` is the resource that tokens for the data plane are asked for, without a slash at its
    end; `data_hosts` are patterns of the hosts that may get such a token; `studio` is where people look at runs;
    `scoring_hosts` are patterns of the hosts of online endpoints, which may get such a token, or a key of the endpoint.
    """

    name: str
    resource_manager: str
    authority: str
    storage_suffix: str
    ml_resource: str
    data_hosts: tuple[str, ...]
    studio: str
    scoring_hosts: tuple[str, ...] = ()

    @property
    def arm_scope(self) -> str:
        """What tokens for Azure Resource Manager are asked for."""
        return f"{self.resource_manager}/.default"

    @property
    def ml_scope(self) -> str:
        """What tokens for a workspace's data plane (run history, MLflow) are asked for."""
        return f"{self.ml_resource}/.default"

    def is_arm(self, url: str) -> bool:
        """Whether the URL may get a token of `arm_scope`."""
        return origin_of(url) == self.resource_manager

    def is_data(self, url: str) -> bool:
        """Whether the URL may get a token of `ml_scope`."""
        return any(HostPattern.of(text).matches_url(url) for text in self.data_hosts)

    def is_scoring(self, url: str) -> bool:
        """Whether an online endpoint may be asked there, with a token of `ml_scope` or its own key."""
        return any(HostPattern.of(text).matches_url(url) for text in self.scoring_hosts) or self.is_data(url)

    def is_storage(self, url: str) -> bool:
        """Whether a URL with a signature in it (SAS) may be followed. No token is ever sent there."""
        return HostPattern.of(f"*.blob.{self.storage_suffix}").matches_url(url) or self.is_data(url)


AZURE_PUBLIC = Cloud(
    name=DEFAULT_CLOUD,
    resource_manager="https://management.azure.com",
    authority="https://login.microsoftonline.com",
    storage_suffix="core.windows.net",
    ml_resource="https://ml.azure.com",
    data_hosts=("*.api.azureml.ms",),
    studio="https://ml.azure.com",
    scoring_hosts=("*.inference.ml.azure.com",),
)
AZURE_US_GOVERNMENT = Cloud(
    name="AzureUSGovernment",
    resource_manager="https://management.usgovcloudapi.net",
    authority="https://login.microsoftonline.us",
    storage_suffix="core.usgovcloudapi.net",
    ml_resource="https://ml.azure.us",
    data_hosts=("*.api.ml.azure.us",),
    studio="https://ml.azure.us",
    scoring_hosts=("*.inference.ml.azure.us",),
)
AZURE_CHINA = Cloud(
    name="AzureChina",
    resource_manager="https://management.chinacloudapi.cn",
    authority="https://login.chinacloudapi.cn",
    storage_suffix="core.chinacloudapi.cn",
    ml_resource="https://ml.azure.cn",
    data_hosts=("*.api.ml.azure.cn",),
    studio="https://studio.ml.azure.cn",
    scoring_hosts=("*.inference.ml.azure.cn",),
)
BUILT_IN = (AZURE_PUBLIC, AZURE_US_GOVERNMENT, AZURE_CHINA)


@dataclass(frozen=True, slots=True)
class Workspace:
    """An Azure ML workspace in its cloud. `url` is what an attempt is pinned to."""

    cloud: Cloud
    subscription_id: str
    resource_group: str
    name: str

    @property
    def path(self) -> str:
        """Its path in Azure Resource Manager, which is its resource id."""
        group = quote(self.resource_group, safe="()")
        return (
            f"/subscriptions/{self.subscription_id}/resourceGroups/{group}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{quote(self.name, safe='')}"
        )

    @property
    def url(self) -> str:
        """Its URL in Azure Resource Manager, without a slash at its end."""
        return self.cloud.resource_manager + self.path


_known: dict[str, Cloud] = {cloud.name: cloud for cloud in BUILT_IN}


def install(further: Iterable[Cloud]) -> None:
    """Has this process know the built-in clouds and these, and no others.

    Raises:
        ValueError: two have one name or one resource manager.
    """
    found: dict[str, Cloud] = {}
    for cloud in (*BUILT_IN, *further):
        for other in found.values():
            if cloud.name == other.name or cloud.resource_manager == other.resource_manager:
                raise ValueError(
                    f"--azure-cloud: {cloud.name} ({cloud.resource_manager}) has the name or the resourceManager of "
                    f"{other.name} ({other.resource_manager}); each cloud needs its own"
                )
        found[cloud.name] = cloud
    _known.clear()
    _known.update(found)


def known() -> tuple[Cloud, ...]:
    """Every cloud of this process."""
    return tuple(_known.values())


def named(name: str | None, block: str = "azureML") -> Cloud:
    """The cloud of that name; None is Azure's public one. `block` of the workspace's spec names it.

    Raises:
        IdentityError: HostNotAllowed.
    """
    cloud = _known.get(name or DEFAULT_CLOUD)
    if cloud is None:
        raise IdentityError(
            f"{block}.cloud {name} is none of this operator's clouds ({', '.join(_known)}). Correct it, or have the "
            "operator started with --azure-cloud FILE.",
            reason="HostNotAllowed",
        )
    return cloud


def of(url: str) -> Cloud:
    """The cloud of a workspace's URL; see `workspace_of`."""
    return workspace_of(url).cloud


def workspace_at(target: AzureMLTarget) -> Workspace:
    """The workspace that a resource names.

    Raises:
        IdentityError: HostNotAllowed, for an unknown cloud or a name that Azure gives to nothing.
    """
    return _checked(named(target.cloud), target.subscription_id.lower(), target.resource_group, target.workspace_name)


def workspace_of(url: str) -> Workspace:
    """The workspace that an attempt is pinned to, from its URL in Azure Resource Manager.

    Raises:
        IdentityError: HostNotAllowed: not such a URL, or of no cloud of this operator.
    """
    origin = origin_of(url)
    cloud = next((each for each in _known.values() if each.resource_manager == origin), None)
    if cloud is None:
        raise IdentityError(
            f"{url[:200]!a} is of no cloud of this operator ({', '.join(_known)}). Have it started with "
            "--azure-cloud FILE for that cloud.",
            reason="HostNotAllowed",
        )
    found = _PATH.fullmatch(url[len(cloud.resource_manager) :]) if url.startswith(cloud.resource_manager) else None
    if found is None:
        raise IdentityError(
            f"{url[:200]!a} is not the URL of an Azure ML workspace in Azure Resource Manager",
            reason="HostNotAllowed",
        )
    workspace = _checked(cloud, *(unquote(part) for part in found.groups()))
    if workspace.url != url:
        raise IdentityError(f"{url[:200]!a} is not written as {workspace.url}", reason="HostNotAllowed")
    return workspace


def _checked(cloud: Cloud, subscription: str, group: str, name: str) -> Workspace:
    for field, value, pattern in (
        ("subscriptionId", subscription, _SUBSCRIPTION),
        ("resourceGroup", group, _GROUP),
        ("workspaceName", name, _WORKSPACE),
    ):
        if not pattern.fullmatch(value):
            raise IdentityError(
                f"azureML.{field} {value[:100]!a} holds what no name of Azure does; correct it",
                reason="HostNotAllowed",
            )
    return Workspace(cloud, subscription, group, name)


def read(path: Path) -> Cloud:
    """The cloud that a file of `--azure-cloud` describes.

    Raises:
        ValueError: it can not be read or describes none; names the file and the field.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"--azure-cloud {path}: can not be read as JSON: {error}") from error
    if not isinstance(document, dict):
        raise ValueError(f"--azure-cloud {path}: must be one JSON object")  # noqa: TRY004 - a file, not an argument
    try:
        return parse(document)
    except ValueError as error:
        raise ValueError(f"--azure-cloud {path}: {error}") from error


FIELDS = ("name", "resourceManager", "authority", "storageSuffix", "mlResource", "dataHosts")
OPTIONAL = ("studio", "scoringHosts")


def parse(document: Mapping[str, Any]) -> Cloud:
    """The cloud that a JSON object describes. Raises ValueError naming the field."""
    unknown = sorted(document.keys() - {*FIELDS, *OPTIONAL})
    if unknown:
        raise ValueError(f"unknown field {unknown[0]!r}; known are {', '.join(FIELDS + OPTIONAL)}")
    missing = [field for field in FIELDS if field not in document]
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    name, suffix, hosts = document["name"], document["storageSuffix"], document["dataHosts"]
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError("name must be letters, digits and hyphens, at most 63, beginning with a letter or digit")
    if not isinstance(hosts, list) or not hosts or not all(isinstance(host, str) for host in hosts):
        raise ValueError("dataHosts must be a list of HOST, HOST:PORT or *.SUFFIX, with at least one")
    scoring = document.get("scoringHosts", [])
    if not isinstance(scoring, list) or not all(isinstance(host, str) for host in scoring):
        raise ValueError("scoringHosts must be a list of HOST, HOST:PORT or *.SUFFIX")
    resource = document["mlResource"]
    if not isinstance(resource, str) or not _RESOURCE.fullmatch(resource.rstrip("/")):
        raise ValueError("mlResource must be an https URL without a path, for example https://ml.azure.com")
    if not isinstance(suffix, str):
        raise ValueError("storageSuffix must be what follows ACCOUNT.blob. in the hosts of storage")  # noqa: TRY004
    named = {"storageSuffix": [f"*.blob.{suffix}"], "scoringHosts": scoring, "dataHosts": hosts}
    for field, patterns in named.items():
        for pattern in patterns:
            try:
                HostPattern.of(pattern)
            except ValueError as error:
                raise ValueError(f"{field}: {error}") from error
    return Cloud(
        name=name,
        resource_manager=_origin(document, "resourceManager"),
        authority=_origin(document, "authority"),
        storage_suffix=suffix,
        ml_resource=resource.rstrip("/"),
        data_hosts=tuple(hosts),
        studio=_origin(document, "studio") if "studio" in document else resource.rstrip("/"),
        scoring_hosts=tuple(scoring),
    )


def _origin(document: Mapping[str, Any], field: str) -> str:
    value = document[field]
    origin = origin_of(value.rstrip("/")) if isinstance(value, str) else None
    if origin is None or origin != value.rstrip("/").lower():
        raise ValueError(f"{field} must be https://HOST or https://HOST:PORT, without a path")
    return origin
