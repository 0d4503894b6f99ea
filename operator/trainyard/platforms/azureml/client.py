"""One Azure ML workspace as one principal: Azure Resource Manager, the workspace's own services, and its storage.

Made by `connection`; used in a lane's threads. Everything leaves through vendor packages that we have not changed, over
sessions of ours (`planes`): jobs and code by path over azure-mgmt-core's client, so that fields and states of tomorrow
are neither dropped nor made into None; typed reads through azure-ai-ml's MLClient; blobs by azure-storage-blob. None of
them retries, polls or follows (docs/decisions/0021). They are imported at the first request that needs them.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

from trainyard.audit.log import AuditLog
from trainyard.audit.transport import Bounds
from trainyard.core.errors import Unreachable
from trainyard.core.snapshot import Target
from trainyard.identity import clouds
from trainyard.platforms.azureml.answers import AzureDialect, StorageDialect
from trainyard.platforms.azureml.planes import Plane
from trainyard.platforms.azureml.typed import ml_client
from trainyard.platforms.base import TokensFor

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.storage.blob import BlobClient, ContainerClient

T = TypeVar("T")


class AzureMLClient:
    """One workspace as one principal.

    Args:
        target: its host is the workspace's URL in Azure Resource Manager.
        tokens_for: tokens by scope, asked at each request.
        log: the audit log.
        bounds: limits of each HTTP request.
        clock: what deadlines are told by, in seconds.

    Raises:
        IdentityError: HostNotAllowed: this operator does not know the cloud.
    """

    def __init__(
        self,
        target: Target,
        tokens_for: TokensFor,
        log: AuditLog,
        bounds: Bounds,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.workspace = clouds.workspace_of(target.host)
        self.cloud = self.workspace.cloud
        self.principal = target.principal
        self.tenant = target.tenant
        self.clock = clock
        arm_tokens, ml_tokens = tokens_for(self.cloud.arm_scope), tokens_for(self.cloud.ml_scope)
        facts = arm_tokens.describe()

        def plane(allowed: Callable[[str], bool], **further: Any) -> Plane:
            return Plane(allowed=allowed, facts=facts, log=log, bounds=bounds, clock=clock, **further)

        dialect = AzureDialect(self.workspace.path)
        self._arm = plane(self.cloud.is_arm, tokens=arm_tokens, dialect=dialect, beside=False)
        self._data = plane(self.cloud.is_data, tokens=ml_tokens, dialect=dialect)
        self._open = plane(self.cloud.is_data, tokens=None, dialect=dialect)
        self._storage = plane(self.cloud.is_storage, tokens=None, dialect=StorageDialect(), documents=False)
        self._building = threading.Lock()
        self._typed: MLClient | None = None

    def do(
        self,
        method: str,
        path: str,
        version: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        until: float | None = None,
    ) -> dict[str, Any]:
        """One request to Azure Resource Manager.

        Args:
            path: below the workspace, beginning with a slash, its parts quoted; empty for the workspace itself.
            version: the api-version.

        Raises:
            Unreachable, Refused, PlatformError, IdentityError: see `Plane.ask`.
        """
        return self._arm.ask(
            method,
            self.workspace.url + path,
            query={"api-version": version, **(query or {})},
            body=body,
            headers=headers,
            until=until,
        )

    def pages(
        self, path: str, version: str, *, query: Mapping[str, Any] | None = None
    ) -> Iterator[list[dict[str, Any]]]:
        """Pages of a list; each is fetched when it is asked for. Errors as `do`.

        Of the link to the next page only its query is taken: where to ask is known here.
        """
        asked: dict[str, Any] = dict(query or {})
        while True:
            answer = self.do("GET", path, version, query=asked)
            yield answer.get("value") or []
            following = answer.get("nextLink")
            if not following:
                return
            before = asked
            asked = {name: value for name, value in parse_qsl(urlsplit(str(following)).query) if name != "api-version"}
            if asked == before:
                raise Unreachable("a list's next page is the same page again", reason="PlatformAnswerMalformed")

    def operation(self, url: str) -> dict[str, Any]:
        """What became of an operation of Azure Resource Manager, at the URL that it was given. Errors as `do`."""
        return self._arm.ask("GET", url)

    def data(
        self, method: str, url: str, *, query: Mapping[str, Any] | None = None, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """One request to a service of the workspace (run history, MLflow), at a whole URL. Errors as `do`."""
        return self._data.ask(method, url, query=query, body=body)

    def open_document(self, url: str) -> dict[str, Any]:
        """A document of the workspace's services that needs no token (its discovery document). Errors as `do`."""
        return self._open.ask("GET", url)

    def ml_token(self) -> str:
        """The data plane's token, which some submissions carry in a header of their own (`jobs`)."""
        return self._data.token()

    def typed(self, ask: Callable[["MLClient"], T]) -> T:
        """Reads through azure-ai-ml's typed calls; errors as `do`."""
        return self._arm.call(lambda: ask(self._ml()))

    def in_blob(self, signed_url: str, ask: Callable[["BlobClient"], T]) -> T:
        """Calls about one blob, at a URL with a signature in it (SAS). No token is sent.

        Raises:
            Refused: HostNotAllowed; nothing was sent. And what storage refuses.
            PlatformError: what storage answered, or that it did not.
        """
        from azure.storage.blob import BlobClient

        def once() -> T:
            with BlobClient.from_blob_url(signed_url, transport=self._storage.transport(), retry_total=0) as blob:
                return ask(blob)

        _quiet()
        self._storage.check(signed_url)
        return self._storage.call(once)

    def in_container(self, signed_url: str, ask: Callable[["ContainerClient"], T]) -> T:
        """Calls about one container, as `in_blob`."""
        from azure.storage.blob import ContainerClient

        def once() -> T:
            transport = self._storage.transport()
            with ContainerClient.from_container_url(signed_url, transport=transport, retry_total=0) as container:
                return ask(container)

        _quiet()
        self._storage.check(signed_url)
        return self._storage.call(once)

    def _ml(self) -> "MLClient":
        _quiet()
        with self._building:
            if self._typed is None:
                self._typed = ml_client(self.workspace, self._arm.transport())
            return self._typed


def _quiet() -> None:
    # At INFO azure-core logs URLs and headers, azure-ai-ml what it does; the audit log says it already, and safely.
    logging.getLogger("azure").setLevel(logging.WARNING)
