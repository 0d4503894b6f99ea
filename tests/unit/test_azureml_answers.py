"""What refusals of Azure mean."""

import json
from typing import Any

import pytest

from trainyard.audit.transport import Answer
from trainyard.core.errors import Denied, Missing, PlatformError, Refused, Unauthenticated, Unreachable
from trainyard.platforms.azureml.answers import AzureDialect, StorageDialect
from trainyard.platforms.limits import PlatformBusy, QuotaReached

WS = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
ARM = f"https://management.azure.com{WS}"
HISTORY = f"https://westeurope.api.azureml.ms/history/v1.0{WS}"
MLFLOW = f"https://westeurope.api.azureml.ms/mlflow/v1.0{WS}/api/2.0/mlflow"
DIALECT = AzureDialect(WS)


def refused(status: int, error: Any, url: str = f"{ARM}/jobs/ty-1", **headers: str) -> PlatformError:
    body = json.dumps(error if isinstance(error, dict) and "error" in error else {"error": error}).encode()
    return DIALECT.error(Answer("GET", url, status, headers, body, b""))


def inner(*codes: str) -> list[dict[str, Any]]:
    """Azure ML's nested codes as Azure Resource Manager passes them on."""
    nested: dict[str, Any] | None = None
    for code in reversed(codes):
        nested = {"code": code, "innerError": nested}
    return [{"type": "ComponentName", "info": {"value": "x"}}, {"type": "InnerError", "info": {"value": nested}}]


EXISTS = "A job with this name already exists. If you are trying to create a new job, use a different name."
CASES: list[tuple[int, dict[str, Any], type[PlatformError], str]] = [
    (401, {"code": "ExpiredAuthenticationToken", "message": "expired"}, Unauthenticated, "Unauthenticated"),
    (403, {"code": "AuthorizationFailed", "message": "no"}, Denied, "PermissionDenied"),
    (403, {"code": "RequestDisallowedByPolicy", "message": "policy"}, Denied, "PermissionDenied"),
    (404, {"code": "ResourceNotFound", "message": "no workspace"}, Missing, "NotFound"),
    (404, {"code": "ResourceGroupNotFound", "message": "no group"}, Missing, "NotFound"),
    (
        404,
        {"code": "UserError", "message": "Job ty-1 not found.", "additionalInfo": inner("NotFound")},
        Missing,
        "NotFound",
    ),
    # Another tenant's, or one without a role: it may well be there.
    (404, {"code": "SubscriptionNotFound", "message": "none"}, Denied, "PermissionDenied"),
    (404, {"code": "InvalidResourceType", "message": "no such type"}, Refused, "EndpointNotFound"),
    (400, {"code": "NoRegisteredProviderFound", "message": "api-version"}, Refused, "EndpointNotFound"),
    (409, {"code": "MissingSubscriptionRegistration", "message": "register"}, Denied, "PermissionDenied"),
    (
        400,
        {"code": "UserError", "message": "x", "additionalInfo": inner("Immutable", "JobPropertyImmutable")},
        Refused,
        "AlreadyExists",
    ),
    (400, {"code": "UserError", "message": EXISTS}, Refused, "AlreadyExists"),
    (
        400,
        {"code": "UserError", "message": "The assetpath is already linked to another asset."},
        Refused,
        "AlreadyExists",
    ),
    (400, {"code": "UserError", "message": "Unknown compute target 'x'."}, Refused, "RequestRefused"),
    (
        400,
        {"code": "UserError", "message": "x", "additionalInfo": inner("JobNodeCountExceedsCoreQuota")},
        QuotaReached,
        "PlatformThrottled",
    ),
    (400, {"code": "UserError", "message": "You do not have enough vCPU quota."}, QuotaReached, "PlatformThrottled"),
    # A name is no quota: waiting would never end.
    (400, {"code": "UserError", "message": "quota-team/compute 'x' is unknown."}, Refused, "RequestRefused"),
    (409, {"code": "Conflict", "message": "another operation is in progress"}, Unreachable, "PlatformUnreachable"),
    (412, {"code": "PreconditionFailed", "message": "changed"}, Unreachable, "PlatformUnreachable"),
    (408, {"code": "ServerTimeout", "message": "slow"}, Unreachable, "PlatformUnreachable"),
    (400, {"code": "ServiceError", "message": "InternalServerError"}, Unreachable, "PlatformUnreachable"),
]


@pytest.mark.parametrize(("status", "error", "kind", "reason"), CASES)
def test_each_refusal_is_told_apart(status: int, error: dict[str, Any], kind: type[PlatformError], reason: str) -> None:
    found = refused(status, error)
    assert (type(found), found.reason) == (kind, reason)
    assert error["message"] in found.message


