"""The store of each log destination that workspaces name. Called by the controllers.

One store per destination and ServiceAccount lives as long as it is used, because its credentials live in it.
"""

import re
import threading
from collections import OrderedDict
from collections.abc import Callable

from trainyard.api.workspace import LogDestination
from trainyard.audit.log import AuditLog
from trainyard.identity.base import ServiceAccountRef
from trainyard.keeping.adls import AdlsLogStore, AdlsPlace
from trainyard.keeping.base import Allow, LogStore
from trainyard.keeping.s3 import S3LogStore, S3Place
from trainyard.keeping.volume import VolumeFiles, VolumeLogStore

# Hosts of the public clouds that the stores ask: for a HostPolicy that becomes `allow`.
DEFAULT_STORE_HOSTS = (
    "*.amazonaws.com",
    "*.amazonaws.com.cn",
    "*.blob.core.windows.net",
    "login.microsoftonline.com",
)


class LogStores:
    """Every log store of this operator.

    Bounded: the longest unused store is dropped, which costs its user one more assertion.

    Args:
        mint: a fresh assertion of that ServiceAccount for that audience. It is where the ServiceAccount's consent is
            checked: it alone knows the cluster.
        allow: raises IdentityError for a host that nothing may be sent to.
        log: the audit log.
    """

    def __init__(
        self, mint: Callable[[ServiceAccountRef, str], str], allow: Allow, log: AuditLog, *, bound: int = 500
    ) -> None:
        self._mint = mint
        self._allow = allow
        self._log = log
        self._bound = bound
        self._lock = threading.Lock()
        self._stores: OrderedDict[tuple[str, ServiceAccountRef], LogStore] = OrderedDict()

    def store(self, destination: LogDestination, account: ServiceAccountRef, files: VolumeFiles) -> LogStore:
        """The destination's store, written as that ServiceAccount. Sends nothing.

        Args:
            files: of the workspace, for a destination in a volume, which is written as the one that submits.

        Raises:
            Refused: the destination names nothing that can exist.
        """
        if destination.volume is not None:
            return VolumeLogStore(destination.volume, files)
        key = (destination.model_dump_json(), account)
        with self._lock:
            store = self._stores.get(key)
            if store is None:
                store = self._stores[key] = self._made(destination, account)
                while len(self._stores) > self._bound:
                    self._stores.popitem(last=False)
            self._stores.move_to_end(key)
            return store

    def _made(self, destination: LogDestination, account: ServiceAccountRef) -> LogStore:
        def assertion(audience: str) -> str:
            return self._mint(account, audience)

        if destination.s3 is not None:
            s3 = destination.s3
            place = S3Place(s3.bucket, s3.prefix, s3.region, s3.role_arn)
            return S3LogStore(place, session_name(account), assertion=assertion, allow=self._allow, log=self._log)
        if destination.adls is not None:
            adls = destination.adls
            container = AdlsPlace(adls.account, adls.container, adls.prefix, adls.tenant_id, adls.client_id)
            return AdlsLogStore(container, assertion=assertion, allow=self._allow, log=self._log)
        raise ValueError("a log destination without a kind: the schema lets none through")


def session_name(account: ServiceAccountRef) -> str:
    """What CloudTrail shows for a session: namespace and ServiceAccount, in what STS takes for a name."""
    return re.sub(r"[^A-Za-z0-9+=,.@-]", "-", f"{account.namespace}.{account.name}")[:64]
