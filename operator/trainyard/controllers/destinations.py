"""Where workspaces keep whole logs: makes the store that a logDestination names, with an identity of the namespace.

Used by the run controller before it collects. A store gets assertions of no other ServiceAccount than the attempt's,
and only while it still opts in; where they may go is for the operator's flags to say, never for a resource.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import structlog

from trainyard.api.training_run import Attempt
from trainyard.api.workspace import LogDestination
from trainyard.audit.log import AuditLog
from trainyard.audit.transport import Bounds
from trainyard.controllers.settings import StorageEndpoints
from trainyard.core.errors import IdentityError, PlatformError, Refused, TrainyardError, Unreachable
from trainyard.core.snapshot import RunSnapshot
from trainyard.identity.assertion import mint
from trainyard.identity.base import ServiceAccountRef, ServiceAccounts
from trainyard.identity.consent import require_consent
from trainyard.identity.federated import ENTRA
from trainyard.identity.hosts import HostPolicy
from trainyard.keeping.base import Assertions, LogStore
from trainyard.keeping.volume import VolumeLogStore
from trainyard.platforms.base import Files
from trainyard.telemetry.metrics import LOGS

# Hosts of Amazon's and Microsoft's own services that stores are built for; their names are made of checked parts.
DEFAULT_HOSTS = (
    "*.amazonaws.com",
    "*.amazonaws.com.cn",
    "*.blob.core.windows.net",
    "login.microsoftonline.com",
)
# Collecting has 120 s for everything: one store that hangs may cost less than half of it, and then no more.
BOUNDS = Bounds(connect=3.0, read=15.0, total=35.0, body=1024 * 1024)
SECONDS = 45.0
MOST_STORES = 512
# Longer than most runs of one kind take to end one after the other, shorter than anybody waits for logs to come back.
REST_SECONDS = 300.0
TEXT = "text/plain; charset=utf-8"

log = structlog.get_logger(__name__)


class _Key(NamedTuple):
    """Who writes where: pinned to a host and a principal, the destination as JSON.

    `platform` is whose annotation named the principal, see `identity.consent`.
    """

    account: ServiceAccountRef
    platform: str
    host: str
    principal: str
    destination: str


class Resting:
    """Destinations that did not answer: left alone for a while, so that no lane's threads wait for them in turn.

    Whoever writes there: what is down is down for all, and a shared workspace has writers in many namespaces.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: dict[tuple[str, str], tuple[float, str]] = {}  # by host of the platform, and destination

    def why(self, key: _Key) -> Unreachable | None:
        """Why that destination is not to be asked now; None if it may be."""
        until, said = self._until.get((key.host, key.destination), (0.0, ""))
        if self._clock() >= until:
            return None
        return Unreachable(f"{said} (the destination is left alone for {REST_SECONDS / 60:.0f} minutes after that)")

    def failed(self, key: _Key, error: TrainyardError) -> None:
        """Remembers it. What was answered at once, if only by a refusal, holds up nobody and is asked again."""
        if not isinstance(error, Unreachable):
            return
        now = self._clock()
        for other in [other for other, (until, _) in list(self._until.items()) if until <= now]:
            self._until.pop(other, None)
        self._until[key.host, key.destination] = (now + REST_SECONDS, error.message)


