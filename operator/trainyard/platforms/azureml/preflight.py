"""Looks, before anything is started, at each right and thing that a request will fail without. Only reads.

Called by `connection` and `serving` in a lane's thread. Things are read by azure-ai-ml's typed calls. What is missing
is told with the command that makes or grants it; what the platform does not let this identity find out is Unknown,
never Missing: a run that might work is not held up. Nothing is remembered here: rights change while an operator runs.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote

from trainyard.core.errors import Denied, Missing, Refused
from trainyard.core.remote import Finding
from trainyard.platforms.azureml import needs
from trainyard.platforms.azureml.client import AzureMLClient
from trainyard.platforms.azureml.jobs import READ_VERSION
from trainyard.platforms.azureml.machines import Machines, word
from trainyard.platforms.azureml.rights import Rights
from trainyard.platforms.base import Need, Request
from trainyard.platforms.verdicts import Check, Found, NotToldError, missing, passed

# Seconds for all checks together; whoever waits for them gives up soon after.
PATIENCE = 35.0
MAX_NAME = 512
MAX_FIELD = 128
MAX_MESSAGE = 1024


def findings(client: AzureMLClient, request: Request) -> tuple[Finding, ...]:
    """What each need of the request meets, in their order.

    Raises:
        Unreachable, Unauthenticated, IdentityError: nothing can be found out at the moment.
    """
    things, machines, rights = Things(client), Machines(client, request.body), Rights(client)
    checks: Mapping[str, Check] = {
        needs.WORKSPACE: rights.action,
        needs.COMPUTE: machines.compute,
        needs.VM_SIZE: machines.size,
        needs.VM_QUOTA: machines.quota,
        needs.MANAGED_IDENTITY: machines.identity,
        needs.ENVIRONMENT: things.environment,
        needs.DATA: things.data,
        needs.MODEL: things.model,
        needs.DATASTORE: things.datastore,
        needs.JOB: things.job,
    }
    return looked_at(request.needs, checks)


def looked_at(needed: Iterable[Need], checks: Mapping[str, Check]) -> tuple[Finding, ...]:
    """What each need meets by the check of its kind, in their order; errors as `findings`."""
    until = time.monotonic() + PATIENCE
    return tuple(_finding(need, checks.get(need.kind), until) for need in needed)


def _finding(need: Need, check: Check | None, until: float) -> Finding:
    name = need.right if need.kind == needs.WORKSPACE else f"{need.right} on {need.kind} {need.name}"
    name, field = name[:MAX_NAME], need.field[:MAX_FIELD]
    if check is None:
        return Finding(name, field, "Unknown", f"this version does not know how to look at a {need.kind}")
    if time.monotonic() > until:
        return Finding(name, field, "Unknown", "there was no time left to look")
    try:
        found = check(need)
    except NotToldError as untold:
        return Finding(name, field, "Unknown", untold.message[:MAX_MESSAGE])
    except (Denied, Missing, Refused) as error:
        return Finding(name, field, "Unknown", f"can not be found out: {error.message}"[:MAX_MESSAGE])
    return Finding(name, field, found.outcome, found.message[:MAX_MESSAGE])


class Things:
    """Assets, datastores and jobs of the workspace: that they are there."""

    def __init__(self, client: AzureMLClient) -> None:
        self._client = client

    def environment(self, need: Need) -> Found:
        """An environment of the workspace."""
        return self._asset(need, lambda ml, name, **which: ml.environments.get(name, **which))

    def data(self, need: Need) -> Found:
        """A data asset of the workspace."""
        return self._asset(need, lambda ml, name, **which: ml.data.get(name, **which))

    def model(self, need: Need) -> Found:
        """A registered model that is read."""
        return self._asset(need, lambda ml, name, **which: ml.models.get(name, **which))

    def datastore(self, need: Need) -> Found:
        """A datastore. Whether storage itself lets the code read and write there is only known when it does."""
        try:
            found = self._client.typed(lambda ml: ml.datastores.get(need.name))
        except Missing:
            return missing(f"the workspace has no datastore {need.name}; correct the uri or the workspace's dataRoots")
        return passed(f"{word(found.type) or 'a datastore'}; what storage permits is known when the code asks for it")

    def job(self, need: Need) -> Found:
        """The job that is copied."""
        try:
            self._client.do("GET", f"/jobs/{quote(need.name, safe='')}", READ_VERSION)
        except Missing:
            return missing(f"the workspace has no job {need.name}: correct spec.jobRef.name")
        return passed("its definition can be read")

    def _asset(self, need: Need, get: Callable[..., Any]) -> Found:
        if need.name.startswith("azureml:"):
            raise NotToldError("what is in a registry is not looked at")
        name, which = _version(need.name)
        try:
            found = self._client.typed(lambda ml: get(ml, name, **which))
        except Missing:
            return missing(f"the workspace has no {need.kind} {need.name}; correct it, or register it")
        return passed(f"version {found.version}")


def _version(text: str) -> tuple[str, dict[str, str]]:
    """NAME:VERSION or NAME@latest, as the typed calls want them."""
    name, at, label = text.partition("@")
    if at:
        return name, {"label": label}
    name, _, version = text.partition(":")
    return name, {"version": version} if version else {"label": "latest"}
