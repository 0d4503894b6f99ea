"""Whether this identity may do something in the workspace, as Azure Resource Manager tells whoever asks of themselves.

Called by `preflight`. Request and answer: Azure REST API reference, "Permissions - List For Resource"; how actions and
notActions are put together: Azure documentation, "Understand Azure role definitions".
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from trainyard.platforms.azureml import remedies
from trainyard.platforms.azureml.client import AzureMLClient
from trainyard.platforms.base import Need
from trainyard.platforms.verdicts import Found, NotToldError, missing, passed

VERSION = "2022-04-01"
PATH = "/providers/Microsoft.Authorization/permissions"


class Rights:
    """Asks once, when the first right is looked at."""

    def __init__(self, client: AzureMLClient) -> None:
        self._client = client
        self._held: Sequence[Mapping[str, Any]] | None = None

    def action(self, need: Need) -> Found:
        """An action on the workspace."""
        if need.holder != self._client.principal:
            raise NotToldError(f"the platform does not tell what {need.holder} may do")
        if self._held is None:
            self._held = [row for page in self._client.pages(PATH, VERSION) for row in page]
        if any(permits(row, need.right) for row in self._held):
            return passed("a role permits it")
        role = remedies.role_for(need.right)
        command = remedies.assignment(role, need.holder, self._client.workspace.path)
        return missing(f"no role permits it: {command}. {remedies.MAY_TAKE}")


def permits(role: Mapping[str, Any], action: str) -> bool:
    """Whether one of the roles that are held permits an action."""
    allowed = any(_matches(pattern, action) for pattern in role.get("actions") or ())
    return allowed and not any(_matches(pattern, action) for pattern in role.get("notActions") or ())


def _matches(pattern: str, action: str) -> bool:
    expression = ".*".join(re.escape(part) for part in str(pattern).split("*"))
    return re.fullmatch(expression, action, re.IGNORECASE) is not None
