"""Mode `azureWorkloadIdentity`: the identity that Azure's webhook gives to the operator's own pod in AKS.

Held by `identity.broker`, which lends it only to the namespaces that a ClusterMLWorkspace names. The webhook mounts a
token of the operator's ServiceAccount and says in four variables where it is and for whom (Azure Workload Identity,
"Mutating Admission Webhook"). The variables are read once, by the wiring, and then dropped, so that no SDK finds them;
the token is read anew at each sign-in, as the kubelet renews the file (Kubernetes, "ServiceAccount token volume
projection"), and looked at before it is sent.
"""

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import jwt

from trainyard.api.identity import AZURE_WORKLOAD_IDENTITY, Identity
from trainyard.audit.log import AuditLog
from trainyard.audit.transport import Bounds
from trainyard.core.errors import IdentityError
from trainyard.core.snapshot import Target
from trainyard.identity.assertion import Assertion, times_of
from trainyard.identity.base import Speaker, TokenSource
from trainyard.identity.cached import utc_now
from trainyard.identity.clocks import TOLERATED
from trainyard.identity.clouds import Cloud
from trainyard.identity.entra import AUDIENCE, EntraToken, asserted
from trainyard.identity.hosts import origin_of
from trainyard.identity.signing_in import cloud_and_tenant
from trainyard.identity.wire import EXCHANGE_BOUNDS

CLIENT_ID, TOKEN_FILE, AUTHORITY = "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST"
# Bytes. A ServiceAccount's token has one or two thousand.
LARGEST_TOKEN = 16 * 1024
_SET_UP = (
    "In AKS, with its OIDC issuer and workload identity enabled, set the chart's azureWorkloadIdentity.clientId: it "
    "annotates the operator's ServiceAccount with azure.workload.identity/client-id and labels its pod "
    'azure.workload.identity/use: "true", for which the webhook does the rest when the pod starts'
)


@dataclass(frozen=True, slots=True)
class WorkloadVariables:
    """What Azure's webhook says to the operator; empty is not set. No secret: the token is in the file.

    It also names a tenant (AZURE_TENANT_ID), which does not count: the workspace says where it signs in.
    """

    client_id: str = ""
    token_file: str = ""
    authority: str = ""


def captured(environment: Mapping[str, str]) -> WorkloadVariables:
    """The variables, as the environment has them."""
    client_id, token_file, authority = (environment.get(name, "") for name in (CLIENT_ID, TOKEN_FILE, AUTHORITY))
    return WorkloadVariables(client_id, token_file, authority)


