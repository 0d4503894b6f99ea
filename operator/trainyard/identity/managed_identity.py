"""Mode `managedIdentity`: an identity of the machine that the operator runs on.

Held by `identity.broker`, which lends it only to the namespaces that a ClusterMLWorkspace names: every process of that
machine could have the same tokens.
"""

from collections.abc import Callable
from datetime import datetime

from trainyard.api.identity import MANAGED_IDENTITY, Identity
from trainyard.audit.log import AuditLog
from trainyard.audit.transport import Bounds
from trainyard.core.errors import IdentityError
from trainyard.core.snapshot import Target
from trainyard.identity.base import SYSTEM_ASSIGNED, Speaker, TokenSource, is_stand_in
from trainyard.identity.cached import utc_now
from trainyard.identity.imds import BOUNDS, ImdsToken, checked_endpoint
from trainyard.identity.signing_in import cloud_and_tenant


class Managed:
    """A Mode.

    Args:
        endpoint: of the instance metadata service: http://HOST or http://HOST:PORT.
        log: the audit log.
        now: the clock.
        bounds: limits of each HTTP request.

    Raises:
        ValueError: the endpoint is none; names the flag.
    """

    def __init__(
        self, endpoint: str, log: AuditLog, now: Callable[[], datetime] = utc_now, bounds: Bounds = BOUNDS
    ) -> None:
        self._endpoint = checked_endpoint(endpoint)
        self._log = log
        self._now = now
        self._bounds = bounds

    def speaker(self, identity: Identity, namespace: str, platform: str) -> Speaker:  # noqa: ARG002 - the protocol's
        """The user-assigned identity that is named, or the machine's own, whose client id only a platform can tell."""
        given = identity.managed_identity
        assert given is not None  # noqa: S101 - the broker picks the mode by it
        return Speaker(given.client_id or SYSTEM_ASSIGNED)

    def source(self, target: Target, namespace: str, scope: str) -> TokenSource:  # noqa: ARG002 - the protocol's
        """Tokens from the instance metadata service.

        Raises:
            IdentityError: InvalidSpec: the target does not sign in at Entra, or pins no identity.
        """
        cloud_and_tenant(target)
        given = target.identity.managed_identity if target.identity is not None else None
        if given is None:
            raise IdentityError("the attempt pins no managed identity", reason="InvalidSpec")
        return ImdsToken(
            self._endpoint,
            scope.removesuffix("/.default"),
            given.client_id,
            {"principal": target.principal, "mode": MANAGED_IDENTITY},
            pinned=None if is_stand_in(target.principal) else target.principal,
            log=self._log,
            now=self._now,
            bounds=self._bounds,
        )
