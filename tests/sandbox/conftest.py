"""A served sandbox, a federated principal and the unmodified databricks-sdk, for every test of the sandbox.

The sandbox runs as its users run it: as the command, in a process of its own.
"""

from __future__ import annotations

import base64
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.config import Config
from databricks.sdk.core import credentials_strategy
from databricks.sdk.credentials_provider import oidc_credentials_provider
from databricks.sdk.oidc import IdToken, IdTokenSource
from databricks.sdk.service import jobs as sdk_jobs
from databricks.sdk.service.workspace import ImportFormat

from stand import die_with_parent
from trainyard_sandbox.client import SandboxAddress, SandboxControl

from .azure_fixtures import ARM_LIMITS, arm, azure_credential, connect_here, data_scientist, ml_client  # noqa: F401
from .issuer import TestIssuer

AUDIENCE = "https://trainyard.test/databricks"
SUBJECT = "system:serviceaccount:team-a:trainer"


class Assertions(IdTokenSource):
    """Signs a fresh assertion at each exchange, as a TokenRequest does."""

    def __init__(self, issuer: TestIssuer, subject: str, audience: str, lifetime: float) -> None:
        self._issuer, self._subject, self._audience, self._lifetime = issuer, subject, audience, lifetime

    def id_token(self) -> IdToken:
        return IdToken(self._issuer.assertion(self._subject, self._audience, self._lifetime))


@pytest.fixture(scope="session")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestIssuer]:
    with TestIssuer(tmp_path_factory.mktemp("issuer")) as running:
        yield running


@pytest.fixture(scope="session")
def serve(
    tmp_path_factory: pytest.TempPathFactory, issuer: TestIssuer
) -> Iterator[Callable[..., tuple[SandboxControl, subprocess.Popen[bytes]]]]:
    """Start further sandboxes: `serve("--engine", "pretend")`; all are stopped at the end."""
    started: list[tuple[SandboxControl, subprocess.Popen[bytes]]] = []

    def start(*arguments: str) -> tuple[SandboxControl, subprocess.Popen[bytes]]:
        directory = tmp_path_factory.mktemp("sandbox")
        command = [sys.executable, "-m", "trainyard_sandbox.cli", "serve", "--lazy-mlflow", "--dir", str(directory)]
        trust = ["--trust-issuer", f"{issuer.url}={issuer.ca_file}"]
        # A test run that is interrupted may never come to the end below.
        process = subprocess.Popen([*command, *trust, *arguments], preexec_fn=die_with_parent)
        SandboxAddress.wait_for(directory / "sandbox.json")
        started.append((SandboxControl(directory / "sandbox.json"), process))
        return started[-1]

    yield start
    for control, process in started:
        control.close()
        process.terminate()
        assert process.wait(30) in (0, -9)


@pytest.fixture(scope="session")
def sandbox(serve: Callable[..., tuple[SandboxControl, subprocess.Popen[bytes]]]) -> SandboxControl:
    """The session's sandbox, with the run engine."""
    return serve()[0]


@pytest.fixture
def control(sandbox: SandboxControl) -> Iterator[SandboxControl]:
    """The session's sandbox without faults, scripts or overrides."""
    yield sandbox
    sandbox.clear_faults()
    sandbox.clear_scripts()
    sandbox.clear_azure_scripts()
    sandbox.override_discovery()
    sandbox.settings(max_token_lifetime_seconds=3600.0, clock_offset_seconds=0.0)
    sandbox.azure_settings(token_lifetime_seconds=3599.0, limits=ARM_LIMITS)


@pytest.fixture
def principal(control: SandboxControl, issuer: TestIssuer) -> str:
    """A service principal that may use the workspace and create clusters, federated with `SUBJECT`."""
    application_id = control.add_principal("trainer", entitlements=["workspace-access", "allow-cluster-create"])
    control.add_policy(application_id, issuer.url, SUBJECT, [AUDIENCE])
    return application_id


@pytest.fixture
def client_for(issuer: TestIssuer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., WorkspaceClient]:
    """Build an SDK client for a principal of a sandbox: `client_for(control, application_id)`."""

    def build(
        control: SandboxControl,
        application_id: str | None,
        *,
        subject: str = SUBJECT,
        audience: str = AUDIENCE,
        lifetime: float = 600,
    ) -> WorkspaceClient:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(control.address.ca_file))

        @credentials_strategy("federated", [])  # type: ignore[untyped-decorator]
        def federated(cfg: Config) -> Any:
            return oidc_credentials_provider(cfg, Assertions(issuer, subject, audience, lifetime))

        config = Config(
            host=control.address.host,
            client_id=application_id,
            credentials_strategy=federated,
            retry_timeout_seconds=5,
            http_timeout_seconds=60,  # the first request that needs MLflow waits until it has started
        )
        return WorkspaceClient(config=config)

    return build


@pytest.fixture
def workspace(control: SandboxControl, principal: str, client_for: Callable[..., WorkspaceClient]) -> WorkspaceClient:
    """The unmodified SDK, signed in as `principal`."""
    return client_for(control, principal)


@pytest.fixture
def upload(workspace: WorkspaceClient, principal: str, tmp_path: Path) -> Callable[..., str]:
    """Put Python source into the principal's home folder; returns its workspace path."""

    def put(source: str, name: str = f"{tmp_path.name}.py") -> str:
        path = f"/Users/{principal}/{name}"
        content = base64.b64encode(source.encode()).decode()
        workspace.workspace.import_(path, content=content, format=ImportFormat.RAW, overwrite=True)
        return path

    return put


def wait_until(condition: Callable[[], Any], timeout_seconds: float = 30, every: float = 0.02) -> Any:
    """The first truthy answer of `condition`; fails the test when there is none in time."""
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        answer = condition()
        if answer:
            return answer
        time.sleep(every)
    raise AssertionError(f"no answer in {timeout_seconds} s")


def ended(workspace: WorkspaceClient, run_id: int, timeout_seconds: float = 30) -> sdk_jobs.Run:
    """The run once it has a result or is skipped."""

    def look() -> sdk_jobs.Run | None:
        run = workspace.jobs.get_run(run_id)
        assert run.status is not None
        return run if run.status.state is sdk_jobs.RunLifecycleStateV2State.TERMINATED else None

    found: sdk_jobs.Run = wait_until(look, timeout_seconds)
    return found