@pytest.mark.parametrize("key", ["innerError", "innererror"])
def test_codes_are_found_however_they_are_nested(key: str) -> None:
    error = {"code": "UserError", "message": "x", key: {"code": "BadArgument", key: {"code": "Immutable"}}}
    assert refused(400, error).reason == "AlreadyExists"
    assert refused(400, {"code": "BadRequest", "message": "x", "details": [error]}).reason == "AlreadyExists"


def test_a_quota_is_asked_again_when_the_service_says() -> None:
    error = {"code": "QuotaExceeded", "message": "all cores are in use"}
    for headers, seconds in (({}, 60.0), ({"Retry-After": "7"}, 7.0)):
        found = refused(400, error, **headers)
        assert isinstance(found, QuotaReached)
        assert found.retry_after == seconds


def test_a_missing_right_is_told_with_the_command_that_gives_it() -> None:
    object_id = "11111111-2222-3333-4444-555555555555"
    words = (
        f"The client 'app' with object id '{object_id}' does not have authorization to perform action "
        f"'Microsoft.MachineLearningServices/workspaces/jobs/write' over scope '{WS}/jobs/ty-1' or the scope is"
        " invalid."
    )
    found = refused(403, {"code": "AuthorizationFailed", "message": words})
    command = f'az role assignment create --assignee {object_id} --role "AzureML Data Scientist" --scope {WS}.'
    assert command in found.message


def test_a_refusal_of_the_workspaces_services_names_the_role_as_well() -> None:
    found = refused(403, {"code": "UserError", "message": "forbidden"}, f"{HISTORY}/runs/ty-1/details")
    assert isinstance(found, Denied)
    assert f'--role "AzureML Data Scientist" --scope {WS}' in found.message


MLFLOW_CODES = [
    (404, "RESOURCE_DOES_NOT_EXIST", Missing),
    (403, "PERMISSION_DENIED", Denied),
    (401, "UNAUTHENTICATED", Unauthenticated),
    (400, "RESOURCE_ALREADY_EXISTS", Refused),
    (400, "INVALID_PARAMETER_VALUE", Refused),
]


@pytest.mark.parametrize(("status", "code", "kind"), MLFLOW_CODES)
def test_mlflows_own_shape_is_read_too(status: int, code: str, kind: type[PlatformError]) -> None:
    body = json.dumps({"error_code": code, "message": "said"}).encode()
    found = DIALECT.error(Answer("GET", f"{MLFLOW}/runs/get", status, {}, body, b""))
    assert (type(found), found.message) == (kind, "said")


@pytest.mark.parametrize(
    "body", [b"<html>Sign in</html>", b"", b"[]", b'{"error": "nope"}', b'{"message": "no Route"}']
)
def test_a_404_of_a_proxy_never_passes_for_a_job_that_is_gone(body: bytes) -> None:
    found = DIALECT.error(Answer("GET", f"{ARM}/jobs/ty-1", 404, {}, body, b""))
    assert isinstance(found, Unreachable)


PATHS = [
    (f"{ARM}/jobs/ty-1?api-version=x", "ty-1"),
    (f"{ARM}/jobs/ty-1/cancel", "ty-1"),
    (f"{HISTORY}/runs/ty-1/details", "ty-1"),
    (f"{ARM}/jobs", None),
    (f"{ARM}/computes/cpu", None),
]


@pytest.mark.parametrize(("url", "expected"), PATHS)
def test_the_job_that_a_request_is_about_is_recorded(url: str, expected: str | None) -> None:
    assert DIALECT.remote_id(Answer("GET", url, 200, {}, b"{}", b"")) == expected


STORAGE: list[tuple[int, str, type[PlatformError], str]] = [
    (409, "BlobAlreadyExists", Refused, "BlobAlreadyExists"),
    (404, "BlobNotFound", Missing, "BlobNotFound"),
    (404, "ContainerNotFound", Missing, "ContainerNotFound"),
    (403, "AuthorizationFailure", Denied, "private endpoint"),
    (403, "KeyBasedAuthenticationNotPermitted", Denied, "Keys are disabled"),
    (403, "AuthenticationFailed", Denied, "az ml workspace sync-keys"),
    (403, "AuthorizationPermissionMismatch", Denied, "does not permit"),
    (403, "SomethingNew", Denied, "SomethingNew"),
    (400, "InvalidBlockList", Refused, "InvalidBlockList"),
    (412, "LeaseIdMissing", Unreachable, "LeaseIdMissing"),
]


