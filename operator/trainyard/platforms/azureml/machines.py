"""Whether the machines that a request asks for are there and can ever be had. Only reads; used by `preflight`.

Read through azure-ai-ml's typed calls (compute.get, list_sizes, list_usage).
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from trainyard.core.errors import Denied, Missing, Refused
from trainyard.platforms.azureml import needs
from trainyard.platforms.azureml.client import AzureMLClient
from trainyard.platforms.azureml.computing import machine_count
from trainyard.platforms.base import Need
from trainyard.platforms.verdicts import Found, NotToldError, missing, passed

if TYPE_CHECKING:
    from azure.ai.ml.entities import Compute

NO_LIMIT = -1
# Of ComputeResource's ProvisioningState, those that no time mends; the others come to be Succeeded.
UNSOUND = frozenset({"Failed", "Canceled", "Deleting"})


class Machines:
    """Looks through one client, for one request's body."""

    def __init__(self, client: AzureMLClient, body: Mapping[str, Any]) -> None:
        self._client = client
        self._properties: Mapping[str, Any] = body.get("properties") or {}

    def compute(self, need: Need) -> Found:
        """A compute of the workspace: that it is there, sound, and large enough."""
        found = self._compute(need.name)
        if found is None:
            return missing(
                f"the workspace has no compute {need.name}: az ml compute create --name {need.name} --type AmlCompute "
                f"--size SIZE --max-instances N {self._place()}, or correct the workspace's compute class"
            )
        state = word(found.provisioning_state)
        if state in UNSOUND:
            return missing(
                f"compute {need.name} is {state}: look at it in the studio, or az ml compute show --name {need.name} "
                f"{self._place()}"
            )
        most, wanted = getattr(found, "max_instances", None), self._count()
        if isinstance(most, int) and wanted > most:
            return missing(
                f"compute {need.name} has at most {most} machines, and the run asks for {wanted}: az ml compute update "
                f"--name {need.name} --max-instances {wanted} {self._place()}"
            )
        size = getattr(found, "size", None)
        return passed(f"{word(found.type) or 'compute'}{f' of {size}' if size else ''}, up to {most or 1} machines")

    def size(self, need: Need) -> Found:
        """A size of virtual machines for serverless compute: that the region has it, and the quota allows for it."""
        row = self._size(need)
        if row is None:
            return missing(f"the workspace's region has no machines of size {need.name}; correct the compute class")
        cores = _cores(row)
        told = f"the region has it ({cores} vCPUs)" if cores else "the region has it"
        if cores is None:
            return passed(told)
        try:
            limit = self._limit(row)
        except (Denied, Missing, Refused):
            return passed(f"{told}; its quota can not be seen")
        wanted = cores * self._count()
        return passed(told) if limit is None or limit[1] >= wanted else _too_small(limit, wanted)

    def quota(self, need: Need) -> Found:
        """The quota alone of such a size; asked for by `trainyard doctor`, as a run's own need has both in one."""
        row = self._size(need)
        cores = _cores(row) if row is not None else None
        if row is None or cores is None:
            raise NotToldError(f"the region does not tell how many vCPUs a {need.name} has")
        try:
            limit = self._limit(row)
        except Denied as error:
            raise NotToldError("quotas can be seen with a role on the subscription alone (Reader)") from error
        wanted = cores * self._count()
        if limit is None:
            return passed(f"no quota limits {need.name}")
        return (
            passed(f"{limit[0]}: {limit[1]} vCPUs, a run takes {wanted}")
            if limit[1] >= wanted
            else _too_small(limit, wanted)
        )

    def family(self, size: str) -> tuple[str, int]:
        """The family of a size, in lower case, and the vCPUs of one such machine; 0 if the region does not tell.

        Raises:
            NotToldError: sizes can not be seen.
            Missing: the region has none of that name.
        """
        row = self._size(Need(needs.VM_SIZE, size, needs.EXISTS, "", ""))
        if row is None:
            raise Missing(f"the workspace's region has no machines of size {size}")
        return str(row.get("family") or "").lower(), _cores(row) or 0

    def used(self, family: str) -> tuple[str, int | None, int] | None:
        """The quota of a family: its name, the vCPUs in use (None if not told) and the limit; None without a limit.

        Raises:
            Denied: quotas can not be seen.
        """
        for usage in self._usages():
            limit, used = usage.get("limit"), usage.get("current_value")
            if _name(usage).lower() == family and isinstance(limit, int) and limit != NO_LIMIT:
                return _name(usage), used if isinstance(used, int) else None, limit
        return None

    def identity(self, need: Need) -> Found:
        """A managed identity: that it is one of the compute's, as code on it can use no other."""
        name = str(self._properties.get("computeId") or "").rpartition("/")[2]
        if not name:
            raise NotToldError("serverless compute does not tell which identities it may use")
        found = self._compute(name)
        if found is None:
            raise NotToldError(f"the workspace has no compute {name}")
        assigned = getattr(getattr(found, "identity", None), "user_assigned_identities", None) or ()
        if need.name.lower() in {_client_id(each).lower() for each in assigned}:
            return passed(f"compute {name} has it")
        return missing(
            f"compute {name} does not have the managed identity {need.name}: az ml compute update --name {name} "
            f"--identity-type UserAssigned --user-assigned-identities RESOURCE_ID {self._place()}"
        )

    def _compute(self, name: str) -> "Compute | None":
        try:
            found: Compute = self._client.typed(lambda ml: ml.compute.get(name))
        except Missing:
            return None
        return found

    def _size(self, need: Need) -> dict[str, Any] | None:
        """What the region says of a size; None if it has none of that name."""
        try:
            sizes = {str(row.get("name", "")).lower(): row for row in self._sizes()}
        except Denied as error:
            raise NotToldError(
                "the region's sizes of machines can be seen with a role on the subscription alone (Reader)"
            ) from error
        if not sizes:
            raise NotToldError("the region's sizes of machines are not listed")
        return sizes.get(need.name.lower())

    def _limit(self, row: Mapping[str, Any]) -> tuple[str, int] | None:
        """The quota of a size's family, by its name, in vCPUs; None where there is no limit."""
        family = str(row.get("family") or "").lower()
        for usage in self._usages():
            limit = usage.get("limit")
            if _name(usage).lower() == family and isinstance(limit, int) and limit != NO_LIMIT:
                return _name(usage), limit
        return None

    def _sizes(self) -> Iterator[dict[str, Any]]:
        yield from self._client.typed(lambda ml: [vars(each) for each in ml.compute.list_sizes()])

    def _usages(self) -> Iterator[dict[str, Any]]:
        yield from self._client.typed(lambda ml: [vars(each) for each in ml.compute.list_usage()])

    def _count(self) -> int:
        return machine_count(self._properties)

    def _place(self) -> str:
        workspace = self._client.workspace
        return f"--resource-group {workspace.resource_group} --workspace-name {workspace.name}"


def _cores(row: Mapping[str, Any]) -> int | None:
    cores = row.get("v_cp_us") or row.get("vCPUs")
    return cores if isinstance(cores, int) else None


def _too_small(limit: tuple[str, int], wanted: int) -> Found:
    return missing(
        f"the quota of {limit[0]} is {limit[1]} vCPUs and the run asks for {wanted}: ask for more in the portal "
        "(Quotas > Machine Learning), or use another compute class"
    )


def word(value: Any) -> str:
    """What a typed field says; the SDK has enumerations for some."""
    return str(getattr(value, "value", value) or "")


def _client_id(identity: Any) -> str:
    """Of an identity that azure-ai-ml read, which keeps Azure's own name of the field beside an empty one of its own
    (entities/_credentials.py, _from_identity_configuration_rest_object)."""
    found = vars(identity)
    return str(found.get("clientId") or found.get("client_id") or "")


def _name(usage: Mapping[str, Any]) -> str:
    name = usage.get("name")
    return str(name.get("value") or "") if isinstance(name, Mapping) else str(getattr(name, "value", name) or "")
