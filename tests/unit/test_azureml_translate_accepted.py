"""Whatever the spec combines, Azure ML's own checks take the body, or it is refused with a reason before.

The judge is the sandbox, which refuses what it does not know: its shapes of jobs, and its rule for what a command may
refer to.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.azureml_jobs import attempt
from trainyard.core.errors import TranslationError
from trainyard.platforms.azureml.copying import copied_body
from trainyard.platforms.azureml.translate import translate
from trainyard_sandbox.azure.job_bindings import check_references
from trainyard_sandbox.azure.job_shapes import COMMAND_JOB, parse_properties
from trainyard_sandbox.azure.pipelines import PIPELINE_JOB
from trainyard_sandbox.azure.sweeps import SWEEP_JOB

SHAPES = {"Command": COMMAND_JOB, "Sweep": SWEEP_JOB, "Pipeline": PIPELINE_JOB}
FILES = {"main.py": b"", "acme/__init__.py": b"", "acme/train.py": b""}
CODES: dict[str, Any] = {
    "inline": {"inline": "x"},
    "git": {"git": {"url": "https://git.example.com/x.git"}},
    "storage": {"path": "data://raw/code"},
    "wheel package": {"wheel": {"package": "acme-churn==1"}},
    "wheel file": {"wheel": {"path": "data://wheels/acme_churn-1-py3-none-any.whl"}},
}
ENTRYPOINTS: dict[str, Any] = {
    "default": {},
    "file": {"pythonFile": "acme/train.py", "args": ["$(params.day)", "${{inputs.none}}"]},
    "module": {"module": "acme.train", "args": ["--raw", "$(inputs.raw)", "$(outputs.made)"]},
    "script": {"consoleScript": "train"},
}
CLASSES: dict[str, Any] = {
    "serverless": {"serverless": {"instanceType": "Standard_DS3_v2"}, "tier": "Spot"},
    "cluster": {"compute": "cpu-cluster", "shmSize": "4g"},
    "many": {"compute": "gpu", "instanceCount": 2, "distribution": {"type": "MPI", "processCountPerInstance": 2}},
}
RUNTIMES: dict[str, Any] = {
    "none": None,
    "packages": {"pip": ["mlflow"]},
    "image": {"azureML": {"image": "python:3.11", "conda": ["a"]}},
    "named": {"azureML": {"environment": "team:1"}},
}
BLOCKS: dict[str, Any] = {
    "none": None,
    "more": {"description": "d", "tags": {"a": "b"}, "environmentVariables": {"A": "b"}},
    "sweep": {
        "jobType": "Sweep",
        "searchSpace": {"day": ["choice", [["1", "2"]]]},
        "objective": {"goal": "Maximize", "primaryMetric": "accuracy"},
        "samplingAlgorithm": {"samplingAlgorithmType": "Random"},
        "limits": {"maxTotalTrials": 2, "maxConcurrentTrials": 1},
    },
}
DATA: dict[str, Any] = {
    "inputs": {"raw": {"uri": "data://raw"}, "m": {"uri": "azureml:churn:3", "form": "MLflowModel"}},
    "outputs": {"made": {"uri": "data://raw/made", "form": "File"}},
}


def check(body: dict[str, Any]) -> None:
    """The sandbox's own checks of a job's body."""
    kind = body["properties"]["jobType"]
    found = parse_properties(body, SHAPES[kind])
    command = found.get("command") or found.get("trial", {}).get("command")
    if command is not None:
        check_references(command, found.get("inputs", {}), found.get("outputs", {}))


def combined() -> Iterator[tuple[str, dict[str, Any]]]:
    for code, start, machines, runtime, block in itertools.product(CODES, ENTRYPOINTS, CLASSES, RUNTIMES, BLOCKS):
        runtimes = {"r": RUNTIMES[runtime]} if RUNTIMES[runtime] is not None else {}
        spec = {
            "files": FILES if code in ("inline", "git") else {},
            "workspace": {"computeClasses": {"c": {"azureML": CLASSES[machines]}}, "runtimes": runtimes},
            "compute": {"class": "c"},
            "environment": {"runtime": "r"} if runtimes else None,
            "code": CODES[code],
            "entrypoint": ENTRYPOINTS[start],
            "params": {"day": "1"},
            "model": {"name": "m"},
            "azureML": BLOCKS[block],
            **DATA,
        }
        yield f"{code}, {start}, {machines}, {runtime}, {block}", spec


def test_every_combination_is_taken_or_refused_before() -> None:
    taken, refused = 0, set()
    for what, spec in combined():
        try:
            sent = translate(attempt(**spec))
        except TranslationError as error:
            refused.add((what.split(",")[0], what.split(", ")[1], error.reason))
            continue
        check(dict(sent.body))
        taken += 1
    nothing_installed = {(code, "script") for code in ("inline", "git", "storage")}
    no_files = {(code, start) for code in ("wheel package", "wheel file") for start in ("default", "file")}
    assert refused == {(*pair, "EntrypointMissing") for pair in nothing_installed | no_files}
    assert taken == (2 * 3 + 3 + 2 * 2) * len(CLASSES) * len(RUNTIMES) * len(BLOCKS)


@pytest.mark.parametrize("identity", ["trainer", "me"])
def test_identities_are_taken(identity: str) -> None:
    check(dict(translate(attempt(runAs=identity)).body))


def test_a_pipeline_is_taken() -> None:
    block = {
        "jobType": "Pipeline",
        "jobs": {"a": {"type": "command", "componentId": "c", "computeId": "$(trainyard.compute)"}},
        "settings": {"continue_on_step_failure": False},
    }
    check(dict(translate(attempt(azureML=block, params={"day": "1"}, **DATA)).body))


def test_a_copy_of_what_was_sent_is_taken() -> None:
    first = translate(attempt(params={"day": "1"}, **DATA))
    answer = {"name": first.label, "properties": {**first.body["properties"], "status": "Completed", "services": {}}}
    again = attempt({}, code=None, compute=None, jobRef={"name": first.label, "parameters": {"day": "2"}})
    check(copied_body(answer, translate(again).body))
