"""How a failed run is told more exactly than by the platform's one word for it: end and advice. Pure.

Called by `outcome` with what the platform says of one task: termination code, messages, error, stack trace, and why its
cluster ended. Never turns a failure into a success, nor a success into a failure: those two are the platform's to tell.
"""

import re
from dataclasses import dataclass

from trainyard.core.remote import End
from trainyard.platforms.databricks.cluster_reasons import ORDINARY, REASON, TYPE
from trainyard.platforms.failures import Verdict, by_words, lacks_capacity, lacks_memory


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


# Judged further; how the others ended is said by the platform exactly enough.
_OPEN = frozenset({End.CODE, End.INFRASTRUCTURE, End.CONFIGURATION, End.PACKAGES})
# Whose cluster is asked about: the code did not fail by itself.
_CLUSTER = frozenset({End.INFRASTRUCTURE, End.CONFIGURATION})

# "Cluster 1102-x is in unexpected state Terminated: AZURE_QUOTA_EXCEEDED_EXCEPTION(CLIENT_ERROR): azure_error_code:..."
# (databricks-industry-solutions/pixels#24).
_REASON_SPOKEN = re.compile(
    r"\b([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|INACTIVITY)\b ?\((\w+)\)|\b([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)\b"
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
    return by_words(evidence.end, said, evidence.message)


def reason_in(message: str) -> tuple[str, str]:
    """The cluster's termination reason, and its type, that a message names; empty where it names none."""
    for match in _REASON_SPOKEN.finditer(message):
        code, kind = match[1] or match[3], match[2] or ""
        if code in REASON and code != "INTERNAL_ERROR":
            return code, kind
        if kind in TYPE:
            return code, kind
    return "", ""


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
    if end in _CLUSTER and lacks_capacity(words):
        end = End.QUOTA
    if end is End.INFRASTRUCTURE and lacks_memory(words):
        end = End.OUT_OF_MEMORY
    return Verdict(end)


def _ended_by_a_person(evidence: Evidence) -> Verdict:
    by = f" by {evidence.ended_by}" if evidence.ended_by else ""
    if evidence.shared:
        # Whoever restarts a cluster that many use does not mean this run.
        return Verdict(End.INFRASTRUCTURE, f"the cluster was terminated{by} while the run used it")
    return Verdict(End.CANCELLED, f"its cluster was terminated{by}")
