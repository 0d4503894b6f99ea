"""Compiles the control plane once into the user's cache folder, where only the binary stays.

Called by `programs` when KUBEBUILDER_ASSETS is not set, and by `trainyard-localcluster build`. Never leaves a half
binary (the finished folder appears by one rename), a build cache (gigabytes), or a compiler running after its caller.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from trainyard_localcluster.errors import BuildError
from trainyard_localcluster.supervision import Supervised
from trainyard_localcluster.toolchain import find_go, required_version

SOURCES = Path(__file__).resolve().parents[1] / "go"
BINARY = "controlplane"
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager")
FREE_GIGABYTES = 5.0  # 2.8 build cache, 0.8 modules, 0.3 toolchain, 0.13 binary, and some to spare
TELL_SECONDS = 10.0  # between two lines of progress where stderr is not a terminal
POLL_SECONDS = 0.2
REMOVE_SECONDS = 600.0  # 70,000 files of 3.6 GB took more than a minute on a machine that was busy otherwise

Say = Callable[[str], None]


def cache_root() -> Path:
    """The user's cache folder as the platform has it, and our part of it."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(given):  # the XDG base directory specification: a relative path is to be ignored
        base = Path(given)
    else:
        base = Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    return base / "trainyard" / "localcluster"


def linker_flags(go_mod: str) -> str:
    """-ldflags that strip symbols and make `kubectl version` tell the Kubernetes version that go.mod requires."""
    found = re.search(r"^\s*k8s\.io/kubernetes (v(\d+)\.(\d+)\.\S+)", go_mod, re.MULTILINE)
    if found is None:
        raise BuildError("go.mod does not require k8s.io/kubernetes")
    stamp = {"gitVersion": found[1], "gitMajor": found[2], "gitMinor": found[3]}
    return " ".join(["-s -w", *(f"-X k8s.io/component-base/version.{name}={value}" for name, value in stamp.items())])


def build_arguments(sources: Path) -> list[str]:
    return ["build", "-trimpath", "-ldflags", linker_flags((sources / "go.mod").read_text())]


def build_key(sources: Path) -> str:
    """A digest of all that decides what the binary is: Go sources, flags, operating system and processor."""
    digest = hashlib.sha256()
    parts = [*build_arguments(sources), platform.system(), platform.machine()]
    for path in sorted(path for path in sources.iterdir() if path.suffix in {".go", ".mod", ".sum"}):
        parts += [path.name, path.read_text()]
    digest.update(json.dumps(parts).encode())
    return digest.hexdigest()[:20]


def built_programs(sources: Path = SOURCES) -> Path:
    """The folder with etcd, kube-apiserver and kube-controller-manager, compiled first where it is not there yet.

    Takes minutes then, with progress on stderr; a second caller waits for the first. Raises BuildError.
    """
    if not (sources / "go.mod").exists():
        raise BuildError(
            f"the control plane's Go sources are not at {sources}: run from a checkout of the repository, "
            "or set KUBEBUILDER_ASSETS"
        )
    root = cache_root()
    finished = root / build_key(sources)
    if finished.is_dir():
        return finished
    root.mkdir(parents=True, exist_ok=True)
    with build_lock(root):
        if not finished.is_dir():
            remove_interrupted(root)
            build(sources, root, finished)
    return finished


@contextmanager
def build_lock(root: Path) -> Iterator[None]:
    """One build at a time in a cache folder; whoever comes second says that it waits."""
    with (root / "build.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process is building the control plane: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def remove_interrupted(root: Path) -> None:
    """Builds whose supervisor was killed too (who holds the lock knows that none is going on)."""
    for leftover in root.glob("build-*.tmp"):
        shutil.rmtree(leftover)


def build(sources: Path, root: Path, finished: Path) -> None:
    if shutil.disk_usage(root).free < FREE_GIGABYTES * 1e9:
        raise BuildError(f"compiling the control plane needs {FREE_GIGABYTES:.0f} GB free at {root} for some minutes")
    say(f"compiling etcd and Kubernetes once into {root} (about 5 minutes on 2 cores)")
    began = time.monotonic()
    scratch = Path(tempfile.mkdtemp(prefix="build-", suffix=".tmp", dir=root))
    try:
        with Supervised(scratch, remove=[scratch], end_seconds=REMOVE_SECONDS) as supervised:
            go = find_go(required_version((sources / "go.mod").read_text()), scratch, say)
            GoBuild(go, sources, scratch, supervised, began).run()
            folder = scratch / "finished"
            for name in PROGRAMS:
                (folder / name).symlink_to(BINARY)
            folder.rename(finished)
            say(f"{elapsed(began)}  removing what only the compiler needed")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)  # the supervisor did, unless it was killed
    say(f"compiled in {elapsed(began)}: {finished / BINARY}, {(finished / BINARY).stat().st_size / 1e6:.0f} MB")


