"""How each Azure plane words a refusal: Azure Resource Manager, Azure ML, Entra, Graph and blob storage.

Every module of the Azure half raises a subclass of `AzureError`; server.py renders it. A message never carries a token.

Read in: Azure Resource Manager documentation, "Common API error codes" and the RPC's `error` body (code, message,
details, additionalInfo); Azure/azure-sdk-for-python issues for Azure ML's `additionalInfo`; Microsoft Entra
documentation, "Microsoft Entra authentication and authorization error codes"; Azure Storage documentation, "Status and
error codes".
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import escape

from starlette.requests import Request
from starlette.responses import JSONResponse, Response


class AzureError(Exception):
    """A request refused by any Azure plane: `status`, and a body in that plane's own shape."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})

    def response(self, request: Request) -> Response:
        """The answer on the wire."""
        raise NotImplementedError


class ArmError(AzureError):
    """Azure Resource Manager's `{"error": {"code", "message"}}`, also that of resource providers.

    `inner` are the nested codes of Azure ML's `InnerError`, outermost first: ("Immutable", "JobPropertyImmutable").
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        headers: Mapping[str, str] | None = None,
        *,
        target: str | None = None,
        details: Sequence[Mapping[str, Any]] = (),
        inner: Sequence[str] = (),
    ) -> None:
        super().__init__(status, code, message, headers)
        self.target = target
        self.details = list(details)
        self.inner = tuple(inner)

    def response(self, request: Request) -> Response:
        """See `AzureError.response`."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.target is not None:
            error["target"] = self.target
        if self.details or self.inner:
            error["details"] = self.details
        if self.inner:
            error["additionalInfo"] = self._additional_info(request)
        headers = {} if self.inner else {"x-ms-failure-cause": "gateway"}
        return JSONResponse({"error": error}, self.status, headers | self.headers)

    def _additional_info(self, request: Request) -> list[dict[str, Any]]:
        state = request.app.state.sandbox
        nested: dict[str, Any] | None = None
        for code in reversed(self.inner):
            nested = {"code": code, "innerError": nested}
        values = {
            "ComponentName": "managementfrontend",
            "Correlation": {"operation": uuid.uuid4().hex, "request": request_id(request)},
            "Environment": state.azure.region,
            "Location": state.azure.region,
            "Time": iso_time(state.now()),
            "InnerError": nested,
        }
        return [{"type": kind, "info": {"value": value}} for kind, value in values.items()]


def user_error(message: str, *inner: str, status: int = 400, target: str | None = None) -> ArmError:
    """400 UserError: Azure ML's answer to most requests that it understands and refuses."""
    return ArmError(status, "UserError", message, target=target, inner=inner or ("BadArgument",))


def not_found(message: str) -> ArmError:
    """404 UserError with inner code NotFound: an entity of the workspace that is not there."""
    return user_error(message, "NotFound", status=404)


class DataPlaneError(AzureError):
    """Azure ML's services (run history, discovery, MLflow's gateway): `error` beside `correlation`, `environment`.

    Shape read in azure-ai-ml `_restclient/runhistory/models` (ErrorResponse, RootError, InnerErrorResponse).
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        headers: Mapping[str, str] | None = None,
        *,
        inner: Sequence[str] = (),
    ) -> None:
        super().__init__(status, code, message, headers)
        self.inner = tuple(inner)

    def response(self, request: Request) -> Response:
        """See `AzureError.response`."""
        state = request.app.state.sandbox
        nested: dict[str, Any] | None = None
        for code in reversed(self.inner):
            nested = {"code": code, "innerError": nested}
        error: dict[str, Any] = {
            "code": self.code,
            "severity": None,
            "message": self.message,
            "messageFormat": None,
            "messageParameters": None,
            "referenceCode": None,
            "detailsUri": None,
            "target": None,
            "details": [],
            "innerError": nested,
            "debugInfo": None,
            "additionalInfo": None,
        }
        body = {
            "error": error,
            "correlation": {"operation": uuid.uuid4().hex, "request": request_id(request)},
            "environment": state.azure.region,
            "location": state.azure.region,
            "time": iso_time(state.now()),
            "componentName": "run-history",
            "statusCode": self.status,
        }
        return JSONResponse(body, self.status, self.headers)


class EntraError(AzureError):
    """The token endpoint's refusal; `code` is OAuth's (`invalid_client`), `number` Entra's (700213)."""

    def __init__(
        self, status: int, code: str, number: int, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, code, message, headers)
        self.number = number

    def response(self, request: Request) -> Response:
        """See `AzureError.response`."""
        now = request.app.state.sandbox.now()
        at = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        trace, correlation = request_id(request), _client_request_id(request) or str(uuid.uuid4())
        description = f"AADSTS{self.number}: {self.message} "
        description += f"Trace ID: {trace} Correlation ID: {correlation} Timestamp: {at}"
        body = {
            "error": self.code,
            "error_description": description,
            "error_codes": [self.number],
            "timestamp": at,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": f"{request.url.scheme}://{request.url.netloc}/error?code={self.number}",
        }
        return JSONResponse(body, self.status, {"cache-control": "no-store, no-cache"} | self.headers)


class GraphError(AzureError):
    """Microsoft Graph's `error` with an `innerError` (Microsoft Graph documentation, "Microsoft Graph error responses
    and resource types")."""

    def response(self, request: Request) -> Response:
        """See `AzureError.response`."""
        at = datetime.fromtimestamp(request.app.state.sandbox.now(), UTC).strftime("%Y-%m-%dT%H:%M:%S")
        inner = {"date": at, "request-id": request_id(request), "client-request-id": _client_request_id(request)}
        inner["client-request-id"] = inner["client-request-id"] or inner["request-id"]
        body = {"error": {"code": self.code, "message": self.message, "innerError": inner}}
        return JSONResponse(body, self.status, self.headers)


class StorageError(AzureError):
    """Blob storage's XML, with the code also in `x-ms-error-code` (a HEAD has no body)."""

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None, *, detail: str = ""
    ) -> None:
        super().__init__(status, code, message, headers)
        self.detail = detail

    def response(self, request: Request) -> Response:
        """See `AzureError.response`."""
        headers = {"x-ms-error-code": self.code} | self.headers
        if request.method == "HEAD":
            return Response(status_code=self.status, headers=headers)
        at = iso_time(request.app.state.sandbox.now())
        text = f"{self.message}\nRequestId:{request_id(request)}\nTime:{at}"
        body = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{self.code}</Code>'
        body += f"<Message>{escape(text)}</Message>"
        if self.detail:
            tag = "AuthenticationErrorDetail" if self.code == "AuthenticationFailed" else "AdditionalDetails"
            body += f"<{tag}>{escape(self.detail)}</{tag}>"
        body += "</Error>"
        return Response("\ufeff" + body, self.status, headers, "application/xml")


async def render_azure_error(request: Request, error: Exception) -> Response:
    """Starlette exception handler of every `AzureError`."""
    assert isinstance(error, AzureError)  # noqa: S101 - registered for this class only
    return error.response(request)


def request_id(request: Request) -> str:
    """The id that the answer carries as `x-ms-request-id`."""
    found: str = request.scope["state"].get("request_id", "")
    return found


def iso_time(seconds: float) -> str:
    """Unix seconds as Azure writes times in bodies: UTC with seven decimals."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{int(seconds % 1 * 10**7):07d}Z"


def http_time(seconds: float) -> str:
    """Unix seconds as HTTP headers write them."""
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(seconds))


def _client_request_id(request: Request) -> str | None:
    value = request.headers.get("client-request-id")
    return value[:64] if value else None
