"""What an administrator can set, each with its unit and the reason for its default. Read by the CLI."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from trainyard.core.serving.snapshot import ServingLimits
from trainyard.core.snapshot import Limits
from trainyard.identity.modes import IdentitySettings
from trainyard.sources.git import GitLimits


@dataclass(frozen=True, slots=True)
class StorageEndpoints:
    """URLs of what speaks S3 and STS in Amazon's stead, for every workspace; None is Amazon's own of the region."""

    s3: str | None = None
    sts: str | None = None


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """Settings of one operator process."""

    namespaces: tuple[str, ...] = ()
    """Namespaces to watch; empty is all of them."""

    kubeconfig: Path | None = None
    """A kubeconfig file; None is the pod's own ServiceAccount."""

    allowed_hosts: tuple[str, ...] = ()
    """Hosts beyond the public clouds' that assertions may go to (patterns, see identity.hosts)."""

    allowed_token_hosts: tuple[str, ...] = ()
    """Hosts beyond a workspace's own and the public clouds' account hosts that may serve a token endpoint."""

    identity: IdentitySettings = field(default_factory=IdentitySettings)
    """What the identity modes are told; the reasons are in identity.modes."""

    azure_clouds: tuple[Path, ...] = ()
    """Files that each describe a cloud beside Azure's own (see identity.clouds): the only way in which a host beyond
    Microsoft's is ever sent an assertion for Entra, or a token of Azure."""

    poll_seconds: float = 10.0
    """Pause between sweeps of a host and principal. Airflow's own trigger polls each run every 30 s; one sweep for all
    runs costs less than that even at 10 s."""

    workspace_recheck_seconds: float = 300.0
    """Pause between checks of a ready workspace: a revoked policy is noticed within this time."""

    cluster_name: str | None = None
    """What this Kubernetes cluster is called on platforms: in tags, and in the folder of uploads, so that no two
    clusters clean up each other's. None is the uid of the namespace kube-system, which is unique and stays."""

    allowed_git_hosts: tuple[str, ...] = ()
    """Hosts beyond the public forges' that source code may be fetched from (patterns, see identity.hosts)."""

    git_ca_file: Path | None = None
    """Certificates (PEM) that replace the system's when git is asked; None is the system's."""

    git_work_dir: Path | None = None
    """Folder for what is being fetched, of this process alone; None is a fresh one in the system's temporary folder."""

    git_limits: GitLimits = field(default_factory=GitLimits)
    """What one fetch may take; the reasons are in sources.git."""

    log_characters: int = 65_536
    """Characters of each task's log in the MLRunLog: the last few hundred lines, which is where errors are. 0 makes no
    MLRunLog."""

    storage: StorageEndpoints = field(default_factory=StorageEndpoints)
    """Where logDestinations are asked."""

    log_format: Literal["json", "console"] = "json"
    """json for collectors, console for people."""

    audit_file: str = "-"
    """Where audit records go: a path, or - for stdout (logs go to stderr)."""

    liveness_port: int | None = None
    """Port of /healthz; None is no endpoint."""

    metrics_port: int | None = None
    """Port of /metrics; None is no endpoint."""

    limits: Limits = field(default_factory=Limits)
    """How long the rules of runs wait."""

    serving: ServingLimits = field(default_factory=ServingLimits)
    """How long the rules of deployments wait. An endpoint that moves is looked at every 10 s, as runs are. One that is
    as it should be, every 60 s: what a person or the platform changed is told within a minute, and the most endpoints
    that a region takes (Azure ML: 100) are less than four requests a second."""
