"""The whole table of decisions: no cell changes unread, and what must hold holds in every one of them."""

from pathlib import Path

import pytest

from tests.unit.decide_cells import CHANGES, EVENTS, SITUATIONS, Cell, cells, impossible, table
from trainyard.core.actions import CleanUp, DeleteRun, RemoveFinalizer, Submit
from trainyard.core.conditions import FINAL, TRUE_IN, TYPES

WRITTEN = Path(__file__).with_name("decide_table.txt")


@pytest.fixture(scope="module")
def every() -> list[Cell]:
    return list(cells())


def test_the_table_is_the_one_that_was_read() -> None:
    assert table().splitlines() == WRITTEN.read_text(encoding="utf-8").splitlines()


def test_each_cell_is_there_or_declared_impossible(every: list[Cell]) -> None:
    declared = sum(
        impossible(situation, change, event) is not None
        for situation in SITUATIONS
        for change in CHANGES
        for event in EVENTS
    )
    assert len(every) + declared == len(SITUATIONS) * len(CHANGES) * len(EVENTS)
    assert len(every) > 1000


def test_conditions_are_those_of_the_phase(every: list[Cell]) -> None:
    for cell in every:
        status = cell.run.status
        if status.phase is not None:
            told = {c.type for c in status.conditions if c.status == "True"}
            assert told == TRUE_IN[status.phase], cell
            assert [c.type for c in status.conditions] == list(TYPES), cell


def test_a_final_phase_is_never_left(every: list[Cell]) -> None:
    for cell in every:
        if cell.situation in FINAL:
            assert cell.run.status.phase == cell.situation, cell
            assert isinstance(cell.decision.action, RemoveFinalizer | CleanUp | DeleteRun | None), cell


def test_what_is_to_stop_is_never_submitted(every: list[Cell]) -> None:
    for cell in every:
        stopped = cell.change in ("cancel", "suspend", "delete", "delete, orphan", "unreadable")
        if stopped or (cell.situation.startswith("Cancelling") and cell.change != "resume"):
            assert not isinstance(cell.decision.action, Submit), cell


def test_a_new_attempt_never_follows_a_live_one(every: list[Cell]) -> None:
    for cell in every:
        attempts = cell.run.status.attempts
        assert all(each.ended_at is not None for each in attempts[:-1]), cell
        if cell.run.status.phase in FINAL:
            assert all(each.ended_at is not None for each in attempts), cell


def test_nothing_waits_for_nobody(every: list[Cell]) -> None:
    """What is not final, suspended or let go is being done, watched, or woken by the clock."""
    for cell in every:
        at_rest = cell.run.status.phase in FINAL or cell.run.status.phase == "Suspended" or cell.run.unreadable
        deleted = cell.run.deleting is not None and not cell.run.finalizer
        assert at_rest or deleted or cell.decision.action or cell.decision.wake_at, cell


def test_every_message_says_something(every: list[Cell]) -> None:
    for cell in every:
        if cell.run.status.phase is not None:
            assert cell.run.message.strip(), cell
