"""Runs an entry point of an installed package. A script run in the task's process, never imported.

Usage: wheel_driver.py PACKAGE ENTRY_POINT [ARGUMENT...]. The entry point is looked up in the package's metadata, and
failing that is a function of the package: what the platform itself generates, as a traceback in databrickslabs/ucx#2930
shows, and as databricks-sdk `service/jobs.py` PythonWheelTask.entry_point says. Standard library only.
"""

import importlib
import importlib.metadata
import sys


def main() -> None:
    """See the module's docstring."""
    package, name = sys.argv[1], sys.argv[2]
    sys.argv = ["python", *sys.argv[3:]]
    # This script's folder comes first in sys.path; the sandbox's own modules must not shadow the package's.
    del sys.path[0]
    found = [point for point in importlib.metadata.distribution(package).entry_points if point.name == name]
    if found:
        found[0].load()()
    else:
        getattr(importlib.import_module(package), name)()


if __name__ == "__main__":
    main()
