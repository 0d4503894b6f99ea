"""A databricks-sdk client that is ours to bound: no network in its construction, our tokens, our transport.

Made by `connection`; used in a lane's threads. The SDK is imported at the first request, never before: importing it
costs a second and 80 MB. It must never retry by itself: what the operator repeats, it repeats on purpose.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import requests

import trainyard
from trainyard.audit.log import AuditLog
from trainyard.audit.transport import AuditedAdapter, Bounds
from trainyard.core.errors import Refused, TrainyardError, Unauthenticated, Unreachable
from trainyard.identity.base import TokenSource
from trainyard.platforms.databricks.answers import DatabricksDialect

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

T = TypeVar("T")

# Reasons of a Refused that did not come from the API that was asked.
NO_JUDGEMENT = frozenset({"RedirectRefused", "EndpointNotFound"})

# Bytes of an answer of a model, or of what is measured: as long as either may sensibly be.
MOST_READ = 4 * 1024 * 1024


class DatabricksClient:
    """One host as one principal.

    Args:
        host: the workspace's origin, allowed by the host policy.
        tokens: asked at each request.
        log: the audit log.
        bounds: limits of each HTTP request.
        clock: what deadlines are told by, in seconds.
    """

    def __init__(
        self,
        host: str,
        tokens: TokenSource,
        log: AuditLog,
        bounds: Bounds,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host
        self._log = log
        self._bounds = bounds
        self._clock = clock
        self._tokens = tokens
        self._facts = tokens.describe()
        self._adapter = AuditedAdapter(log, DatabricksDialect(), self._facts_now, bounds)
        self._building = threading.Lock()
        self._workspace: WorkspaceClient | None = None
        # The header factory and the transport run in the same thread, one after the other.
        self._used = threading.local()

    def do(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        until: float | None = None,
    ) -> dict[str, Any]:
        """One request by path, for what the SDK's typed calls would drop: fields and states that they do not know.

        Args:
            method: GET, POST, PUT, PATCH or DELETE.
            path: begins with a slash.
            query: of the URL.
            body: becomes JSON.
            until: of the clock. After it the request does not leave, however long its token took, and neither does
                its repetition with another token: then nothing has happened.

        Raises:
            Unreachable: also where nobody judged the request: a redirect, or a host without the API. Transient faults
                of a network look the same, so that neither may end a run.
            PlatformError, IdentityError: see `call`.
        """

        def ask(workspace: "WorkspaceClient") -> dict[str, Any]:
            self._used.until = until
            try:
                answer = workspace.api_client.do(
                    method,
                    path,
                    query=None if query is None else dict(query),
                    body=None if body is None else dict(body),
                    headers={"Accept": "application/json"},
                )
            finally:
                self._used.until = None
            if not isinstance(answer, dict):
                raise TypeError(f"{path} answered with a {type(answer).__name__}")
            return answer

        return self._judged(ask)

    def head(self, path: str, *names: str) -> dict[str, str]:
        """The named headers of what lies at a path; errors as `do`."""

        def ask(workspace: "WorkspaceClient") -> dict[str, str]:
            answer = workspace.api_client.do("HEAD", path, response_headers=list(names))
            return {name: str(answer[name]) for name in names if answer.get(name)}

        return self._judged(ask)

    def put_file(self, path: str, content: bytes) -> None:
        """Writes a file, over one that is there (databricks-sdk files.upload); errors as `do`."""

        def ask(workspace: "WorkspaceClient") -> None:
            headers = {"Content-Type": "application/octet-stream"}
            workspace.api_client.do("PUT", path, query={"overwrite": True}, headers=headers, data=content)

        self._judged(ask)

    def get_file(self, path: str) -> bytes:
        """The content of a file (databricks-sdk files.download); errors as `do`."""

        def ask(workspace: "WorkspaceClient") -> bytes:
            headers = {"Accept": "application/octet-stream"}
            answer = workspace.api_client.do("GET", path, headers=headers, raw=True)
            with answer["contents"] as stream:
                return bytes(stream.read())

        return self._judged(ask)

    def get_bytes(self, path: str, *, query: Mapping[str, Any]) -> bytes:
        """An answer as it came, for one that may be too large to be parsed at any time; errors as `do`."""

        def ask(workspace: "WorkspaceClient") -> bytes:
            headers = {"Accept": "application/json"}
            answer = workspace.api_client.do("GET", path, query=dict(query), headers=headers, raw=True)
            with answer["contents"] as stream:
                return bytes(stream.read())

        return self._judged(ask)

    def ask(
        self, method: str, path: str, *, body: Any = None, accept: str = "application/json", seconds: float
    ) -> requests.Response:
        """One request whose answer is read whatever its status is: it may be a model's own, which nobody else judges.

        The SDK would retry by what it finds in it. A refused token is replaced and the request made once more.

        Args:
            body: becomes JSON.
            accept: the kind of answer that is asked for.
            seconds: that the answer may take.

        Raises:
            Unreachable: there was no answer, or it redirects.
            IdentityError: no token can be had.
        """
        bounds = Bounds(self._bounds.connect, seconds, seconds, min(self._bounds.body, MOST_READ))
        adapter = AuditedAdapter(self._log, DatabricksDialect(), self._facts_now, bounds, judged=False)
        with requests.Session() as session:
            session.adapters.clear()
            session.mount("https://", adapter)
            # Also keeps requests from looking for a password in ~/.netrc.
            session.auth = self._signed
            url, headers = f"{self._host.rstrip('/')}{path}", {"Accept": accept}
            try:
                answer = session.request(method, url, json=body, headers=headers, allow_redirects=False)
                if answer.status_code == 401:
                    self._tokens.forget()
                    answer = session.request(method, url, json=body, headers=headers, allow_redirects=False)
            except Refused as error:
                raise Unreachable(error.message, reason=error.reason) from error
        return answer

    def _signed(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.update(self._headers())
        return request

    def _judged(self, ask: Callable[["WorkspaceClient"], T]) -> T:
        try:
            return self.call(ask)
        except Refused as error:
            if error.reason in NO_JUDGEMENT:
                raise Unreachable(error.message, reason=error.reason) from error
            raise

    def call(self, ask: Callable[["WorkspaceClient"], T]) -> T:
        """One or more SDK calls. A refused token is replaced and the calls made once more, so they must be idempotent.

        Raises:
            PlatformError: what the platform answered, or that it did not.
            IdentityError: no token can be had.
        """
        workspace = self._built()
        try:
            return _translated(ask, workspace)
        except Unauthenticated:
            self._tokens.forget()
            return _translated(ask, workspace)

    def _built(self) -> "WorkspaceClient":
        with self._building:
            if self._workspace is None:
                self._workspace = build(self._host, self._headers, self._adapter)
            return self._workspace

    def _headers(self) -> dict[str, str]:
        token = self._tokens.token()
        self._used.jti = token.assertion_jti
        # The last thing before the request leaves: to have a token may have taken most of a minute.
        until = getattr(self._used, "until", None)
        if until is not None and self._clock() > until:
            raise Unreachable("preparing the request took too long; it was not sent")
        return {"Authorization": f"Bearer {token.value}"}

    def _facts_now(self) -> dict[str, Any]:
        return {**self._facts, "assertion_jti": getattr(self._used, "jti", None)}


def _translated(ask: Callable[["WorkspaceClient"], T], workspace: "WorkspaceClient") -> T:
    try:
        return ask(workspace)
    except TrainyardError:
        raise
    # What the SDK's decoders raise when an answer lacks what they expect; the transport has judged everything else.
    except (AttributeError, KeyError, TypeError, ValueError, OSError, RuntimeError) as error:
        raise Unreachable(
            f"the platform's answer can not be read ({type(error).__name__})", reason="PlatformAnswerMalformed"
        ) from error


def build(host: str, headers: Callable[[], dict[str, str]], adapter: AuditedAdapter) -> "WorkspaceClient":
    """A WorkspaceClient for the host; sends nothing, reads no environment, no profile.

    Raises:
        RuntimeError: the SDK has changed inside. Its pin must then be looked at together with this function.
    """
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.config import Config
    from databricks.sdk.credentials_provider import CredentialsStrategy

    # At DEBUG the SDK logs bodies.
    logging.getLogger("databricks.sdk").setLevel(logging.WARNING)

    class Headers(CredentialsStrategy):
        def auth_type(self) -> str:
            return "trainyard"

        def __call__(self, cfg: Config) -> Callable[[], dict[str, str]]:  # noqa: ARG002 - the SDK's signature
            return headers

    class Isolated(Config):
        """A Config of just what it is given: it does not ask the host about itself, and a DATABRICKS_TOKEN or
        ~/.databrickscfg in the operator's surroundings must not decide who it is."""

        # Config finds its attributes on the very class that is asked; a subclass has none of its own.
        @classmethod
        def attributes(cls) -> Any:
            return Config.attributes()

        def _load_from_env(self) -> None:
            """Nothing."""

        def _resolve_host_metadata(self) -> None:
            """Nothing."""

    for name in ("_load_from_env", "_resolve_host_metadata"):
        if not hasattr(Config, name):
            raise RuntimeError(f"databricks-sdk's Config has no {name} any more")
    config = Isolated(
        host=host, credentials_strategy=Headers(), product="trainyard", product_version=trainyard.__version__
    )
    workspace = WorkspaceClient(config=config)
    session = getattr(getattr(workspace.api_client, "_api_client", None), "_session", None)
    if session is None:
        raise RuntimeError("databricks-sdk's ApiClient keeps its requests session somewhere else now")
    session.adapters.clear()
    session.mount("https://", adapter)
    return workspace