class Keeping:
    """Keeps the whole logs of one attempt; called in a lane's thread, where its store is made as well.

    Args:
        store: makes the store; None where the platform has no such place.
        folder: where, below the destination.
        at: names the destination, for `resting`.
    """

    def __init__(
        self,
        store: Callable[[], LogStore | None],
        folder: str,
        at: _Key,
        resting: Resting,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._folder = folder
        self._at = at
        self._resting = resting
        self._clock = clock
        self._until: float | None = None
        self.failure: TrainyardError | None = None

    def __call__(self, task: str, text: str) -> str:
        """The URI of the task's text, once it is kept. After a failure nothing more is tried.

        Raises PlatformError or IdentityError, whatever went wrong: a log must never cost a result.
        """
        if self.failure is None and self._until is None:
            self.failure = self._resting.why(self._at)
        if self.failure is not None:
            LOGS.labels("destination", "failed").inc()
            raise self.failure.with_traceback(None)
        try:
            uri = self._kept(task, text)
        except TrainyardError as error:
            self._failed(error)
            raise
        except Exception as error:
            log.exception("logs not kept", folder=self._folder)
            words = f"logDestination: keeping logs failed unexpectedly ({type(error).__name__}); see the operator's log"
            failure = PlatformError(words, reason="LogsNotKept")
            self._failed(failure)
            raise failure from error
        LOGS.labels("destination", "kept").inc()
        return uri

    def _kept(self, task: str, text: str) -> str:
        if self._until is None:
            self._until = self._clock() + SECONDS
        if self._clock() > self._until:
            raise Unreachable(f"it took longer than {SECONDS:g} s to keep the attempt's logs")
        store = self._store()
        if store is None:
            raise Refused("logDestination: the platform that the attempt ran on has no such place")
        return store.put(f"{self._folder}/{task}.log", text.encode(errors="replace"), TEXT)

    def _failed(self, error: TrainyardError) -> None:
        self.failure = error
        self._resting.failed(self._at, error)
        LOGS.labels("destination", "failed").inc()


class Destinations:
    """Makes stores, and keeps those in use, with their short-lived credentials, in memory. Bounded."""

    def __init__(
        self,
        accounts: ServiceAccounts,
        log: AuditLog,
        endpoints: StorageEndpoints,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._accounts = accounts
        self._log = log
        self._endpoints = endpoints
        own = [url.removeprefix("https://").rstrip("/") for url in (endpoints.s3, endpoints.sts) if url is not None]
        self._policy = HostPolicy([*DEFAULT_HOSTS, *own], token_hosts=())
        self._clock = clock
        self._resting = Resting(clock)
        self._lock = threading.Lock()
        self._stores: OrderedDict[_Key, LogStore] = OrderedDict()

    def keeping(
        self, run: RunSnapshot, attempt: Attempt, destination: LogDestination | None, files: Files | None
    ) -> Keeping | None:
        """What keeps the attempt's whole logs; None if the workspace keeps none. Makes and sends nothing yet.

        `files` are those of the platform that the attempt ran on.
        """
        if destination is None:
            return None
        account = ServiceAccountRef(run.namespace, attempt.service_account or "")
        by_entra = attempt.identity is not None and attempt.identity.entra is not None
        at = _Key(
            account,
            ENTRA if by_entra else attempt.platform,
            attempt.host,
            attempt.principal,
            destination.model_dump_json(),
        )

        def store() -> LogStore | None:
            if destination.volume is not None:
                return None if files is None else VolumeLogStore(destination.volume, files)
            return self._store(at, destination)

        return Keeping(store, folder_of(run, attempt), at, self._resting, self._clock)

    def _store(self, key: _Key, destination: LogDestination) -> LogStore | None:
        with self._lock:
            if key not in self._stores:
                made = self._made(key, destination)
                if made is None:
                    return None
                self._stores[key] = made
            self._stores.move_to_end(key)
            while len(self._stores) > MOST_STORES:
                self._stores.popitem(last=False)
            return self._stores[key]

    def _made(self, key: _Key, destination: LogDestination) -> LogStore | None:
        """The store. Imported here: most workspaces name none."""
        assertion, allow, audit = self._assertions(key), self._policy.check, self._log
        if destination.s3 is not None:
            from trainyard.keeping.s3 import S3LogStore, S3Place

            s3, at = destination.s3, self._endpoints
            place = S3Place(s3.bucket, s3.prefix, s3.region, s3.role_arn, endpoint=at.s3, sts_endpoint=at.sts)
            name = f"trainyard-{key.account.namespace}"[:64]  # in CloudTrail
            return S3LogStore(place, name, assertion=assertion, allow=allow, log=audit, bounds=BOUNDS)
        if destination.adls is not None:
            from trainyard.keeping.adls import AdlsLogStore, AdlsPlace

            adls = destination.adls
            azure = AdlsPlace(adls.account, adls.container, adls.prefix, adls.tenant_id, adls.client_id)
            return AdlsLogStore(azure, assertion=assertion, allow=allow, log=audit, bounds=BOUNDS)
        return None

    def _assertions(self, key: _Key) -> Assertions:
        def assertion(audience: str) -> str:
            if not key.account.name:
                raise IdentityError(
                    "logDestination: s3 and adls are written with a ServiceAccount's identity, and the workspace's "
                    "identity mode has none: use volume, or the mode federated",
                    reason="LogsNotKept",
                )
            require_consent(self._accounts, key.account, key.platform, key.principal)
            return mint(self._accounts, key.account, audience).value

        return assertion


def folder_of(run: RunSnapshot, attempt: Attempt) -> str:
    """Where the attempt's logs lie below the destination: readable, and never another run's of the same name."""
    return f"{run.namespace}/{run.name}/{run.uid}/attempt-{attempt.number}"
