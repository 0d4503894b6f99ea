"""Unity Catalog API 2.1: catalogs and schemas (get), registered models, versions and aliases over `ModelCatalog`.

server.py mounts `routes()`. It must never decide who may do what: the store does.

Read in: databricks-sdk `service/catalog.py` (CatalogsAPI.get, SchemasAPI.get, RegisteredModelsAPI, ModelVersionsAPI and
their info classes: fields, page lengths, "the elements in the response will not contain any aliases or tags").
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.auth import caller
from trainyard_sandbox.errors import invalid_parameter
from trainyard_sandbox.schema import AnyJson, Bool, Int, Obj, Shape, Str, json_body, page, query
from trainyard_sandbox.state import SandboxState
from trainyard_sandbox.stores.model_catalog import ModelCatalog, ModelVersion, RegisteredModel, catalog_of
from trainyard_sandbox.stores.securables import securables_of
from trainyard_sandbox.stores.tracking import tracking_of

READ_ONLY_MODEL: dict[str, Shape] = {
    "aliases": AnyJson(),
    "browse_only": Bool(),
    "catalog_name": Str(),
    "created_at": Int(),
    "created_by": Str(),
    "full_name": Str(),
    "metastore_id": Str(),
    "name": Str(),
    "schema_name": Str(),
    "storage_location": Str(),
    "updated_at": Int(),
    "updated_by": Str(),
}
"""Fields of RegisteredModelInfo that requests may carry and that change nothing."""

CREATE_MODEL = Obj(
    {**READ_ONLY_MODEL, "comment": Str(), "owner": Str()}, required=["catalog_name", "schema_name", "name"]
)
UPDATE_MODEL = Obj({**READ_ONLY_MODEL, "comment": Str(), "owner": Str(), "new_name": Str()})
UPDATE_VERSION = Obj(
    {
        **{name: shape for name, shape in READ_ONLY_MODEL.items() if name not in ("full_name", "name", "browse_only")},
        "comment": Str(),
        "id": Str(),
        "model_name": Str(),
        "model_version_dependencies": AnyJson(),
        "run_id": Str(),
        "run_workspace_id": Int(),
        "source": Str(),
        "status": Str(),
    }
)
SET_ALIAS = Obj({"version_num": Int(1)}, required=["version_num"])
INCLUDE = Obj({"include_aliases": Bool(), "include_browse": Bool()})
INCLUDE_BROWSE = Obj({"include_browse": Bool()})
PAGE: dict[str, Shape] = {"max_results": Int(0), "page_token": Str(), "include_browse": Bool()}
LIST_MODELS = Obj({**PAGE, "catalog_name": Str(), "schema_name": Str()})
LIST_VERSIONS = Obj(PAGE)
NOTHING = Obj({})


def attach(state: SandboxState) -> None:
    """Hang an empty catalog on the state."""
    if state.catalog is None:
        state.catalog = ModelCatalog(state.securables, state.now)


def routes() -> list[Route]:
    """The routes of this module."""
    base = "/api/2.1/unity-catalog"
    model = f"{base}/models/{{full_name}}"
    version = f"{model}/versions/{{version:int}}"
    alias = f"{model}/aliases/{{alias}}"
    return [
        Route(f"{base}/catalogs/{{name}}", get_catalog, methods=["GET"]),
        Route(f"{base}/schemas/{{full_name}}", get_schema, methods=["GET"]),
        Route(f"{base}/models", create_model, methods=["POST"]),
        Route(f"{base}/models", list_models, methods=["GET"]),
        Route(model, get_model, methods=["GET"]),
        Route(model, update_model, methods=["PATCH"]),
        Route(model, delete_model, methods=["DELETE"]),
        Route(f"{model}/versions", list_versions, methods=["GET"]),
        Route(version, get_version, methods=["GET"]),
        Route(version, update_version, methods=["PATCH"]),
        Route(version, delete_version, methods=["DELETE"]),
        Route(alias, get_by_alias, methods=["GET"]),
        Route(alias, set_alias, methods=["PUT"]),
        Route(alias, delete_alias, methods=["DELETE"]),
    ]


async def get_catalog(request: Request) -> Response:
    """CatalogsAPI.get."""
    principal = caller(request).principal
    query(request, INCLUDE_BROWSE)
    securables = securables_of(request)
    name = securables.require_catalog(principal, request.path_params["name"])
    info = {
        "name": name,
        "full_name": name,
        "owner": securables.owner(name),
        "catalog_type": "MANAGED_CATALOG",
        "metastore_id": securables.metastore_id,
    }
    return JSONResponse(info)


async def get_schema(request: Request) -> Response:
    """SchemasAPI.get."""
    principal = caller(request).principal
    query(request, INCLUDE_BROWSE)
    securables = securables_of(request)
    full_name = securables.require_schema(principal, request.path_params["full_name"])
    catalog_name, _, name = full_name.partition(".")
    info = {
        "name": name,
        "full_name": full_name,
        "owner": securables.owner(full_name),
        "catalog_name": catalog_name,
        "catalog_type": "MANAGED_CATALOG",
        "metastore_id": securables.metastore_id,
    }
    return JSONResponse(info)


async def create_model(request: Request) -> Response:
    """RegisteredModelsAPI.create."""
    principal = caller(request).principal
    body = await json_body(request, CREATE_MODEL)
    if body.get("owner", principal.application_id) != principal.application_id:
        raise invalid_parameter("The owner of a new registered model is its creator; change it with an update.")
    catalog = catalog_of(request)
    full_name = f"{body['catalog_name']}.{body['schema_name']}.{body['name']}"
    return JSONResponse(_model_info(catalog, catalog.create_model(principal, full_name, body.get("comment"))))


async def get_model(request: Request) -> Response:
    """RegisteredModelsAPI.get."""
    principal = caller(request).principal
    asked = query(request, INCLUDE)
    catalog = catalog_of(request)
    model = catalog.model(principal, request.path_params["full_name"], "EXECUTE")
    info = _model_info(catalog, model)
    if asked.get("include_aliases", False):
        info["aliases"] = _aliases(model, None)
    return JSONResponse(info)


async def list_models(request: Request) -> Response:
    """RegisteredModelsAPI.list."""
    principal = caller(request).principal
    asked = query(request, LIST_MODELS)
    if ("catalog_name" in asked) != ("schema_name" in asked):
        raise invalid_parameter("catalog_name and schema_name must be specified together.")
    schema = f"{asked['catalog_name']}.{asked['schema_name']}" if "catalog_name" in asked else None
    catalog = catalog_of(request)
    shown, following = page(catalog.models(principal, schema), asked, *((10_000, 10_000) if schema else (100, 1000)))
    return JSONResponse({"registered_models": [_model_info(catalog, model) for model in shown]} | following)


async def update_model(request: Request) -> Response:
    """RegisteredModelsAPI.update: comment, owner or name."""
    principal = caller(request).principal
    body = await json_body(request, UPDATE_MODEL)
    catalog = catalog_of(request)
    model = catalog.model(principal, request.path_params["full_name"])
    if "owner" in body:
        catalog.change_owner(principal, model, body["owner"])
    if "comment" in body:
        model.comment = body["comment"]
        catalog.touch(principal, model)
    if "new_name" in body:
        catalog.rename_model(principal, model, body["new_name"])
    return JSONResponse(_model_info(catalog, model))


async def delete_model(request: Request) -> Response:
    """RegisteredModelsAPI.delete: with all versions and their files."""
    principal = caller(request).principal
    query(request, NOTHING)
    model = catalog_of(request).delete_model(principal, request.path_params["full_name"])
    tracking_of(request).blobs.delete_tree(model.storage_key())
    return JSONResponse({})


async def list_versions(request: Request) -> Response:
    """ModelVersionsAPI.list."""
    principal = caller(request).principal
    asked = query(request, LIST_VERSIONS)
    catalog = catalog_of(request)
    model = catalog.model(principal, request.path_params["full_name"], "EXECUTE")
    newest_first = [model.versions[number] for number in sorted(model.versions, reverse=True)]
    shown, following = page(newest_first, asked, 100, 1000)
    return JSONResponse({"model_versions": [_version_info(catalog, model, version) for version in shown]} | following)


async def get_version(request: Request) -> Response:
    """ModelVersionsAPI.get."""
    principal = caller(request).principal
    asked = query(request, INCLUDE)
    catalog = catalog_of(request)
    model, version = catalog.version(principal, *_version_path(request), "EXECUTE")
    return JSONResponse(_version_info(catalog, model, version, aliases=asked.get("include_aliases", False)))


async def update_version(request: Request) -> Response:
    """ModelVersionsAPI.update: "Currently only the comment of the model version can be updated"."""
    principal = caller(request).principal
    body = await json_body(request, UPDATE_VERSION)
    catalog = catalog_of(request)
    model, version = catalog.version(principal, *_version_path(request))
    if "comment" in body:
        version.comment = body["comment"]
        catalog.touch(principal, version)
    return JSONResponse(_version_info(catalog, model, version))


async def delete_version(request: Request) -> Response:
    """ModelVersionsAPI.delete: with its aliases and files."""
    principal = caller(request).principal
    query(request, NOTHING)
    model, version = catalog_of(request).delete_version(principal, *_version_path(request))
    tracking_of(request).blobs.delete_tree(model.storage_key(version))
    return JSONResponse({})


async def get_by_alias(request: Request) -> Response:
    """ModelVersionsAPI.get_by_alias."""
    principal = caller(request).principal
    asked = query(request, INCLUDE)
    catalog = catalog_of(request)
    model, version = catalog.version_by_alias(principal, *_alias_path(request))
    return JSONResponse(_version_info(catalog, model, version, aliases=asked.get("include_aliases", False)))


async def set_alias(request: Request) -> Response:
    """RegisteredModelsAPI.set_alias."""
    principal = caller(request).principal
    body = await json_body(request, SET_ALIAS)
    full_name, alias = _alias_path(request)
    model = catalog_of(request).set_alias(principal, full_name, alias, body["version_num"])
    return JSONResponse(_alias_info(model, alias))


async def delete_alias(request: Request) -> Response:
    """RegisteredModelsAPI.delete_alias."""
    principal = caller(request).principal
    query(request, NOTHING)
    catalog_of(request).delete_alias(principal, *_alias_path(request))
    return JSONResponse({})


def _version_path(request: Request) -> tuple[str, int]:
    return request.path_params["full_name"], request.path_params["version"]


def _alias_path(request: Request) -> tuple[str, str]:
    return request.path_params["full_name"], request.path_params["alias"]


def _place(catalog: ModelCatalog, model: RegisteredModel) -> dict[str, Any]:
    catalog_name, schema_name, _ = model.full_name.split(".")
    return {"catalog_name": catalog_name, "schema_name": schema_name, "metastore_id": catalog.metastore_id}


def _model_info(catalog: ModelCatalog, model: RegisteredModel) -> dict[str, Any]:
    info = _place(catalog, model) | {
        "name": model.full_name.split(".")[2],
        "full_name": model.full_name,
        "owner": model.owner,
        "storage_location": model.storage_location(),
        "created_at": model.created_at,
        "created_by": model.created_by,
        "updated_at": model.updated_at,
        "updated_by": model.updated_by,
    }
    return info if model.comment is None else info | {"comment": model.comment}


def _version_info(
    catalog: ModelCatalog, model: RegisteredModel, version: ModelVersion, *, aliases: bool = False
) -> dict[str, Any]:
    info = _place(catalog, model) | {
        "model_name": model.full_name.split(".")[2],
        "version": version.version,
        "id": version.id,
        "source": version.source,
        "status": version.status,
        "storage_location": model.storage_location(version),
        "created_at": version.created_at,
        "created_by": version.created_by,
        "updated_at": version.updated_at,
        "updated_by": version.updated_by,
    }
    optional = {
        "comment": version.comment,
        "run_id": version.run_id,
        "run_workspace_id": version.run_workspace_id,
        "aliases": _aliases(model, version.version) if aliases else None,
    }
    return info | {name: value for name, value in optional.items() if value is not None}


def _alias_info(model: RegisteredModel, alias: str) -> dict[str, Any]:
    catalog_name, schema_name, name = model.full_name.split(".")
    return {
        "alias_name": alias,
        "catalog_name": catalog_name,
        "schema_name": schema_name,
        "model_name": name,
        "version_num": model.aliases[alias],
    }


def _aliases(model: RegisteredModel, version: int | None) -> list[dict[str, Any]]:
    """The aliases of a model, or only those of one version."""
    return [_alias_info(model, alias) for alias, target in model.aliases.items() if version in (None, target)]
