"""Arithmetic of plans: shares between two revisions, and what tells one plan from another. Pure."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from trainyard.api.deployment_status import Serving
from trainyard.core.serving.plan import EndpointPlan

ALL = 100


def shares(before: Sequence[Serving], after: Sequence[Serving], percent: int) -> dict[str, int]:
    """The share of each served model when `after` gets `percent` of the requests, and `before` the others.

    Within each of the two, shares are as its revision has them. They are whole and sum to 100; what rounding leaves
    goes to the largest remainders. A model that both serve has the sum. Models without a share stand in it with 0.
    """
    exact: dict[str, float] = {}
    for served, part in ((before, ALL - percent), (after, percent)):
        for each in served:
            exact[each.served] = exact.get(each.served, 0.0) + each.traffic * part / ALL
    whole = {name: int(share + 1e-9) for name, share in exact.items()}
    left = ALL - sum(whole.values())
    by_remainder = sorted(exact, key=lambda name: (whole[name] - exact[name], name))
    for name in by_remainder[:left]:
        whole[name] += 1
    return whole


_NOT_SEEN = {"origin", "source", "traffic", "name"}


def plan_digest(plan: EndpointPlan) -> str:
    """Tells plans apart by everything that can be seen of the endpoint; the number of the revision is not among it."""
    seen = {
        "endpoint": plan.endpoint,
        "uid": plan.owner.uid,
        "served": [each.model_dump(mode="json", exclude=_NOT_SEEN) for each in plan.served],
        "traffic": dict(plan.traffic),
        "auth": plan.auth,
        "request_logging": plan.request_logging.wire() if plan.request_logging is not None else None,
        "tags": dict(plan.tags),
        "permissions": [each.wire() for each in plan.permissions],
    }
    return digest_of(seen)


def revision_digest(served: Sequence[Serving]) -> str:
    """Tells revisions apart by what they serve; where it came from is not among it."""
    return digest_of([each.model_dump(mode="json", exclude={"origin", "source"}) for each in served])


def served_name(name: str, content: Mapping[str, object]) -> str:
    """What a served model is called behind the endpoint: its name, with what would need another server.

    Letters, digits and - (Azure ML takes 3 to 32 characters that begin with a letter; `name` has 20 at most).
    """
    return f"{name}-{digest_of(content)[-8:]}"


def digest_of(value: object) -> str:
    """A digest of anything that JSON can say."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=asdict)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
