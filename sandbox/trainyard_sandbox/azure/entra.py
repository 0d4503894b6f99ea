"""Microsoft Entra's token endpoint for applications: the OAuth 2.0 client credentials flow.

An application signs in with the assertion of an identity provider that one of its federated credentials names, with an
assertion signed by its own certificate, or with a client secret. Nothing else is answered.

Flow and fields: Microsoft Entra documentation, "Microsoft identity platform and the OAuth 2.0 client credentials flow"
and "Microsoft identity platform application authentication certificate credentials". Numbers and sentences:
"Microsoft Entra authentication and authorization error codes", and answers quoted in Azure/azure-workload-identity
issues 616 and 1200, Azure/login issues 482 and 515, AzureAD/microsoft-authentication-library-for-dotnet issue 4951;
AzureAD/microsoft-identity-web pull request 2840 for an expired certificate (1000502).
"""

from __future__ import annotations

import base64
import hmac
import uuid
from typing import Any
from urllib.parse import parse_qsl

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trainyard_sandbox.azure.errors import EntraError, iso_time
from trainyard_sandbox.azure.principals import AzurePrincipal, ClientSecret, FederatedCredential
from trainyard_sandbox.azure.state import AzureState
from trainyard_sandbox.issuers import AssertionRefusedError, IssuerUnreachableError, peek
from trainyard_sandbox.state import SandboxState, sandbox_state

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_CREDENTIAL_FIELDS = {"client_secret", "client_assertion", "client_assertion_type"}
_FIELDS = {"client_id", "grant_type", "scope", "claims", "client_info", *_CREDENTIAL_FIELDS}
_CHECK = (
    " Please check your federated identity credential Subject, Audience and Issuer against the presented assertion."
)
_FEDERATION_DOCS = " https://learn.microsoft.com/entra/workload-id/workload-identity-federation"
_CERTIFICATE_DOCS = "https://learn.microsoft.com/entra/identity-platform/certificate-credentials"


def routes() -> list[Route]:
    """Mounted by server.py."""
    return [
        Route("/{tenant}/oauth2/v2.0/token", token, methods=["POST"]),
        Route("/{tenant}/v2.0/.well-known/openid-configuration", openid_configuration, methods=["GET"]),
    ]


async def openid_configuration(request: Request) -> Response:
    """The tenant's metadata, of which MSAL reads the token endpoint."""
    azure = sandbox_state(request).azure
    _check_tenant(request, azure)
    base = f"{azure.url}/{azure.tenant_id}"
    return JSONResponse(
        {
            "token_endpoint": f"{base}/oauth2/v2.0/token",
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
            "issuer": f"{base}/v2.0",
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "jwks_uri": f"{base}/discovery/v2.0/keys",
        }
    )


async def token(request: Request) -> Response:
    """Sign an application in: one access token for the resource that `scope` names."""
    state = sandbox_state(request)
    azure = state.azure
    _check_tenant(request, azure)
    form = await _form(request)
    if form["grant_type"] != "client_credentials":
        message = f"The app requested an unsupported grant type '{form['grant_type']}'."
        raise EntraError(400, "unsupported_grant_type", 70003, message)
    principal = _application(azure, form["client_id"])
    resource = _resource(azure, _required(form, "scope"))
    if not principal.enabled:
        raise EntraError(400, "unauthorized_client", 7000112, disabled(principal))
    await _authenticate(state, principal, form)
    request.state.application_id = principal.client_id
    lifetime = azure.token_lifetime_seconds
    issued = azure.tokens.issue(principal.client_id, principal.object_id, resource, lifetime, "sign-in")
    body = {"token_type": "Bearer", "expires_in": int(lifetime), "ext_expires_in": int(lifetime)}
    return JSONResponse(body | {"access_token": issued.value}, headers={"cache-control": "no-store, no-cache"})


def _check_tenant(request: Request, azure: AzureState) -> None:
    tenant = request.path_params["tenant"]
    if tenant.lower() in (azure.tenant_id, azure.tenant_domain):
        return
    if "." not in tenant and not _is_guid(tenant):
        message = f"Specified tenant identifier '{tenant}' is neither a valid DNS name, nor a valid external domain."
        raise EntraError(400, "invalid_request", 900023, message)
    message = (
        f"Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the "
        "correct cloud. Check with your subscription administrator, this may happen if there are no active "
        "subscriptions for the tenant."
    )
    raise EntraError(400, "invalid_request", 90002, message)


async def _form(request: Request) -> dict[str, str]:
    pairs = parse_qsl((await request.body()).decode("utf-8", "replace"), keep_blank_values=True)
    form = dict(pairs)
    unknown = sorted(set(form) - _FIELDS)
    if unknown or len(form) != len(pairs):
        what = f"the parameter '{unknown[0]}' is not known" if unknown else "a parameter is given twice"
        raise EntraError(400, "invalid_request", 900144, f"The request body is not valid: {what}.")
    for name in ("client_id", "grant_type"):
        _required(form, name)
    return form


