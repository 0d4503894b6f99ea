"""The sandbox as a program: what it writes, where it listens, what stays behind, and its control API."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest
import requests
from databricks.sdk import WorkspaceClient

from trainyard_sandbox.client import ControlError, SandboxAddress, SandboxControl

from .conftest import wait_until


def test_it_listens_on_loopback_only_and_keeps_everything_in_its_directory(sandbox: SandboxControl) -> None:
    process = psutil.Process(sandbox.address.pid)
    listening = [entry for entry in process.net_connections() if entry.status == psutil.CONN_LISTEN]
    assert {entry.laddr.ip for entry in listening} == {"127.0.0.1"}
    directory = sandbox.address.ca_file.parent
    assert "PRIVATE KEY" not in "".join(
        path.read_text(errors="ignore") for path in directory.rglob("*.pem") if path.is_file()
    )


def test_sandbox_json_tells_where_everything_is_and_goes_away_with_the_sandbox(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "trainyard_sandbox.cli", "serve", "--dir", str(tmp_path), "--engine", "pretend"]
    process = subprocess.Popen([*command, "--lazy-mlflow"])
    SandboxAddress.wait_for(tmp_path / "sandbox.json")
    document = json.loads((tmp_path / "sandbox.json").read_text())
    assert document["pid"] == process.pid
    assert set(document["databricks"]) == {"host", "accountHost", "workspaceId", "accountId"}
    assert set(document["control"]) == {"url"}
    assert document["databricks"]["host"] != document["control"]["url"]
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert not (tmp_path / "sandbox.json").exists()
    wait_until(lambda: not any(child.is_running() for child in children), 10)


def test_mlflow_answers_at_once_when_the_sandbox_says_ready(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "trainyard_sandbox.cli", "serve", "--dir", str(tmp_path)]
    process = subprocess.Popen(command)
    try:
        SandboxAddress.wait_for(tmp_path / "sandbox.json", 120)
        children = psutil.Process(process.pid).children(recursive=True)
        with SandboxControl(tmp_path / "sandbox.json") as control:
            token = control.issue_token(control.add_principal("trainer"))
            answer = requests.post(
                f"{control.address.host}/api/2.0/mlflow/experiments/search",
                json={"max_results": 1},
                headers={"Authorization": f"Bearer {token}"},
                verify=str(control.address.ca_file),
                timeout=2,
            )
        assert answer.status_code == 200
    finally:
        process.terminate()
        process.wait(30)
    wait_until(lambda: not any(child.is_running() for child in children), 10)


def test_the_control_api_is_not_on_the_platforms_host(control: SandboxControl, workspace: WorkspaceClient) -> None:
    headers = workspace.config.authenticate()
    for path in ("/principals", "/tokens", "/runs", "/faults", "/requests"):
        answer = requests.get(
            control.address.host + path, headers=headers, verify=str(control.address.ca_file), timeout=10
        )
        assert answer.status_code == 404
        assert answer.json()["error_code"] == "ENDPOINT_NOT_FOUND"


def test_a_client_without_the_sandboxs_ca_is_not_served(sandbox: SandboxControl) -> None:
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(sandbox.address.host, trust_env=False)


def test_every_token_it_issued_is_listed(control: SandboxControl, workspace: WorkspaceClient) -> None:
    [_, shown] = workspace.config.authenticate()["Authorization"].split()
    assert shown in [token["value"] for token in control.tokens()]
    assert len(shown.split(".")) == 3


def test_what_the_control_api_does_not_know_is_refused(control: SandboxControl) -> None:
    with pytest.raises(ControlError, match="unknown field 'colour'"):
        control.call("POST", "/principals", {"colour": "blue"})
    with pytest.raises(ControlError, match="entitlements"):
        control.add_principal("a", entitlements=["everything"])
    with pytest.raises(ControlError, match="kind"):
        control.add_fault("earthquake", "/.*")
    with pytest.raises(ControlError, match="regular expression"):
        control.add_fault("reset", "(")
    with pytest.raises(ControlError, match="https"):
        control.add_policy(control.add_principal("b"), "http://issuer", "sub")
    with pytest.raises(ControlError, match="no CA certificate"):
        control.trust_issuer("https://issuer", Path("/nowhere.pem"))


def test_a_principal_has_at_most_20_federation_policies(control: SandboxControl) -> None:
    application_id = control.add_principal("many")
    for number in range(20):
        control.add_policy(application_id, f"https://issuer-{number}", "sub")
    with pytest.raises(ControlError, match="At most 20"):
        control.add_policy(application_id, "https://issuer-20", "sub")


def test_a_clock_set_forward_expires_tokens(
    control: SandboxControl, principal: str, client_for: Callable[..., WorkspaceClient]
) -> None:
    client = client_for(control, principal, lifetime=600)
    client.current_user.me()
    control.settings(clock_offset_seconds=601.0)
    with pytest.raises(Exception, match="expired"):
        client.current_user.me()
