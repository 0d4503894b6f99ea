"""How a failed run is told more exactly than by the platform's one word for it: end and advice. Pure.

Called by `outcome` with what the platform says of one task: termination code, messages, error, stack trace, and why its
cluster ended. Never turns a failure into a success, nor a success into a failure: those two are the platform's to tell.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from trainyard.core.remote import End
from trainyard.platforms.databricks.cluster_reasons import ORDINARY, REASON, TYPE


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one task that failed.

    `end` is what `states` made of the platform's word. `reason` and `reason_type` are the cluster's termination reason;
    `shared`: the cluster is not the run's own; `ended_by` who ended it, where the platform tells.
    """

    end: End
    message: str = ""
    error: str = ""
    trace: str = ""
    reason: str = ""
    reason_type: str = ""
    shared: bool = False
    ended_by: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who has to act, and what they might do; advice may be empty."""

    end: End
    advice: str = ""


# Judged further; how the others ended is said by the platform exactly enough.
_OPEN = frozenset({End.CODE, End.INFRASTRUCTURE, End.CONFIGURATION, End.PACKAGES})
# Whose cluster is asked about: the code did not fail by itself.
_CLUSTER = frozenset({End.INFRASTRUCTURE, End.CONFIGURATION})

# "Cluster 1102-x is in unexpected state Terminated: AZURE_QUOTA_EXCEEDED_EXCEPTION(CLIENT_ERROR): azure_error_code:..."
# (databricks-industry-solutions/pixels#24).
_REASON_SPOKEN = re.compile(
    r"\b([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|INACTIVITY)\b ?\((\w+)\)|\b([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)\b"
)

# What the clouds say behind a launch failure. Azure: "Troubleshoot Azure allocation failures"; AWS: EC2 error codes;
# Google: "Troubleshoot resource availability errors".
_NO_CAPACITY = re.compile(
    r"QuotaExceeded|exceeding (approved|quota)|VcpuLimitExceeded|InstanceLimitExceeded|InsufficientInstanceCapacity"
    r"|MaxSpotInstanceCountExceeded|InsufficientFreeAddressesInSubnet|SkuNotAvailable|AllocationFailed"
    r"|OverconstrainedAllocation|ZonalAllocationFailed|ZONE_RESOURCE_POOL_EXHAUSTED|stockout",
    re.IGNORECASE,
)

# An exception's name begins the line that ends a stack trace; anywhere else the words may be about something else.
_MEMORY_RAISED = re.compile(
    r"^(?:[\w.]*\.)?(?:MemoryError|_ArrayMemoryError|OutOfMemoryError)\b"
    r"|java\.lang\.OutOfMemoryError|CUDA (?:error: )?out of memory|CUDA_ERROR_OUT_OF_MEMORY|CUBLAS_STATUS_ALLOC_FAILED"
    r"|\bRESOURCE_EXHAUSTED: (?:Out of memory|OOM)|ResourceExhaustedError: .*OOM",
    re.MULTILINE | re.IGNORECASE,
)
# Linux' out-of-memory killer sends SIGKILL, signal 9; a shell says 128 + 9.
_KILLED = re.compile(
    r"\bexit(?:ed with)?(?: exit)? (?:code|status):? ?(?:137|-9)\b|\bSIGKILL\b|killed by signal 9\b"
    r"|SystemExit: (?:137|-9)\b",
    re.IGNORECASE,
)
_DRIVER_GONE = re.compile(
    r"driver (?:process )?(?:has |is |ran |was )*(?:stopped unexpectedly|out of memory)"
    r"|driver .{0,80}(?:out of memory|stopped unexpectedly and is restarting)"
    r"|Python kernel is unresponsive|ran out of memory|OOM[- ]?killed",
    re.IGNORECASE,
)
_PIP = re.compile(
    r"No matching distribution found for|Could not find a version that satisfies the requirement"
    r"|Could not install packages|subprocess-exited-with-error|ResolutionImpossible"
    r"|ERROR: (?:Invalid requirement|Failed building wheel|Cannot install)"
    r"|Command '?\[?'?(?:\S*python\S* -m )?\S*pip\b.{0,200}\binstall\b.{0,4000}non-zero exit status"
    r"|Library installation (?:failed|attempted)|LIBRARY_INSTALLATION|ENVIRONMENT_SETUP_ERROR"
    r"|is not a (?:supported|valid) wheel|is not a valid wheel filename",
    re.IGNORECASE | re.DOTALL,
)
_NO_MODULE = re.compile(r"ModuleNotFoundError: No module named '([^']+)'")
_NO_NAME = re.compile(r"ImportError: cannot import name '([^']+)' from '([^']+)'")
# Words of the platform's own services, as they arrive in the code's exceptions.
_DENIED = re.compile(
    r"\bPERMISSION_DENIED\b|\bINSUFFICIENT_PERMISSIONS\b|\bPermissionDenied\b|\bINSUFFICIENT_PRIVILEGES\b"
    r"|PermissionError: .*/Volumes/|User does not have (?:permission|[A-Z][A-Z_ ]+ on)",
)


def judge(evidence: Evidence) -> Verdict:
    """Who has to act on a failure. An end that says enough by itself stays as it is."""
    if evidence.end not in _OPEN:
        return Verdict(evidence.end)
    said = "\n".join(filter(None, (evidence.error, evidence.trace)))
    if evidence.end in _CLUSTER:
        verdict = _of_cluster(evidence, said)
        if verdict is not None:
            return verdict
    return _of_words(evidence.end, said, evidence.message)


def reason_in(message: str) -> tuple[str, str]:
    """The cluster's termination reason, and its type, that a message names; empty where it names none."""
    for match in _REASON_SPOKEN.finditer(message):
        code, kind = match[1] or match[3], match[2] or ""
        if code in REASON and code != "INTERNAL_ERROR":
            return code, kind
        if kind in TYPE:
            return code, kind
    return "", ""


