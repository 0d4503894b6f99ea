"""How the body of a job has to be put, by what is in it. Pure. Called by `Connection.submit`.

Read in azure-ai-ml operations/_job_operations.py: create_or_update, _create_or_update_with_different_version_api and
_set_headers_with_user_aml_token.
"""

from collections.abc import Mapping
from typing import Any

# The header that hands the submitter's token for Azure ML's data plane on to the job.
USER_TOKEN_HEADER = "x-azureml-token"  # noqa: S105 - the name of a header
_VERSIONS = {"Sweep": "2024-01-01-preview", "Pipeline": "2024-01-01-preview"}
_COMMAND_VERSION = "2025-01-01-preview"


def put_version(body: Mapping[str, Any]) -> str:
    """The api-version for a job's PUT; `body` is {"properties": {...}}."""
    return _VERSIONS.get(str(body["properties"].get("jobType")), _COMMAND_VERSION)


def hands_on_user_token(body: Mapping[str, Any]) -> bool:
    """Whether the PUT has to carry USER_TOKEN_HEADER: for a Pipeline, and for code that runs as the submitter."""
    properties = body["properties"]
    identity = properties.get("identity") or {}
    return properties.get("jobType") == "Pipeline" or identity.get("identityType") == "UserIdentity"
