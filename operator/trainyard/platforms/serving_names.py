"""What an endpoint is called where a ModelDeployment names none, and whose it is. Pure; called by the platforms."""

import hashlib
import re
from collections.abc import Mapping

from trainyard.api.workspace import MLWorkspaceSpec
from trainyard.core.errors import Refused
from trainyard.core.serving.plan import EndpointPlan

# The narrower of the two platforms: 3 to 32 letters, digits and -, beginning with a letter and not ending in -
# (https://learn.microsoft.com/azure/machine-learning/reference-yaml-endpoint-online). Databricks takes 63, and _ too
# (https://docs.databricks.com/api/workspace/servingendpoints/create).
AZURE_ML_MOST = 32
DATABRICKS_MOST = 63

_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9-]+")
_DIGEST = 6
# On an endpoint of either platform: the namespace of the deployment that it belongs to.
TAG_NAMESPACE = "trainyard_namespace"


def endpoint_name(wanted: str | None, workspace: MLWorkspaceSpec, namespace: str, name: str, *, most: int) -> str:
    """`wanted`, or the workspace's endpointPrefix, the namespace and the name, joined by -; at most `most` characters.

    Where something had to be cut or replaced, it ends in a short digest of all three, so that two never become one.
    """
    if wanted is not None:
        return wanted
    whole = "-".join(filter(None, (workspace.endpoint_prefix, namespace, name)))
    plain = _NOT_IN_NAME.sub("-", whole)
    if not plain[0].isalpha():
        plain = f"e{plain}"
    if plain == whole and len(plain) <= most:
        return plain
    digest = hashlib.sha256(f"{workspace.endpoint_prefix or ''}/{namespace}/{name}".encode()).hexdigest()[:_DIGEST]
    return f"{plain[: most - _DIGEST - 1].rstrip('-')}-{digest}"


def refuse_adoption(plan: EndpointPlan, tags: Mapping[str, object]) -> None:
    """Keeps `spec.adopt` from what a deployment of another namespace has: one identity may work for several of them.

    Args:
        tags: those of an endpoint that is not the plan's.

    Raises:
        Refused: EndpointNameTaken.
    """
    theirs = tags.get(TAG_NAMESPACE)
    if plan.adopt and theirs and theirs != plan.owner.namespace:
        raise Refused(
            f"endpoint {plan.endpoint} belongs to a deployment of another namespace, from which spec.adopt takes "
            f"nothing: use another spec.endpoint, or have who owns it take its tag {TAG_NAMESPACE} off",
            reason="EndpointNameTaken",
        )
