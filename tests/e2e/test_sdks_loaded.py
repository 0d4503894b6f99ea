"""An operator loads a vendor's SDK when a run first needs that vendor, and never another's.

Python itself tells of each import (python -X importtime), so that nothing in the operator has to be trusted to say.
"""

import re

import pytest

from stand import OPERATOR_NAMESPACE, Process, Stand
from tests.e2e.conftest import FLAGS
from tests.e2e.scene import Scene
from tests.platforms import NAMES

# What a finished run has needed, by platform. azure.storage.blob is beside: logs may be kept there from anywhere.
NEEDED = {"databricks": {"databricks.sdk"}, "azureml": {"azure.core", "azure.identity", "azure.ai.ml"}}


@pytest.mark.parametrize("platform", NAMES)
def test_an_operator_of_one_platform_never_loads_the_sdk_of_another(pretending: Stand, platform: str) -> None:
    name = f"only-{platform}"
    operator = operator_of(pretending, name)
    scene = Scene(pretending, operator, name).on(platform)
    try:
        team = scene.platform.team(name)
        scene.teams.append(name)
        run = scene.run(team).until("Succeeded", seconds=180)
        assert run.paid() == 1
        loaded = imported(operator)
    finally:
        operator.stop()
        scene.clean()
    others = {module for other in NAMES if other != platform for module in NEEDED[other]}
    assert loaded & others == set()
    assert NEEDED[platform] - loaded == set()


def operator_of(made: Stand, namespace: str) -> Process:
    """An operator that watches one namespace, though it may talk to every platform; its log tells of each import."""
    kubeconfig = made.cluster.service_account_kubeconfig(
        OPERATOR_NAMESPACE, "trainyard", made.dir / f"{namespace}.kubeconfig"
    )
    command = made.operator_command(kubeconfig, made.dir / f"{namespace}.audit", **FLAGS)
    everywhere = command.index("--all-namespaces")
    command[everywhere : everywhere + 1] = ["--namespace", namespace]
    env = made.operator_env() | {"PYTHONPROFILEIMPORTTIME": "1"}
    return Process("the operator", command, made.dir / f"{namespace}.log", env)


def imported(process: Process) -> set[str]:
    """The modules that a process has imported: the last column of what Python wrote of each."""
    return set(re.findall(r"^import time: .*\| +([\w.]+)$", process.log.read_text(errors="replace"), re.MULTILINE))
