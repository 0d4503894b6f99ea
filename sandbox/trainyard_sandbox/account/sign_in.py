"""Discovery and the token endpoint of the account.

Read in: databricks-sdk `config.py` `_resolve_host_metadata` (an account's host names no workspace, and its
`oidc_endpoint` may hold `{account_id}`) and `oauth.py` `get_account_endpoints`; Databricks documentation, "Authorize
service principal access to Databricks with OAuth": a token of the account is good for the account's API and for the
workspaces, a token of a workspace for that workspace only.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.databricks import oidc
from trainyard_sandbox.databricks.metadata import authorization_server_document
from trainyard_sandbox.errors import not_found
from trainyard_sandbox.state import SandboxState, sandbox_state


def routes() -> list[Route]:
    """The routes of this module."""
    return [
        Route("/.well-known/databricks-config", host_metadata, methods=["GET"]),
        Route("/oidc/accounts/{account}/.well-known/oauth-authorization-server", authorization_server, methods=["GET"]),
        Route("/oidc/accounts/{account}/v1/token", token, methods=["POST"]),
    ]


async def host_metadata(request: Request) -> Response:
    """GET /.well-known/databricks-config."""
    state = sandbox_state(request)
    return JSONResponse({"oidc_endpoint": f"{state.account_url}/oidc/accounts/{{account_id}}", "cloud": "AWS"})


async def authorization_server(request: Request) -> Response:
    """GET {oidc_endpoint}/.well-known/oauth-authorization-server."""
    state = sandbox_state(request)
    check_account(request, state)
    return JSONResponse(authorization_server_document(state.account_issuer))


async def token(request: Request) -> Response:
    """POST {oidc_endpoint}/v1/token: as the workspace's, for the whole account."""
    check_account(request, sandbox_state(request))
    return await oidc.answer(request, for_account=True)


def check_account(request: Request, state: SandboxState) -> None:
    """Refuse another account than the sandbox's.

    Raises:
        ApiError: 404.
    """
    if request.path_params["account"] != state.account_id:
        raise not_found(f"Account {request.path_params['account']} does not exist.")
