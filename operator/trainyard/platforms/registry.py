"""Which platform a workspace is. Called by `controllers`; imports a platform's folder only when one needs it."""

from trainyard.api.workspace import MLWorkspaceSpec
from trainyard.platforms.base import Platform


def platform_of(workspace: MLWorkspaceSpec) -> Platform:  # noqa: ARG001 - one kind of workspace in this version
    """The platform that the workspace is on."""
    return platform_named("databricks")


def platform_named(name: str) -> Platform:
    """The platform that an attempt is pinned to.

    Raises:
        ValueError: this version does not have it.
    """
    if name == "databricks":
        from trainyard.platforms.databricks.platform import Databricks

        return Databricks()
    raise ValueError(f"unknown platform {name!r}")
