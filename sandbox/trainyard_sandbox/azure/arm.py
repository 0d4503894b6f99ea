"""The frame of Azure's planes: how a module declares routes, and what is checked before its handler is called.

`arm_route` is for Azure Resource Manager below the workspace, `group_route` for it below the resource group, and
`data_plane_route` for the workspace's own services (run history, MLflow, discovery). Checked in this order: token,
tenant's subscription, api-version, rate, role, resource group, workspace, query parameters. A handler gets an
`AzureCall`.

Order and sentences: what Azure Resource Manager answers is published in "Common API error codes" and "Troubleshoot
Azure RBAC"; that a role is asked for before a group is looked up is why AuthorizationFailed says "or the scope is
invalid". A parameter that the API does not know is ignored there and refused here.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from trainyard_sandbox.azure.errors import ArmError, AzureError, DataPlaneError, user_error
from trainyard_sandbox.azure.principals import AzurePrincipal
from trainyard_sandbox.azure.state import ML_RESOURCE, AzureState
from trainyard_sandbox.azure.throttle import kind_of
from trainyard_sandbox.azure.token_store import AzureToken
from trainyard_sandbox.errors import ApiError
from trainyard_sandbox.schema import Obj
from trainyard_sandbox.state import SandboxState, sandbox_state

PROVIDER = "Microsoft.MachineLearningServices"
GROUP = "/subscriptions/{subscription}/resourceGroups/{group}"
WS = f"{GROUP}/providers/{PROVIDER}/workspaces/{{workspace}}"
"""Path template of the workspace, in ARM and behind each data-plane prefix."""


@dataclass
class AzureCall:
    """One request that was let through.

    Args:
        principal: who asks.
        token: what it showed; its `job` names the job of a run's own token.
        query: query parameters by name, without api-version.
        api_version: of an ARM request; empty on the data plane.
    """

    request: Request
    state: SandboxState
    principal: AzurePrincipal
    token: AzureToken
    query: dict[str, str]
    api_version: str = ""

    @property
    def azure(self) -> AzureState:
        """The Azure half's state."""
        return self.state.azure

    @property
    def path(self) -> dict[str, str]:
        """Path parameters by name."""
        return self.request.path_params

    async def body(self, shape: Obj | None = None) -> Any:
        """The JSON body, checked against `shape` if given.

        Raises:
            ArmError: 400 InvalidRequestContent when it is no JSON, UserError when the shape does not fit.
        """
        raw = await self.request.body()
        try:
            value = json.loads(raw)
        except ValueError:
            message = "The request content was invalid and could not be deserialized: 'the body is not JSON'."
            raise ArmError(400, "InvalidRequestContent", message) from None
        return value if shape is None else checked(value, shape)

    def require(self, action: str) -> None:
        """Ask for one more action than the route's own.

        Raises:
            ArmError: 403 AuthorizationFailed.
        """
        _require_role(self.azure, self.principal, action, self.request.url.path)


def checked(value: Any, shape: Obj, path: str = "") -> Any:
    """The value as the shape lets it through.

    Raises:
        ArmError: 400 UserError that names the field.
    """
    try:
        return shape.check(value, path)
    except ApiError as error:
        raise user_error(error.message) from error


Handler = Callable[[AzureCall], Awaitable[Response]]


@dataclass(frozen=True)
class Action:
    """What one method of a route does.

    Args:
        handler: called once all is checked.
        action: the operation that a role must permit, such as "workspaces/jobs/read" (the provider is put before it,
            unless it names one); empty for none.
        versions: api-versions that the sandbox serves (ARM only).
        query: query parameters that it knows besides api-version.
        run_token: also the token of a run's own code may ask (data plane only).
    """

    handler: Handler
    action: str
    versions: tuple[str, ...] = ()
    query: tuple[str, ...] = ()
    run_token: bool = False


def full_action(action: str) -> str:
    """The operation with its provider."""
    return action if action.startswith("Microsoft.") or not action else f"{PROVIDER}/{action}"


def arm_route(path: str, actions: Mapping[str, Action]) -> Route:
    """A route of Azure Resource Manager below the workspace: `arm_route("/jobs/{name}", {"GET": Action(...)})`."""
    kind = "/".join(["workspaces", *_literals(path)])
    return Route(WS + path, _arm_endpoint(kind, actions, _require_workspace), methods=list(actions))


