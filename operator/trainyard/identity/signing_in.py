"""At which cloud and tenant of Entra a target signs in, and for what. Pure; asked by the broker and the modes."""

from trainyard.core.errors import IdentityError
from trainyard.core.snapshot import Target
from trainyard.identity import clouds
from trainyard.identity.clouds import Cloud
from trainyard.identity.hosts import DEFAULT_ALLOWED, HostPattern

# The application that Azure Databricks is to Entra, in every public cloud (databricks-sdk environments.py).
DATABRICKS_SCOPE = "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d/.default"
# Which of the public clouds' workspaces take Entra's tokens, by the cloud whose Entra gives them.
_TAKEN_AT = {
    "AzurePublic": "*.azuredatabricks.net",
    "AzureUSGovernment": "*.databricks.azure.us",
    "AzureChina": "*.databricks.azure.cn",
}


def block_of(scope: str) -> str:
    """The block of a workspace's spec that says where a sign-in for that scope happens."""
    return "identity.*.entra" if scope == DATABRICKS_SCOPE else "azureML"


def check_taken(cloud: Cloud, host: str) -> None:
    """Checks that a Databricks workspace could take that cloud's tokens: each of them is good for all of the tenant's.

    Hosts that an administrator allowed besides those of the public clouds are the administrator's to know.

    Raises:
        IdentityError: InvalidSpec: the host is of another cloud.
    """
    own = _TAKEN_AT.get(cloud.name)
    of_public_clouds = [pattern for pattern in DEFAULT_ALLOWED if HostPattern.of(pattern).matches_url(host)]
    if of_public_clouds and own not in of_public_clouds:
        raise IdentityError(
            f"{host} does not take tokens of {cloud.name}'s Entra, which are not sent there: remove entra from the "
            "identity, or correct entra.cloud or databricks.host",
            reason="InvalidSpec",
        )


def cloud_and_tenant(target: Target) -> tuple[Cloud, str]:
    """The cloud whose authority is asked, and the tenant.

    Raises:
        IdentityError: HostNotAllowed, for a cloud that this operator does not know; InvalidSpec if it signs in
            nowhere, or the host is of another cloud.
    """
    if target.platform == "azureml":
        return clouds.of(target.host), target.tenant
    entra = target.identity.entra if target.identity is not None else None
    if entra is None:
        raise IdentityError("identity says no entra.tenantId to sign in at; add it", reason="InvalidSpec")
    cloud = clouds.named(entra.cloud, block_of(DATABRICKS_SCOPE))
    check_taken(cloud, target.host)
    return cloud, entra.tenant_id


def scopes(target: Target) -> tuple[str, ...]:
    """The scopes that tokens of the target may be asked for; of Databricks' own exchange the empty one."""
    if target.platform == "azureml":
        cloud = clouds.of(target.host)
        return cloud.arm_scope, cloud.ml_scope
    by_entra = target.identity is not None and target.identity.entra is not None
    return (DATABRICKS_SCOPE if by_entra else "",)
