"""Logs in a folder of an Azure storage container, written as an application that trusts the ServiceAccount.

Made by the controllers from a workspace's `logDestination.adls`, called in threads. Never uses a key or a SAS.

Read in: Blob service REST API (Put Blob, Get Blob, Delete Blob, List Blobs, "Blob service error codes", "Authorize
with Microsoft Entra ID"). Accounts with and without hierarchical namespace answer it alike.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

import requests

from trainyard.audit.log import AuditLog
from trainyard.audit.transport import Answer, Bounds
from trainyard.core.errors import Denied, Missing, Refused, TrainyardError, Unauthenticated
from trainyard.keeping.base import Allow, Assertions, below, checked_key
from trainyard.keeping.entra import EntraApplication, EntraToken
from trainyard.keeping.renewal import sent, utc_now
from trainyard.keeping.transport import STORE_BOUNDS, code_of, element, elements, session, words_of

_VERSION = "2023-11-03"
_SCOPE = "https://storage.azure.com/.default"
# Pages of 5000 blobs that one deletion goes through; a run's logs are a handful.
_PAGES = 20
_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
_CONTAINER = re.compile(r"[a-z0-9](-?[a-z0-9]){2,62}")
_TENANT = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class AdlsPlace:
    """A folder of a container, and the application that may write it. The last two are for national clouds."""

    account: str
    container: str
    prefix: str | None
    tenant_id: str
    client_id: str
    authority: str = "https://login.microsoftonline.com"
    endpoint: str | None = None

    def __post_init__(self) -> None:
        # Parts of a host name and of a URL that tokens go to.
        fits = _ACCOUNT.fullmatch(self.account) and _CONTAINER.fullmatch(self.container)
        if not fits or not _TENANT.fullmatch(self.tenant_id):
            raise Refused(
                f"logDestination.adls: {self.account!a}, {self.container!a} and {self.tenant_id!a} are no storage "
                "account, container and tenant: correct them.",
                reason="InvalidSpec",
            )

    @property
    def origin(self) -> str:
        """Where the account is asked."""
        return (self.endpoint or f"https://{self.account}.blob.core.windows.net").rstrip("/")

    @property
    def url(self) -> str:
        """The container's."""
        return f"{self.origin}/{self.container}"


class AdlsLogStore:
    """A LogStore in Azure storage.

    Args:
        place: the folder and the application.
        assertion: mints an assertion for an audience; called only once `allow` has let the authority and the account's
            host pass.
        allow: raises IdentityError for a host that nothing may be sent to.
        log: the audit log.
        bounds: of each request.
    """

    def __init__(
        self,
        place: AdlsPlace,
        *,
        assertion: Assertions,
        allow: Allow,
        log: AuditLog,
        bounds: Bounds = STORE_BOUNDS,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._place = place
        self._allow = allow
        self._application = EntraApplication(
            place.authority,
            place.tenant_id,
            place.client_id,
            _SCOPE,
            assertion=assertion,
            allow=allow,
            log=log,
            now=now,
        )
        self._session = session(log, _Dialect(place), self._application.describe, bounds)

    def put(self, key: str, data: bytes, content_type: str) -> str:
        """See LogStore. The URI is the blob's URL."""
        path = "/" + quote(below(self._place.prefix, key))
        self._send("PUT", path, {"Content-Type": content_type, "x-ms-blob-type": "BlockBlob"}, data)
        return self._place.url + path

    def get(self, key: str) -> bytes | None:
        """See LogStore."""
        answered = self._send("GET", "/" + quote(below(self._place.prefix, key)))
        return None if answered.status_code == 404 else answered.content

    def delete(self, prefix: str) -> None:
        """See LogStore."""
        folder = below(self._place.prefix, checked_key(prefix))
        for _ in range(_PAGES):
            # Asked anew rather than paged: what was listed is gone by then.
            query = f"?restype=container&comp=list&prefix={quote(folder + '/', safe='')}"
            listed = self._send("GET", query).content
            # A hierarchical namespace lists folders too, and refuses to delete one before what is in it.
            for name in sorted(elements(listed, "Name"), reverse=True):
                self._send("DELETE", "/" + quote(name))
            if not element(listed, "NextMarker"):
                break
        self._send("DELETE", "/" + quote(folder))

    def _send(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> requests.Response:
        self._allow(self._place.origin)

        def send(token: EntraToken) -> requests.Response:
            given = {**(headers or {}), "x-ms-version": _VERSION, "Authorization": f"Bearer {token.value}"}
            return self._session.request(
                method, self._place.url + path, data=body, headers=given, allow_redirects=False
            )

        return sent(self._application.token, self._application.forget, send)


class _Dialect:
    """What the Blob service's errors mean."""

    def __init__(self, place: AdlsPlace) -> None:
        self._place = place

    def error(self, answer: Answer) -> TrainyardError | None:
        """The error of a 3xx or 4xx answer; None where a blob is not there, which the caller tells."""
        place, code, said = self._place, code_of(answer), words_of(answer)
        if code == "ContainerNotFound":
            return Missing(
                f"logDestination.adls.container: {place.container} does not exist in account {place.account}: create "
                "it, or correct the name."
            )
        if code in ("BlobNotFound", "PathNotFound") and answer.method != "PUT":
            return None
        if answer.status == 401:
            return Unauthenticated(f"the storage account {place.account} does not accept the token: {said}.")
        if code == "AuthorizationPermissionMismatch":
            return Denied(
                f"logDestination.adls: application {place.client_id} lacks a right ({said}): give it the role Storage "
                f"Blob Data Contributor on container {place.container} of account {place.account}; a new assignment "
                "takes some minutes to be known."
            )
        if answer.status == 403:
            return Denied(
                f"logDestination.adls: the account {place.account} lets nobody in from here ({said}): check its "
                "network rules, and that it is not disabled."
            )
        return Refused(f"the storage account {place.account} refused to keep logs: {said}.")

    def remote_id(self, answer: Answer) -> str | None:  # noqa: ARG002 - the protocol's signature
        """Nothing; no run is asked about."""
        return None
