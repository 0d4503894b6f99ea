"""The ways out to Azure: a session for each audience, with its own hosts and its own token, whatever an SDK may ask.

Made by `client`; used in a lane's threads. Which token goes where is decided here, when a request is about to leave and
by its URL alone: an SDK above has no token to send anywhere, and what names a host (a discovery document, a signed URL,
a link to a next page) can not lead one astray (invariant 6). azure-core is imported at the first request.
"""

import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

import requests

import trainyard
from trainyard.audit.log import AuditLog
from trainyard.audit.transport import AuditedAdapter, Bounds, Dialect
from trainyard.core.errors import Refused, Throttled, TrainyardError, Unauthenticated, Unreachable
from trainyard.identity.base import TokenSource
from trainyard.platforms.limits import BesideUnreachable

if TYPE_CHECKING:
    from azure.core import PipelineClient
    from azure.core.pipeline.transport import RequestsTransport

T = TypeVar("T")

# What follows a host may be a secret: a signature in a query, which needs no path before it.
_AFTER_HOST = re.compile(r"[/?#\\]")
# Reasons of a Refused that did not come from the API that was asked.
NO_JUDGEMENT = frozenset({"RedirectRefused", "EndpointNotFound"})


class Plane:
    """One audience.

    Args:
        allowed: says of a URL whether it may be asked at all.
        tokens: whose token goes with each request; None sends none, as to storage, where the URL itself is signed.
        facts: principal, mode and service_account, for the records.
        log: the audit log.
        dialect: what refusals mean here.
        bounds: limits of each HTTP request.
        documents: whether every answer has to be JSON.
        beside: whether it is a service beside the API: that it does not answer says nothing about jobs.
        clock: what deadlines are told by, in seconds.
    """

    def __init__(
        self,
        *,
        allowed: Callable[[str], bool],
        tokens: TokenSource | None,
        facts: Mapping[str, str],
        log: AuditLog,
        dialect: Dialect,
        bounds: Bounds,
        documents: bool = True,
        beside: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._allowed = allowed
        self._tokens = tokens
        self._facts = facts
        self._clock = clock
        # A request is signed and sent in one thread, one after the other.
        self._used = threading.local()
        self._session = requests.Session()
        self._session.adapters.clear()
        self._session.mount("https://", AuditedAdapter(log, dialect, self._facts_now, bounds, documents=documents))
        # Also keeps requests from looking for a password in ~/.netrc.
        self._session.auth = self._signed
        self._silent = BesideUnreachable if beside else Unreachable
        self._building = threading.Lock()
        self._pipeline: PipelineClient[Any, Any] | None = None

    def transport(self) -> "RequestsTransport":
        """This way out as azure-core's transport; it may be given to any Azure SDK."""
        from azure.core.pipeline.transport import RequestsTransport

        return RequestsTransport(session=self._session, session_owner=False)

    def ask(
        self,
        method: str,
        url: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        until: float | None = None,
    ) -> dict[str, Any]:
        """One request; the JSON object of its answer, empty if the answer is.

        Args:
            until: of the clock. After it the request does not leave, however long its token took, and neither does
                its repetition with another token: then nothing has happened.

        Raises:
            Unreachable: also where nobody judged the request: a redirect, or a host without the API. Transient faults
                of a network look the same, so that neither may end a run.
            Refused: HostNotAllowed; nothing was sent. And what the service refuses.
            PlatformError, IdentityError: see `call`.
        """
        from azure.core.rest import HttpRequest

        def once() -> dict[str, Any]:
            self._used.until = until
            try:
                request = HttpRequest(
                    method,
                    # azure-core takes parameters as they are, for its own clients have quoted them before.
                    f"{url}?{urlencode(query, quote_via=quote)}" if query else url,
                    json=None if body is None else dict(body),
                    headers={"Accept": "application/json", **(headers or {})},
                )
                answer = self._built().send_request(request)
            finally:
                self._used.until = None
            document = answer.json() if answer.content else {}
            if not isinstance(document, dict):
                raise TypeError(f"answered with a {type(document).__name__}")
            return document

        return self.call(once)

    def call(self, ask: Callable[[], T]) -> T:
        """One or more requests through this plane. A refused token is replaced and they are made once more, so they
        must be idempotent.

        Raises:
            BesideUnreachable: a service beside the API did not answer.
            PlatformError: what the platform answered, or that it did not.
            IdentityError: no token can be had.
        """
        try:
            try:
                return _readable(ask)
            except Unauthenticated:
                if self._tokens is None:
                    raise
                self._tokens.forget()
                return _readable(ask)
        except Refused as error:
            if error.reason in NO_JUDGEMENT:
                raise self._silent(error.message, reason=error.reason) from error
            raise
        except (Throttled, BesideUnreachable):
            raise
        except Unreachable as error:
            raise self._silent(error.message, reason=error.reason, retry_after=error.retry_after) from error

    def check(self, url: str) -> None:
        """Raises Refused, HostNotAllowed, unless the URL may be asked; every request is checked again as it leaves."""
        if not self._allowed(url):
            host = _AFTER_HOST.split(url.partition("://")[2], maxsplit=1)[0].rpartition("@")[2]
            raise Refused(
                f"{host[:200]!a} is not a host of this workspace's cloud for that; nothing was sent there. If it "
                "should be, have the operator started with --azure-cloud FILE whose dataHosts name it.",
                reason="HostNotAllowed",
            )

    def token(self) -> str:
        """The token itself, for the one header beside Authorization that Azure ML wants one in (`jobs`)."""
        if self._tokens is None:
            raise TypeError("no token is sent on this plane")
        return self._tokens.token().value

    def _built(self) -> "PipelineClient[Any, Any]":
        from azure.core.pipeline.policies import UserAgentPolicy
        from azure.mgmt.core import ARMPipelineClient

        with self._building:
            if self._pipeline is None:
                # These policies and no others: nothing retries, follows, polls, registers providers or logs bodies.
                policies = [UserAgentPolicy(user_agent=user_agent())]
                self._pipeline = ARMPipelineClient("", policies=policies, transport=self.transport())
            return self._pipeline

    def _signed(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """The last thing before a request leaves: whether it may, and with which token."""
        self.check(request.url or "")
        request.headers.pop("Authorization", None)
        self._used.jti = None
        if self._tokens is not None:
            token = self._tokens.token()
            self._used.jti = token.assertion_jti
            request.headers["Authorization"] = f"Bearer {token.value}"
        until = getattr(self._used, "until", None)
        if until is not None and self._clock() > until:
            raise Unreachable("preparing the request took too long; it was not sent")
        return request

    def _facts_now(self) -> dict[str, Any]:
        return {**self._facts, "assertion_jti": getattr(self._used, "jti", None)}


def user_agent() -> str:
    """What the platform's own logs show of us."""
    return f"trainyard/{trainyard.__version__}"


def _readable(ask: Callable[[], T]) -> T:
    from azure.core.exceptions import AzureError

    try:
        return ask()
    except TrainyardError:
        raise
    # What the SDKs' decoders raise when an answer lacks what they expect; the transport has judged everything else.
    except (AzureError, AttributeError, KeyError, TypeError, ValueError, OSError, RuntimeError) as error:
        raise Unreachable(
            f"the platform's answer can not be read ({type(error).__name__})", reason="PlatformAnswerMalformed"
        ) from error
