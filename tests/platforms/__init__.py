"""The platforms that tests are run on, each behind a driver.

A test takes the fixture `platform_name`; a module that is to hold on every platform says

    pytestmark = on_every_platform

and what it asks of `scene.platform` is asked of each in turn.
"""

import pytest

from stand import Stand
from tests.platforms.azureml import AzureMLDriver
from tests.platforms.base import PlatformDriver
from tests.platforms.databricks import DatabricksDriver

DRIVERS: dict[str, type[PlatformDriver]] = {"databricks": DatabricksDriver, "azureml": AzureMLDriver}
NAMES = tuple(DRIVERS)

on_every_platform = pytest.mark.parametrize("platform_name", NAMES)


def drivers(stand: Stand) -> dict[str, PlatformDriver]:
    """A driver for each platform of the stand, by its name."""
    return {name: made(stand) for name, made in DRIVERS.items()}
