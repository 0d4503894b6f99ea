"""A run's source code from git: what a ref means now, and the files of exactly one commit.

Called by the controllers in threads, never by `core`. It starts the `git` program (and `ssh`) in a bounded process,
keeps what it fetched in memory only, and must never send a credential to another host than its own.
"""

import hashlib
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from trainyard.core.errors import SourceError
from trainyard.sources.credential import GIT_HOST, GitCredential, checked_credential, credential_of
from trainyard.sources.environment import environment, secrets_of
from trainyard.sources.flight import SharedCache
from trainyard.sources.process import Bounds
from trainyard.sources.refs import COMMIT, checked_ref
from trainyard.sources.remote import DEFAULT_GIT_HOSTS, Remote, RemotePolicy, host_of
from trainyard.sources.repository import Git
from trainyard.sources.tree import Selection

__all__ = [
    "DEFAULT_GIT_HOSTS",
    "GIT_HOST",
    "GitCredential",
    "GitFetcher",
    "GitLimits",
    "GitSource",
    "credential_of",
    "host_of",
]

_PREFIX = "fetch-"
# What no push, grant or restart of the host changes: a commit's id is a hash of what it holds.
_SETTLED = frozenset({"GitTooLarge", "GitPathNotFound", "GitEntryRefused"})
Asked = TypeVar("Asked")


@dataclass(frozen=True, slots=True)
class GitSource:
    """Where source code is: a repository, a branch, tag or commit (None: its default branch), a folder (None: all)."""

    url: str
    ref: str | None = None
    path: str | None = None


@dataclass(frozen=True, slots=True)
class GitLimits:
    """What one fetch may take."""

    seconds: float = 60.0
    """For all of it. A commit without history is a few seconds, even of a large repository."""

    fetched_bytes: int = 256 * 1024 * 1024
    """On disk while fetching. With a path only the files below it are fetched, where the host supports that."""

    files: int = 500
    """In the selected folder. Each is a call to upload on some platforms."""

    total_bytes: int = 20 * 1024 * 1024
    """In the selected folder. Source code is small; data belongs into a store for data."""

    memory_bytes: int = 384 * 1024 * 1024
    """Address space of each process of git, which shares the operator's container. 30 MB were enough for 40,000 files;
    a pack of millions of small objects, made to fill memory, is stopped."""

    per_host: int = 2
    """Fetches from one host at a time, so that a host that hangs holds no more threads than these."""

    resolve_seconds: float = 15.0
    """How long an answer to what a ref means is used again: a hundred runs of one push ask once."""

    refused_seconds: float = 60.0
    """How long a fetch that only a person can mend is not tried again: a change of the run or its Secret is another
    fetch. One that time may mend, and any question what a ref means, is asked again after `resolve_seconds`."""

    settled_seconds: float = 600.0
    """The same, for what is wrong with the commit itself, which will never hold anything else."""

    cached_bytes: int = 64 * 1024 * 1024
    """Kept in memory, of files that were fetched."""


