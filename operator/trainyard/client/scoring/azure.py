"""The caller's own credential for an online endpoint of Azure ML, by azure-identity. Used by score.py.

DefaultAzureCredential: the environment, a workload or managed identity, or who signed in with az. Its token for the ML
scope goes to the endpoint; for auth Key its token for Azure Resource Manager fetches the endpoint's key, which is held
for the one request and never shown (REST: Online Endpoints - List Keys). azure-identity is imported here, when rows
are scored.
"""

from typing import TYPE_CHECKING

from trainyard.client.doctor import claims
from trainyard.client.errors import NotAllowed, NotFound, ScoringFailed, Unreachable
from trainyard.client.scoring.place import Place
from trainyard.client.scoring.sending import Answer, send
from trainyard.identity import clouds

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

API_VERSION = "2023-10-01"
SECONDS = 30.0
SIGN_IN = "sign in with: az login"


def credential(place: Place) -> dict[str, str]:
    """Headers that prove the caller to the endpoint. Raises NotAllowed where there is no credential, or no right."""
    cloud = _cloud(place)
    if place.auth != "Key":
        return _bearer(token(place, cloud.ml_scope))
    own = token(place, cloud.arm_scope)
    url = f"{place.origin}{place.path}/listKeys?api-version={API_VERSION}"
    return _bearer(_key(place, send("POST", url, _bearer(own), SECONDS, body=b""), own))


def _key(place: Place, answer: Answer, own: str) -> str:
    found = answer.json()
    key = found.get("primaryKey") if isinstance(found, dict) else None
    if answer.status == 200 and isinstance(key, str) and key:
        return key
    if answer.status in (401, 403):
        raise NotAllowed(
            f"you may not read the key of endpoint {place.endpoint} ({answer.words()}); who may grant it runs: "
            f"{grant(place, own)}"
        )
    if answer.status == 404:
        raise NotFound(f"there is no endpoint {place.endpoint}: {answer.words()}")
    # What an answer of 200 says might be the key.
    said = answer.words() if answer.status >= 400 else "there is no key in its answer"
    raise ScoringFailed(
        f"the key of endpoint {place.endpoint} was not given ({answer.status}): {said}", None, answer.status
    )


def token(place: Place, scope: str) -> str:
    """The caller's token for the scope. Raises NotAllowed where nothing gives one, Unreachable where Entra is away."""
    from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError, ServiceResponseError

    try:
        return _credential(place).get_token(scope, tenant_id=place.tenant).token
    except (ServiceRequestError, ServiceResponseError) as error:
        raise Unreachable(f"no token for {scope}: {_first_line(error)}") from error
    except (ClientAuthenticationError, ValueError) as error:
        in_tenant = f" --tenant {place.tenant}" if place.tenant else ""
        raise NotAllowed(
            f"there is no credential of yours for {scope}: {_first_line(error)}; {SIGN_IN}{in_tenant}"
        ) from error


def _credential(place: Place) -> "TokenCredential":
    from azure.identity import DefaultAzureCredential

    cloud = _cloud(place)
    return DefaultAzureCredential(
        authority=cloud.authority,
        # Entra knows its own clouds; it is not asked about another's authority.
        disable_instance_discovery=cloud not in clouds.BUILT_IN,
        additionally_allowed_tenants=[place.tenant] if place.tenant else [],
        process_timeout=int(SECONDS),
        connection_timeout=5,
        read_timeout=15,
        retry_total=1,
    )


def grant(place: Place, caller: str | None) -> str:
    """The command that gives who asks the right to score, and to read the key. `caller`: the token, if there is one."""
    found = claims.read(caller) if caller else None
    object_id = found.text("oid") if found is not None else ""
    if object_id and found is not None:
        kind = "ServicePrincipal" if found.text("idtyp") == "app" else "User"
        assignee = f"--assignee-object-id {object_id} --assignee-principal-type {kind}"
    else:
        assignee = "--assignee YOU"
    return f'az role assignment create --role "AzureML Data Scientist" {assignee} --scope {place.path}'


def _bearer(value: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {value}"}


def _cloud(place: Place) -> clouds.Cloud:
    if place.cloud is None:
        raise ValueError("a place of Azure ML has a cloud")
    return place.cloud


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:300]
