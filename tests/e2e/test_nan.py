"""A training that logs NaN and infinities ends well, and the resource says so."""

from tests.e2e.scene import Scene
from tests.platforms import on_every_platform

CODE = """
import math

import mlflow

with mlflow.start_run():
    mlflow.log_metrics({"undefined": math.nan, "up": math.inf, "down": -math.inf, "loss": 0.25})
"""


@on_every_platform
def test_nan_and_infinities_are_told_as_they_are(real: Scene) -> None:
    run = real.run(real.team(), code=CODE, environment={"pip": ["mlflow"]}).until("Succeeded", seconds=120)
    assert run.status["metrics"] == {"undefined": "NaN", "up": "Infinity", "down": "-Infinity", "loss": "0.25"}
    assert run.paid() == 1
