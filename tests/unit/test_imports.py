"""What importing Trainyard costs: the vendors' SDKs are loaded by the workspaces that need them, not by an import."""

import json
import subprocess
import sys

import pytest

HEAVY = {"azure.ai.ml", "databricks.sdk"}


@pytest.mark.parametrize("module", ["trainyard", "trainyard.cli.main", "trainyard.cli.wiring"])
def test_an_import_loads_no_vendor_sdk(module: str) -> None:
    code = f"import {module}, sys, json; print(json.dumps(sorted(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(json.loads(ran.stdout))


def test_help_needs_neither_kopf_nor_kubernetes() -> None:
    code = "import trainyard.cli.main, sys, json; print(json.dumps(sorted(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"kopf", "kubernetes"} & set(json.loads(ran.stdout))
