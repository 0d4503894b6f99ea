"""Why a platform does not take an assertion, each cause with its own reason and what mends it. Pure.

Called by the readers of refusals, `identity.oauth` for Databricks and `identity.aadsts` for Entra, which know their
platform's words; what is told is told here, so that both platforms tell the same of the same.
"""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from trainyard.core.errors import IdentityError
from trainyard.identity import clocks
from trainyard.identity.assertion import Assertion

# Names that only a cluster's own DNS has (Kubernetes documentation, "DNS for Services and Pods").
_CLUSTER_NAMES = re.compile(r"(^|\.)svc(\.|$)|(^|\.)local(host)?$")
_KUBERNETES = "system:serviceaccount:"


@dataclass(frozen=True, slots=True)
class Case:
    """A refusal: `said` are the platform's words, `trust` what it calls a rule that would take the assertion.

    `whom` names the principal; `remedy` are the commands that make such a rule, as a sentence.
    """

    platform: str
    whom: str
    said: str
    trust: str
    remedy: str
    assertion: Assertion


def names_principal(assertion: Assertion) -> str:
    """What to correct where the platform does not know the principal."""
    if assertion.subject.startswith(_KUBERNETES):
        return "the ServiceAccount's annotation"
    return "the principal in the workspace's identity"


def issuer_not_trusted(case: Case) -> IdentityError:
    """There is no rule for that issuer."""
    return IdentityError(
        f"no {case.trust} of {case.whom} has the issuer {case.assertion.issuer}{_quoted(case)}. {_needed(case)}",
        reason="IssuerNotTrusted",
        waiting=True,
    )


def subject_not_trusted(case: Case) -> IdentityError:
    """There are rules for the issuer, but none for that subject."""
    return IdentityError(
        f"no {case.trust} of {case.whom} has the subject {case.assertion.subject}{_quoted(case)}. {_needed(case)}",
        reason="SubjectNotTrusted",
        waiting=True,
    )


def audience_not_accepted(case: Case) -> IdentityError:
    """There are rules for the issuer and subject, but none with that audience."""
    return IdentityError(
        f"no {case.trust} of {case.whom} has the audience {case.assertion.audience}{_quoted(case)}. {_needed(case)}",
        reason="AudienceNotAccepted",
        waiting=True,
    )


def none_fits(case: Case) -> IdentityError:
    """No rule fits, and it is not said what differs."""
    return IdentityError(
        f"no {case.trust} of {case.whom} fits{_quoted(case)}. {_needed(case)}",
        reason="TokenExchangeRefused",
        waiting=True,
    )


def not_told(case: Case, *, waiting: bool) -> IdentityError:
    """A refusal for a reason that the platform does not tell."""
    return IdentityError(
        f"the token exchange for {case.whom} was refused{_quoted(case)}. {_needed(case)}{_inside(case)}",
        reason="TokenExchangeRefused",
        waiting=waiting,
    )


def signature_refused(case: Case) -> IdentityError:
    """The key that signs is not among those that the platform has of the issuer, or the signature is another's."""
    key = f" {case.assertion.key_id[:40]}" if case.assertion.key_id else ""
    compare = "kubectl get --raw /openid/v1/jwks shows what the API server signs with; " if _of_cluster(case) else ""
    return IdentityError(
        f"{case.platform} does not find the key{key} that the token of {case.assertion.issuer} is signed with, or does "
        f"not believe the signature{_quoted(case)}. The key was revoked or rotated, and what the issuer publishes, or "
        f"what {case.platform} has of it, is of another time. {compare}jwks_uri in {_document(case)} names what is "
        f"published: correct that; it may take some minutes to be known.{_inside(case)}",
        reason="SignatureRefused",
        waiting=True,
    )


def issuer_unreachable(case: Case) -> IdentityError:
    """The platform can not read who the issuer is, or its keys."""
    return IdentityError(
        f"{case.platform} can not read {_document(case)} or the keys that it names{_quoted(case)}. Make both reachable "
        f"from the internet.{_inside(case)}",
        reason="IssuerUnreachable",
        waiting=True,
    )


def expired(case: Case) -> IdentityError:
    """The platform says that it is over, although it was made just now and no clock is known to be wrong."""
    return IdentityError(
        f"{case.platform} says that the token of {case.assertion.issuer} has expired, although it was issued just "
        f"now{_quoted(case)}. Correct the clock of the machines that issue it: chronyc tracking, or timedatectl.",
        reason="AssertionExpired",
    )


