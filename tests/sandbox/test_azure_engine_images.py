"""Images and processes of Azure ML jobs without a server: what a conda file asks for, who is built, who runs where."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from trainyard_sandbox.azure.engine.distribution import count, processes
from trainyard_sandbox.azure.engine.images import BuildFailed, Images, ImageSpec, parse_conda


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ("numpy", "numpy"),
        ("numpy=1.26", "numpy==1.26.*"),
        ("numpy=1.26.*", "numpy==1.26.*"),
        ("numpy=1.26.4=py311_0", "numpy==1.26.4.*"),
        ("numpy==1.26.4", "numpy==1.26.4"),
        ("numpy 1.26", "numpy==1.26.*"),
        ("conda-forge::scikit-learn>=1.2,<2", "scikit-learn>=1.2,<2"),
    ],
)
def test_a_conda_package_becomes_a_requirement(entry: str, line: str) -> None:
    assert parse_conda(json.dumps({"dependencies": [entry]})) == (line,)


def test_python_itself_and_tools_are_no_requirements_and_pip_lines_are_taken_as_they_are() -> None:
    text = "dependencies:\n  - python=3.11\n  - pip\n  - pip:\n    - mlflow<3\n    - scikit-learn==1.5\n"
    assert parse_conda(text) == ("mlflow<3", "scikit-learn==1.5")
    assert parse_conda("") == ()


@pytest.mark.parametrize("text", ["[1", "- a", "dependencies: x", "dependencies: [1]", "dependencies: ['a b c']"])
def test_a_conda_file_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="the conda file"):
        parse_conda(text)


async def test_an_image_is_built_once_also_when_two_jobs_want_it_at_once(tmp_path: Path) -> None:
    images = Images(tmp_path, build_seconds=0.02)
    spec = ImageSpec("base", ("packaging",))
    assert not images.is_built(spec)
    await asyncio.gather(images.build(spec), images.build(spec))
    assert images.is_built(spec)
    assert images.builds == [spec.key]


async def test_another_base_image_is_another_build_and_an_image_without_packages_is_none(tmp_path: Path) -> None:
    images = Images(tmp_path)
    for spec in (ImageSpec("one", ("packaging",)), ImageSpec("two", ("packaging",)), ImageSpec("three")):
        await images.build(spec)
    assert len(images.builds) == 2
    assert images.is_built(ImageSpec("four"))


async def test_a_failed_build_is_tried_again_by_the_next_job(tmp_path: Path) -> None:
    images = Images(tmp_path, fail_with="no space")
    spec = ImageSpec("base", ("packaging",))
    with pytest.raises(BuildFailed, match="no space"):
        await images.build(spec)
    images.fail_with = None
    await images.build(spec)
    assert images.is_built(spec)


async def test_what_the_sandbox_stands_in_for_is_not_installed(tmp_path: Path) -> None:
    images = Images(tmp_path)
    assert await images.build(ImageSpec("base", ("azureml-mlflow", "AzureML_Core", "packaging"))) == []


def test_tensorflow_tells_each_process_the_cluster_and_its_place_in_it() -> None:
    distribution = {"distributionType": "TensorFlow", "parameterServerCount": 1}
    made = processes({"distribution": distribution, "resources": {"instanceCount": 2}}, 6000)
    configs = [json.loads(process.variables["TF_CONFIG"]) for process in made]
    assert [config["task"] for config in configs] == [
        {"type": "worker", "index": 0},
        {"type": "worker", "index": 1},
        {"type": "ps", "index": 0},
    ]
    assert configs[0]["cluster"] == {"worker": ["127.0.0.1:6000", "127.0.0.1:6001"], "ps": ["127.0.0.1:6002"]}
    assert len({process.log for process in made}) == 3


def test_log_files_of_many_processes_sort_by_number() -> None:
    definition = {"distribution": {"distributionType": "PyTorch", "processCountPerInstance": 12}}
    logs = [process.log for process in processes(definition, 1)]
    assert logs[0] == "user_logs/std_log_process_00.txt"
    assert logs == sorted(logs)
    assert count(definition) == 12
