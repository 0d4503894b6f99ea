"""Where workspaces keep whole logs: makes the store that a logDestination names, with an identity of the namespace.

Used by the run controller before it collects. A store gets assertions of no other ServiceAccount than the attempt's,
and only while it still opts in; where they may go is for the operator's flags to say, never for a resource.
"""

import time
from collections import OrderedDict
from collections.abc import Callable

from trainyard.api.training_run import Attempt
from trainyard.api.workspace import LogDestination
from trainyard.audit.log import AuditLog
from trainyard.audit.transport import Bounds
from trainyard.controllers.settings import StorageEndpoints
from trainyard.core.errors import Refused, TrainyardError, Unreachable
from trainyard.core.snapshot import RunSnapshot
from trainyard.identity.assertion import mint, require_consent
from trainyard.identity.base import ServiceAccountRef, ServiceAccounts
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
TEXT = "text/plain; charset=utf-8"

_Key = tuple[ServiceAccountRef, str, str]  # who writes, pinned to which principal, the destination as JSON


class Keeping:
    """Keeps the whole logs of one attempt; called in a lane's thread. `folder` is where, below the destination."""

    def __init__(self, store: LogStore | None, folder: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._folder = folder
        self._clock = clock
        self._until: float | None = None
        self.failure: TrainyardError | None = None

    def __call__(self, task: str, text: str) -> str:
        """The URI of the task's text, once it is kept. After a failure nothing more is tried.

        Raises the errors of `core.errors`.
        """
        if self._until is None:
            self._until = self._clock() + SECONDS
        try:
            if self.failure is not None:
                raise self.failure.with_traceback(None)
            if self._clock() > self._until:
                raise Unreachable(f"it took longer than {SECONDS:g} s to keep the attempt's logs")
            if self._store is None:
                raise Refused("logDestination: the platform that the attempt ran on has no such place")
            uri = self._store.put(f"{self._folder}/{task}.log", text.encode(errors="replace"), TEXT)
        except TrainyardError as error:
            self.failure = error
            LOGS.labels("destination", "failed").inc()
            raise
        LOGS.labels("destination", "kept").inc()
        return uri


class Destinations:
    """Makes stores, and keeps those in use, with their short-lived credentials, in memory. Bounded."""

    def __init__(self, accounts: ServiceAccounts, log: AuditLog, endpoints: StorageEndpoints) -> None:
        self._accounts = accounts
        self._log = log
        self._endpoints = endpoints
        own = [url.removeprefix("https://").rstrip("/") for url in (endpoints.s3, endpoints.sts) if url is not None]
        self._policy = HostPolicy([*DEFAULT_HOSTS, *own], token_hosts=())
        self._stores: OrderedDict[_Key, LogStore] = OrderedDict()

    def keeping(
        self, run: RunSnapshot, attempt: Attempt, destination: LogDestination | None, files: Files | None
    ) -> Keeping | None:
        """What keeps the attempt's whole logs; None if the workspace keeps none. Sends nothing.

        `files` are those of the platform that the attempt ran on.
        """
        if destination is None:
            return None
        return Keeping(self._store(run, attempt, destination, files), folder_of(run, attempt))

    def _store(
        self, run: RunSnapshot, attempt: Attempt, destination: LogDestination, files: Files | None
    ) -> LogStore | None:
        if destination.volume is not None:
            return None if files is None else VolumeLogStore(destination.volume, files)
        account = ServiceAccountRef(run.namespace, attempt.service_account)
        key = (account, attempt.principal, destination.model_dump_json())
        if key not in self._stores:
            made = self._made(account, attempt.principal, destination)
            if made is None:
                return None
            self._stores[key] = made
        self._stores.move_to_end(key)
        while len(self._stores) > MOST_STORES:
            self._stores.popitem(last=False)
        return self._stores[key]

    def _made(self, account: ServiceAccountRef, principal: str, destination: LogDestination) -> LogStore | None:
        """The store. Imported here: most workspaces name none."""
        assertion, allow, log = self._assertions(account, principal), self._policy.check, self._log
        if destination.s3 is not None:
            from trainyard.keeping.s3 import S3LogStore, S3Place

            s3, at = destination.s3, self._endpoints
            place = S3Place(s3.bucket, s3.prefix, s3.region, s3.role_arn, endpoint=at.s3, sts_endpoint=at.sts)
            name = f"trainyard-{account.namespace}"[:64]  # in CloudTrail
            return S3LogStore(place, name, assertion=assertion, allow=allow, log=log, bounds=BOUNDS)
        if destination.adls is not None:
            from trainyard.keeping.adls import AdlsLogStore, AdlsPlace

            adls = destination.adls
            azure = AdlsPlace(adls.account, adls.container, adls.prefix, adls.tenant_id, adls.client_id)
            return AdlsLogStore(azure, assertion=assertion, allow=allow, log=log, bounds=BOUNDS)
        return None

    def _assertions(self, account: ServiceAccountRef, principal: str) -> Assertions:
        def assertion(audience: str) -> str:
            require_consent(self._accounts, account, principal)
            return mint(self._accounts, account, audience).value

        return assertion


def folder_of(run: RunSnapshot, attempt: Attempt) -> str:
    """Where the attempt's logs lie below the destination: readable, and never another run's of the same name."""
    return f"{run.namespace}/{run.name}/{run.uid}/attempt-{attempt.number}"
