"""Names that Trainyard gives to things on Azure ML: assets, tags, inputs of its own. Pure.

Resource ids are paths below Azure Resource Manager's address, as azure-ai-ml has them (constants/_common.py,
VERSIONED_RESOURCE_ID_FORMAT).
"""

import hashlib
import uuid
from urllib.parse import urlsplit

from trainyard.core.snapshot import Target

TAG_CLUSTER = "trainyard_cluster"
TAG_NAMESPACE = "trainyard_namespace"
TAG_NAME = "trainyard_name"
TAG_UID = "trainyard_uid"
TAG_ATTEMPT = "trainyard_attempt"
TAG_TOKEN = "trainyard_token"  # noqa: S105 - the name of a tag
TAG_COMMIT = "trainyard_commit"
TAG_REQUESTED_BY = "trainyard_requested_by"

# Azure ML's registry has no aliases, so that a version has its alias as a tag.
ALIAS_TAG = "alias"

# Inputs of a job that are the operator's; a run's own must not begin like them.
OUR_INPUTS = "trainyard_"
CODE_INPUT = "trainyard_code"
WHEEL_INPUT = "trainyard_wheel"

# As azure-ai-ml calls an environment that is described in a job (constants/_common.py, ANONYMOUS_ENV_NAME).
ANONYMOUS_ENVIRONMENT = "CliV2AnonymousEnvironment"

# Limits of runs: https://learn.microsoft.com/azure/machine-learning/resource-limits-capacity
MAX_DISPLAY_NAME = 256
MAX_TAGS = 50
MAX_TAG_KEY = 100
MAX_TAG_VALUE = 1000


def workspace_id(target: Target) -> str:
    """The ARM id of the workspace: /subscriptions/S/resourceGroups/G/providers/.../workspaces/W."""
    return urlsplit(target.host).path


def code_folder(principal: str, scope: str, digest: str) -> str:
    """The code asset of these exact source files, as a path below the workspace's id.

    Azure ML's own tools name anonymous code by a GUID (azure-ai-ml operations/_code_operations.py). This one comes from
    the content, so that an attempt that is submitted again names the same asset. Azure ML lets nobody change an asset
    that is there; principal and scope keep what one identity uploaded from being what another one starts.
    """
    named = hashlib.sha256("\n".join((principal, scope, digest)).encode()).digest()
    return f"codes/{uuid.UUID(bytes=named[:16])}/versions/1"
