"""What an endpoint has to be, in words that hold for every platform. Made by the rules, followed by `platforms`; pure.

A plan says where to be, not how to get there: the platform's part compares it with what is there and does the next
thing that is safe. So any plan may replace another at any moment, and a kill between two requests changes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from trainyard.api.deployment_status import Serving
from trainyard.api.model_deployment import EndpointPermission, RequestLogging


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose endpoint it is; put on it as tags, and looked for before anything is changed."""

    namespace: str
    name: str
    uid: str
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class EndpointPlan:
    """What has to be behind the endpoint now, and with which shares.

    `served` is all that has to be there, ready or on its way; what is not in it goes once it has no traffic. `traffic`
    holds a percentage by `Serving.served`; it sums to 100, or is empty as long as nothing is to answer. The platform
    gives a share only to what is ready, and keeps the old shares until then.
    Without `served`, nothing is to cost anything: the endpoint itself may go (`Endpoints.reach` decides by platform).
    """

    endpoint: str
    owner: Owner
    revision: int
    served: tuple[Serving, ...]
    traffic: Mapping[str, int]
    adopt: bool = False
    auth: str = "Token"
    request_logging: RequestLogging | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    permissions: tuple[EndpointPermission, ...] = ()
