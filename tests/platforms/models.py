"""Tiny models for tests of serving: MLflow folders that really load and answer, or really fail to.

Used by the serving drivers and tests. They are saved by one process per session, as mlflow takes seconds to import. The
scikit-learn ones answer a constant: their own number, so that every answer tells which version gave it.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

Files = dict[str, bytes]
Row = Mapping[str, Any]
Kind = Literal["answers", "nonsense", "raises", "slow", "broken", "unsigned", "bare"]

# What the wine quickstart's features look like, few enough to read.
COLUMNS = ("alcohol", "hue")
ROW = {"alcohol": 13.2, "hue": 1.05}
NUMBERS = range(1, 10)
SLOW_SECONDS = 4.0

# A model by its description alone, for where servers are pretended: it can be registered and looked at, not loaded.
DESCRIBED: Files = {
    "MLmodel": b"""flavors:
  python_function:
    loader_module: mlflow.sklearn
    env: {conda: conda.yaml}
signature:
  inputs: '[{"type": "double", "name": "alcohol", "required": true}]'
  outputs: '[{"type": "double", "required": true}]'
""",
    "requirements.txt": b"scikit-learn==1.9.1\nazureml-inference-server-http\n",
    "conda.yaml": b"""dependencies:
- python=3.11
- pip:
  - scikit-learn==1.9.1
  - azureml-inference-server-http
""",
}

_SAVES = r"""
import shutil, sys, time
from pathlib import Path

import cloudpickle, mlflow.pyfunc, mlflow.sklearn, pandas
from mlflow.models import infer_signature
from sklearn.dummy import DummyClassifier, DummyRegressor

out, slow_seconds = Path(sys.argv[1]), float(sys.argv[2])
rows = pandas.DataFrame([{"alcohol": 13.2, "hue": 1.05}, {"alcohol": 12.1, "hue": 0.9}])
LIBRARY, SERVER = "scikit-learn==1.9.1", "azureml-inference-server-http"


def save(model, name, signed=True):
    signature = infer_signature(rows, model.predict(rows)) if signed else None
    mlflow.sklearn.save_model(model, out / name, pip_requirements=[LIBRARY], signature=signature)


def save_code(model, name):
    signature = infer_signature(rows, [0.0, 0.0])
    mlflow.pyfunc.save_model(out / name, python_model=model, pip_requirements=[LIBRARY], signature=signature)


def add_server(folder):
    # As pip_requirements would; for a package that is not installed here mlflow looks through all that are.
    for name, mark in (("requirements.txt", ""), ("conda.yaml", "  - ")):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace(f"{mark}{LIBRARY}", f"{mark}{LIBRARY}\n{mark}{SERVER}"))


def always(number):
    return DummyRegressor(strategy="constant", constant=float(number)).fit(rows, [0.0, float(number)])


class Raises(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input):
        raise RuntimeError("the forest has no trees")


class Slow(mlflow.pyfunc.PythonModel):
    def __init__(self, seconds, number):
        self.seconds, self.number = seconds, number

    def load_context(self, context):
        import time
        print("loading slowly", flush=True)
        time.sleep(self.seconds)

    def predict(self, context, model_input):
        return [self.number] * len(model_input)


save(always(1), "answers-1")
save(DummyClassifier(strategy="constant", constant="grape").fit(rows, ["grape", "wine"]), "nonsense-1")
save(always(1), "unsigned-1", signed=False)
save(always(1), "bare-1")
save_code(Raises(), "raises-1")
save_code(Slow(slow_seconds, 1.0), "slow-1")
for name in ("answers", "nonsense", "unsigned", "raises", "slow"):
    add_server(out / f"{name}-1")
for number in map(int, sys.argv[3:]):  # as the first but for the object itself
    for name, pickled, other in (
        ("answers", "model.pkl", always(number)),
        ("slow", "python_model.pkl", Slow(slow_seconds, float(number))),
    ):
        shutil.copytree(out / f"{name}-1", out / f"{name}-{number}")
        (out / f"{name}-{number}" / pickled).write_bytes(cloudpickle.dumps(other))
"""


def tiny_model(kind: Kind = "answers", number: int = 1) -> Files:
    """The files of a model, by path.

    `answers`: its number. `nonsense`: words where numbers are wanted. `raises`: it loads, and fails at each request.
    `slow`: SLOW_SECONDS to load, then as `answers`. `broken`: its pickle can not be read. `unsigned`: without a
    signature. `bare`: without the inference server that Azure ML needs in its environment.
    """
    saved = "answers" if kind == "broken" else kind
    folder = _saved() / f"{saved}-{number if saved in ('answers', 'slow') else 1}"
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    if kind == "broken":
        files["model.pkl"] = b"this was a pickle once"
    return files


@functools.cache
def _saved() -> Path:
    made = Path(tempfile.mkdtemp(prefix="trainyard-models-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    numbers = [str(number) for number in NUMBERS if number != 1]
    command = [sys.executable, "-W", "ignore", "-c", _SAVES, str(made), str(SLOW_SECONDS), *numbers]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=made)
    assert done.returncode == 0, done.stderr
    return made
