"""Injected faults, as a client of the platform meets them."""

from __future__ import annotations

import json
import os
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import InternalError, TooManyRequests
from databricks.sdk.service import jobs

from trainyard_sandbox.client import SandboxControl

from .conftest import wait_until

ME = "/api/2.0/preview/scim/v2/Me"
SUBMIT = "/api/2.2/jobs/runs/submit"


@pytest.fixture
def get(control: SandboxControl, workspace: WorkspaceClient) -> Callable[..., requests.Response]:
    """GET with one plain attempt: what is on the wire, without the SDK's retries."""
    headers = workspace.config.authenticate()

    def one(path: str, **options: Any) -> requests.Response:
        ca_file = str(control.address.ca_file)
        options = {"timeout": 10, "allow_redirects": False} | options
        return requests.get(control.address.host + path, headers=headers, verify=ca_file, **options)

    return one


def submission(principal: str, token: str) -> dict[str, Any]:
    return {
        "run_name": "faulty",
        "idempotency_token": token,
        "tasks": [
            {
                "task_key": "a",
                "environment_key": "default",
                "spark_python_task": {"python_file": f"/Users/{principal}/a.py"},
            }
        ],
        "environments": [{"environment_key": "default", "spec": {"environment_version": "5"}}],
    }


def post_over_a_bare_socket(control: SandboxControl, workspace: WorkspaceClient, document: dict[str, Any]) -> bytes:
    """One submit with TLS done by hand: Python's own TLS sockets report a reset as an orderly end."""
    body = json.dumps(document).encode()
    headers = "".join(f"{name}: {value}\r\n" for name, value in workspace.config.authenticate().items())
    head = f"POST {SUBMIT} HTTP/1.1\r\nHost: sandbox\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context(cafile=str(control.address.ca_file))
    tls = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    port = int(control.address.host.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:

        def until_done(step: Callable[[], Any]) -> Any:
            while True:
                try:
                    answer = step()
                except ssl.SSLWantReadError:
                    sock.sendall(outgoing.read())
                    received = sock.recv(65536)
                    assert received, "the connection was closed in order"
                    incoming.write(received)
                else:
                    sock.sendall(outgoing.read())
                    return answer

        until_done(tls.do_handshake)
        until_done(lambda: tls.write(head.encode() + body))
        answer: bytes = until_done(lambda: tls.read(65536))
        return answer


def test_a_429_carries_its_retry_after_and_hits_as_often_as_said(
    control: SandboxControl, get: Callable[..., requests.Response]
) -> None:
    control.add_fault("status", ME, status=429, retry_after="7", times=2)
    answers = [get(ME) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert answers[0].headers["Retry-After"] == "7"
    assert answers[0].json()["error_code"] == "REQUEST_LIMIT_EXCEEDED"
    assert control.faults()[0]["hits"] == 2


def test_the_sdk_maps_injected_statuses_to_its_exceptions(control: SandboxControl, workspace: WorkspaceClient) -> None:
    control.add_fault("status", ME, status=500)
    with pytest.raises(InternalError):
        workspace.current_user.me()
    control.add_fault("status", ME, status=429, retry_after="1", times=0)
    with pytest.raises((TooManyRequests, TimeoutError)):
        workspace.current_user.me()


def test_a_reset_before_the_effect_leaves_no_effect(
    control: SandboxControl, workspace: WorkspaceClient, principal: str
) -> None:
    control.add_script(run_name="faulty", states=[("RUNNING", 600)])
    control.add_fault("reset", SUBMIT, method="POST")
    runs_before = len(control.runs())
    with pytest.raises(ConnectionResetError):
        post_over_a_bare_socket(control, workspace, submission(principal, os.urandom(8).hex()))
    assert len(control.runs()) == runs_before
    [entry] = control.requests(path=SUBMIT, since=control.requests()[-2]["sequence"])
    assert entry["status"] is None
    assert entry["fault"] == "reset"


def test_a_reset_after_the_effect_is_answered_by_the_same_run_on_retry(
    control: SandboxControl, workspace: WorkspaceClient, principal: str
) -> None:
    control.add_script(run_name="faulty", states=[("RUNNING", 600)])
    control.add_fault("reset", SUBMIT, method="POST", after_effect=True)
    before = {run["run_id"] for run in control.runs()}
    # The SDK posts a dropped submit again by itself.
    answer = workspace.api_client.do("POST", SUBMIT, body=submission(principal, os.urandom(8).hex()))
    assert isinstance(answer, dict)
    new = {run["run_id"] for run in control.runs()} - before
    assert new == {str(answer["run_id"])}
    assert [entry["status"] for entry in control.requests(path=SUBMIT)][-2:] == [None, 200]


def test_a_500_after_the_effect_keeps_only_the_answer_back(
    control: SandboxControl, workspace: WorkspaceClient, principal: str
) -> None:
    control.add_script(run_name="faulty", states=[("RUNNING", 600)])
    control.add_fault("status", SUBMIT, status=500, after_effect=True)
    before = len(control.runs())
    with pytest.raises(InternalError):
        workspace.api_client.do("POST", SUBMIT, body=submission(principal, os.urandom(8).hex()))
    assert len(control.runs()) == before + 1


def test_a_hang_lasts_until_it_is_released(control: SandboxControl, get: Callable[..., requests.Response]) -> None:
    fault = control.add_fault("hang", ME)
    with pytest.raises(requests.ReadTimeout):
        get(ME, timeout=0.5)
    control.release(fault)
    control.add_fault("hang", ME, seconds=0.3)
    began = time.monotonic()
    assert get(ME).status_code == 200
    assert time.monotonic() - began >= 0.3


def test_a_slow_body_takes_its_time_after_the_headers(
    control: SandboxControl, get: Callable[..., requests.Response]
) -> None:
    control.add_fault("slow_body", ME, seconds=0.6)
    answer = get(ME, stream=True)
    began = time.monotonic()
    assert answer.json()["userName"]
    assert time.monotonic() - began > 0.3


def test_malformed_json_and_redirects_are_answered_as_such(
    control: SandboxControl, get: Callable[..., requests.Response]
) -> None:
    control.add_fault("malformed_json", ME)
    with pytest.raises(requests.JSONDecodeError):
        get(ME).json()
    control.add_fault("redirect", ME, location="https://elsewhere.example/")
    answer = get(ME)
    assert (answer.status_code, answer.headers["Location"]) == (307, "https://elsewhere.example/")


def test_a_host_can_point_its_token_endpoint_elsewhere(
    control: SandboxControl, principal: str, client_for: Callable[..., WorkspaceClient]
) -> None:
    control.override_discovery(oidc={"token_endpoint": "https://127.0.0.1:9/oidc/v1/token"})
    client = client_for(control, principal)
    assert client.config.databricks_oidc_endpoints is not None
    assert client.config.databricks_oidc_endpoints.token_endpoint == "https://127.0.0.1:9/oidc/v1/token"
    control.override_discovery(metadata={"oidc_endpoint": "https://127.0.0.1:9/oidc"})
    answer = requests.get(
        f"{control.address.host}/.well-known/databricks-config", verify=str(control.address.ca_file), timeout=5
    )
    assert answer.json()["oidc_endpoint"] == "https://127.0.0.1:9/oidc"


def test_a_run_deleted_behind_our_back_is_gone_and_its_token_taken(
    control: SandboxControl, workspace: WorkspaceClient, principal: str
) -> None:
    control.add_script(run_name="faulty", states=[("RUNNING", 600)])
    body = submission(principal, os.urandom(8).hex())
    answer = workspace.api_client.do("POST", SUBMIT, body=body)
    assert isinstance(answer, dict)
    paid = control.paid_runs()
    control.delete_run(answer["run_id"])
    assert control.paid_runs() == paid
    with pytest.raises(Exception, match="does not exist"):
        workspace.jobs.get_run(answer["run_id"])
    with pytest.raises(Exception, match="deleted"):
        workspace.api_client.do("POST", SUBMIT, body=body)


def test_a_run_can_show_a_state_nobody_has_heard_of(
    control: SandboxControl, workspace: WorkspaceClient, principal: str
) -> None:
    control.add_script(run_name="faulty", states=[("RUNNING", 600)])
    answer = workspace.api_client.do("POST", SUBMIT, body=submission(principal, os.urandom(8).hex()))
    assert isinstance(answer, dict)
    control.show_state(answer["run_id"], "HIBERNATING")
    raw = workspace.api_client.do("GET", "/api/2.2/jobs/runs/get", query={"run_id": answer["run_id"]})
    assert isinstance(raw, dict)
    assert raw["state"]["life_cycle_state"] == raw["status"]["state"] == "HIBERNATING"
    control.show_state(answer["run_id"], None)
    run = workspace.jobs.get_run(answer["run_id"])
    assert run.state is not None
    assert run.state.life_cycle_state is jobs.RunLifeCycleState.RUNNING


def test_a_fault_on_the_token_endpoint_hits_the_exchange(
    control: SandboxControl, principal: str, client_for: Callable[..., WorkspaceClient]
) -> None:
    client = client_for(control, principal)
    control.add_fault("status", "/oidc/v1/token", method="POST", status=503, times=1)
    with pytest.raises(Exception, match="temporarily_unavailable"):
        client.current_user.me()
    assert wait_until(lambda: client.current_user.me().user_name) == principal
