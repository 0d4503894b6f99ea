"""Which platform a workspace is. Called by `controllers`; imports a platform's folder only when one needs it."""

from typing import cast

from trainyard.api.workspace import MLWorkspaceSpec
from trainyard.platforms.base import Platform
from trainyard.platforms.serving import ServingPlatform


def platform_name(workspace: MLWorkspaceSpec) -> str:
    """What the platform of the workspace is called."""
    return "databricks" if workspace.azure_ml is None else "azureml"


def platform_of(workspace: MLWorkspaceSpec) -> Platform:
    """The platform that the workspace is on."""
    return platform_named(platform_name(workspace))


def platform_named(name: str) -> Platform:
    """The platform that an attempt is pinned to.

    Raises:
        ValueError: this version does not have it.
    """
    if name == "databricks":
        from trainyard.platforms.databricks.platform import Databricks

        return Databricks()
    if name == "azureml":
        from trainyard.platforms.azureml.platform import AzureML

        return AzureML()
    raise ValueError(f"unknown platform {name!r}")


def serving(platform: Platform) -> ServingPlatform:
    """What that platform has for endpoints: the same object, by its other contract."""
    return cast(ServingPlatform, platform)
