"""How a failed run is told more exactly than by the platform's one word for it: what every platform shares. Pure.

Called by each platform's own `failures`. Never turns a failure into a success.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from trainyard.core.remote import End


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who has to act, and what they might do; advice may be empty."""

    end: End
    advice: str = ""


# Ends of a job whose machines, rather than its code, failed.
_MACHINES = frozenset({End.INFRASTRUCTURE, End.CONFIGURATION})

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
    r"\bexit(?:ed with)?(?: exit| status)? (?:code|status):? ?(?:137|-9)\b|\bSIGKILL\b|killed by signal 9\b"
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


def lacks_memory(words: str) -> bool:
    """Whether the words say that memory ran out."""
    return _MEMORY_RAISED.search(words) is not None or _KILLED.search(words) is not None


def lacks_capacity(words: str) -> bool:
    """Whether the words say that the cloud had no machine to give, or that a quota forbids it."""
    return _NO_CAPACITY.search(words) is not None


def by_words(end: End, said: str, message: str) -> Verdict:
    """Who has to act, by what the code, or the platform in its place, printed.

    Args:
        end: what the platform's own word says.
        said: the code's error and stack trace.
        message: the platform's message.
    """
    words = f"{message}\n{said}"
    if lacks_memory(words) or _DRIVER_GONE.search(words):
        return Verdict(End.OUT_OF_MEMORY)
    if end in _MACHINES and lacks_capacity(words):
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
