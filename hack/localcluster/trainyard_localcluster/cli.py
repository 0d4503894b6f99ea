"""The command `trainyard-localcluster`: a local control plane by hand, for `make cluster` and for other languages.

Messages go to stderr; stdout carries only a path that a script can take.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from trainyard_localcluster.build import say
from trainyard_localcluster.cluster import LocalCluster
from trainyard_localcluster.errors import LocalClusterError
from trainyard_localcluster.home import Home
from trainyard_localcluster.programs import find_programs

WATCH_SECONDS = 0.5


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 1 failed with a message, 130 interrupted before it was ready."""
    options = parse(argv)
    signal.signal(signal.SIGTERM, interrupt)  # `kill` cleans up as Ctrl-C does
    signal.signal(signal.SIGHUP, interrupt)
    try:
        return {"build": build, "start": start, "stop": stop, "run": run}[options.command](options)
    except LocalClusterError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="trainyard-localcluster",
        description="A real Kubernetes control plane (etcd, kube-apiserver, kube-controller-manager) on loopback.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="compile the control plane into the user's cache, if it is not there yet")
    running = {
        "start": "start a control plane and leave it running; prints the path of its kubeconfig",
        "run": "run a control plane until Ctrl-C or the end of the parent process; prints the path of its kubeconfig",
    }
    for name, text in running.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("dir", type=Path, metavar="DIR", help="where the kubeconfig and all state go")
        command.add_argument("--audit", action="store_true", help="write DIR/controlplane/audit.log")
    command = commands.add_parser("stop", help="end the control plane of DIR and remove what it made there")
    command.add_argument("dir", type=Path, metavar="DIR")
    return parser.parse_args(argv)


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def build(_: argparse.Namespace) -> int:
    print(find_programs().etcd.parent)
    return 0


def start(options: argparse.Namespace) -> int:
    cluster = LocalCluster.start(options.dir, audit=options.audit, detach=True)
    say(f"ready at {cluster.url}; `trainyard-localcluster stop {options.dir}` ends it")
    print(cluster.kubeconfig)
    return 0


def run(options: argparse.Namespace) -> int:
    parent = os.getppid()
    with LocalCluster.start(options.dir, audit=options.audit) as cluster:
        try:
            say(f"ready at {cluster.url}; Ctrl-C ends it")
            print(cluster.kubeconfig, flush=True)
            while os.getppid() == parent:
                cluster.check()
                time.sleep(WATCH_SECONDS)
        except KeyboardInterrupt:
            say("ending")
    return 0


def stop(options: argparse.Namespace) -> int:
    if not Home(options.dir.absolute()).stop():
        say(f"no control plane is running in {options.dir}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