def group_route(provider: str, path: str, actions: Mapping[str, Action]) -> Route:
    """A route of another provider of the resource group: `group_route("Microsoft.X", "/things/{name}", {...})`."""
    endpoint = _arm_endpoint("/".join(_literals(path)), actions, _require_group)
    return Route(f"{GROUP}/providers/{provider}{path}", endpoint, methods=list(actions))


def _literals(path: str) -> list[str]:
    return [part for part in path.split("/") if part and "{" not in part]


def _arm_endpoint(
    kind: str, actions: Mapping[str, Action], require: Callable[[Request, AzureState, AzurePrincipal, str], None]
) -> Callable[[Request], Awaitable[Response]]:
    """What a route of Azure Resource Manager does before its handler; `kind` is the resource type, without provider."""

    async def endpoint(request: Request) -> Response:
        action = actions[request.method]
        azure = sandbox_state(request).azure
        principal, token = authenticated(request, {azure.url, azure.url + "/"}, ArmError)
        headers: dict[str, str] = {}
        try:
            version = _version(request, kind, action.versions)
            headers = _throttled(azure, principal, request.method)
            require(request, azure, principal, full_action(action.action))
            query = _query(request, action.query, drop=("api-version",))
            call = AzureCall(request, sandbox_state(request), principal, token, query, version)
            response = await action.handler(call)
        except AzureError as error:
            response = error.response(request)
        for name, value in (headers | _ids(request)).items():
            response.headers.setdefault(name, value)
        return response

    return endpoint


def data_plane_route(prefix: str, path: str, actions: Mapping[str, Action], *, arm_tokens: bool = False) -> Route:
    """A route of one of the workspace's services: `data_plane_route("/history/v1.0", "/runs/{id}", {...})` serves
    `/history/v1.0{WS}/runs/{id}` to tokens for Azure ML, and with `arm_tokens` to those for the resource manager."""

    async def endpoint(request: Request) -> Response:
        action = actions[request.method]
        azure = sandbox_state(request).azure
        audiences = {ML_RESOURCE, ML_RESOURCE + "/"} | ({azure.url, azure.url + "/"} if arm_tokens else set())
        principal, token = authenticated(request, audiences, DataPlaneError)
        if token.purpose == "run" and not action.run_token:
            raise DataPlaneError(403, "UserError", "The token of a run does not permit this operation.")
        if not _same_workspace(request, azure):
            message = f"Workspace not found: {request.path_params['workspace']}"
            raise DataPlaneError(404, "UserError", message, inner=("NotFound", "WorkspaceNotFound"))
        if token.purpose != "run":
            _require_role(azure, principal, full_action(action.action), azure.workspace_scope)
        query = _query(request, action.query)
        return await action.handler(AzureCall(request, sandbox_state(request), principal, token, query))

    return Route(prefix + WS + path, endpoint, methods=list(actions))