class GitFetcher:
    """Fetches source code. Thread-safe.

    Args:
        limits: of each fetch.
        allowed_hosts: `host`, `host:port` or `*.suffix`; nothing else is ever asked.
        work_dir: for what is fetched and, during a fetch over ssh, its key: best in memory (a tmpfs). It belongs to
            this fetcher alone; what a killed predecessor left there is removed.
        ca_file: certificates (PEM) that replace the system's, for forges with a private authority.
        ssh: the ssh program, and words before its options.
        now: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        limits: GitLimits,
        allowed_hosts: Sequence[str],
        work_dir: Path,
        *,
        ca_file: Path | None = None,
        ssh: Sequence[str] = ("ssh",),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._policy = RemotePolicy(allowed_hosts)
        self._work_dir = work_dir
        self._ca_file = ca_file
        self._ssh = ssh
        self._stopping = threading.Event()
        self._slots: dict[str, threading.BoundedSemaphore] = {}
        self._lock = threading.Lock()
        self._salt = secrets.token_bytes(16)
        self._commits: SharedCache[tuple[str, str, bytes], str] = SharedCache(
            1000, lambda _: 1, limits.resolve_seconds, self._unresolved, now
        )
        self._files: SharedCache[tuple[str, str | None, str, bytes], dict[str, bytes]] = SharedCache(
            limits.cached_bytes, _size, None, self._unfetched, now
        )
        work_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in work_dir.glob(_PREFIX + "*"):
            shutil.rmtree(left)

    def resolve(self, source: GitSource, credential: GitCredential | None) -> str:
        """The commit that the source's ref names now: 40 or 64 hexadecimal digits.

        A full commit id is taken at its word; `files` finds out whether the repository has it.

        Raises:
            SourceError: it can not be found out; says what to mend, or that waiting may help.
        """
        remote = self._policy.remote(source.url)
        used = checked_credential(credential, remote)
        ref = checked_ref(source.ref)
        if COMMIT.fullmatch(ref.lower()):
            return ref.lower()
        key = (source.url, ref, self._fingerprint(used))
        return self._commits.get(key, lambda: self._asked(remote, used, lambda git: git.resolve(ref)))

    def files(self, source: GitSource, commit: str, credential: GitCredential | None) -> dict[str, bytes]:
        """The files of that commit below the source's path, by path relative to it. The source's ref only helps with
        hosts that do not give commits by their id: it is where to look for it.

        Raises:
            SourceError: they can not be had; says what to mend, or that waiting may help.
        """
        remote = self._policy.remote(source.url)
        used = checked_credential(credential, remote)
        ref = checked_ref(source.ref)
        if not COMMIT.fullmatch(commit):
            raise SourceError(f"git.ref: {commit[:80]!a} is no full commit id.", reason="GitRefInvalid")
        path = (source.path or "").strip("/") or None
        selection = Selection(path, self._limits.files, self._limits.total_bytes)
        # Part of the key: who can not read the repository must not be answered from what another's key has fetched.
        key = (source.url, path, commit, self._fingerprint(used))
        found = self._files.get(key, lambda: self._asked(remote, used, lambda git: git.files(commit, ref, selection)))
        return dict(found)

    def close(self) -> None:
        """Ends what is being fetched, and lets nothing new begin."""
        self._stopping.set()

    def _asked(self, remote: Remote, credential: GitCredential | None, ask: Callable[[Git], Asked]) -> Asked:
        deadline = time.monotonic() + self._limits.seconds
        with self._slot(remote), tempfile.TemporaryDirectory(prefix=_PREFIX, dir=self._work_dir) as name:
            folder = Path(name)
            limits = self._limits
            bounds = Bounds(folder, deadline, limits.fetched_bytes, limits.memory_bytes, self._stopping)
            given = environment(remote, credential, folder, ca_file=self._ca_file, ssh=self._ssh)
            return ask(Git(remote, given, bounds, limits.seconds, secrets_of(credential)))

    @contextmanager
    def _slot(self, remote: Remote) -> Iterator[None]:
        with self._lock:
            slot = self._slots.setdefault(remote.host, threading.BoundedSemaphore(self._limits.per_host))
        if not slot.acquire(timeout=self._limits.seconds):
            raise SourceError(
                f"{remote.host} is still busy with other fetches after {self._limits.seconds:g} s; it is asked again.",
                reason="GitTimeout",
                waiting=True,
            )
        try:
            yield
        finally:
            slot.release()

    def _unresolved(self, error: BaseException) -> float:
        """For how many seconds a ref is not asked about again."""
        return self._limits.resolve_seconds if isinstance(error, SourceError) else 0.0

    def _unfetched(self, error: BaseException) -> float:
        """For how many seconds a commit is not fetched again."""
        if not isinstance(error, SourceError):
            return 0.0
        if error.waiting:
            return self._limits.resolve_seconds
        return self._limits.settled_seconds if error.reason in _SETTLED else self._limits.refused_seconds

    def _fingerprint(self, credential: GitCredential | None) -> bytes:
        if credential is None:
            return b""
        told = "\0".join((credential.username, credential.password, credential.private_key))
        return hashlib.blake2b(told.encode(), key=self._salt, digest_size=16).digest()


def _size(files: dict[str, bytes]) -> int:
    return sum(len(path) + len(content) for path, content in files.items())