class AzureWorkload:
    """A Mode.

    Args:
        variables: what the webhook said when the operator started.
        log: the audit log.
        now: the clock that tokens are kept by.
        bounds: limits of each HTTP request.
        clock: the machine's clock, by which the file's token is looked at.
    """

    def __init__(
        self,
        variables: WorkloadVariables,
        log: AuditLog,
        now: Callable[[], datetime] = utc_now,
        bounds: Bounds = EXCHANGE_BOUNDS,
        *,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._variables = variables
        self._log = log
        self._now = now
        self._bounds = bounds
        self._clock = clock

    def speaker(self, identity: Identity, namespace: str, platform: str) -> Speaker:  # noqa: ARG002 - the protocol's
        """The application or managed identity that is named by the workspace, or else by the webhook.

        Raises:
            IdentityError: WorkloadIdentityMissing.
        """
        given = identity.azure_workload_identity
        assert given is not None  # noqa: S101 - the broker picks the mode by it
        self._require_file()
        client_id = given.client_id or self._variables.client_id
        if not client_id:
            raise _missing(
                f"neither identity.azureWorkloadIdentity.clientId nor {CLIENT_ID} names a client id. Name one, or "
                "annotate the operator's ServiceAccount with azure.workload.identity/client-id (the chart's "
                "azureWorkloadIdentity.clientId) and have its pod made anew"
            )
        return Speaker(client_id)

    def source(self, target: Target, namespace: str, scope: str) -> TokenSource:  # noqa: ARG002 - the protocol's
        """Tokens by sign-in at Entra."""
        cloud, tenant = cloud_and_tenant(target)
        return EntraToken(
            cloud,
            tenant,
            scope,
            target.principal,
            lambda: asserted(self._assertion(cloud)),
            {"mode": AZURE_WORKLOAD_IDENTITY},
            log=self._log,
            now=self._now,
            bounds=self._bounds,
        )

    def _assertion(self, cloud: Cloud) -> Assertion:
        self._require_authority(cloud)
        self._require_file()
        return assertion_in(self._variables.token_file, self._clock())

    def _require_file(self) -> None:
        if not self._variables.token_file:
            raise _missing(f"this operator was started without {TOKEN_FILE}. {_SET_UP}")

    def _require_authority(self, cloud: Cloud) -> None:
        said = self._variables.authority
        if said and origin_of(said.rstrip("/")) != cloud.authority:
            raise IdentityError(
                f"{AUTHORITY} of the operator's pod is {said[:200]!a}, and the authority of cloud {cloud.name} is "
                f"{cloud.authority}: the pod's identity is of another cloud, and its token was not sent. Use a "
                "workspace of the pod's cloud, or another mode.",
                reason="AuthorityMismatch",
            )


def assertion_in(path: str, now: datetime) -> Assertion:
    """The token in the file, as an assertion for Entra.

    Raises:
        IdentityError: WorkloadIdentityMissing: it can not be read; AssertionUnusable: it is none for Entra, or over;
            ClockSkew: it is not valid yet.
    """
    value = _read(path)
    try:
        claims = jwt.decode(value, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise _unusable(f"{path} holds no JWT") from None
    named = claims.get("aud")
    audiences = named if isinstance(named, list) else [named]
    if audiences != [AUDIENCE]:
        raise _unusable(
            f"the token in {path} is for the audiences {ascii(audiences)[:200]} instead of just {AUDIENCE}; have the "
            "webhook mount it (label azure.workload.identity/use), not a volume of your own"
        )
    begins_at, expires_at = times_of(claims)
    if expires_at is None or expires_at <= now:
        raise _unusable(
            f"the token in {path} is over: the kubelet should have renewed it. Look at the node and its clock, or have "
            "the pod made anew"
        )
    if begins_at is not None and begins_at > now + TOLERATED:
        raise IdentityError(
            f"the token in {path} is not valid yet by the operator's clock, and was not sent. Correct the clock of the "
            "operator's node, or that of the API server",
            reason="ClockSkew",
        )
    jti, key_id = claims.get("jti"), jwt.get_unverified_header(value).get("kid")
    return Assertion(
        value,
        str(claims.get("iss")),
        str(claims.get("sub")),
        AUDIENCE,
        jti[:128] if isinstance(jti, str) else None,
        key_id[:128] if isinstance(key_id, str) else None,
        # When it was issued tells nothing of the API server's clock: it may be an hour ago.
        expires_at=expires_at,
    )


def _read(path: str) -> str:
    """The file's text. Anything but a small plain file is refused before it is read: a pipe would hang."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise _unusable(f"{path} is no plain file")
            content = file.read(LARGEST_TOKEN + 1)
    except OSError as error:
        raise _missing(f"{TOKEN_FILE} {path} can not be read ({error.strerror}). {_SET_UP}") from error
    if len(content) > LARGEST_TOKEN:
        raise _unusable(f"{path} is larger than {LARGEST_TOKEN} bytes, which no ServiceAccount's token is")
    try:
        return content.decode("ascii").strip()
    except UnicodeDecodeError:
        raise _unusable(f"{path} holds no JWT") from None


def _missing(message: str) -> IdentityError:
    return IdentityError(message, reason="WorkloadIdentityMissing")


def _unusable(message: str) -> IdentityError:
    return IdentityError(f"{message}; it was not sent anywhere", reason="AssertionUnusable")
