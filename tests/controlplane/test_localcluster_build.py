"""What building the local control plane promises: once, from nothing, and a build that fails or dies leaves nothing.

A pretended `go` stands in for the compiler, which takes minutes; `trainyard-localcluster build` runs the real one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from trainyard_localcluster.errors import BuildError
from trainyard_localcluster.programs import find_programs

COMMAND = [sys.executable, "-m", "trainyard_localcluster.cli"]
FAKE_GO = """#!/bin/sh
case "$1" in
env) echo go1.99.0 ;;
list) echo a; echo b ;;
build)
  echo built >> "$FAKE_GO_LOG"
  test -z "$FAKE_GO_HANGS" || tail -f "$FAKE_GO_LOG"
  test -z "$FAKE_GO_FAILS" || { echo "main.go:1: no such thing" >&2; exit 1; }
  while [ "$1" != -o ]; do shift; done
  echo a >&2; sleep 0.5; echo b >&2; echo binary > "$2" ;;
esac
"""


def until(condition: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.05)


def processes_of(directory: Path) -> list[psutil.Process]:
    """Whatever runs with this directory in its command line, whoever its parent is by now."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(str(directory) in word for word in process.info["cmdline"] or []) and process.pid != os.getpid():
            found.append(process)
    return found


@pytest.fixture
def build_env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment with an empty cache and a `go` that tells how often it compiled."""
    fake = tmp_path / "bin" / "go"
    fake.parent.mkdir()
    fake.write_text(FAKE_GO)
    fake.chmod(0o755)
    env = {
        "PATH": f"{fake.parent}:/usr/bin:/bin",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "FAKE_GO_LOG": str(tmp_path / "builds"),
    }
    return {name: value for name, value in os.environ.items() if name != "KUBEBUILDER_ASSETS"} | env


def cached(env: dict[str, str]) -> list[str]:
    """All that is in the cache, less the lock of the build and the name of the one build."""
    root = Path(env["XDG_CACHE_HOME"]) / "trainyard" / "localcluster"
    paths = [path.relative_to(root) for path in root.rglob("*")]
    return sorted("/".join(path.parts[1:]) for path in paths if len(path.parts) > 1)


def builds(env: dict[str, str]) -> int:
    log = Path(env["FAKE_GO_LOG"])
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_two_callers_compile_once_and_only_the_binary_stays(build_env: dict[str, str]) -> None:
    both = [
        subprocess.Popen([*COMMAND, "build"], env=build_env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [each.communicate(timeout=60) for each in both]
    assert [each.returncode for each in both] == [0, 0]
    assert builds(build_env) == 1
    assert any("waiting for it" in stderr for _, stderr in answers)
    assert any("compiling, 1 of 2 packages, a" in stderr or "linking" in stderr for _, stderr in answers)
    assert answers[0][0] == answers[1][0]
    assert Path(answers[0][0].strip(), "etcd").read_text() == "binary\n"
    assert cached(build_env) == ["controlplane", "etcd", "kube-apiserver", "kube-controller-manager"]


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_build_leaves_no_compiler_and_no_half_binary(build_env: dict[str, str], end: int) -> None:
    with subprocess.Popen([*COMMAND, "build"], env={**build_env, "FAKE_GO_HANGS": "1"}) as command:
        until(lambda: builds(build_env) == 1, "the compiler to start")
        command.send_signal(end)
    # What runs for the build has one of these in its command line; the second is a child of the compiler.
    traces = [Path(build_env["XDG_CACHE_HOME"]), Path(build_env["FAKE_GO_LOG"])]
    until(lambda: not any(processes_of(trace) for trace in traces), "the compiler to end")
    until(lambda: cached(build_env) == [], "the build's files to go")
    subprocess.run([*COMMAND, "build"], env=build_env, check=True)
    assert builds(build_env) == 2
    assert len(cached(build_env)) == 4


def test_a_compile_error_is_shown_and_leaves_nothing(build_env: dict[str, str]) -> None:
    failed = subprocess.run(
        [*COMMAND, "build"], env={**build_env, "FAKE_GO_FAILS": "1"}, capture_output=True, text=True, check=False
    )
    assert failed.returncode == 1
    assert "main.go:1: no such thing" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert cached(build_env) == []


@pytest.mark.parametrize(("fake", "seen"), [(None, "there is no go on PATH"), ("go1.20.3", "is 1.20.3")])
def test_without_a_new_enough_go_and_without_network_it_says_what_to_install(
    build_env: dict[str, str], tmp_path: Path, fake: str | None, seen: str
) -> None:
    go = tmp_path / "bin" / "go"
    go.write_text(f"#!/bin/sh\necho {fake}\n") if fake else go.unlink()
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "bin"), "PATH": str(tmp_path / "bin")}
    failed = subprocess.run(
        [*COMMAND, "build"], env={**build_env, **offline}, capture_output=True, text=True, check=False
    )
    assert failed.returncode == 1
    assert seen in failed.stderr
    assert "Install Go 1.26 or newer" in failed.stderr
    assert "KUBEBUILDER_ASSETS" in failed.stderr
    assert cached(build_env) == []


def test_kubebuilder_assets_are_used_and_a_missing_controller_manager_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    for name in ("etcd", "kube-apiserver"):
        (tmp_path / name).touch(0o755)
    with pytest.raises(BuildError, match="where kube-controller-manager cannot be found"):
        find_programs()
    (tmp_path / "kube-controller-manager").touch(0o755)
    assert find_programs().controller_manager == tmp_path / "kube-controller-manager"
