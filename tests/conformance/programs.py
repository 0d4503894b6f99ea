"""What the cases run: programs that do the same on every platform. What they say begins with `says: `."""

TRAINS = """
import os
import random
import sys

import mlflow
import numpy

rounds, seed = (int(arg) for arg in sys.argv[1:])
dice = random.Random(seed)
losses = [1 / (1 + dice.random() + step) for step in range(rounds)]


class Constant(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input):
        return [losses[-1]] * len(model_input)


with mlflow.start_run():
    mlflow.log_params({"rounds": rounds, "seed": seed})
    for step, loss in enumerate(losses):
        mlflow.log_metric("loss", loss, step=step)
    mlflow.log_metric("worst", max(losses))
    mlflow.log_metric("undefined", float("nan"))
    mlflow.pyfunc.log_model(
        "model",
        python_model=Constant(),
        pip_requirements=[],
        signature=mlflow.models.infer_signature(numpy.zeros((1, 2)), numpy.zeros(1)),
        registered_model_name=os.environ["TRAINYARD_MODEL_NAME"],
    )
print("says: trained with loss", losses[-1])
"""
ODD = [
    "a b",
    "$$(raw)",
    "`id`",
    "'single'",
    '"double"',
    "$HOME",
    "back\\slash",
    "*",
    "two\nlines",
    "ünï",
    "",
    "; exit 3",
    "${{inputs.x}}",
]
ARGUMENTS = f"""
import os
import sys

assert sys.argv[1:] == {[arg.replace("$$(", "$(") for arg in ODD] + ["42", "it's"]!r}, sys.argv
print("says:", os.environ["TRAINYARD_NAME"], os.environ["TRAINYARD_ATTEMPT"], len(sys.argv))
"""
SCORES = """
import os
from pathlib import Path

wines = Path(os.environ["TRAINYARD_INPUT_WINES"], "wines.csv").read_text().splitlines()
written = Path(os.environ["TRAINYARD_OUTPUT_SCORES"], "scores.csv")
written.parent.mkdir(parents=True, exist_ok=True)
written.write_text("".join(f"{wine},1\\n" for wine in wines))
print("says:", len(wines), "wines")
"""
HELPED = {"train.py": "import helper\n\nprint('says:', helper.ANSWER)\n", "helper.py": "ANSWER = 42\n"}
FAILS = """
def load():
    raise ValueError("no rows left")


print("says: loading")
load()
"""
