"""Everything one sandbox knows, at `request.app.state.sandbox`; nothing here does I/O.

server.py builds it once; platform modules read it, the control API changes it. What another module owns (files,
catalog, MLflow) hangs here under a protocol, so that no module imports another's internals.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from starlette.requests import Request

from trainyard_sandbox.azure.state import AzureState
from trainyard_sandbox.compute import Compute
from trainyard_sandbox.engine.saved_jobs import JobStore
from trainyard_sandbox.oauth_secrets import OAuthSecrets
from trainyard_sandbox.principals import Directory, Principal
from trainyard_sandbox.secret_scopes import SecretScopes
from trainyard_sandbox.serving.fleet import Fleet
from trainyard_sandbox.tokens import TokenStore

if TYPE_CHECKING:
    from trainyard_sandbox.engine.runs import RunStore
    from trainyard_sandbox.faults import FaultPlan
    from trainyard_sandbox.issuers import IssuerTrust
    from trainyard_sandbox.request_log import RequestLog


class WorkspaceFiles(Protocol):
    """What the run engine needs of the workspace's files."""

    def read(self, path: str, principal: Principal) -> bytes:
        """Content of the file at an absolute workspace path, as `principal` may read it.

        Raises:
            ApiError: 404 RESOURCE_DOES_NOT_EXIST or 403 PERMISSION_DENIED.
        """
        ...

    def notebook(self, path: str, principal: Principal) -> tuple[bytes, str]:
        """Content (source or ipynb) and language of the notebook at an absolute workspace path.

        Raises:
            ApiError: as `read`; 400 when it is no notebook.
        """
        ...

    def beside(self, path: str, principal: Principal) -> dict[str, bytes]:
        """Contents by name of all files in the file's folder that `principal` may see, itself included.

        Raises:
            ApiError: as `read`.
        """
        ...

    def below(self, path: str, principal: Principal) -> dict[str, bytes]:
        """Contents by relative path of all files below the folder that `principal` may see; none if it is no folder.

        Raises:
            ApiError: 400, it is not an absolute path.
        """
        ...


class VolumeFiles(Protocol):
    """What the run engine needs of Unity Catalog's volumes."""

    def read(self, path: str, principal: Principal) -> bytes:
        """Content of the file at a path /Volumes/<catalog>/<schema>/<volume>/..., as `principal` may read it.

        Raises:
            ApiError: 404 NOT_FOUND or 403 PERMISSION_DENIED.
        """
        ...

    def environment(self, principal: Principal) -> dict[str, str]:
        """The environment variables by which a run's code reaches /Volumes as `principal`; see `volume_paths/`."""
        ...


@dataclass
class HostOverrides:
    """What the control API makes the discovery documents say instead of the truth (a hostile or broken host)."""

    metadata: dict[str, Any] | None = None
    oidc: dict[str, Any] | None = None


@dataclass
class SandboxState:
    """One sandbox. `base_url` and `account_url` are set once the ports are bound, before the first request."""

    data_dir: Path
    ca_file: Path
    directory: Directory
    tokens: TokenStore
    faults: FaultPlan
    request_log: RequestLog
    issuers: IssuerTrust
    runs: RunStore
    base_url: str = ""
    account_url: str = ""
    workspace_id: str = field(default_factory=lambda: str(secrets.randbelow(9 * 10**15) + 10**15))
    account_id: str = ""
    max_token_lifetime_seconds: float = 3600.0
    clock_offset_seconds: float = 0.0
    overrides: HostOverrides = field(default_factory=HostOverrides)
    engine: Any = None
    azure: AzureState = field(init=False)
    compute: Compute = field(init=False)
    secret_scopes: SecretScopes = field(init=False)
    oauth_secrets: OAuthSecrets = field(init=False)
    jobs: JobStore = field(init=False)
    serving: Fleet = field(init=False)
    files: WorkspaceFiles | None = None
    securables: Any = None
    catalog: Any = None
    volumes: VolumeFiles | None = None
    tables: Any = None
    mlflow: Any = None
    model_serving: Any = None
    on_startup: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    on_shutdown: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.azure = AzureState(self.data_dir / "azure", self.now)
        self.compute = Compute(self.now)
        self.secret_scopes = SecretScopes(self.now)
        self.oauth_secrets = OAuthSecrets(self.now)
        self.jobs = JobStore(self.now)
        self.serving = Fleet(self.data_dir / "serving", self.now)

    @property
    def account_issuer(self) -> str:
        """The OIDC endpoint of the account's host."""
        return f"{self.account_url}/oidc/accounts/{self.account_id}"

    @property
    def azure_url(self) -> str:
        """The one origin of all Azure planes; set once the port is bound."""
        return self.azure.url

    def now(self) -> float:
        """Unix seconds of the sandbox's clock, which the control API can set off."""
        return time.time() + self.clock_offset_seconds


def sandbox_state(request: Request) -> SandboxState:
    """The sandbox that serves this request."""
    state = request.app.state.sandbox
    if not isinstance(state, SandboxState):
        raise TypeError("app.state.sandbox is not a SandboxState")
    return state
