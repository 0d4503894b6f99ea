"""Where a deployment is asked, and whether a credential may be sent there. Pure; used by score.py.

A status names the endpoint; the platform's rules on hosts say whether it is one: the same that the operator goes by
(identity/hosts.py, identity/clouds.py). Nothing in the cluster can widen them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from trainyard.client.deployment import Deployment
from trainyard.client.errors import NotAllowed, NotFound, named
from trainyard.core.errors import IdentityError
from trainyard.identity import clouds
from trainyard.identity.hosts import DEFAULT_ALLOWED, HostPolicy, origin_of


@dataclass(frozen=True, slots=True)
class Place:
    """Where rows are sent. `served` is what is asked by itself, or None for whichever the shares give.

    `origin` is the workspace's on Databricks and Azure Resource Manager's on Azure ML, where `path` is the endpoint's
    resource id. `auth` is Token or Key. `tenant` is the Entra tenant of the workspace's identity, where it has one.
    """

    platform: str
    origin: str
    endpoint: str
    url: str
    served: str | None = None
    auth: str = "Token"
    path: str = ""
    tenant: str | None = None
    cloud: clouds.Cloud | None = None


def place_of(deployment: Deployment, served: str | None = None, allowed_hosts: Sequence[str] = ()) -> Place:
    """The place. Raises NotFound where nothing is served (under that name), NotAllowed for a host of no platform."""
    endpoint = deployment.status.endpoint
    if endpoint is None or not endpoint.url:
        raise NotFound(
            f"{named(deployment)} has no endpoint yet: it is {deployment.phase or 'not seen by the operator'}"
            + (f" ({deployment.message})" if deployment.message else ""),
            deployment,
        )
    wanted = None if served is None else _served(deployment, served)
    try:
        if endpoint.platform == "databricks":
            origin = HostPolicy([*DEFAULT_ALLOWED, *allowed_hosts]).check(endpoint.host)
            return _databricks(deployment, origin, endpoint.name, endpoint.url, wanted)
        workspace = clouds.workspace_of(endpoint.host)
    except IdentityError as error:
        raise NotAllowed(f"{error.message} (--allowed-host, --azure-cloud)", deployment) from error
    if not workspace.cloud.is_scoring(endpoint.url):
        raise _foreign(deployment, endpoint.url, f"endpoints of {workspace.cloud.name}")
    return Place(
        platform="azureml",
        origin=workspace.cloud.resource_manager,
        endpoint=endpoint.name,
        url=endpoint.url,
        served=wanted,
        auth=deployment.spec.auth or "Token",
        path=f"{workspace.path}/onlineEndpoints/{quote(endpoint.name, safe='')}",
        tenant=endpoint.tenant,
        cloud=workspace.cloud,
    )


def _databricks(deployment: Deployment, origin: str, name: str, url: str, served: str | None) -> Place:
    if origin_of(url) != origin:
        raise _foreign(deployment, url, f"the workspace {origin}")
    if served is not None:
        base = f"{origin}/serving-endpoints/{quote(name, safe='')}"
        url = f"{base}/served-models/{quote(served, safe='')}/invocations"
    return Place("databricks", origin, name, url, served)


def _served(deployment: Deployment, name: str) -> str:
    found = deployment.served(name)
    if found is None or found.state == "Absent":
        there = [each for each in deployment.status.served_models if each.state != "Absent"]
        known = ", ".join(f"{each.name} ({each.served})" for each in there) or "nothing"
        raise NotFound(f"{named(deployment)} serves no {name}; it serves {known}", deployment)
    return found.served


def _foreign(deployment: Deployment, url: str, what: str) -> NotAllowed:
    return NotAllowed(
        f"status.endpoint.url of {named(deployment)}, {url[:200]!a}, is not on a host of {what}: nothing is sent there",
        deployment,
    )
