"""Says which etcd, kube-apiserver and kube-controller-manager to run.

Called by `cluster` and the pytest plugin. Honours KUBEBUILDER_ASSETS, as envtest does; otherwise builds.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from trainyard_localcluster.build import PROGRAMS, built_programs
from trainyard_localcluster.errors import BuildError

ASSETS = "KUBEBUILDER_ASSETS"


@dataclass(frozen=True)
class Programs:
    etcd: Path
    apiserver: Path
    controller_manager: Path


def find_programs() -> Programs:
    """The three programs, compiled first where need be. Raises BuildError with what to install or set."""
    assets = os.environ.get(ASSETS)
    folder = Path(assets) if assets else built_programs()
    if assets:
        missing = [name for name in PROGRAMS if not os.access(folder / name, os.X_OK)]
        if missing:
            raise BuildError(
                f"{ASSETS} is {folder}, where {' and '.join(missing)} cannot be found or executed. envtest's own "
                "archives lack kube-controller-manager, without which there is no garbage collection and namespaces "
                f"are never deleted: put it beside the others, or unset {ASSETS} to build all three."
            )
    etcd, apiserver, controller_manager = ((folder / name).absolute() for name in PROGRAMS)
    return Programs(etcd, apiserver, controller_manager)
