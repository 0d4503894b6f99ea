"""Whom a Databricks token stands for, asked of the workspace with the token itself.

Asked by `identity.exchange` where the platform and not we chose the principal: a federation policy of the account finds
it by a claim, and no `client_id` is sent (Databricks documentation, "Configure a federation policy"); and by
`identity.client_secret` of personal access tokens. The token is kept
and handed out only after this, so that nothing is asked, submitted or stopped as somebody else. The token's own claims
are not published, so that they prove nothing.
"""

import requests

from trainyard.core.errors import IdentityError, Refused, Unreachable
from trainyard.identity.base import AccessToken
from trainyard.identity.oauth import error_of
from trainyard.identity.wire import document_of

# The one question that every principal may ask (databricks-sdk service/iam.py, CurrentUserAPI.me).
ME = "/api/2.0/preview/scim/v2/Me"

# Characters; an attempt's status has room for these.
LONGEST_NAME = 255


def require_principal(session: requests.Session, origin: str, token: AccessToken, principal: str) -> None:
    """Checks that the workspace takes the token for the principal's.

    Args:
        session: an audited one, of `identity.wire`.
        origin: of the workspace.
        token: got just now.
        principal: application id, or a user's name.

    Raises:
        IdentityError: ClientIdMismatch: it is somebody else's; PrincipalNotTold: the workspace does not say whose.
        Unreachable, Throttled: no usable answer.
    """
    status, told = principal_of(session, origin, token)
    if status >= 400:
        raise IdentityError(
            f"{origin} does not say whose token the account's federation policy gave (status {status}), "
            f"so it is not used. Add service principal {principal} to the workspace.",
            reason="PrincipalNotTold",
        )
    if told.casefold() != principal.casefold():
        raise IdentityError(
            f"the account's federation policy takes the assertion for {told[:255]}, not for {principal}, which is "
            "named here; the token was not used. Correct the policy's subject claim, or name the principal that it "
            "finds.",
            reason="ClientIdMismatch",
        )


def principal_of(session: requests.Session, origin: str, token: AccessToken) -> tuple[int, str]:
    """The status of the workspace's answer, and whose the token is; where it is 400 or more, what the workspace says.

    Raises:
        IdentityError: RedirectRefused.
        Unreachable, Throttled: no usable answer.
    """
    headers = {"Accept": "application/json", "Authorization": f"Bearer {token.value}"}
    try:
        response = session.get(f"{origin}{ME}", headers=headers, allow_redirects=False)
    except Refused as error:
        raise IdentityError(error.message, reason=error.reason) from error
    if response.status_code >= 400:
        return response.status_code, error_of(response)[1]
    document = document_of(response)
    told = document.get("userName") if document is not None else None
    if not isinstance(told, str) or not 0 < len(told) <= LONGEST_NAME:
        raise Unreachable(f"{origin} does not say whose token it gave", reason="PlatformAnswerMalformed")
    return response.status_code, told
