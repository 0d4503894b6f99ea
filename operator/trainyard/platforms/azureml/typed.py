"""azure-ai-ml's MLClient, pointed at one workspace and bound to a session of ours. Made by `client`, for typed reads.

MLClient's way to a cloud of one's own (`cloud`, `cloud_metadata`) writes to the process's environment and to a table of
the module (azure-ai-ml `_azure_environments.py`); it reads both again while it is built, and never afterwards in the
reads that are made here. So clients are built one at a time.
"""

import hashlib
import json
import logging
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

from trainyard.identity.clouds import Cloud, Workspace
from trainyard.platforms.azureml.planes import user_agent

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.core.credentials import AccessToken
    from azure.core.pipeline.transport import RequestsTransport

_building = threading.Lock()


class NoCredential:
    """A credential with nothing in it: the session puts the token on each request, by where it goes (`planes`)."""

    def get_token(self, *scopes: str, **options: Any) -> "AccessToken":  # noqa: ARG002 - the protocol's signature
        """A placeholder; the session takes it off again."""
        from azure.core.credentials import AccessToken

        return AccessToken("none", int(time.time()) + 3600)


def ml_client(workspace: Workspace, transport: "RequestsTransport") -> "MLClient":
    """A client of the workspace; sends nothing.

    Nothing is retried; its time limits are the session's (`audit.transport`), not its own.
    """
    with _building:
        with warnings.catch_warnings():
            # Its schemas use what marshmallow 3 says marshmallow 4 will not have.
            warnings.simplefilter("ignore")
            from azure.ai.ml import MLClient
        metadata = _metadata(workspace.cloud)
        credential: Any = NoCredential()
        client = MLClient(
            credential,
            workspace.subscription_id,
            workspace.resource_group,
            workspace.name,
            # A name once known is never read anew: other values need another name.
            cloud=f"{workspace.cloud.name}-{hashlib.sha256(json.dumps(metadata).encode()).hexdigest()[:12]}",
            cloud_metadata=metadata,
            show_progress=False,
            enable_telemetry=False,
            transport=transport,
            retry_total=0,
            user_agent=user_agent(),
        )
        # It sets the level of this one itself, to tell how each call ended: that a thing is not there is no news.
        logging.getLogger("azure.ai.ml._telemetry").setLevel(logging.CRITICAL)
        return client


def _metadata(cloud: Cloud) -> dict[str, str]:
    return {
        # Neither the portal nor registries are asked anything here.
        "azure_portal": cloud.studio,
        "resource_manager": cloud.resource_manager,
        "active_directory": cloud.authority,
        "aml_resource_id": cloud.ml_resource,
        "storage_endpoint": cloud.storage_suffix,
        "registry_discovery_endpoint": cloud.resource_manager,
    }
