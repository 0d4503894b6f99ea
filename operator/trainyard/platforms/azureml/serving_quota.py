"""Whether the quota allows for everything that a plan has behind an endpoint at the same time. Only reads.

Called by `serving`. A deployment takes the vCPUs of ceil(1.2 * its machines) of its family's quota for as long as it is
there, failed ones as well (Azure documentation, "Manage and increase quotas"); so a canary needs room for both sides.
"""

from collections.abc import Callable, Mapping
from typing import Any

from trainyard.core.errors import Denied, Missing
from trainyard.platforms.azureml.machines import Machines
from trainyard.platforms.azureml.needs import reserved
from trainyard.platforms.azureml.serving_steps import capacity_of
from trainyard.platforms.base import Need
from trainyard.platforms.verdicts import Found, NotToldError, missing, passed

Json = Mapping[str, Any]


class ServingQuota:
    """Looks for one plan.

    Args:
        machines: what tells of the region.
        planned: the deployments of the plan, by name.
        there: asks for the endpoint's deployments as they are.
    """

    def __init__(
        self, machines: Machines, planned: Mapping[str, Json], there: Callable[[], Mapping[str, Json]]
    ) -> None:
        self._machines = machines
        self._planned = planned
        self._there = there
        self._sizes: dict[str, tuple[str, int]] = {}

    def check(self, need: Need) -> Found:
        """A size of machines: that the region has it, and that its family's quota has room for the whole plan."""
        try:
            family, cores = self._family(need.name)
        except Missing as error:
            return missing(f"{error.message}; correct the compute class")
        if not cores:
            raise NotToldError(f"the region does not tell how many vCPUs a {need.name} has")
        try:
            quota = self._machines.used(family)
        except Denied as error:
            raise NotToldError("quotas can be seen with a role on the subscription alone (Reader)") from error
        wanted = self._cores(self._planned, family)
        if quota is None:
            return passed(f"no quota limits {need.name}; the plan takes {wanted} vCPUs")
        name, used, limit = quota
        have = self._cores(self._there(), family)
        others = max(0, (used or 0) - have)
        told = f"{name}: {limit} vCPUs, of which others use {others}; the plan takes {wanted} with what serves now"
        if others + wanted <= limit:
            return passed(told)
        return missing(
            f"{told} (a fifth is added for upgrades): ask for more in the portal (Quotas > Machine Learning), use "
            "another compute class, fewer replicas, or delete other deployments"
        )

    def _family(self, size: str) -> tuple[str, int]:
        if size not in self._sizes:
            self._sizes[size] = self._machines.family(size)
        return self._sizes[size]

    def _cores(self, deployments: Mapping[str, Json], family: str) -> int:
        """The vCPUs that these take of the family's quota."""
        total = 0
        for each in deployments.values():
            try:
                theirs, cores = self._family(str((each.get("properties") or {}).get("instanceType") or ""))
            except Missing:
                continue
            total += reserved(capacity_of(each) or 1) * cores if theirs == family else 0
        return total
