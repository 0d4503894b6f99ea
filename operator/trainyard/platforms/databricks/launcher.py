"""Starts a run's code where the platform can not: it is uploaded beside the code and run there, never by the operator.

Usage: launcher.py [--set NAME=VALUE]... [--folder DIR] (--file PATH | --module NAME | --script NAME) [-- ARGUMENT...]

For modules, for code on volumes, and on clusters where no environment variables can be set. Standard library and
Python 3.8 only; it must not use __file__, which Databricks does not define in what it runs, and prints nothing.
"""

import argparse
import importlib.metadata
import os
import runpy
import sys
from typing import Any


def main(argv: list[str]) -> None:
    """Sets the variables, makes sys.path and sys.argv as Python itself would, and runs the code as __main__."""
    split = argv.index("--") if "--" in argv else len(argv)
    asked, arguments = _parser().parse_args(argv[:split]), argv[split + 1 :]
    for setting in asked.set:
        name, _, value = setting.partition("=")
        os.environ[name] = value
    if asked.folder:
        # As `python -m` and the platform's own tasks have it: files beside the code can be opened and imported.
        os.chdir(asked.folder)
        sys.path.insert(0, asked.folder)
    try:
        if asked.file:
            sys.argv[:] = [asked.file, *arguments]
            runpy.run_path(asked.file, run_name="__main__")
        elif asked.module:
            sys.argv[:] = [asked.module, *arguments]  # runpy puts the module's file in its place
            runpy.run_module(asked.module, run_name="__main__", alter_sys=True)
        else:
            sys.argv[:] = [asked.script, *arguments]
            sys.exit(_script(asked.script)())
    except SystemExit as end:
        # Databricks takes any SystemExit for a failure, also that of code which ends well with sys.exit(0).
        if end.code not in (None, 0):
            raise


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="launcher", allow_abbrev=False)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--folder")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--file")
    what.add_argument("--module")
    what.add_argument("--script")
    return parser


def _script(name: str) -> Any:
    """The function behind a console script of an installed package."""
    for distribution in importlib.metadata.distributions():
        for point in distribution.entry_points:
            if point.group == "console_scripts" and point.name == name:
                return point.load()
    raise SystemExit("no installed package has the console script {!r}".format(name))  # noqa: UP032 - as old as the clusters it runs on


if __name__ == "__main__":
    main(sys.argv[1:])
