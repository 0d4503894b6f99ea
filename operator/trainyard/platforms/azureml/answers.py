"""What refusals of Azure mean: the dialects of the audited transport. Pure.

Azure Resource Manager and the workspace's services answer with an `error` object, storage with XML and a header.
Read in: Azure documentation, "Common API error codes", "Request limits and throttling", "Troubleshoot Azure RBAC",
"Status and error codes" of Blob storage; Azure ML's own nested codes in Azure/azure-sdk-for-python PR 47389 and
MicrosoftDocs/azure-docs#122250. 429 and 5xx never get here: the transport judges them.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from trainyard.audit.transport import Answer, retry_after
from trainyard.core.errors import Denied, Missing, PlatformError, Refused, Unauthenticated, Unreachable
from trainyard.platforms.azureml import remedies
from trainyard.platforms.limits import PlatformBusy, QuotaReached

ALREADY_EXISTS = "AlreadyExists"
MOST_WORDS = 700  # characters

_RUN = re.compile(r"/(?:jobs|runs|onlineEndpoints)/([^/]+)")
_ENDPOINT = "/onlineEndpoints/"
# "Cannot create a deployment in endpoint X because it is in Updating provisioning state" (Azure/azure-sdk-for-net
# issue 36961): the service works on the last change.
_BUSY = re.compile(r"because it is in \w+ (?:provisioning )?state|another operation|in progress", re.IGNORECASE)
# "There is already an endpoint with this name, Endpoint name needs to be unique within a region"
# (Azure/mlops-project-template issue 29).
_TAKEN = re.compile(r"already an endpoint with this name|endpoint\b.*\balready exists|unique within a region", re.I)
_EXISTS = re.compile(r"already exists|already linked", re.IGNORECASE)
# Quotas free up when jobs end, not within seconds.
QUOTA_RETRY_AFTER = 60.0
# "The specified subscription has a Standard DSv2 family vCPU quota of 2 and is less than the requested job node count"
# (MicrosoftLearning/mslearn-dp100#35); codes JobNodeCountExceedsCoreQuota, ClusterCoreQuotaReached.
# In a message the word alone may be part of anybody's name.
_QUOTA = re.compile(
    r"quota\w* (?:limit )?of \d|quota\w*[^.]{0,80}(?:exceed|reached|less than|insufficient)"
    r"|(?:exceed|insufficient|enough|out of)[^.]{0,80}quota",
    re.IGNORECASE,
)
# What the service says of itself rather than of the request.
_OWN_FAULT = frozenset({"ServiceError", "SystemError", "InternalServerError", "ServerTimeout", "ServiceUnavailable"})


class AzureDialect:
    """Azure Resource Manager and the data plane. See `audit.transport.Dialect`.

    Args:
        workspace: the workspace's path in Azure Resource Manager.
    """

    def __init__(self, workspace: str) -> None:
        self._workspace = workspace

    def error(self, answer: Answer) -> PlatformError:
        """The error that a 4xx answer stands for."""
        document = answer.json()
        error = document.get("error") if isinstance(document, dict) else None
        if not isinstance(error, dict) or not isinstance(error.get("code"), str):
            # MLflow's own shape, which the workspace's tracking server keeps (mlflow rest-api: error_code, message).
            if isinstance(document, dict) and isinstance(document.get("error_code"), str):
                return _by_mlflow_code(answer, document["error_code"], _words(document, answer))
            return _unexplained(answer)
        words, found = _words(error, answer), tuple(codes(error))
        if _ENDPOINT in answer.path:
            words = " ".join([words, *_details(error)])[:MOST_WORDS]
        return self._by_code(answer, found, words)

    def remote_id(self, answer: Answer) -> str | None:
        """The job's or endpoint's name, for requests about one."""
        found = _RUN.search(answer.path)
        return unquote(found[1])[:255] if found else None

    def _by_code(self, answer: Answer, found: tuple[str, ...], words: str) -> PlatformError:
        status, code = answer.status, found[0]
        if status == 401:
            return Unauthenticated(words)
        if code == "MissingSubscriptionRegistration":
            return Denied(f"{words} Register it: az provider register --namespace Microsoft.MachineLearningServices")
        if code in ("SubscriptionNotFound", "InvalidSubscriptionId"):
            return Denied(f"{words} Correct the workspace's subscriptionId and tenantId, or give the identity a role.")
        if status == 403:
            return self._denied(answer, words)
        if code in ("InvalidResourceType", "NoRegisteredProviderFound", "InvalidApiVersionParameter"):
            return Refused(words, reason="EndpointNotFound")
        if status == 404:
            return Missing(words)
        if _ENDPOINT in answer.path and (verdict := _of_endpoint(answer, words)) is not None:
            return verdict
        if {"Immutable", "JobPropertyImmutable"} & set(found) or (status in (400, 409) and _EXISTS.search(words)):
            return Refused(words, reason=ALREADY_EXISTS)
        if any("quota" in each.lower() for each in found) or _QUOTA.search(words):
            pause = retry_after(answer.headers) if "Retry-After" in answer.headers else QUOTA_RETRY_AFTER
            return QuotaReached(words, retry_after=pause)
        if status in (408, 409, 412, 423, 425, 499) or code in _OWN_FAULT:
            return Unreachable(words)
        return Refused(words)

    def _denied(self, answer: Answer, words: str) -> Denied:
        """With the command that gives the right."""
        remedy = remedies.of_refusal(words)
        if not remedy and answer.path.startswith(("/history/", "/mlflow/")):
            holder = "PRINCIPAL"
            remedy = remedies.assignment(remedies.DATA_SCIENTIST, holder, self._workspace)
        return Denied(f"{words} {remedy}".strip())


def _of_endpoint(answer: Answer, words: str) -> PlatformError | None:
    """What a refused change of an online endpoint or deployment means beside what other refusals do."""
    if answer.method == "PUT" and "/deployments/" not in answer.path and _TAKEN.search(words):
        return Refused(
            f"{words} Names of endpoints are shared by a whole region: set spec.endpoint, or the workspace's "
            "endpointPrefix.",
            reason="EndpointNameTaken",
        )
    if answer.method != "GET" and (answer.status == 409 or _BUSY.search(words)):
        return PlatformBusy(words)
    return None


def _details(error: Mapping[str, Any]) -> Iterator[str]:
    """What the service behind online endpoints said, which is passed on as JSON in a text ("errors", by field)."""
    for each in error.get("details") or ():
        text = str(each.get("message") or "") if isinstance(each, Mapping) else ""
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            said = None
        errors = said.get("errors") if isinstance(said, dict) else None
        for sentences in errors.values() if isinstance(errors, dict) else ([text],):
            for sentence in sentences if isinstance(sentences, list) else ():
                yield " ".join(str(sentence).split())


def codes(error: Mapping[str, Any]) -> Iterator[str]:
    """Every code of an error, from the outermost to the innermost.

    Azure ML nests them in `additionalInfo` (type InnerError), its services in `innerError`, others in `innererror`;
    Azure Resource Manager has `details` of what lies below.
    """
    seen: list[Any] = [error]
    while seen:
        each = seen.pop(0)
        if not isinstance(each, Mapping):
            continue
        if isinstance(each.get("code"), str):
            yield each["code"]
        seen += [each.get("innerError"), each.get("innererror")]
        for entry in each.get("additionalInfo") or ():
            if isinstance(entry, Mapping) and entry.get("type") == "InnerError":
                seen.append((entry.get("info") or {}).get("value"))
        seen += list(each.get("details") or ())


class StorageDialect:
    """Blob storage. See `audit.transport.Dialect`."""

    def error(self, answer: Answer) -> PlatformError:
        """The error that a 4xx answer stands for."""
        host = urlsplit(answer.url).netloc
        code = answer.headers.get("x-ms-error-code") or _element(answer.body, "Code")
        said = " ".join(_element(answer.body, "Message").split("RequestId:")[0].split())[:300]
        words = f"storage {host} answered {answer.status} {code}".rstrip() + (f": {said}" if said else "")
        if not code:
            if answer.status == 404:
                return Missing(words)
            return Unreachable(f"{words}, without saying why", reason="PlatformAnswerMalformed")
        if code in ("BlobAlreadyExists", "UnauthorizedBlobOverwrite"):
            return Refused(words, reason=ALREADY_EXISTS)
        if code in STORAGE_ADVICE:
            return Denied(f"{words} {STORAGE_ADVICE[code]}")
        if answer.status == 404:
            return Missing(words)
        if answer.status in (401, 403):
            return Denied(words)
        if answer.status in (408, 409, 412, 425, 499):
            return Unreachable(words)
        return Refused(words)

    def remote_id(self, answer: Answer) -> str | None:  # noqa: ARG002 - the protocol's signature
        """Nothing; a blob is not a job."""
        return None


_NETWORK = (
    "Storage refuses this network: its firewall, or a private endpoint without public access. Have the operator run "
    "inside the workspace's network, or add its outbound address to the storage account's firewall."
)
# Azure Storage documentation: "Blob service error codes", "Troubleshoot 403", "Prevent Shared Key authorization".
STORAGE_ADVICE = {
    "AuthorizationFailure": _NETWORK,
    "IpAuthorizationError": _NETWORK,
    "PublicAccessNotPermitted": _NETWORK,
    "KeyBasedAuthenticationNotPermitted": "Keys are disabled on the workspace's storage account, so that the signed "
    "URL which Azure ML gives for code is of no use. Have the workspace use identity-based access that signs by user "
    "delegation, or allow key access: az storage account update --name ACCOUNT --allow-shared-key-access true",
    "AuthenticationFailed": "The signed URL is not accepted: it may have expired, or the account's keys were rotated. "
    "Then: az ml workspace sync-keys --name WORKSPACE --resource-group GROUP",
    "AuthorizationPermissionMismatch": "The signed URL does not permit it; look at the workspace's storage settings.",
}


def _element(body: bytes, name: str) -> str:
    found = re.search(rf"<{name}>(.*?)</{name}>", body.decode("utf-8", "replace"), re.DOTALL)
    return found[1] if found else ""


def _by_mlflow_code(answer: Answer, code: str, words: str) -> PlatformError:
    if answer.status == 401:
        return Unauthenticated(words)
    if code in ("RESOURCE_DOES_NOT_EXIST", "ENDPOINT_NOT_FOUND", "NOT_FOUND"):
        return Missing(words)
    if answer.status == 403 or code == "PERMISSION_DENIED":
        return Denied(words)
    if code in ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"):
        return Refused(words, reason=ALREADY_EXISTS)
    return Refused(words)


def _unexplained(answer: Answer) -> PlatformError:
    """An error that is not Azure's own. A proxy's 404 must never pass for a job that is gone."""
    host = urlsplit(answer.url).netloc
    if answer.status == 401:
        return Unauthenticated(f"{host} answered 401")
    if answer.status == 403:
        return Denied(f"{host} answered 403 without saying why; a proxy or a private endpoint may stand in between")
    return Unreachable(f"{host} answered {answer.status} without saying why", reason="PlatformAnswerMalformed")


def _words(document: Mapping[str, Any], answer: Answer) -> str:
    text = " ".join(str(document.get("message") or "").split())[:MOST_WORDS]
    return text or f"{urlsplit(answer.url).netloc} answered {answer.status} {document.get('code') or ''}".rstrip()