def worst(ends: Iterable[End]) -> End | None:
    """Of several tasks that failed, the end that most needs a person: what is retried helps only when all are."""
    return min(ends, key=_URGENCY.index, default=None)


_URGENCY = [
    End.PERMISSION,
    End.CONFIGURATION,
    End.PACKAGES,
    End.OUT_OF_MEMORY,
    End.CODE,
    End.CANCELLED,
    End.TIMED_OUT,
    End.QUOTA,
    End.INFRASTRUCTURE,
    End.SUCCEEDED,
]


def _of_cluster(evidence: Evidence, said: str) -> Verdict | None:
    """By why the cluster ended; None where nothing says so."""
    code, kind = evidence.reason, evidence.reason_type
    if not code or code in ORDINARY:
        code, kind = reason_in(f"{evidence.message}\n{evidence.error}")
    end = REASON.get(code) or TYPE.get(kind)
    if end is None or code in ORDINARY:
        return None
    if end is End.CANCELLED:
        return _ended_by_a_person(evidence)
    words = f"{evidence.message}\n{said}"
    if end in _CLUSTER and _NO_CAPACITY.search(words):
        end = End.QUOTA
    if end is End.INFRASTRUCTURE and (_MEMORY_RAISED.search(words) or _KILLED.search(words)):
        end = End.OUT_OF_MEMORY
    return Verdict(end)


def _ended_by_a_person(evidence: Evidence) -> Verdict:
    by = f" by {evidence.ended_by}" if evidence.ended_by else ""
    if evidence.shared:
        # Whoever restarts a cluster that many use does not mean this run.
        return Verdict(End.INFRASTRUCTURE, f"the cluster was terminated{by} while the run used it")
    return Verdict(End.CANCELLED, f"its cluster was terminated{by}")


def _of_words(end: End, said: str, message: str) -> Verdict:
    """By what the code, or the platform in its place, printed."""
    words = f"{message}\n{said}"
    if _MEMORY_RAISED.search(words) or _KILLED.search(words) or _DRIVER_GONE.search(words):
        return Verdict(End.OUT_OF_MEMORY)
    if end in _CLUSTER and _NO_CAPACITY.search(words):
        return Verdict(End.QUOTA)
    if _PIP.search(words):
        return Verdict(End.PACKAGES)
    if end is End.CODE and _DENIED.search(words):
        return Verdict(End.PERMISSION)
    return Verdict(end, _import_advice(said))


def _import_advice(said: str) -> str:
    if missing := _NO_MODULE.search(said):
        module = missing[1].partition(".")[0]
        return f"add the package that holds module {module!r} to spec.environment.pip, or the module to spec.code"
    if wrong := _NO_NAME.search(said):
        package = wrong[2].partition(".")[0]
        return f"another version of {package!r} has {wrong[1]!r}: pin it in spec.environment.pip"
    return ""
