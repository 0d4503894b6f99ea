"""At which cloud and tenant of Entra a target signs in, and for what. Pure; asked by the broker and the modes."""

from trainyard.core.errors import IdentityError
from trainyard.core.snapshot import Target
from trainyard.identity import clouds
from trainyard.identity.clouds import Cloud

# The application that Azure Databricks is to Entra, in every public cloud (databricks-sdk environments.py).
DATABRICKS_SCOPE = "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d/.default"


def block_of(scope: str) -> str:
    """The block of a workspace's spec that says where a sign-in for that scope happens."""
    return "identity.*.entra" if scope == DATABRICKS_SCOPE else "azureML"


def cloud_and_tenant(target: Target) -> tuple[Cloud, str]:
    """The cloud whose authority is asked, and the tenant.

    Raises:
        IdentityError: HostNotAllowed, for a cloud that this operator does not know; InvalidSpec if it signs in nowhere.
    """
    if target.platform == "azureml":
        return clouds.of(target.host), target.tenant
    entra = target.identity.entra if target.identity is not None else None
    if entra is None:
        raise IdentityError("identity says no entra.tenantId to sign in at; add it", reason="InvalidSpec")
    return clouds.named(entra.cloud, block_of(DATABRICKS_SCOPE)), entra.tenant_id


def scopes(target: Target) -> tuple[str, ...]:
    """The scopes that tokens of the target may be asked for; of Databricks' own exchange the empty one."""
    if target.platform == "azureml":
        cloud = clouds.of(target.host)
        return cloud.arm_scope, cloud.ml_scope
    by_entra = target.identity is not None and target.identity.entra is not None
    return (DATABRICKS_SCOPE if by_entra else "",)
