"""The exact command that mends what is missing. Pure; used by `answers`, `preflight` and what collects results.

Roles: Azure documentation, "Manage access to Azure Machine Learning workspaces" (AzureML Data Scientist may do all but
make compute and change the workspace); commands: Azure CLI, `az role assignment create`.
"""

import re
import shlex

# "The client 'X' with object id 'Y' does not have authorization to perform action 'A' over scope 'S' or the scope is
# invalid." (Azure documentation, "Troubleshoot Azure RBAC").
_REFUSED = re.compile(
    r"client '([^']+)' with object id '([^']+)' does not have (?:authorization|permission) to perform action '([^']+)' "
    r"over scope '([^']+)'"
)
_WORKSPACE = re.compile(r"(/subscriptions/.+?/providers/Microsoft\.MachineLearningServices/workspaces/[^/]+)", re.I)
_GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

DATA_SCIENTIST = "AzureML Data Scientist"
COMPUTE_OPERATOR = "AzureML Compute Operator"
BLOB_READER = "Storage Blob Data Reader"
MONITORING_READER = "Monitoring Reader"
MAY_TAKE = "A new role assignment takes some minutes to be known."


def role_for(action: str) -> str:
    """The smallest built-in role that permits an action of the operator's."""
    lower = action.lower()
    if lower.startswith("microsoft.insights/"):
        return MONITORING_READER
    if lower.startswith("microsoft.storage/"):
        return BLOB_READER
    if "/workspaces/computes/" in lower and not lower.endswith("/read"):
        return COMPUTE_OPERATOR
    return DATA_SCIENTIST


def assignment(role: str, holder: str, scope: str) -> str:
    """The command that gives somebody a role on a scope. `holder` is an object id or a client id."""
    return f'az role assignment create --assignee {shlex.quote(holder)} --role "{role}" --scope {shlex.quote(scope)}'


def of_refusal(words: str) -> str:
    """The command that permits what Azure Resource Manager's sentence says was refused; empty where it says none."""
    said = _REFUSED.search(words)
    if said is None:
        return ""
    client, object_id, action, scope = said.groups()
    workspace = _WORKSPACE.match(scope)
    holder = object_id if _GUID.fullmatch(object_id) else client
    return f"{assignment(role_for(action), holder, workspace[1] if workspace else scope)}. {MAY_TAKE}"
