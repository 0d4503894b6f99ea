"""Datastores: names for containers of the workspace's storage account, and signatures for who may have their secrets.

Two are there from the start, as in a new workspace: `workspaceblobstore`, the default, and `workspaceartifactstore`,
where logs and artifacts of jobs lie. (A real one has two file shares besides; the sandbox has no file shares.)

Bodies: Azure/azure-rest-api-specs, examples `Datastore/list`, `Datastore/AzureBlobWAccountKey/createOrUpdate` and
`Datastore/listSecrets`; `expirableSecret` asks for a signature in place of the key (azure-ai-ml
`_datastore_operations.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.azure.arm import PROVIDER, Action, AzureCall, arm_route
from trainyard_sandbox.azure.assets import SYSTEM, system_data
from trainyard_sandbox.azure.assets_api import VERSIONS, page_response
from trainyard_sandbox.azure.errors import not_found, user_error
from trainyard_sandbox.azure.state import STORAGE_SUFFIX, AzureState
from trainyard_sandbox.schema import Bool, Int, Obj
from trainyard_sandbox.state import SandboxState

DEFAULT = "workspaceblobstore"
ARTIFACTS = "workspaceartifactstore"
ARTIFACT_CONTAINER = "azureml"
_LIST = ("isDefault", "names", "orderByAsc", "count", "$skip")
_SECRETS = Obj({"expirableSecret": Bool(), "expireAfterHours": Int(minimum=1, maximum=24)})


@dataclass(frozen=True)
class Datastore:
    """One datastore: the container that it names."""

    name: str
    container: str
    created_at: float


class Datastores:
    """Datastores by name."""

    def __init__(self, azure: AzureState) -> None:
        self._azure = azure
        self._by_name: dict[str, Datastore] = {}
        self.add(DEFAULT, f"azureml-blobstore-{azure.workspace_guid}")
        self.add(ARTIFACTS, ARTIFACT_CONTAINER)

    def add(self, name: str, container: str) -> Datastore:
        """Name a container, made if it is missing."""
        self._azure.blobs.create_container(container)
        self._by_name[name] = Datastore(name, container, self._azure.now())
        return self._by_name[name]

    def get(self, name: str) -> Datastore | None:
        """The datastore with this name."""
        return self._by_name.get(name)

    def all(self) -> list[Datastore]:
        """Every datastore, the default first."""
        return list(self._by_name.values())


def attach(state: SandboxState) -> None:
    """Hang the datastores on the state."""
    state.azure.datastores = Datastores(state.azure)


def routes() -> list[Route]:
    """Mounted by server.py."""
    read = "workspaces/datastores/read"
    secrets = "workspaces/datastores/listsecrets/action"
    return [
        arm_route("/datastores", {"GET": Action(list_datastores, read, VERSIONS, _LIST)}),
        arm_route("/datastores/{name}", {"GET": Action(get_datastore, read, VERSIONS)}),
        arm_route("/datastores/{name}/listSecrets", {"POST": Action(list_secrets, secrets, VERSIONS)}),
    ]


async def list_datastores(call: AzureCall) -> Response:
    """All datastores, or only the default one. They come in the order in which they were made, as `orderByAsc=false`,
    which the SDK always sends, leaves it."""
    if call.query.get("orderByAsc", "false").lower() != "false":
        raise user_error("This sandbox does not order datastores.", "BadArgument", target="orderByAsc")
    wanted = call.query.get("isDefault", "").lower()
    names = call.query.get("names")
    shown = [
        store
        for store in call.azure.datastores.all()
        if (wanted in ("", str(store.name == DEFAULT).lower())) and (names is None or store.name in names.split(","))
    ]
    return page_response(call, [_body(call.azure, store) for store in shown], length_from="count")


async def get_datastore(call: AzureCall) -> Response:
    """One datastore, without its secrets."""
    return JSONResponse(_body(call.azure, _require(call)))


async def list_secrets(call: AzureCall) -> Response:
    """The account's key, or a signature for the container."""
    store = _require(call)
    asked: dict[str, Any] = {}
    if await call.request.body():
        asked = await call.body(_SECRETS)
    if not asked.get("expirableSecret"):
        return JSONResponse({"secretsType": "AccountKey", "key": call.azure.blobs.key})
    lifetime = 3600.0 * asked.get("expireAfterHours", 1)
    token = call.azure.signatures().token(store.container, None, "racwdl", lifetime)
    return JSONResponse({"secretsType": "Sas", "sasToken": token})


def _require(call: AzureCall) -> Datastore:
    found: Datastore | None = call.azure.datastores.get(call.path["name"])
    if found is None:
        raise not_found(f"Could not find datastore: {call.path['name']}.")
    return found


def datastore_path(azure: AzureState, name: str, path: str) -> tuple[str, str]:
    """Container and blob name of a path in a datastore.

    Raises:
        ArmError: 400 UserError when there is no such datastore.
    """
    found: Datastore | None = azure.datastores.get(name)
    if found is None:
        raise user_error(f"Could not find datastore: {name}.", "NotFound")
    return found.container, path.strip("/")


def _body(azure: AzureState, store: Datastore) -> dict[str, Any]:
    return {
        "id": f"{azure.workspace_scope}/datastores/{store.name}",
        "name": store.name,
        "type": f"{PROVIDER}/workspaces/datastores",
        "properties": {
            "description": None,
            "tags": {},
            "properties": {},
            "datastoreType": "AzureBlob",
            "credentials": {"credentialsType": "AccountKey"},
            "isDefault": store.name == DEFAULT,
            "subscriptionId": azure.subscription_id,
            "resourceGroup": azure.resource_group,
            "accountName": azure.storage_account,
            "containerName": store.container,
            "endpoint": STORAGE_SUFFIX,
            "protocol": "https",
            "serviceDataAccessAuthIdentity": "None",
        },
        "systemData": system_data(SYSTEM, store.created_at, store.created_at),
    }
