"""Long-running operations of jobs and computes: where a client that polls looks, and what it is told.

jobs.py and computes.py answer with `accepted` or `operation_headers`; the routes here serve the polls.

How clients poll: azure-core `polling/base_polling.py` (Location; Azure-AsyncOperation with `status`; Retry-After) and
Azure Resource Manager documentation, "Track asynchronous Azure operations". A result stays as long as the sandbox.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.azure.arm import PROVIDER, AzureCall, authenticated
from trainyard_sandbox.azure.errors import ArmError, AzureError
from trainyard_sandbox.azure.state import AzureState
from trainyard_sandbox.state import SandboxState, sandbox_state

_BASE = f"/subscriptions/{{subscription}}/providers/{PROVIDER}/locations/{{location}}"
RETRY_AFTER_SECONDS = 1

Failure = tuple[str, str]
"""(code, message) of an operation that failed."""


class Operations:
    """What is under way, by operation id: each is asked whether it is done, and how it failed."""

    def __init__(self) -> None:
        self._done: dict[str, tuple[Callable[[], bool], Callable[[], Failure | None]]] = {}

    def start(self, name: str, done: Callable[[], bool], failure: Callable[[], Failure | None]) -> str:
        """Remember an operation; returns its id."""
        operation_id = f"{name}:{secrets.token_hex(8)}"
        self._done[operation_id] = (done, failure)
        return operation_id

    def state(self, operation_id: str) -> tuple[bool, Failure | None]:
        """Whether it is done, and how it failed.

        Raises:
            ArmError: 404, there is none with this id.
        """
        if operation_id not in self._done:
            raise ArmError(404, "NotFound", f"The operation '{operation_id}' was not found.")
        done, failure = self._done[operation_id]
        return (True, failure()) if done() else (False, None)


def accepted(call: AzureCall, name: str, done: Callable[[], bool]) -> Response:
    """202 with the Location to poll, for an operation whose only result is that it is done."""
    return Response(status_code=202, headers=operation_headers(call, name, done))


def operation_headers(
    call: AzureCall, name: str, done: Callable[[], bool], failure: Callable[[], Failure | None] = lambda: None
) -> dict[str, str]:
    """The headers of an answer that begins an operation."""
    azure = call.azure
    operation_id = _operations(call.state).start(name, done, failure)
    base = f"{azure.url}/subscriptions/{azure.subscription_id}/providers/{PROVIDER}/locations/{azure.region}"
    version = f"api-version={call.api_version}"
    return {
        "location": f"{base}/operationResults/{operation_id}?{version}",
        "azure-asyncoperation": f"{base}/operationsStatus/{operation_id}?{version}",
        "retry-after": str(RETRY_AFTER_SECONDS),
    }


async def operation_result(request: Request) -> Response:
    """GET .../operationResults/{id}: 202 until it is done, then 200."""
    return _answer(request, lambda done, failure, _: _result(request, done, failure))


async def operation_status(request: Request) -> Response:
    """GET .../operationsStatus/{id}: `InProgress`, `Succeeded` or `Failed`."""
    return _answer(request, _status)


def _answer(request: Request, shown: Callable[[bool, Failure | None, str], Response]) -> Response:
    azure: AzureState = sandbox_state(request).azure
    try:
        authenticated(request, {azure.url, azure.url + "/"}, ArmError)
        if not request.query_params.get("api-version"):
            message = "The api-version query parameter (?api-version=) is required for all requests."
            raise ArmError(400, "MissingApiVersionParameter", message)
        operation_id = request.path_params["operation"]
        done, failure = _operations(sandbox_state(request)).state(operation_id)
        return shown(done, failure, operation_id)
    except AzureError as error:
        return error.response(request)


def _result(request: Request, done: bool, failure: Failure | None) -> Response:
    if not done:
        headers = {"location": str(request.url), "retry-after": str(RETRY_AFTER_SECONDS)}
        return Response(status_code=202, headers=headers)
    if failure is not None:
        raise ArmError(400, *failure)
    return Response(status_code=200)


def _status(done: bool, failure: Failure | None, operation_id: str) -> Response:
    body: dict[str, Any] = {"id": operation_id, "status": "Succeeded" if done else "InProgress"}
    if failure is not None:
        code, message = failure
        body |= {"status": "Failed", "error": {"code": code, "message": message}}
    headers = {} if done else {"retry-after": str(RETRY_AFTER_SECONDS)}
    return JSONResponse(body, headers=headers)


def _operations(state: SandboxState) -> Operations:
    operations: Operations = state.azure.operations
    return operations


def attach(state: SandboxState) -> None:
    """Give the sandbox its list of operations."""
    state.azure.operations = Operations()


def routes() -> list[Route]:
    """The routes of this module."""
    return [
        Route(_BASE + "/operationResults/{operation}", operation_result, methods=["GET"]),
        Route(_BASE + "/operationsStatus/{operation}", operation_status, methods=["GET"]),
    ]