def _required(form: dict[str, str], name: str) -> str:
    if not form.get(name):
        message = f"The request body must contain the following parameter: '{name}'."
        raise EntraError(400, "invalid_request", 900144, message)
    return form[name]


def _application(azure: AzureState, client_id: str) -> AzurePrincipal:
    principal = azure.directory.get(client_id)
    if principal is None:
        message = (
            f"Application with identifier '{client_id}' was not found in the directory '{azure.tenant_name}'. This can "
            "happen if the application has not been installed by the administrator of the tenant or consented to by "
            "any user in the tenant. You may have sent your authentication request to the wrong tenant."
        )
        raise EntraError(400, "unauthorized_client", 700016, message)
    return principal


def _resource(azure: AzureState, scope: str) -> str:
    """The resource of a scope `<resource>/.default`."""
    if " " in scope.strip():
        message = f"The provided value for the input parameter 'scope' is not valid. The scope {scope} is not valid."
        raise EntraError(400, "invalid_scope", 70011, message)
    if not scope.endswith("/.default"):
        message = (
            f"The provided value for scope {scope} is not valid. Client credential flows must have a scope value with "
            "/.default suffixed to the resource identifier (application ID URI)."
        )
        raise EntraError(400, "invalid_scope", 1002012, message)
    resource = scope.removesuffix("/.default")
    if not azure.knows_resource(resource):
        raise EntraError(400, "invalid_resource", 500011, unknown_resource(azure, resource))
    return resource


def disabled(principal: AzurePrincipal) -> str:
    """What Entra says of a principal that may not sign in, without its number."""
    return f"Application '{principal.client_id}'({principal.display_name}) is disabled."


def unknown_resource(azure: AzureState, resource: str) -> str:
    """What Entra says of a resource that the tenant does not have, without its number."""
    return (
        f"The resource principal named {resource} was not found in the tenant named {azure.tenant_name}. This can "
        "happen if the application has not been installed by the administrator of the tenant or consented to by "
        "any user in the tenant. You might have sent your authentication request to the wrong tenant."
    )


async def _authenticate(state: SandboxState, principal: AzurePrincipal, form: dict[str, str]) -> None:
    if "client_secret" in form:
        _check_secret(principal, form["client_secret"], state.now())
        return
    if "client_assertion" not in form:
        message = "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."
        raise EntraError(401, "invalid_client", 7000218, message)
    if form.get("client_assertion_type") != JWT_BEARER:
        message = f"The client_assertion_type must be '{JWT_BEARER}'."
        raise EntraError(400, "invalid_request", 50027, message)
    assertion = form["client_assertion"]
    try:
        claims, header = peek(assertion), jwt.get_unverified_header(assertion)
    except (AssertionRefusedError, jwt.PyJWTError):
        raise EntraError(400, "invalid_request", 50027, "JWT token is invalid or malformed.") from None
    if claims.get("iss") == principal.client_id:
        _check_certificate(state, principal, assertion, claims, header)
    else:
        await _check_federated(state, principal, assertion, claims)


def _check_secret(principal: AzurePrincipal, value: str, now: float) -> None:
    digest = ClientSecret.digest_of(value)
    known = next((kept for kept in principal.client_secrets if hmac.compare_digest(kept.digest, digest)), None)
    if known is None:
        message = (
            "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, "
            f"not the client secret ID, for a secret added to app '{principal.client_id}'."
        )
        raise EntraError(401, "invalid_client", 7000215, message)
    if known.expires_at <= now:
        message = (
            f"The provided client secret keys for app '{principal.client_id}' are expired. Visit the Azure portal to "
            "create new keys for your app: https://aka.ms/NewClientSecret, or consider using certificate credentials "
            "for added security: https://aka.ms/certCreds."
        )
        raise EntraError(401, "invalid_client", 7000222, message)


def _check_certificate(
    state: SandboxState, principal: AzurePrincipal, assertion: str, claims: dict[str, Any], header: dict[str, Any]
) -> None:
    """An assertion that the application signed itself: `iss` and `sub` are its client id, `aud` the token endpoint."""
    key = _registered_key(principal, header, state.now())
    _check_times(claims, state.now(), _CERTIFICATE_DOCS)
    azure = state.azure
    audiences = [f"{azure.url}/{name}/oauth2/v2.0/token" for name in (azure.tenant_id, azure.tenant_domain)]
    options: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
    try:
        jwt.decode(
            assertion,
            key,
            algorithms=["PS256", "RS256"],
            audience=audiences,
            subject=principal.client_id,
            options=options,
        )
    except jwt.InvalidAudienceError:
        message = f"Assertion audience does not match the Client app presented in the request: '{claims.get('aud')}'."
        raise EntraError(401, "invalid_client", 700023, message) from None
    except jwt.PyJWTError:
        raise _bad_signature("The provided signature value did not match the expected signature value.") from None


