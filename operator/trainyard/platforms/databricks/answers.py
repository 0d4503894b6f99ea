"""What Databricks' refusals mean: the dialect of the audited transport. Pure.

Judged on status and `error_code` as they came, before the SDK sees them: the SDK decorates messages with its
configuration, retries by words in the message, and turns unparsable bodies into a request log.
Codes: databricks-sdk errors/platform.py and overrides.py; https://docs.databricks.com/api, "Error codes".
"""

import json
import re
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from trainyard.audit.transport import Answer, retry_after
from trainyard.core.errors import (
    Denied,
    Missing,
    PlatformError,
    Refused,
    SubmissionDeleted,
    Throttled,
    Unauthenticated,
    Unreachable,
)
from trainyard.platforms.limits import PlatformBusy, QuotaReached

ALREADY_EXISTS = "AlreadyExists"

_MISSING = re.compile(r"(NOT_FOUND|[A-Z_]*DOES_NOT_EXIST|[A-Z_]*_NOT_FOUND)")
# The platform says 400 INVALID_PARAMETER_VALUE of a run that is not there (databricks-sdk errors/overrides.py).
_NO_SUCH_RUN = re.compile(r"Run \d+ does not exist|Run: \S+ in job: \S+ doesn't exist")
_DELETED_TOKEN = re.compile(r"(?=.*idempotency)(?=.*delet)", re.IGNORECASE | re.DOTALL)
# What the gateway before the APIs says of a token that it does not take: 403, and the status for a code
# (databricks/databricks-sdk-go issue 873, n8n-io/n8n issue 34147, databricks/databricks-vscode issue 583).
_TOKEN_REFUSED = re.compile(r"invalid access token|token is expir|token (has )?expired", re.IGNORECASE)
_REASON_PHRASE = "X-Databricks-Reason-Phrase"
# The id that it puts behind its words is another one each time.
_REQUEST_ID = re.compile(r"\s*\[ReqId: [^\]]*\]")
_QUOTA = frozenset({"QUOTA_EXCEEDED", "RESOURCE_EXHAUSTED", "RESOURCE_LIMIT_EXCEEDED"})
# Of an endpoint whose last update is not over (databricks-sdk errors/platform.py: ResourceConflict, 409).
_BUSY = frozenset({"RESOURCE_CONFLICT", "INVALID_STATE"})
_AGAIN = frozenset({"ABORTED", "TEMPORARILY_UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL_ERROR", "UNKNOWN"})
# Quotas free up when runs end, not within seconds.
QUOTA_RETRY_AFTER = 60.0

# Of an identity that may not use the workspace (Databricks CLI: account workspace-assignment, service-principals).
WORKSPACE_ACCESS = (
    "Assign the service principal to this workspace: databricks account workspace-assignment update WORKSPACE_ID "
    """SERVICE_PRINCIPAL_NUMBER --json '{"permissions":["USER"]}'; and give it, or a group that it is in, """
    "the entitlement workspace-access: Settings > Identity and access > Service principals > Entitlements."
)
RUNS = "/jobs/runs/"
ME = "/scim/v2/Me"
FILES = "/api/2.0/fs/"
ENDPOINTS = "/serving-endpoints/"


class DatabricksDialect:
    """See `audit.transport.Dialect`."""

    def error(self, answer: Answer) -> PlatformError:
        """The error that a 4xx answer stands for."""
        document = answer.json()
        if not isinstance(document, dict):
            return _unexplained(answer)
        code = str(document.get("error_code") or "")
        words = _words(document, answer)
        error = _by_code(answer, code, words) or _by_status(answer, code, words)
        if isinstance(error, Denied) and answer.path.endswith(ME):
            # Whoever may use the workspace at all may ask who they are.
            return Denied(f"{words} {WORKSPACE_ACCESS}")
        return error

    def remote_id(self, answer: Answer) -> str | None:
        """The run's id, for requests about runs; the endpoint's name, for those about endpoints."""
        url = urlsplit(answer.url)
        if ENDPOINTS in url.path:
            return unquote(url.path.partition(ENDPOINTS)[2].partition("/")[0])[:128]
        if RUNS not in url.path:
            return None
        asked = parse_qs(url.query).get("run_id")
        if asked:
            return asked[0]
        for text in (answer.body, answer.sent):
            try:
                document = json.loads(text)
            except ValueError:
                continue
            if isinstance(document, dict) and "run_id" in document:
                return str(document["run_id"])
        return None


