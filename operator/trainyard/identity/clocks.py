"""Whether a clock is wrong, and whose: this operator's, the API server's, or the platform's. Pure.

Called by `identity.assertion` before anything is sent, and by the readers of refusals (`identity.oauth`,
`identity.aadsts`). What is known: our own clock, when the API server says that it has just issued an assertion, and the
`Date` of the platform's answer (RFC 9110, 6.6.1).
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from trainyard.core.errors import IdentityError

if TYPE_CHECKING:
    from trainyard.identity.assertion import Assertion

# How far the API server's clock may be off ours. Identity providers commonly allow for as much (Entra, Kerberos); more
# would be half of an assertion's life.
TOLERATED = timedelta(minutes=5)
# From what difference on a clock is named where a platform finds that an assertion is not valid now.
NOTICED = timedelta(minutes=1)
# A Date has whole seconds and is as old as the answer's way: an assertion is not early by less than this.
MARGIN = timedelta(seconds=30)

_OPERATORS, _SERVERS = "the operator's", "the API server's clock"
_COMPARE = "Compare the clocks of the nodes with the time: chronyc tracking, or timedatectl."


def told_now(headers: Mapping[str, str]) -> datetime | None:
    """What time it is by the clock of whoever answered, if the answer has a Date."""
    try:
        moment = parsedate_to_datetime(headers.get("Date", ""))
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def apart(difference: timedelta, of: str, whom: str) -> str:
    """One clock against another in words, in whole minutes, so that the words stay while the clocks do."""
    minutes = round(abs(difference) / timedelta(minutes=1))
    if minutes == 0:
        return f"{of} agrees with {whom}"
    much = f"{minutes} minute{'s' if minutes > 1 else ''}" if minutes < 120 else f"{round(minutes / 60)} hours"
    return f"{of} is about {much} {'ahead of' if difference > timedelta() else 'behind'} {whom}"


def of_api_server(issued_at: datetime, expires_at: datetime, now: datetime) -> IdentityError | None:
    """What a fresh assertion says of the API server's clock against ours, if that is more than is tolerated."""
    difference = issued_at - now
    if abs(difference) <= TOLERATED and expires_at > now:
        return None
    return IdentityError(
        f"{apart(difference, _SERVERS, _OPERATORS)}, by the ServiceAccount token that it has just issued, which is not "
        f"sent anywhere; {TOLERATED // timedelta(minutes=1)} minutes are tolerated. "
        f"Correct the one that is wrong. {_COMPARE}",
        reason="ClockSkew",
    )


def of_platform(
    platform: str, servers: str, there: datetime | None, assertion: "Assertion", now: datetime
) -> IdentityError | None:
    """What a refusal has to do with clocks: set if the assertion is over, or not valid yet, by the platform's clock.

    `servers` names the clock that the assertion was issued by; `there` is what time it is for the platform, if it told.
    """
    issued_at, expires_at = assertion.issued_at, assertion.expires_at
    if there is None or issued_at is None or expires_at is None:
        return None
    over, early = there >= expires_at, issued_at - there > MARGIN
    if not over and not early:
        return None
    found = "it takes a new token for expired" if over else "a new token is not valid yet for it"
    theirs, issuers = there - now, issued_at - now
    if max(abs(theirs), abs(issuers)) < NOTICED:
        return None
    return IdentityError(
        f"{apart(theirs, f'the clock of {platform}', _OPERATORS)}, and {found}; {apart(issuers, servers, _OPERATORS)}. "
        f"Correct the one that is wrong. {_COMPARE}",
        reason="ClockSkew",
    )
