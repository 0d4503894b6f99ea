"""What a plan leaves as it is seen: deployments of which the workspace no longer says how they are made. Pure.

Called by `serving`: shares can be given and taken by such a plan as by any other (platforms.serving.EndpointRequest).
"""

from collections.abc import Mapping
from typing import Any

from trainyard.core.errors import Refused
from trainyard.platforms.azureml.serving_steps import Seen
from trainyard.platforms.serving import EndpointRequest


def as_seen(seen: Seen, request: EndpointRequest) -> dict[str, Mapping[str, Any]]:
    """The request's deployments, completed by what is kept of those that are there. What is not there and has no share
    is left out.

    Raises the request's `why` where what is not there is to answer.
    """
    found = dict(request.body["deployments"])
    for name in sorted(request.kept & found.keys()):
        there = seen.deployments.get(name)
        if there is not None:
            properties = there.get("properties") or {}
            kept = {key: properties.get(key) for key in ("instanceType", "requestSettings")}
            own = {key: value for key, value in kept.items() if value is not None}
            found[name] = {**found[name], "properties": {**found[name]["properties"], **own}}
        elif request.plan.traffic.get(name):
            raise request.why or Refused(f"deployment {name} is not there, and nothing says how it is made")
        else:
            del found[name]
    return found