@pytest.mark.parametrize("in_header", [True, False])
@pytest.mark.parametrize(("status", "code", "kind", "said"), STORAGE)
def test_what_storage_refuses_is_told_with_what_mends_it(
    status: int, code: str, kind: type[PlatformError], said: str, in_header: bool
) -> None:
    xml = f"\ufeff<?xml version='1.0'?><Error><Code>{code}</Code><Message>No.\nRequestId:1\nTime:2</Message></Error>"
    headers, body = ({"x-ms-error-code": code}, b"") if in_header else ({}, xml.encode())
    url = "https://acc.blob.core.windows.net/c/train.py?sig=x"
    found = StorageDialect().error(Answer("PUT", url, status, headers, body, b""))
    assert type(found) is kind
    assert said in found.message
    assert "acc.blob.core.windows.net" in found.message
    assert "sig" not in found.message.replace("signed", "").replace("signs", "")
    assert "RequestId" not in found.message


def test_a_blob_that_is_there_already_is_told_apart() -> None:
    answer = Answer(
        "PUT", "https://a.blob.core.windows.net/c/b", 409, {"x-ms-error-code": "BlobAlreadyExists"}, b"", b""
    )
    assert StorageDialect().error(answer).reason == "AlreadyExists"


def test_a_proxy_before_storage_is_no_verdict() -> None:
    found = StorageDialect().error(Answer("PUT", "https://a.blob.core.windows.net/c/b", 403, {}, b"<html>", b""))
    assert isinstance(found, Unreachable)


ENDPOINT = f"{ARM}/onlineEndpoints/team-a-wine"
DEPLOYMENT = f"{ENDPOINT}/deployments/champion"
UPDATING = "Cannot create a deployment in endpoint team-a-wine because it is in Updating provisioning state."
TAKEN = "There is already an endpoint with this name, Endpoint name needs to be unique within a region."
QUOTA = "Not enough quota available for Standard_DS3_v2 in SubscriptionId s. Current usage/limit: 4/4."
WEIGHT = "Can't delete deployment [champion] with non-zero traffic weight."


def wrapped(*sentences: str) -> dict[str, Any]:
    """What the service behind online endpoints refused, as Azure ML passes it on."""
    problem = json.dumps({"errors": {"": list(sentences)}, "status": 400, "title": "validation errors"})
    detail = {"code": "InferencingClientCallFailed", "message": problem}
    return {"code": "BadRequest", "message": "The request is invalid.", "details": [detail]}


@pytest.mark.parametrize(
    ("method", "url", "status", "error", "kind", "reason"),
    [
        ("PUT", DEPLOYMENT, 409, {"code": "Conflict", "message": "x"}, PlatformBusy, "PlatformBusy"),
        ("PUT", DEPLOYMENT, 400, wrapped(UPDATING), PlatformBusy, "PlatformBusy"),
        ("DELETE", ENDPOINT, 400, {"code": "UserError", "message": UPDATING}, PlatformBusy, "PlatformBusy"),
        ("PUT", ENDPOINT, 400, wrapped(TAKEN), Refused, "EndpointNameTaken"),
        ("PUT", ENDPOINT, 409, {"code": "Conflict", "message": TAKEN}, Refused, "EndpointNameTaken"),
        ("PUT", DEPLOYMENT, 400, wrapped(QUOTA), QuotaReached, "PlatformThrottled"),
        ("DELETE", DEPLOYMENT, 400, wrapped(WEIGHT), Refused, "RequestRefused"),
        ("GET", ENDPOINT, 404, {"code": "ResourceNotFound", "message": "none"}, Missing, "NotFound"),
        ("PUT", ENDPOINT, 403, {"code": "AuthorizationFailed", "message": "no"}, Denied, "PermissionDenied"),
        # A sentence of the kind on another path is none of an endpoint's.
        ("PUT", f"{ARM}/jobs/x", 409, {"code": "Conflict", "message": "x"}, Unreachable, "PlatformUnreachable"),
    ],
)
def test_refusals_of_endpoints_are_told_apart(
    method: str, url: str, status: int, error: dict[str, Any], kind: type[PlatformError], reason: str
) -> None:
    found = DIALECT.error(Answer(method, url, status, {}, json.dumps({"error": error}).encode(), b""))
    assert (type(found), found.reason) == (kind, reason)


def test_what_the_service_behind_endpoints_said_is_told() -> None:
    found = DIALECT.error(Answer("DELETE", DEPLOYMENT, 400, {}, json.dumps({"error": wrapped(WEIGHT)}).encode(), b""))
    assert "non-zero traffic weight" in found.message


@pytest.mark.parametrize(
    "details", [[], [None], [{"message": None}], [{"message": "[1]"}], [{"message": '{"errors": 3}'}], "x"]
)
def test_odd_details_do_no_harm(details: Any) -> None:
    error = {"code": "BadRequest", "message": "The request is invalid.", "details": details}
    found = DIALECT.error(Answer("PUT", ENDPOINT, 400, {}, json.dumps({"error": error}).encode(), b""))
    assert found.message.startswith("The request is invalid.")


def test_the_audit_log_names_the_endpoint() -> None:
    assert DIALECT.remote_id(Answer("PUT", DEPLOYMENT, 200, {}, b"{}", b"")) == "team-a-wine"