def _registered_key(principal: AzurePrincipal, header: dict[str, Any], now: float) -> RSAPublicKey:
    for pem in principal.certificates:
        certificate = x509.load_pem_x509_certificate(pem)
        sha1, sha256 = certificate.fingerprint(hashes.SHA1()), certificate.fingerprint(hashes.SHA256())  # noqa: S303
        if header.get("x5t", "").rstrip("=") == _base64url(sha1) or (
            header.get("x5t#S256", "").rstrip("=") == _base64url(sha256)
        ):
            key = certificate.public_key()
            begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
            if not begin.timestamp() <= now < end.timestamp():
                message = "The provided certificate is not within its specified validity window."
                raise EntraError(401, "invalid_client", 1000502, message)
            if isinstance(key, RSAPublicKey):
                return key
    thumbprint = header.get("x5t#S256") or header.get("x5t") or ""
    raise _bad_signature(f"The key was not found., Thumbprint of key used by client: '{thumbprint}'")


def _bad_signature(reason: str) -> EntraError:
    message = "The certificate with identifier used to sign the client assertion is not registered on application. "
    return EntraError(401, "invalid_client", 700027, message + f"[Reason - {reason}]")


async def _check_federated(
    state: SandboxState, principal: AzurePrincipal, assertion: str, claims: dict[str, Any]
) -> None:
    """An assertion of another identity provider: exactly as one of the application's federated credentials says."""
    known = [credential for credential in principal.credentials if credential.known_at <= state.now()]
    if not known:
        message = f"The client '{principal.client_id}'({principal.display_name}) has no configured federated identity "
        raise EntraError(401, "invalid_client", 70025, message + "credentials.")
    credential = _matching(known, claims)
    _check_times(claims, state.now(), _CERTIFICATE_DOCS)
    try:
        await state.issuers.verify(assertion, credential.issuer, credential.audiences, state.now())
    except IssuerUnreachableError as error:
        message = f"Request to External OIDC endpoint failed: {error}"
        raise EntraError(400, "invalid_request", 90061, message) from None
    except AssertionRefusedError as error:
        message = f"Assertion failed signature validation. [Reason - {error}]"
        raise EntraError(401, "invalid_client", 50013, message) from None


def _matching(known: list[FederatedCredential], claims: dict[str, Any]) -> FederatedCredential:
    issuer, subject = str(claims.get("iss", "")), str(claims.get("sub", ""))
    audience = claims.get("aud", [])
    audiences = [audience] if isinstance(audience, str) else list(audience)
    by_issuer = [credential for credential in known if credential.issuer == issuer]
    if not by_issuer:
        raise _no_match(700211, "issuer", issuer)
    by_subject = [credential for credential in by_issuer if credential.subject == subject]
    if not by_subject:
        if any(credential.subject.lower() == subject.lower() for credential in by_issuer):
            message = f"No matching federated identity record found for presented assertion subject '{subject}'. The "
            message += "subject matches with case-insensitive comparison, but not with case-sensitive comparison."
            raise EntraError(401, "invalid_client", 7002138, message + _CHECK + _FEDERATION_DOCS)
        raise _no_match(700213, "subject", subject)
    for credential in by_subject:
        if set(credential.audiences) & set(audiences):
            return credential
    raise _no_match(700212, "audience", ", ".join(map(str, audiences)))


def _no_match(number: int, part: str, value: str) -> EntraError:
    message = f"No matching federated identity record found for presented assertion {part} '{value}'."
    return EntraError(401, "invalid_client", number, message + _CHECK + _FEDERATION_DOCS)


def _check_times(claims: dict[str, Any], now: float, docs: str) -> None:
    times = {name: claims.get(name, 0) for name in ("nbf", "exp")}
    if not all(isinstance(value, int | float) for value in times.values()):
        raise EntraError(400, "invalid_request", 50027, "JWT token is invalid or malformed.")
    if times["nbf"] <= now + 5 and now < times["exp"]:  # Entra itself allows for clocks that differ by minutes
        return
    message = (
        f"Client assertion is not within its valid time range. Current time: {iso_time(now)}, assertion valid from "
        f"{iso_time(times['nbf'])}, expiry time of assertion {iso_time(times['exp'])}. "
        f"Review the documentation at {docs} ."
    )
    raise EntraError(401, "invalid_client", 700024, message)


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _is_guid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
