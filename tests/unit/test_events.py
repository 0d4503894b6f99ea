"""An Event is written before the status it goes with, and taken once, however often it is written."""

from datetime import UTC, datetime
from typing import Any

from trainyard.controllers.events import event_body
from trainyard.core.actions import Note

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)


def name_of(note: Note, version: str = "7", name: str = "wine") -> str:
    obj = {"metadata": {"name": name, "namespace": "team", "uid": "5b3c", "resourceVersion": version}}
    body: dict[str, Any] = event_body("MLTrainingRun", obj, note, NOW)[1]
    found: str = body["metadata"]["name"]
    return found


def test_a_decision_that_is_made_again_after_a_crash_gives_its_event_the_same_name() -> None:
    assert name_of(Note("Normal", "Submitted", "at 12:00")) == name_of(Note("Normal", "Submitted", "at 12:01"))


def test_events_of_different_reasons_or_of_later_versions_are_all_kept() -> None:
    notes = [Note("Normal", "Submitted", ""), Note("Warning", "Submitted", ""), Note("Normal", "Succeeded", "")]
    names = {name_of(note, version) for note in notes for version in ("7", "8")}
    assert len(names) == 6


def test_the_name_of_an_event_fits_kubernetes_whatever_the_object_is_called() -> None:
    assert len(name_of(Note("Normal", "Submitted", ""), name="x" * 253)) <= 253
