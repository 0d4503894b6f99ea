"""The one exception that a handler raises to refuse a request, and how Databricks words it on the wire.

Every module of the platform side raises `ApiError`; server.py renders it. It must never carry a token in its message.

Read in: Databricks REST API reference, "Error responses"; databricks-sdk `errors/deserializer.py` (the fields
`error_code` and `message`).
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response


class ApiError(Exception):
    """A request refused with an HTTP status, Databricks' error code and a sentence.

    A status as `error_code` is written as a number, as the gateway before the APIs does it
    (databricks/databricks-sdk-go issue 873).

    `reason` is the machine-readable one of `google.rpc.ErrorInfo`, which a few APIs add (databricks-sdk
    `errors/details.py`).
    """

    def __init__(
        self,
        status: int,
        error_code: str,
        message: str,
        headers: dict[str, str] | None = None,
        *,
        reason: str | None = None,
    ) -> None:
        super().__init__(f"{status} {error_code}: {message}")
        self.status = status
        self.error_code = error_code
        self.message = message
        self.headers = headers
        self.reason = reason


def invalid_parameter(message: str) -> ApiError:
    """400 INVALID_PARAMETER_VALUE: the platform's answer to most malformed requests."""
    return ApiError(400, "INVALID_PARAMETER_VALUE", message)


def permission_denied(message: str) -> ApiError:
    """403 PERMISSION_DENIED: known caller, not allowed."""
    return ApiError(403, "PERMISSION_DENIED", message)


def not_found(message: str) -> ApiError:
    """404 RESOURCE_DOES_NOT_EXIST: the path is known, the object is not."""
    return ApiError(404, "RESOURCE_DOES_NOT_EXIST", message)


def already_exists(message: str) -> ApiError:
    """400 RESOURCE_ALREADY_EXISTS."""
    return ApiError(400, "RESOURCE_ALREADY_EXISTS", message)


async def render_api_error(_request: Request, error: Exception) -> Response:
    """Starlette exception handler: the JSON body that the SDK's deserializer reads."""
    assert isinstance(error, ApiError)  # noqa: S101 - registered for this class only
    code = error.error_code
    body: dict[str, object] = {"error_code": int(code) if code.isdigit() else code, "message": error.message}
    if error.reason is not None:
        kind = "type.googleapis.com/google.rpc.ErrorInfo"
        body["details"] = [{"@type": kind, "reason": error.reason, "domain": "databricks.com", "metadata": {}}]
    return JSONResponse(body, status_code=error.status, headers=error.headers)