class GoBuild:
    """The steps of one compilation, each a `go` command under the supervisor with its own log."""

    def __init__(self, go: Path, sources: Path, scratch: Path, supervised: Supervised, began: float) -> None:
        self.go = go
        self.sources = sources
        self.scratch = scratch
        self.supervised = supervised
        self.progress = Progress(began)

    def run(self) -> None:
        listing = self.scratch / "packages.log"
        self.go_command("list", ["list", "-deps", "."], listing, lambda: "downloading Go modules")
        total = sum(not line.startswith("go: ") for line in listing.read_text().splitlines())
        (self.scratch / "finished").mkdir()
        compiled = self.scratch / "compile.log"
        arguments = [*build_arguments(self.sources), "-v", "-o", str(self.scratch / "finished" / BINARY), "."]

        def describe() -> str:
            done = compiled.read_text().splitlines() if compiled.exists() else []
            if len(done) >= total - 1:
                return "linking"
            return f"compiling, {len(done)} of {total} packages" + (f", {done[-1]}" if done else "")

        self.go_command("build", arguments, compiled, describe)

    def go_command(self, name: str, arguments: list[str], log: Path, describe: Callable[[], str]) -> None:
        seen = len(self.supervised.exits())
        self.supervised.start(name, [str(self.go), *arguments], self.environment(), self.sources, log)
        while len(exits := self.supervised.exits()) == seen:
            self.progress.show(describe())
            time.sleep(POLL_SECONDS)
        self.progress.finish(describe())
        if exits[-1].code != 0:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-12:])
            raise BuildError(
                f"`go {arguments[0]}` ended with {exits[-1].code} while building the control plane:\n{tail}\n"
                "The first build needs a Go module proxy (GOPROXY); without network set KUBEBUILDER_ASSETS to a folder "
                "with etcd, kube-apiserver and kube-controller-manager."
            )

    def environment(self) -> dict[str, str]:
        """The caller's settings (proxies, GOPROXY), less what would change the result or what stays behind."""
        inherited = {name: value for name, value in os.environ.items() if name not in {"GOROOT", "GOOS", "GOARCH"}}
        temporary = self.scratch / "tmp"
        temporary.mkdir(exist_ok=True)
        return inherited | {
            "CGO_ENABLED": "0",
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
            "GO111MODULE": "on",
            "GOFLAGS": "-modcacherw -buildvcs=false",  # a read-only module cache could not be removed
            "GOPATH": str(self.scratch / "gopath"),
            "GOMODCACHE": str(self.scratch / "modules"),
            "GOCACHE": str(self.scratch / "cache"),
            "GOTMPDIR": str(temporary),
        }


class Progress:
    """One line on stderr that is rewritten on a terminal, and said every ten seconds elsewhere."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.terminal = sys.stderr.isatty()
        self.told = 0.0

    def show(self, doing: str) -> None:
        if self.terminal:
            columns = shutil.get_terminal_size().columns
            sys.stderr.write("\r\x1b[2K" + f"{elapsed(self.began)}  {doing}"[: columns - 1])
            sys.stderr.flush()
        elif time.monotonic() - self.told >= TELL_SECONDS:
            self.told = time.monotonic()
            say(f"{elapsed(self.began)}  {doing}")

    def finish(self, doing: str) -> None:
        if self.terminal:
            sys.stderr.write("\r\x1b[2K")
        say(f"{elapsed(self.began)}  {doing}: done")


def elapsed(began: float) -> str:
    minutes, seconds = divmod(int(time.monotonic() - began), 60)
    return f"{minutes} min {seconds:02d} s"


def say(line: str) -> None:
    print(f"trainyard-localcluster: {line}", file=sys.stderr, flush=True)
