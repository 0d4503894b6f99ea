"""The caller's own credential for an online endpoint of Azure ML, by azure-identity. Used by score.py.

DefaultAzureCredential: the environment, a workload or managed identity, or who signed in with az. Anybody may have an
endpoint on a scoring host, so that the host alone says nothing: Azure Resource Manager is asked, with a token for it
alone, where the endpoint is (REST: Online Endpoints - Get), before anything is sent to where the status says. A token
for the ML scope goes to the endpoint; for auth Key the first token fetches its key, which is held for the one request
and never shown (List Keys). azure-identity is imported here, when rows are scored.
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
    """Headers that prove the caller to the endpoint.

    Raises NotAllowed where there is no credential, or no right, or where the endpoint is not where the status says.
    """
    cloud = _cloud(place)
    own = token(place, cloud.arm_scope)
    _there(place, send("GET", f"{place.origin}{place.path}?api-version={API_VERSION}", _bearer(own), SECONDS), own)
    if place.auth != "Key":
        return _bearer(token(place, cloud.ml_scope))
    url = f"{place.origin}{place.path}/listKeys?api-version={API_VERSION}"
    return _bearer(_key(place, send("POST", url, _bearer(own), SECONDS, body=b""), own))


def _there(place: Place, answer: Answer, own: str) -> None:
    """Whether the endpoint is asked where the status says, in the words of Azure Resource Manager."""
    _permitted(place, answer, own, f"see endpoint {place.endpoint}")
    found = answer.json()
    properties = found.get("properties") if isinstance(found, dict) else None
    uri = properties.get("scoringUri") if isinstance(properties, dict) else None
    if answer.status != 200 or not isinstance(uri, str):
        raise ScoringFailed(
            f"where endpoint {place.endpoint} is asked was not told ({answer.status}): {answer.words()}",
            None,
            answer.status,
        )
    if uri != place.url:
        raise NotAllowed(
            f"endpoint {place.endpoint} is asked at {uri[:200]!a}, and status.endpoint.url is {place.url[:200]!a}: "
            "nothing is sent there"
        )


def _permitted(place: Place, answer: Answer, own: str, what: str) -> None:
    if answer.status in (401, 403):
        raise NotAllowed(f"you may not {what} ({answer.words()}); who may grant it runs: {grant(place, own)}")
    if answer.status == 404:
        raise NotFound(f"there is no endpoint {place.endpoint}: {answer.words()}")


def _key(place: Place, answer: Answer, own: str) -> str:
    found = answer.json()
    key = found.get("primaryKey") if isinstance(found, dict) else None
    if answer.status == 200 and isinstance(key, str) and key:
        return key
    _permitted(place, answer, own, f"read the key of endpoint {place.endpoint}")
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
