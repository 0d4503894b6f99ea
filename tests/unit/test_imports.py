"""What importing Trainyard costs: what only some need is loaded by those, not by an import."""

import json
import subprocess
import sys

import pytest

SDKS = {"azure.ai.ml", "azure.core", "azure.identity", "azure.storage.blob", "databricks.sdk"}
OPERATORS = {"kopf", "trainyard.controllers", "trainyard.platforms", "prometheus_client", "structlog"}


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}; import sys, json; print(json.dumps(sorted(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(ran.stdout))


@pytest.mark.parametrize("module", ["trainyard", "trainyard.cli.main", "trainyard.cli.wiring", "trainyard.client"])
def test_an_import_loads_no_vendor_sdk(module: str) -> None:
    assert not SDKS & loaded_by(f"import {module}")


@pytest.mark.parametrize("platform", ["azureml", "databricks"])
def test_what_an_operator_has_of_a_platform_before_its_first_workspace_loads_no_vendor_sdk(platform: str) -> None:
    modules = f"trainyard.platforms.{platform}.platform, trainyard.platforms.{platform}.connection"
    assert not SDKS & loaded_by(f"import trainyard.identity.entra, {modules}")


def test_help_needs_neither_kopf_nor_kubernetes() -> None:
    assert not {"kopf", "kubernetes"} & loaded_by("import trainyard.cli.main")


@pytest.mark.parametrize("verbs", ["running", "looking", "logs", "deployments", "scoring", "lineage"])
def test_a_verb_loads_nothing_of_the_operator(verbs: str) -> None:
    assert not OPERATORS & loaded_by(f"import trainyard.cli.{verbs}")


def test_the_python_client_loads_nothing_of_the_operator() -> None:
    assert not OPERATORS & loaded_by("from trainyard.client import Trainyard")


def test_what_the_python_client_offers_is_listed_in_order() -> None:
    code = "import trainyard.client as c; assert c.__all__ == sorted(c.__all__); [getattr(c, n) for n in c.__all__]"
    loaded_by(code)
