"""How a failed job of Azure ML is told more exactly than by "Failed": end and advice. Pure.

Called by `outcome` with what run history says of the job (codes, message) and what it printed. Never turns a failure
into a success. Codes and words, as quoted in public: MicrosoftLearning/mslearn-dp100#35 (quota),
microsoft/MLOpsPython#346 (preemption), getindata/kedro-azureml#6 and Azure/azure-sdk-for-python#34501 (ServiceError,
OrchestrateJobError, containers), Azure documentation, "Troubleshoot environment image builds", "Troubleshoot data
access" (ScriptExecution.*).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainyard.core.remote import End
from trainyard.platforms.azureml.answers import codes
from trainyard.platforms.failures import Verdict, by_words, lacks_capacity, lacks_memory
from trainyard.platforms.redaction import clean

MAX_MESSAGE = 4000


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a job that did not end well.

    `codes` are those of run history's error, outermost first; `printed` is the last part of its log; `overran` says
    that it ran as long as it was allowed to.
    """

    end: End
    codes: tuple[str, ...] = ()
    message: str = ""
    printed: str = ""
    overran: bool = False


# The code itself ended the job: what follows in the message is quoted from what it printed last.
_RAN = re.compile(r"User (?:process|program)\b")
_TIMEOUT = re.compile(
    r"JobTimeout|timed out|exceeded .{0,40}(?:timeout|maximum run duration)|ran longer than its timeout"
)
_PREEMPTED = re.compile(r"PreemptionError|pre-?empted", re.IGNORECASE)
_QUOTA = re.compile(
    r"JobNodeCountExceedsCoreQuota|ClusterCoreQuotaReached|QuotaExceeded|vCPU quota|exceed\w* .{0,40}quota"
    r"|quota .{0,80}(?:exceeded|reached|less than)",
    re.IGNORECASE,
)
_IMAGE_BUILD = re.compile(r"ImageBuildFailure|image build (?:has )?failed|Environment image build", re.IGNORECASE)
_IMAGE_PULL = re.compile(
    r"Failed to pull Docker image|ImagePullFailed|manifest unknown|pull access denied", re.IGNORECASE
)
_UNAUTHORIZED = re.compile(
    r"UnauthorizedAccess|unauthorized|AuthorizationFailed|AuthorizationFailure|AuthorizationPermissionMismatch"
    r"|StreamAccess\.Authentication|does not have authorization|authentication required|AccessDenied|access denied"
    r"|KeyBasedAuthenticationNotPermitted",
    re.IGNORECASE,
)
# Words of Azure's services as they arrive in the code's own exceptions; narrower than of the service's own message.
_DENIED_IN_CODE = re.compile(
    r"AuthorizationFailed|AuthorizationFailure\b|AuthorizationPermissionMismatch|StreamAccess\.Authentication"
    r"|does not have authorization to perform action"
)
_NOT_THERE = re.compile(
    r"StreamAccess\.NotFound|ComputeNotFound|UnknownComputeTarget|DataNotFound|DatastoreNotFound|EnvironmentNotFound"
    r"|is not found in the cluster|InvalidInstanceType|InvalidNodeCount|maximum nodes|BlobNotFound|PathNotFound",
)
# The service says of itself that it failed; all else is told by UserError.
_SERVICE = frozenset({"ServiceError", "SystemError", "InternalServerError", "AzureMLComputeError"})


def evidence_of(end: End, details: Mapping[str, Any], printed: str, overran: bool) -> Evidence:
    """What run history's details (RunDetails.error, RootError) and the log say."""
    response = details.get("error")
    error = response.get("error") if isinstance(response, Mapping) else None
    if not isinstance(error, Mapping):
        return Evidence(end, printed=printed, overran=overran)
    message = clean(str(error.get("message") or ""))[:MAX_MESSAGE].strip()
    return Evidence(end, tuple(codes(error)), message, printed, overran)


def judge(evidence: Evidence) -> Verdict:
    """Who has to act on how it ended."""
    told = "\n".join((*evidence.codes, evidence.message))
    if evidence.end is End.CANCELLED:
        timed_out = evidence.overran or _TIMEOUT.search(told) is not None
        return Verdict(End.TIMED_OUT if timed_out else End.CANCELLED)
    if evidence.end is not End.CODE:
        return Verdict(evidence.end)
    if "ExecutionFailed" in evidence.codes or _RAN.search(evidence.message):
        # No word of the code's own may have it taken for the service's failure, and be started again.
        return _of_service(evidence, "\n".join(evidence.codes)) or _of_code(evidence)
    return _of_service(evidence, told) or _of_code(evidence)


def _of_service(evidence: Evidence, told: str) -> Verdict | None:
    """By what the service says in `told`; None where it only says that the code failed."""
    if _PREEMPTED.search(told):
        return Verdict(End.INFRASTRUCTURE, "its machines were taken away (tier Spot, or a low-priority cluster)")
    if _QUOTA.search(told) or lacks_capacity(told):
        return Verdict(End.QUOTA)
    if _IMAGE_BUILD.search(told):
        return _of_build(evidence, told)
    if _IMAGE_PULL.search(told):
        if _UNAUTHORIZED.search(told):
            return Verdict(End.PERMISSION, "the machines may not pull the image from its registry")
        return Verdict(End.CONFIGURATION, "the image can not be pulled; correct the runtime's image")
    if lacks_memory(told):
        return Verdict(End.OUT_OF_MEMORY)
    if "ExecutionFailed" in evidence.codes or _RAN.search(evidence.message):
        return None
    if _UNAUTHORIZED.search(told):
        return Verdict(End.PERMISSION)
    if _NOT_THERE.search(told):
        return Verdict(End.CONFIGURATION)
    if _SERVICE & set(evidence.codes[:1]):
        return Verdict(End.OUT_OF_MEMORY if lacks_memory(evidence.printed) else End.INFRASTRUCTURE)
    return None


def _of_build(evidence: Evidence, told: str) -> Verdict:
    if _IMAGE_PULL.search(f"{told}\n{evidence.printed}"):
        return Verdict(End.CONFIGURATION, "the image that packages are installed on can not be pulled")
    return Verdict(End.PACKAGES, "the environment could not be built; correct spec.environment or the runtime")


def _of_code(evidence: Evidence) -> Verdict:
    verdict = by_words(End.CODE, evidence.printed, evidence.message)
    if verdict.end is End.CODE and _DENIED_IN_CODE.search(f"{evidence.message}\n{evidence.printed}"):
        return Verdict(End.PERMISSION)
    return verdict
