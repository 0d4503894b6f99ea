"""The last route of the workspace's MLflow: what Azure ML does not serve gets 404 with an empty body.

azure_app.py mounts modules in the order of their names, so that this one comes after every mlflow module with routes.

Seen for `logged-models` of mlflow 3 (Azure/azure-sdk-for-python#44896). Aliases of registered models, renaming and
deleting a registered model are said not to be there in Azure Machine Learning documentation, "Manage models registry in
Azure Machine Learning with MLflow" (limitations; aliases are missing from what it supports); that they are answered the
same way is an inference.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from trainyard_sandbox.azure.arm import WS
from trainyard_sandbox.azure.mlflow_api import API, MLFLOW_PREFIX
from trainyard_sandbox.azure.mlflow_errors import NotServed

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def routes() -> list[Route]:
    """The routes of this module."""
    return [Route(f"{MLFLOW_PREFIX}{WS}{API}/{{rest:path}}", not_served, methods=list(METHODS))]


async def not_served(request: Request) -> Response:
    """Whatever else is asked below the API, by whomever."""
    raise NotServed(request.url.path)
