"""What makes an attempt the same attempt: tokens and digests."""

import pytest

from trainyard.core.tokens import code_digest, spec_digest, submission_token

UID = "5b3cf1de-8a63-4d0c-9d3a-0f6f3f1f7a10"


def token(attempt: int = 1, namespace: str = "team", name: str = "iris", key: str | None = None) -> str:
    return submission_token(namespace, name, UID, key, attempt)


def test_a_token_is_derived_readable_and_never_longer_than_the_platform_takes() -> None:
    assert token() == f"ty-{UID}-1"
    longest = submission_token("n" * 253, "r" * 253, UID, "k" * 63, 10**6)
    assert len(longest) <= 64
    assert longest == submission_token("n" * 253, "r" * 253, UID, "k" * 63, 10**6)


@pytest.mark.parametrize("key", [None, "quarterly-2026"])
def test_each_attempt_has_a_token_of_its_own(key: str | None) -> None:
    assert len({token(number, key=key) for number in range(1, 22)}) == 21


def test_a_run_that_is_made_again_with_its_key_has_its_token_again_whatever_its_uid() -> None:
    assert submission_token("team", "iris", "one", "quarterly", 1) == submission_token(
        "team", "iris", "two", "quarterly", 1
    )


def test_nobody_takes_over_another_run_by_naming_its_key() -> None:
    mine = token(key="quarterly")
    assert mine not in (token(key="quarterly", namespace="rivals"), token(key="quarterly", name="theirs"))


def test_nobody_takes_over_another_run_by_naming_its_uid() -> None:
    assert token(key=UID) != token()


@pytest.mark.parametrize(
    "changed",
    [
        {"cancel": True},
        {"deletionPolicy": "Orphan"},
        {"retry": {"limit": 5}},
    ],
)
def test_what_may_change_does_not_change_the_digest(changed: dict[str, object]) -> None:
    assert spec_digest({"a": 1}) == spec_digest({"a": 1, **changed})


def test_the_limit_of_retries_alone_may_change() -> None:
    before = spec_digest({"retry": {"limit": 1, "when": "Any"}})
    assert before == spec_digest({"retry": {"limit": 4, "when": "Any"}})
    assert before != spec_digest({"retry": {"limit": 1, "when": "Infrastructure"}})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"databricks": {"a": 1}}, {"databricks": {"b": 1}}),  # the swap of keys that CEL does not see
        ({"databricks": {"a": None}}, {"databricks": {}}),
        ({"params": {"n": "1"}}, {"params": {"n": "2"}}),
    ],
)
def test_everything_else_changes_the_digest(one: dict[str, object], other: dict[str, object]) -> None:
    assert spec_digest(one) != spec_digest(other)


def test_the_order_of_keys_means_nothing() -> None:
    assert spec_digest({"a": 1, "b": {"c": 1, "d": 2}}) == spec_digest({"b": {"d": 2, "c": 1}, "a": 1})


def test_code_is_known_by_its_names_and_contents() -> None:
    assert code_digest({"a.py": b"1", "b.py": b"2"}) == code_digest({"b.py": b"2", "a.py": b"1"})
    assert code_digest({"a.py": b"1"}) != code_digest({"b.py": b"1"})
    assert code_digest({"a.py": b"1"}) != code_digest({"a.py": b"2"})
