"""How often Azure lets one principal ask; used by `platform`. Pure.

Azure Resource Manager counts for each subscription, principal and region: 250 reads and 200 writes, of which 25 reads
and 10 writes a second come back ("Understand how Azure Resource Manager throttles requests", Microsoft). Its data plane
and storage count for themselves, and a 429 of theirs pauses the lane of their workspace alone.
"""

from trainyard.core.snapshot import Target
from trainyard.identity import clouds
from trainyard.platforms.limits import Quota

# A run costs about four calls: a look at its rights, the submission, looks while it runs, its result; together about
# ten reads and two writes. At this rate that is 25 reads a second, the first of the limits to be reached.
CALLS_PER_SECOND = 10.0
BURST = 60


def quota_of(target: Target) -> Quota:
    """One for all workspaces of a subscription, as one principal. Raises IdentityError as `clouds.workspace_of`."""
    workspace = clouds.workspace_of(target.host)
    key = f"azureml {workspace.cloud.resource_manager} {workspace.subscription_id} {target.principal.lower()}"
    return Quota(key, CALLS_PER_SECOND, BURST)
