"""Starts and stops a real Kubernetes control plane on loopback.

For tests, demos and `make cluster`. Never used by the operator or the sandbox at run time.
"""

from trainyard_localcluster.cluster import LocalCluster
from trainyard_localcluster.errors import BuildError, KubectlError, LocalClusterError, NotLocalError
from trainyard_localcluster.kubeconfig import require_local

__all__ = ["BuildError", "KubectlError", "LocalCluster", "LocalClusterError", "NotLocalError", "require_local"]
