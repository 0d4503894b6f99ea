"""The parent of etcd, kube-apiserver, kube-controller-manager (or of `go build`): they live no longer than it does.

`supervision.Supervised` runs this file as a program of its own. It must never import more than the standard library,
nor start a thread.

It ends, killing its children and removing the paths it was given, when one of these happens first:
- its stdin (a pipe from the process that wanted the children) reaches its end: that process closed it or died;
- its parent is another process than at the start: the same, for when a fork of that process still holds the pipe;
- it gets SIGTERM, SIGINT or SIGHUP.
Should it be killed itself by SIGKILL, the kernel kills the children (PR_SET_PDEATHSIG, Linux only).

Each line on stdin is a JSON object: {"start": NAME, "argv": [...], "env": {...}, "cwd": DIR, "log": FILE} or
{"detach": true}, after which the end of stdin and of the parent no longer matter. When a child ends, a JSON line
{"exited": NAME, "code": N} is appended to the report file; a negative code is a signal's number.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
PARENT_CHECK_SECONDS = 0.5  # only matters when a fork of the parent keeps the pipe open


def death_with_parent() -> Callable[[], None] | None:
    """A preexec function that asks the kernel to kill the child when this process dies; None where there is no such
    thing. It is tied to the *thread* that forks, which is why a process with one thread does it."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    supervisor = os.getpid()

    def ask() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != supervisor:  # it died between fork and prctl
            os._exit(1)

    return ask


class Supervisor:
    """Holds the children and the reasons to end; `run` returns when there is nothing left to hold."""

    def __init__(self, parent: int, report: Path, remove: list[Path]) -> None:
        self.parent = parent
        self.report = report
        self.remove = remove
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.detached = False
        self.ending = False
        self.preexec = death_with_parent()
        self.wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(name, self.end)

    def end(self, *_: object) -> None:
        self.ending = True

    def run(self) -> None:
        pending = b""
        while not self.ending:
            # Asked before the pipe is read: a parent that said "detach" and went is then seen to have said it.
            orphan = not self.detached and os.getppid() != self.parent
            sources = [self.wake_read] if self.detached else [self.wake_read, 0]
            timeout = None if self.detached else 0 if orphan else PARENT_CHECK_SECONDS
            readable, _, _ = select.select(sources, [], [], timeout)
            if self.wake_read in readable:
                os.read(self.wake_read, 4096)
            self.reap()
            if 0 in readable:
                received = os.read(0, 65536)
                *lines, pending = (pending + received).split(b"\n")
                for line in lines:
                    self.obey(json.loads(line))
                if not received and not self.detached:
                    self.ending = True
            if orphan and not self.detached:
                self.ending = True
        self.kill_children()
        for path in self.remove:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def obey(self, order: dict[str, Any]) -> None:
        if order.get("detach"):
            self.detached = True
            return
        with Path(order["log"]).open("ab") as log:
            try:
                self.children[order["start"]] = subprocess.Popen(
                    order["argv"],
                    env=order["env"],
                    cwd=order["cwd"],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    preexec_fn=self.preexec,
                    process_group=0,  # `go build` has children of its own
                )
            except OSError as error:
                log.write(f"{order['argv'][0]}: {error}\n".encode())
                self.tell(order["start"], 127)

    def reap(self) -> None:
        for name, child in list(self.children.items()):
            code = child.poll()
            if code is not None:
                del self.children[name]
                self.tell(name, code)

    def tell(self, name: str, code: int) -> None:
        with self.report.open("a") as report:
            report.write(json.dumps({"exited": name, "code": code}) + "\n")

    def kill_children(self) -> None:
        # SIGKILL at once: their data goes with them, and a graceful kube-apiserver waits for its watchers.
        for child in self.children.values():
            os.killpg(child.pid, signal.SIGKILL)
        for child in self.children.values():
            child.wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--remove", type=Path, action="append", default=[])
    options = parser.parse_args()
    Supervisor(options.parent, options.report, options.remove).run()


if __name__ == "__main__":
    main()
