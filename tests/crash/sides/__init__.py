"""The platforms of the crash tests, each as the side of a team on it."""

from __future__ import annotations

from tests.crash.sides.azureml import AzureMLSide
from tests.crash.sides.base import Side
from tests.crash.sides.databricks import DatabricksSide

SIDES: dict[str, type[Side]] = {"databricks": DatabricksSide, "azureml": AzureMLSide}
