"""Temporary AWS credentials for an assertion of ours: AssumeRoleWithWebIdentity. Nothing is stored or logged.

Called by `keeping.s3`, in a thread. There is no chain that would look for keys in the environment, in files or at a
metadata service.

Read in: AWS Security Token Service API Reference, AssumeRoleWithWebIdentity (parameters, errors); the call carries no
signature, the assertion is what authenticates it.
"""

from collections.abc import Callable
from datetime import datetime

from trainyard.audit.log import AuditLog
from trainyard.audit.transport import Answer, Bounds
from trainyard.core.errors import IdentityError, TrainyardError, Unreachable
from trainyard.keeping.base import Allow, Assertions, trust_of
from trainyard.keeping.renewal import Renewed, utc_now
from trainyard.keeping.signature import Credentials
from trainyard.keeping.transport import TOKEN_BOUNDS, code_of, element, session, words_of

AUDIENCE = "sts.amazonaws.com"
# An hour is what every role allows unless its owner says less than the default maximum.
SESSION_SECONDS = 3600

_TRUST_MISSING = ("AccessDenied", "InvalidIdentityToken")


class AssumedRole:
    """Credentials of one role, assumed again before they end.

    Args:
        role: ARN of the role, which has to trust the ServiceAccount's issuer and subject.
        endpoint: the region's STS, `https://sts.REGION.amazonaws.com`.
        session: a name for CloudTrail: who assumed the role; `[A-Za-z0-9+=,.@-]`, 2 to 64 characters.
        assertion: mints an assertion; called only after `allow` has let the endpoint pass.
    """

    def __init__(
        self,
        role: str,
        endpoint: str,
        session_name: str,
        *,
        assertion: Assertions,
        allow: Allow,
        log: AuditLog,
        bounds: Bounds = TOKEN_BOUNDS,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.role = role
        self._endpoint = endpoint
        self._session_name = session_name
        self._assertion = assertion
        self._allow = allow
        self._kept = Renewed(self._assume, now)
        self._session = session(log, _Dialect(), self.describe, bounds)

    def credentials(self) -> Credentials:
        """Credentials that are good for a while; the role is assumed at most once at a time.

        Raises:
            IdentityError: they can not be had; says what to trust or grant.
            Unreachable, Throttled: STS did not answer.
        """
        return self._kept.get()

    def forget(self, refused: Credentials) -> None:
        """Drops credentials that the service has refused."""
        self._kept.forget(refused)

    def describe(self) -> dict[str, str]:
        """Who asks, for the audit records."""
        return {"principal": self.role, "mode": "assumedRole"}

    def _assume(self) -> Credentials:
        self._allow(self._endpoint)
        assertion = self._assertion(AUDIENCE)
        form = {
            "Action": "AssumeRoleWithWebIdentity",
            "Version": "2011-06-15",
            "RoleArn": self.role,
            "RoleSessionName": self._session_name,
            "WebIdentityToken": assertion,
            "DurationSeconds": str(SESSION_SECONDS),
        }
        answered = self._session.post(self._endpoint + "/", data=form, allow_redirects=False)
        if answered.status_code != 200:
            answer = Answer("POST", self._endpoint, answered.status_code, answered.headers, answered.content, b"")
            raise self._refusal(answer, assertion)
        return self._read(answered.content)

    def _read(self, body: bytes) -> Credentials:
        found = [element(body, name) for name in ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")]
        try:
            key_id, secret, token, expires_at = found
            expires = datetime.fromisoformat(expires_at)
        except ValueError as error:
            raise Unreachable("STS answered without credentials", reason="PlatformAnswerMalformed") from error
        if not (key_id and secret and token and expires.tzinfo):
            raise Unreachable("STS answered without credentials", reason="PlatformAnswerMalformed")
        return Credentials(key_id, secret, token, expires)

    def _refusal(self, answer: Answer, assertion: str) -> IdentityError:
        code, said = code_of(answer), words_of(answer, assertion, *assertion.split(".")[1:])
        if code in _TRUST_MISSING:
            return IdentityError(
                f"logDestination.s3.roleArn: {self.role} can not be assumed ({said}). Register the issuer as an OIDC "
                f"identity provider in IAM, and let the role's trust policy allow sts:AssumeRoleWithWebIdentity for "
                f"{trust_of(assertion)}; a change takes some seconds to be known.",
                reason="RoleNotAssumable",
                waiting=True,
            )
        return IdentityError(
            f"logDestination.s3.roleArn: {self.role} was not assumed: {said}.",
            reason="RoleNotAssumable",
            waiting=code in ("IDPCommunicationError", "ExpiredTokenException", "ExpiredToken"),
        )


class _Dialect:
    """Lets 4xx answers through, so that the caller can leave its assertion out of what they say."""

    def error(self, answer: Answer) -> TrainyardError | None:
        """A redirect, which is never followed; nothing else."""
        if answer.status < 400:
            return IdentityError("STS redirects, which is never followed", reason="RedirectRefused")
        return None

    def remote_id(self, answer: Answer) -> str | None:  # noqa: ARG002 - the protocol's signature
        """Nothing; no run is asked about."""
        return None
