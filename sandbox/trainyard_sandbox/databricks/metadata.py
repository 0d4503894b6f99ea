"""Discovery: the host's metadata and the OIDC server's endpoints, which the SDK reads before anything else.

No authentication. The control API may override both documents, to play a hostile or broken host.

Read in: databricks-sdk `config.py` `_resolve_host_metadata`, `oauth.py` `HostMetadata`, `get_workspace_endpoints`,
`get_account_endpoints`; RFC 8414 for the metadata's field names.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.state import sandbox_state


async def host_metadata(request: Request) -> Response:
    """GET /.well-known/databricks-config."""
    state = sandbox_state(request)
    document = {
        "oidc_endpoint": f"{state.base_url}/oidc",
        "account_id": state.account_id,
        "workspace_id": state.workspace_id,
        "cloud": "AWS",
        "host_type": "workspace",
        "token_federation_default_oidc_audiences": [state.account_id],
    }
    return JSONResponse(document | (state.overrides.metadata or {}))


async def authorization_server(request: Request) -> Response:
    """GET {oidc_endpoint}/.well-known/oauth-authorization-server (and /openid-configuration, the same document)."""
    state = sandbox_state(request)
    return JSONResponse(authorization_server_document(f"{state.base_url}/oidc") | (state.overrides.oidc or {}))


def authorization_server_document(issuer: str) -> dict[str, object]:
    """RFC 8414's document of an OIDC endpoint, that of the workspace or of the account."""
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/v1/authorize",
        "token_endpoint": f"{issuer}/v1/token",
        "grant_types_supported": ["client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "none"],
        "scopes_supported": ["all-apis"],
        "response_types_supported": ["token"],
    }


def routes() -> list[Route]:
    """The routes of this module."""
    return [
        Route("/.well-known/databricks-config", host_metadata, methods=["GET"]),
        Route("/oidc/.well-known/oauth-authorization-server", authorization_server, methods=["GET"]),
        Route("/oidc/.well-known/openid-configuration", authorization_server, methods=["GET"]),
    ]
