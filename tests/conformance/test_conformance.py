"""One list of manifests against every platform: each gives what the list says, and all give the same.

A new platform adds a driver (tests/platforms) and is judged by this list and by the platforms that were there before.
"""

import itertools

import pytest

from tests.conformance.case import PASSED, TRUE_IN, Case
from tests.conformance.cases import CASES
from tests.conformance.conftest import Look
from tests.conformance.lacks import REFUSED_BEFORE, UNSUPPORTED
from tests.platforms import NAMES
from trainyard.platforms.lacking import LACKING

pytestmark = pytest.mark.timeout(1800)  # the first test waits for all cases on all platforms
every_case = pytest.mark.parametrize("case", CASES, ids=str)


def fits(seen: tuple[str, ...], expected: str) -> bool:
    """Whether the phases are the expected ones in their order; those with a question mark may lack."""
    rest = list(seen)
    for phase in expected.split():
        if rest and rest[0] == phase.removesuffix("?"):
            rest.pop(0)
        elif not phase.endswith("?"):
            return False
    return not rest


@every_case
@pytest.mark.parametrize("platform", NAMES)
def test_a_manifest_does_what_the_list_says(case: Case, platform: str, look: Look) -> None:
    observed = look(case, platform)
    seen = observed.what
    assert fits(seen.phases, case.phases), f"{seen.phases} for {case.phases}: {observed.messages}"
    assert (seen.reason, seen.attempts, seen.results) == (case.reason, case.attempts, case.results), observed.messages
    assert "paid" in case.differs or seen.paid == case.paid
    assert seen.left == case.left
    if case.left:
        true = {kind for kind, status in seen.conditions.items() if status == "True"}
        assert true == TRUE_IN[case.last]
    assert seen.model == case.model
    assert set(seen.metrics) == case.metrics
    assert seen.outputs == case.outputs
    assert len(seen.log) == len(case.log)
    for line, begin in zip(seen.log, case.log, strict=True):
        assert line.startswith(begin)
    for words in case.says:
        assert any(words in message for message in observed.messages), observed.messages


@every_case
@pytest.mark.skipif(len(NAMES) < 2, reason="there is one platform")
def test_platforms_do_the_same(case: Case, look: Look) -> None:
    first, *others = (look(case, platform).what.compared(PASSED, case.differs) for platform in NAMES)
    for other in others:
        assert other == first


@pytest.mark.parametrize("case", UNSUPPORTED, ids=str)
@pytest.mark.parametrize("platform", NAMES)
def test_what_a_platform_lacks_is_refused_in_its_own_words_and_planned_elsewhere(
    case: Case, platform: str, look: Look
) -> None:
    declared = {lack.what: lack.sentence for lack in LACKING[platform]}
    observed = look(case, platform)
    assert observed.what.attempts == observed.what.results == ()
    if case.name in declared:
        assert observed.what.reason == "UnsupportedOnPlatform", observed.messages
        assert declared[case.name] in observed.messages[-1]
    else:
        assert observed.what.reason == "Planned", observed.messages


def test_every_lack_that_is_declared_has_a_manifest() -> None:
    declared = {lack.what for lacks in LACKING.values() for lack in lacks}
    assert declared - REFUSED_BEFORE == {case.name for case in UNSUPPORTED}


def test_phases_are_compared_in_order() -> None:
    expected = "Pending? Submitting Running Succeeded"
    assert fits(("Pending", "Submitting", "Running", "Succeeded"), expected)
    assert fits(("Submitting", "Running", "Succeeded"), expected)
    for wrong in itertools.permutations(("Submitting", "Running", "Succeeded")):
        assert fits(wrong, expected) == (wrong == ("Submitting", "Running", "Succeeded"))
    assert not fits(("Submitting", "Running", "Succeeded", "Failed"), expected)
    assert not fits(("Submitting", "Running"), expected)
