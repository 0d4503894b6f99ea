"""The scoring URI of online endpoints: `/online/{endpoint}/score` of the Azure origin, which really asks the model.

azure_app.py mounts `routes()`. In the public cloud each endpoint has a host of its own,
`https://<endpoint>.<region>.inference.ml.azure.com/score`.

Read in: Azure documentation, "Troubleshoot online endpoint deployment", HTTP status codes (401, 404, 408, 424 with its
headers, 429 with its bound); "Authenticate clients for online endpoints" (a key, a token of the endpoint, or an Entra
token for https://ml.azure.com with the right `onlineEndpoints/score/action` on the endpoint); "Deploy MLflow models to
online endpoints" (`input_data`, and a bare list as the answer); azure-ai-ml `EndpointInvokeFields` (the header that
picks a deployment, whatever its share). `key_auth_bad_header_forbidden` and `key_auth_access_denied` are what public
runbooks quote of a refused key; 503 is what the proxy in front says when nothing is ready.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from trainyard_sandbox.azure.arm import authenticated
from trainyard_sandbox.azure.errors import AzureError, DataPlaneError
from trainyard_sandbox.azure.online_rules import timeout_seconds
from trainyard_sandbox.azure.online_store import OnlineDeployment, OnlineEndpoint, OnlineStore, Sample
from trainyard_sandbox.azure.online_view import SCORING_PREFIX, endpoint_scope
from trainyard_sandbox.azure.state import ML_RESOURCE, AzureState
from trainyard_sandbox.serving.model_server import Answer
from trainyard_sandbox.serving.served_model import NotServing
from trainyard_sandbox.state import sandbox_state

SCORE = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/score/action"
PICK = "azureml-model-deployment"
_NO_DEPLOYMENT = (
    "No valid deployments to route to. Please check that the endpoint has at least one deployment with positive weight "
    "values or use a deployment specific header to route."
)
_SCRIPT_FAILED = b"An unexpected error occurred in scoring script. Check the logs for more info."


async def score(request: Request) -> Response:
    """POST /online/{endpoint}/score."""
    azure = sandbox_state(request).azure
    store: OnlineStore = azure.online
    endpoint = store.get(request.path_params["endpoint"])
    if endpoint is None or endpoint.state == "Creating":
        return _plain(404, "Not found")
    try:
        _check_caller(request, azure, endpoint)
    except AzureError as error:
        return _plain(error.status, error.message)
    body = await request.body()
    # Nothing is waited for between the choice and the model: what is chosen is not deleted before it was asked.
    deployment = _chosen(endpoint, request.headers.get(PICK))
    if deployment is None:
        return _plain(404, _NO_DEPLOYMENT)
    began = time.monotonic()
    response, model_status = await _asked(deployment, body)
    seconds = time.monotonic() - began
    endpoint.samples.append(Sample(store.now(), deployment.name, response.status_code, model_status, seconds))
    response.headers.setdefault(PICK, deployment.name)
    return response


async def swagger(request: Request) -> Response:
    """GET /online/{endpoint}/swagger.json: what the scoring URI takes."""
    azure = sandbox_state(request).azure
    store: OnlineStore = azure.online
    endpoint = store.get(request.path_params["endpoint"])
    if endpoint is None:
        return _plain(404, "Not found")
    try:
        _check_caller(request, azure, endpoint)
    except AzureError as error:
        return _plain(error.status, error.message)
    body = {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
    paths = {"/score": {"post": {"requestBody": body, "responses": {"200": {"description": "The predictions."}}}}}
    return JSONResponse({"openapi": "3.0.1", "info": {"title": endpoint.name, "version": "1.0.0"}, "paths": paths})


def _check_caller(request: Request, azure: AzureState, endpoint: OnlineEndpoint) -> None:
    """Refuse who shows no key or token of the endpoint's kind.

    Raises:
        AzureError: 401, 403.
    """
    mode = endpoint.properties["authMode"]
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if mode == "AADToken":
        principal, _ = authenticated(request, {ML_RESOURCE, ML_RESOURCE + "/"}, DataPlaneError)
        if not principal.may(SCORE, endpoint_scope(azure, endpoint.name)):
            message = (
                f"The client '{principal.client_id}' does not have authorization to perform action '{SCORE}' over "
            )
            raise DataPlaneError(403, "AuthorizationFailed", message + f"endpoint '{endpoint.name}'.")
        return
    kind = "key_auth" if mode == "Key" else "token_auth"
    if scheme.lower() != "bearer" or not value:
        raise DataPlaneError(401, "Unauthorized", f"{kind}_bad_header_forbidden")
    if mode == "Key":
        allowed = any(hmac.compare_digest(value, key) for key in endpoint.keys.values())
    else:
        allowed = endpoint.aml_tokens.get(value, 0.0) > azure.now()
    if not allowed:
        raise DataPlaneError(401, "Unauthorized", f"{kind}_access_denied")


def _chosen(endpoint: OnlineEndpoint, asked: str | None) -> OnlineDeployment | None:
    name = asked or endpoint.split.next()
    return endpoint.deployment(name) if name else None


async def _asked(deployment: OnlineDeployment, body: bytes) -> tuple[Response, int | None]:
    """The answer, and the status of the model's own."""
    if deployment.in_flight >= deployment.most_requests:
        return _plain(429, "Too many pending requests"), None
    deployment.in_flight += 1
    try:
        async with asyncio.timeout(timeout_seconds(deployment.properties)):
            answer = await _predicted(deployment, body)
    except TimeoutError:
        return _plain(408, "Request timeout"), None
    except NotServing as error:
        deployment.note(f"{error}\n")
        return _plain(503, "no healthy upstream"), None
    finally:
        deployment.in_flight -= 1
    if answer.status == 200:
        return Response(answer.body, 200, media_type=answer.content_type), 200
    headers = {
        "ms-azureml-model-error-statuscode": str(answer.status),
        "ms-azureml-model-error-reason": "model_error",
    }
    return Response(answer.body, 424, headers, answer.content_type), answer.status


async def _predicted(deployment: OnlineDeployment, body: bytes) -> Answer:
    """What the container answers: the generated scoring script takes `input_data` and returns a bare list.

    Raises:
        NotServing: there is no server that is ready.
    """
    server = deployment.server
    if server is None or not deployment.answers:
        raise NotServing(f"The deployment is in {deployment.state} provisioning state.")
    if not _has_input(body):
        return _script_error(deployment, 'Request must contain a top level key named "input_data"')
    answer = await server.score(body)
    if answer.status == 200:
        return Answer(200, json.dumps(json.loads(answer.body)["predictions"]).encode())
    if answer.content_type.startswith("text/plain"):
        deployment.note(f"{answer.body.decode('utf-8', 'replace')}\n")
        return answer
    return _script_error(deployment, answer.body.decode("utf-8", "replace"))


def _has_input(body: bytes) -> bool:
    try:
        document: Any = json.loads(body)
    except ValueError:
        return False
    return isinstance(document, dict) and "input_data" in document


def _script_error(deployment: OnlineDeployment, said: str) -> Answer:
    deployment.note(f"Encountered Exception: {said}\n")
    return Answer(500, _SCRIPT_FAILED, "text/plain")


def _plain(status: int, text: str) -> Response:
    return PlainTextResponse(text, status)


def routes() -> list[Route]:
    """The routes of this module."""
    return [
        Route(f"{SCORING_PREFIX}/{{endpoint}}/score", score, methods=["POST"]),
        Route(f"{SCORING_PREFIX}/{{endpoint}}/swagger.json", swagger, methods=["GET"]),
    ]