def authenticated(
    request: Request, audiences: set[str], refusal: type[AzureError]
) -> tuple[AzurePrincipal, AzureToken]:
    """Who shows the token of this request.

    Raises:
        AzureError: 401 without a live token for one of the audiences.
    """
    state = sandbox_state(request)
    azure = state.azure

    def refuse(code: str, message: str) -> AzureError:
        challenge = f'Bearer authorization_uri="{azure.url}/{azure.tenant_id}", error="invalid_token", '
        return refusal(401, code, message, {"www-authenticate": challenge + f'error_description="{message}"'})

    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not value:
        raise refuse("AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
    token = azure.tokens.find(value)
    if token is None or token.revoked:
        raise refuse("InvalidAuthenticationToken", "The access token is invalid.")
    if token.expires_at <= state.now():
        raise refuse("ExpiredAuthenticationToken", "The access token expiry UTC time is earlier than current UTC time.")
    if token.audience not in audiences:
        message = f"The access token has been obtained for wrong audience or resource '{token.audience}'. "
        message += f"It should exactly match with one of the allowed audiences {', '.join(sorted(audiences))}."
        raise refuse("InvalidAuthenticationTokenAudience", message)
    request.state.application_id = token.client_id
    principal = azure.directory.get(token.client_id)
    if principal is None:
        raise refuse("InvalidAuthenticationToken", "The access token is invalid: its principal does not exist.")
    return principal, token


def authorization_failed(principal: AzurePrincipal, action: str, scope: str) -> ArmError:
    """403 in Azure Resource Manager's own sentence."""
    message = (
        f"The client '{principal.client_id}' with object id '{principal.object_id}' does not have authorization to "
        f"perform action '{action}' over scope '{scope}' or the scope is invalid. If access was recently granted, "
        "please refresh your credentials."
    )
    return ArmError(403, "AuthorizationFailed", message)


def _require_role(azure: AzureState, principal: AzurePrincipal, action: str, shown_scope: str) -> None:
    if action and not principal.may(full_action(action), azure.workspace_scope):
        raise authorization_failed(principal, full_action(action), shown_scope)


def _require_workspace(request: Request, azure: AzureState, principal: AzurePrincipal, action: str) -> None:
    asked = request.path_params
    if asked["subscription"].lower() != azure.subscription_id:
        _refuse_subscription(asked["subscription"])
    # A role may also be given on something below the workspace, such as one endpoint.
    if action and not principal.may(action, request.url.path):
        raise authorization_failed(principal, action, request.url.path)
    _refuse_group(request, azure)
    if not _same_workspace(request, azure):
        raise resource_not_found(f"{PROVIDER}/workspaces/{asked['workspace']}", asked["group"])


def _require_group(request: Request, azure: AzureState, principal: AzurePrincipal, action: str) -> None:
    asked = request.path_params
    if asked["subscription"].lower() != azure.subscription_id:
        _refuse_subscription(asked["subscription"])
    if action and not principal.may(action, request.url.path):
        raise authorization_failed(principal, action, request.url.path)
    _refuse_group(request, azure)


def _refuse_group(request: Request, azure: AzureState) -> None:
    group = request.path_params["group"]
    if group.lower() != azure.resource_group.lower():
        raise ArmError(404, "ResourceGroupNotFound", f"Resource group '{group}' could not be found.")


def resource_not_found(resource: str, group: str) -> ArmError:
    """404 of a resource `Provider/type/name` that its group does not have."""
    message = f"The Resource '{resource}' under resource group '{group}' was not found. "
    message += "For more details please go to https://aka.ms/ARMResourceNotFoundFix"
    return ArmError(404, "ResourceNotFound", message)


def _refuse_subscription(subscription: str) -> None:
    try:
        uuid.UUID(subscription)
    except ValueError:
        message = f"The provided subscription identifier '{subscription}' is malformed or invalid."
        raise ArmError(400, "InvalidSubscriptionId", message) from None
    raise ArmError(404, "SubscriptionNotFound", f"The subscription '{subscription}' could not be found.")


def _same_workspace(request: Request, azure: AzureState) -> bool:
    asked = request.path_params
    return (asked["subscription"].lower(), asked["group"].lower(), asked["workspace"].lower()) == (
        azure.subscription_id,
        azure.resource_group.lower(),
        azure.workspace_name.lower(),
    )


def _version(request: Request, kind: str, versions: Sequence[str]) -> str:
    version = request.query_params.get("api-version")
    if not version:
        message = "The api-version query parameter (?api-version=) is required for all requests."
        raise ArmError(400, "MissingApiVersionParameter", message)
    if version not in versions:
        message = f"No registered resource provider found for location '{sandbox_state(request).azure.region}' and API "
        message += f"version '{version}' for type '{kind}'. The supported api-versions are "
        raise ArmError(400, "NoRegisteredProviderFound", message + f"'{', '.join(versions)}'.")
    return version


def _throttled(azure: AzureState, principal: AzurePrincipal, method: str) -> dict[str, str]:
    kind = kind_of(method)
    taken = azure.throttle.take(principal.client_id, kind)
    header = {f"x-ms-ratelimit-remaining-subscription-{kind}": str(taken.remaining)}
    if taken.allowed:
        return header
    message = (
        f"Number of '{kind}' requests for subscription '{azure.subscription_id}' actor '{principal.object_id}' "
        f"exceeded. Please try again after '{taken.retry_after}' seconds after additional tokens are available. "
        "Refer to https://aka.ms/arm-throttling for additional information."
    )
    headers = header | {"retry-after": str(taken.retry_after)}
    raise ArmError(429, "SubscriptionRequestsThrottled", message, headers)


def _query(request: Request, known: Sequence[str], drop: Sequence[str] = ()) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in drop:
            continue
        if name not in known or name in found:
            fault = "is given twice" if name in found else "is not known"
            raise ArmError(400, "InvalidRequestUri", f"The query parameter '{name}' {fault}.")
        found[name] = value
    return found


def _ids(request: Request) -> dict[str, str]:
    correlation = request.headers.get("x-ms-correlation-request-id") or str(uuid.uuid4())
    region = sandbox_state(request).azure.region.upper()
    at = f"{region}:{correlation}"
    return {"x-ms-correlation-request-id": correlation, "x-ms-routing-request-id": at, "cache-control": "no-cache"}
