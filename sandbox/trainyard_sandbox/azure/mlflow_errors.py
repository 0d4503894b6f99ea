"""How the workspace's MLflow refuses: MLflow's own `error_code` and `message`, and nothing for what is not there.

The mlflow_*.py modules raise `MlflowError`; azure_app.py renders it.

"Run with id=... not found" and "Could not find experiment with ID": what the service's clients show (public issue
zenml-io/zenml#4207) and mlflow 2.22 itself says. A call that the service does not have is answered 404 with an empty
body (Azure/azure-sdk-for-python#44896, `logged-models`).
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from trainyard_sandbox.azure.errors import AzureError


class MlflowError(AzureError):
    """A refusal with MLflow's error code."""

    def response(self, request: Request) -> Response:
        """See `AzureError.response`."""
        del request
        return JSONResponse({"error_code": self.code, "message": self.message}, self.status, self.headers)


class NotServed(AzureError):
    """404 with an empty body: MLflow has this call, Azure ML has not."""

    def __init__(self, path: str) -> None:
        super().__init__(404, "NotServed", f"Azure ML does not serve {path}")

    def response(self, request: Request) -> Response:
        """See `AzureError.response`."""
        del request
        return Response(status_code=404)


def invalid(message: str) -> MlflowError:
    """400 INVALID_PARAMETER_VALUE."""
    return MlflowError(400, "INVALID_PARAMETER_VALUE", message)


def run_not_found(run_id: str) -> MlflowError:
    """404: there is no run with this id in the workspace."""
    return MlflowError(404, "RESOURCE_DOES_NOT_EXIST", f"Run with id={run_id} not found")


def experiment_not_found(message: str) -> MlflowError:
    """404: there is no such experiment in the workspace."""
    return MlflowError(404, "RESOURCE_DOES_NOT_EXIST", message)


def denied(message: str) -> MlflowError:
    """403 PERMISSION_DENIED."""
    return MlflowError(403, "PERMISSION_DENIED", message)
