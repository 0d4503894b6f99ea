"""Which API server, as whom and in which namespace: decided as kubectl decides. Used by this package only.

In this order: --kubeconfig, the files in KUBECONFIG, ~/.kube/config, the pod's own ServiceAccount.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config
from kubernetes.config.config_exception import ConfigException

from trainyard.client.errors import Unreachable

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
DEFAULT_NAMESPACE = "default"


@dataclass(frozen=True)
class Access:
    """A way to an API server, and the namespace that is meant when none is named."""

    api: client.ApiClient
    namespace: str


def find_access(context: str | None = None, kubeconfig: str | Path | None = None) -> Access:
    """The access that kubectl would have. Raises Unreachable saying what is missing."""
    settings = client.Configuration()
    try:
        namespace = _load(settings, context, kubeconfig)
    except (ConfigException, OSError, ValueError, yaml.YAMLError) as error:
        raise Unreachable(f"no way to an API server: {error}") from error
    # Every request is sent once; by default urllib3 would repeat it, and write into the log about that.
    settings.retries = False
    return Access(client.ApiClient(settings), namespace)


def _load(settings: Any, context: str | None, kubeconfig: str | Path | None) -> str:
    files = str(Path(kubeconfig).expanduser()) if kubeconfig else _default_files()
    if kubeconfig and not Path(files).is_file():
        raise ValueError(f"kubeconfig {kubeconfig} is not a file")
    if files:
        config.load_kube_config(config_file=files, context=context, client_configuration=settings)  # type: ignore[no-untyped-call]
        contexts, active = config.list_kube_config_contexts(config_file=files)  # type: ignore[no-untyped-call]
        chosen = next(c for c in contexts if c["name"] == context) if context else active
        return chosen["context"].get("namespace") or DEFAULT_NAMESPACE
    if context:
        raise ValueError(f"context {context} was asked for, but there is no kubeconfig")
    try:
        config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
    except ConfigException as error:
        raise ValueError(
            f"there is no kubeconfig (KUBECONFIG, ~/.kube/config), and this is no pod of a cluster ({error})"
        ) from error
    return os.environ.get("POD_NAMESPACE") or _pod_namespace()


def _default_files() -> str:
    """What KUBECONFIG lists, or the file in the home directory; empty if none of them is there."""
    listed = os.environ.get("KUBECONFIG") or "~/.kube/config"
    there = [path for path in listed.split(os.pathsep) if path and Path(path).expanduser().is_file()]
    return os.pathsep.join(there)


def _pod_namespace() -> str:
    return NAMESPACE_FILE.read_text().strip() if NAMESPACE_FILE.is_file() else DEFAULT_NAMESPACE