def _by_code(answer: Answer, code: str, words: str) -> PlatformError | None:
    """What the error code says; it is more exact than the status."""
    if answer.status == 401 or (code in ("", "403") and _token_refused(answer, words)):
        return Unauthenticated(words)
    if code == "ENDPOINT_NOT_FOUND":
        return Refused(f"{words} Check that host is a Databricks workspace.", reason="EndpointNotFound")
    if answer.path.endswith("/jobs/runs/submit") and _DELETED_TOKEN.search(words):
        return SubmissionDeleted(words)
    if _missing(answer, code, words):
        return Missing(words)
    if code in ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"):
        return Refused(words, reason=ALREADY_EXISTS)
    if code == "PERMISSION_DENIED":
        return Denied(words)
    if code in _QUOTA:
        pause = retry_after(answer.headers) if "Retry-After" in answer.headers else QUOTA_RETRY_AFTER
        return QuotaReached(words, retry_after=pause)
    if code == "REQUEST_LIMIT_EXCEEDED":
        return Throttled(words, retry_after=retry_after(answer.headers))
    if code in _BUSY and answer.status == 409 and ENDPOINTS in answer.path:
        return PlatformBusy(words)
    if code in _AGAIN:
        return Unreachable(words)
    return None


def _token_refused(answer: Answer, words: str) -> bool:
    said = answer.headers.get(_REASON_PHRASE) or words
    return answer.status == 403 and _TOKEN_REFUSED.search(said) is not None


def _missing(answer: Answer, code: str, words: str) -> bool:
    # That a run is gone is final, so only the Jobs API's own two ways to say so count.
    if RUNS in answer.path:
        return code == "RESOURCE_DOES_NOT_EXIST" or _NO_SUCH_RUN.search(words) is not None
    return _MISSING.fullmatch(code) is not None


def _by_status(answer: Answer, code: str, words: str) -> PlatformError:
    if answer.status == 403:
        return Denied(words)
    if answer.status in (408, 425, 499):
        return Unreachable(words)
    # An API gateway answers in JSON as well, but without an error_code. It judges neither the request nor the run.
    if not code and answer.status != 400:
        host = urlsplit(answer.url).netloc
        return Unreachable(f"{host} answered {answer.status}: {words}", reason="PlatformAnswerMalformed")
    return Refused(words)


def _unexplained(answer: Answer) -> PlatformError:
    """An error that is not Databricks' own. A proxy's 404 must never pass for a run that is gone."""
    host = urlsplit(answer.url).netloc
    if answer.status == 401 or _token_refused(answer, ""):
        return Unauthenticated(f"{host} answered {answer.status}")
    if answer.status == 403:
        return Denied(f"{host} answered 403 without saying why; a proxy or an IP access list may stand in between")
    if answer.status == 404 and answer.method == "HEAD" and answer.path.startswith(FILES):
        # An answer to HEAD has no body to say more in (RFC 9110, 9.3.2). That a file is not there decides nothing.
        return Missing(f"{answer.path.removeprefix(FILES)} does not exist")
    return Unreachable(f"{host} answered {answer.status} without saying why", reason="PlatformAnswerMalformed")


def _words(document: dict[str, Any], answer: Answer) -> str:
    # SCIM has `detail` where the rest of the platform has `message`; the OIDC server has `error_description`.
    said = document.get("message") or document.get("detail") or document.get("error_description")
    text = _REQUEST_ID.sub("", " ".join(str(said or "").split()))[:500]
    return text or f"{urlsplit(answer.url).netloc} answered {answer.status}"
