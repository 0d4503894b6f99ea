"""The exception tree of the local control plane, drawn once.

LocalClusterError
├── BuildError       the control plane's binary cannot be had: no Go, no network, no disk, a compile error
├── AlreadyRunning   another control plane lives in the directory
├── PortTaken        somebody took a port between our choosing it and our binding it (retried inside)
├── NotLocalError    a kubeconfig that this tool did not make, or that leads away from this machine
└── KubectlError     kubectl ended with a failure
"""

from __future__ import annotations

from collections.abc import Sequence


class LocalClusterError(Exception):
    """Anything that keeps the local control plane from doing what was asked; the text says what to do."""


class BuildError(LocalClusterError):
    """The control plane's binary is not there and cannot be built."""


class AlreadyRunning(LocalClusterError):
    """The directory belongs to a control plane that is running."""


class PortTaken(LocalClusterError):
    """A chosen port was taken by somebody else before our process could bind it."""


class NotLocalError(LocalClusterError):
    """The kubeconfig was not made by this tool or does not point at loopback."""


class KubectlError(LocalClusterError):
    """kubectl ended with a failure; carries its exit code and what it wrote to stderr."""

    def __init__(self, arguments: Sequence[str], returncode: int, stderr: str) -> None:
        super().__init__(f"kubectl {' '.join(arguments)} ended with {returncode}: {stderr.strip()}")
        self.returncode = returncode
        self.stderr = stderr
