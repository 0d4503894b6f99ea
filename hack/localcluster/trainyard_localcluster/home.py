"""The directory of one control plane: what in it is ours, who holds it, and how it is emptied.

Called by `cluster` and the command line. Never overwrites or removes what this tool did not make.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainyard_localcluster.errors import AlreadyRunning, LocalClusterError, NotLocalError
from trainyard_localcluster.kubeconfig import require_local

END_SECONDS = 30.0
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Home:
    """Paths under a control plane's directory: the kubeconfig, and one folder with everything else."""

    dir: Path

    @property
    def kubeconfig(self) -> Path:
        return self.dir / "kubeconfig"

    @property
    def inner(self) -> Path:
        return self.dir / "controlplane"

    @property
    def logs(self) -> Path:
        return self.inner / "logs"

    @property
    def pki(self) -> Path:
        return self.inner / "pki"

    @property
    def etcd_data(self) -> Path:
        return self.inner / "etcd"

    @property
    def audit_log(self) -> Path:
        return self.inner / "audit.log"

    @property
    def state(self) -> Path:
        return self.inner / "cluster.json"

    @property
    def lock(self) -> Path:
        """Held (flock) by the supervisor for as long as it lives, and contains its process id.

        It lies beside the folder, not in it, so that it can be the last to go: that it is there says the rest is ours.
        """
        return self.dir / ".controlplane.lock"

    @property
    def owned(self) -> list[Path]:
        """What a start makes, in the order in which it is to be removed."""
        return [self.kubeconfig, self.inner, self.lock]

    def claim(self) -> int:
        """Make the directory ours and empty of leftovers; returns the descriptor of the lock, for the supervisor.

        Raises AlreadyRunning when a control plane lives here and LocalClusterError when something else is in the way.
        """
        self._refuse_foreign()
        self.dir.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o600)
            if not try_lock(descriptor):
                os.close(descriptor)
                raise AlreadyRunning(
                    f"a control plane is running in {self.dir}: `trainyard-localcluster stop {self.dir}` ends it"
                )
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(descriptor).st_ino == self.lock.stat().st_ino:
                    break
            os.close(descriptor)  # its last holder has just removed it: once more
        os.truncate(descriptor, 0)
        if self.inner.exists():
            shutil.rmtree(self.inner)
        self.kubeconfig.unlink(missing_ok=True)
        self.inner.mkdir(mode=0o700)
        return descriptor

    def running_pid(self) -> int | None:
        """The supervisor's process id when one holds the lock."""
        with self._opened_lock() as descriptor:
            if descriptor is None or try_lock(descriptor):
                return None
            written = os.read(descriptor, 32).decode().strip()
            if not written:
                raise AlreadyRunning(f"a control plane is being started in {self.dir} right now")
            return int(written)

    def stop(self) -> bool:
        """End the control plane that runs here and remove what is ours; False when none was running."""
        pid = self.running_pid()
        if pid is not None:
            self._end(pid)
        self.remove()
        return pid is not None

    def _end(self, pid: int) -> None:
        with self._opened_lock() as descriptor:
            if descriptor is None:
                return
            with contextlib.suppress(ProcessLookupError):  # it ended since
                os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + END_SECONDS
            while not try_lock(descriptor):
                if time.monotonic() > deadline:
                    raise LocalClusterError(f"the control plane in {self.dir} (process {pid}) did not end on SIGTERM")
                time.sleep(POLL_SECONDS)

    def remove(self) -> None:
        """Remove what is ours, and only that; the directory itself stays."""
        self._refuse_foreign()
        self.kubeconfig.unlink(missing_ok=True)
        if self.inner.exists():
            shutil.rmtree(self.inner)
        self.lock.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _opened_lock(self) -> Iterator[int | None]:
        """A descriptor of the lock; None when there is no such file."""
        try:
            descriptor = os.open(self.lock, os.O_RDWR)
        except FileNotFoundError:
            yield None
            return
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _refuse_foreign(self) -> None:
        if self.kubeconfig.exists():
            try:
                require_local(self.kubeconfig)
            except NotLocalError as error:
                raise LocalClusterError(f"{self.dir} is somebody else's: {error}") from error
        if self.inner.exists() and any(self.inner.iterdir()) and not self.lock.exists():
            raise LocalClusterError(f"{self.inner} was not made by trainyard-localcluster: choose another directory")


def try_lock(descriptor: int) -> bool:
    """Take the lock; False when somebody else holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
