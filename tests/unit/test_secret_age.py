"""When what a Secret holds is fresh, expiring, or too old."""

from datetime import UTC, datetime, timedelta

import pytest

from trainyard.identity.base import SecretRef
from trainyard.identity.secret_age import CHANGED_AT, changed_at, judged, max_age_of, until
from trainyard.identity.secret_memory import SecretMemory

MADE = datetime(2026, 11, 1, 12, tzinfo=UTC)
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)


@pytest.mark.parametrize(
    ("age", "state", "days_left"),
    [
        (timedelta(0), "Fresh", 30),
        (23 * DAY - SECOND, "Fresh", 7),
        (23 * DAY, "Expiring", 7),
        (23 * DAY + SECOND, "Expiring", 6),
        (30 * DAY - SECOND, "Expiring", 0),
        (30 * DAY, "TooOld", 0),
        (31 * DAY, "TooOld", 0),
        # A clock that is behind the API server's makes nothing old.
        (-SECOND, "Fresh", 30),
    ],
)
def test_thirty_days_warn_for_the_last_seven(age: timedelta, state: str, days_left: int) -> None:
    found = judged(MADE, 30 * DAY, MADE + age)
    assert (found.state, found.days_left) == (state, days_left)
    assert (found.ends_at, found.left) == (MADE + 30 * DAY, 30 * DAY - age)


@pytest.mark.parametrize(
    ("max_age", "warns_after"),
    [(14 * DAY, 7 * DAY), (13 * DAY, 6.5 * DAY), (DAY, DAY / 2), (10 * SECOND, 5 * SECOND), (90 * DAY, 83 * DAY)],
)
def test_a_short_life_warns_for_its_second_half(max_age: timedelta, warns_after: timedelta) -> None:
    assert judged(MADE, max_age, MADE + warns_after - SECOND / 10).state == "Fresh"
    assert judged(MADE, max_age, MADE + warns_after).state == "Expiring"
    assert judged(MADE, max_age, MADE + max_age).state == "TooOld"


def test_anything_that_ends_warns_for_its_last_seven_days() -> None:
    assert [until(MADE, MADE - left).state for left in (8 * DAY, 7 * DAY, SECOND, 0 * DAY)] == [
        "Fresh",
        "Expiring",
        "Expiring",
        "TooOld",
    ]


@pytest.mark.parametrize(
    ("text", "seconds"), [("45s", 45), ("30m", 1800), ("12h", 43_200), ("90d", 7_776_000), ("999999d", 86_399_913_600)]
)
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert max_age_of(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "d", "30", "3.5d", "-1d", "1w", "1 d", "٣d", "30D"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no number"):
        max_age_of(text)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (None, MADE),
        ("2026-10-01T00:00:00Z", datetime(2026, 10, 1, tzinfo=UTC)),
        ("2026-10-01T02:00:00+02:00", datetime(2026, 10, 1, tzinfo=UTC)),
        (" 2026-10-01T00:00:00Z\n", datetime(2026, 10, 1, tzinfo=UTC)),
        ("2026-11-02T00:00:00Z", MADE),
        ("9999-01-01T00:00:00Z", MADE),
    ],
)
def test_an_annotation_makes_older_and_never_newer(said: str | None, expected: datetime) -> None:
    assert changed_at(MADE, {} if said is None else {CHANGED_AT: said}) == expected


@pytest.mark.parametrize("said", ["", "yesterday", "2026-10-01", "2026-10-01T00:00:00", "1764000000"])
def test_an_annotation_that_is_no_time_is_refused(said: str) -> None:
    with pytest.raises(ValueError, match=r"offset|isoformat"):
        changed_at(MADE, {CHANGED_AT: said})


SECRET = SecretRef("team", "dbx")


def test_the_same_data_written_again_stays_as_old_as_it_is() -> None:
    memory = SecretMemory()
    assert memory.first_seen(SECRET, {"a": b"1"}, MADE) == MADE
    assert memory.first_seen(SECRET, {"a": b"1"}, MADE + DAY) == MADE
    assert memory.first_seen(SECRET, {"a": b"1"}, MADE - DAY) == MADE - DAY


def test_other_data_is_as_new_as_the_record_says() -> None:
    memory = SecretMemory()
    memory.first_seen(SECRET, {"a": b"1"}, MADE)
    assert memory.first_seen(SECRET, {"a": b"2"}, MADE + DAY) == MADE + DAY
    assert memory.first_seen(SecretRef("team", "other"), {"a": b"2"}, MADE + 2 * DAY) == MADE + 2 * DAY


def test_no_two_secrets_run_together_into_one_fingerprint() -> None:
    memory = SecretMemory()
    memory.first_seen(SECRET, {"a": b"1", "b": b"2"}, MADE)
    assert memory.first_seen(SECRET, {"a": b"1b2"}, MADE + DAY) == MADE + DAY


def test_what_is_remembered_is_bounded_and_shows_nothing() -> None:
    memory = SecretMemory(bound=1)
    memory.first_seen(SECRET, {"a": b"canary"}, MADE)
    memory.first_seen(SecretRef("team", "other"), {"a": b"canary"}, MADE)
    assert memory.first_seen(SECRET, {"a": b"canary"}, MADE + DAY) == MADE + DAY
    assert b"canary" not in repr(vars(memory)).encode()
