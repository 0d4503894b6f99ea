"""What the crash tests stand on: requests that mean the same have one name, and the proxy can stand before Azure."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest

from tests.crash.mirror import Mirror
from tests.crash.points import Class, classify

WS = "/subscriptions/0000/resourceGroups/rg/providers/Microsoft.MachineLearningServices/workspaces/ws"
JSON = [("Content-Type", "application/json; charset=utf-8")]
FORM = [("Content-Type", "application/x-www-form-urlencoded")]


def scope(resource: str) -> bytes:
    return urlencode({"client_id": "c", "scope": f"{resource}/.default"}).encode()


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("PUT", f"{WS}/jobs/ty-1", b"{}", ("/workspaces/*/jobs/*", "")),
        ("PATCH", f"/history{WS}/experiments/e/runs/r", b"{}", ("/history/workspaces/*/experiments/*/runs/*", "")),
        ("POST", f"{WS}/jobs/ty-1/cancel", b"", ("/workspaces/*/jobs/*/cancel", "")),
        ("PUT", f"{WS}/codes/1-2/versions/1", b"{}", ("/workspaces/*/codes/*/versions/*", "")),
        ("GET", f"/history/v1.0{WS}/runs/ty-1/details", b"", ("/history/v1.0/workspaces/*/runs/*/details", "")),
        ("GET", f"/mlflow/v1.0{WS}/api/runs/get", b"", ("/mlflow/v1.0/workspaces/*/api/runs/get", "")),
        ("PUT", "/blob/account/container/main.py", b"not json", ("/blob/*", "")),
        ("POST", "/tenant/oauth2/v2.0/token", scope("https://ml.azure.com"), ("/*/oauth2/v2.0/token", "data plane")),
        ("POST", "/tenant/oauth2/v2.0/token", scope("https://x"), ("/*/oauth2/v2.0/token", "resource manager")),
    ],
)  # fmt: skip
def test_requests_to_azure_are_named_without_what_is_new_each_time(
    method: str, path: str, body: bytes, expected: tuple[str, str]
) -> None:
    assert classify("azureml", method, path, body) == Class("azureml", method, *expected)


def test_looking_at_a_blob_is_no_write() -> None:
    assert classify("azureml", "HEAD", "/blob/account/container/main.py", b"").reads


def test_a_server_that_tells_its_address_is_found_again_through_the_proxy() -> None:
    mirror = Mirror("127.0.0.1:1111", "127.0.0.1:22222")
    told = json.dumps({"uri": "azureml://127.0.0.1:1111/mlflow", "next": "?u=https%3A%2F%2F127.0.0.1%3A1111"})
    shown, headers = mirror.outward(told.encode(), [*JSON, ("Location", "https://127.0.0.1:1111/x")])
    assert shown.decode() == told.replace(":1111/mlflow", ":22222/mlflow").replace("%3A1111", "%3A22222")
    assert headers[-1] == ("Location", "https://127.0.0.1:22222/x")
    assert mirror.inward(shown, JSON) == told.encode(), "what is echoed has to be what the server said"


def test_a_sign_in_asks_for_the_server_by_its_own_name() -> None:
    mirror = Mirror("127.0.0.1:1111", "127.0.0.1:22222")
    assert mirror.inward(scope("https://127.0.0.1:22222"), FORM) == scope("https://127.0.0.1:1111")


def test_files_pass_as_they_are() -> None:
    mirror, log = Mirror("127.0.0.1:1111", "127.0.0.1:22222"), b"tracking at 127.0.0.1:1111"
    assert mirror.outward(log, [("Content-Type", "text/plain")])[0] == log
    assert mirror.inward(b"127.0.0.1:22222", [("Content-Type", "application/octet-stream")]) == b"127.0.0.1:22222"