def not_yet_valid(case: Case) -> IdentityError:
    """The platform says that it does not hold yet, although no clock is known to be wrong."""
    return IdentityError(
        f"{case.platform} says that the token of {case.assertion.issuer} is not valid yet{_quoted(case)}. Correct the "
        "clock of the machines that issue it: chronyc tracking, or timedatectl.",
        reason="AssertionNotYetValid",
    )


def clock_skew(case: Case, there: datetime | None, now: datetime) -> IdentityError | None:
    """Set if it is the times that are refused and a clock is wrong; `there` is what time it is for the platform."""
    servers = "the API server's clock" if _of_cluster(case) else f"the clock of {case.assertion.issuer}"
    return clocks.of_platform(case.platform, servers, there, case.assertion, now)


def not_in_time(case: Case, there: datetime | None, now: datetime) -> IdentityError | None:
    """What it is of the times that is refused; None if neither the platform nor a clock tells."""
    skew = clock_skew(case, there, now)
    issued_at, expires_at = case.assertion.issued_at, case.assertion.expires_at
    if skew is not None or there is None or issued_at is None or expires_at is None:
        return skew
    if there >= expires_at:
        return expired(case)
    return not_yet_valid(case) if there < issued_at else None


Told = Callable[[Case], IdentityError]
# Whose meaning is plain whatever else is said.
_PLAIN: tuple[tuple[re.Pattern[str], Told], ...] = (
    (
        re.compile(
            r"(can ?not|could not|unable to|fail(ed|ure) to) (be )?(reach|fetch|retrieve|get|read|load)|discovery"
        ),
        issuer_unreachable,
    ),
    (re.compile(r"\bexpired\b"), expired),
    (re.compile(r"not (yet valid|valid yet)|\bnbf\b|in the future"), not_yet_valid),
    (
        re.compile(r"signature|signing key|\bkid\b|\bjwks?\b|(no|unknown) (matching )?(public )?key\b"),
        signature_refused,
    ),
)
# Whose meaning is plain only if one of them alone is spoken of. A "subject token" is any assertion (RFC 8693).
_PARTS: tuple[tuple[re.Pattern[str], Told], ...] = (
    (re.compile(r"\baud(ience)?s?\b"), audience_not_accepted),
    (re.compile(r"\bsub(ject)?s?\b(?![ _]?token)"), subject_not_trusted),
    (re.compile(r"\biss(uer)?s?\b"), issuer_not_trusted),
)


def by_words(case: Case) -> IdentityError | None:
    """What the platform's words point at, where it publishes none to go by; None if they do not point at one thing.

    A wrong guess misleads little: the words are quoted, and all that a rule has to say is told with them.
    """
    words = case.said.lower()
    for own in (case.assertion.issuer, case.assertion.subject, case.assertion.audience, case.whom):
        words = words.replace(own.lower(), " ")
    for pattern, told in _PLAIN:
        if pattern.search(words):
            return told(case)
    spoken_of = [told for pattern, told in _PARTS if pattern.search(words)]
    return spoken_of[0](case) if len(spoken_of) == 1 else None


def _quoted(case: Case) -> str:
    return f" ({case.said})" if case.said else ""


def _needed(case: Case) -> str:
    told = case.assertion
    return (
        f"It needs one with issuer {told.issuer}, subject {told.subject} and audience {told.audience}; a new one takes "
        f"some minutes to be known. {case.remedy}"
    )


def _document(case: Case) -> str:
    return f"{case.assertion.issuer.rstrip('/')}/.well-known/openid-configuration"


def _of_cluster(case: Case) -> bool:
    return case.assertion.subject.startswith(_KUBERNETES)


def _inside(case: Case) -> str:
    """A hint at an issuer that nobody can reach who is outside."""
    host = urlsplit(case.assertion.issuer).hostname or ""
    try:
        inside = not ipaddress.ip_address(host).is_global
    except ValueError:
        inside = _CLUSTER_NAMES.search(host) is not None
    if not inside:
        return ""
    return (
        f" {host} is a name of inside the cluster, which {case.platform} can not reach: see the docs, private issuers."
    )
