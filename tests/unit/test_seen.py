"""What a sweep's look at a run changes in what the controller knows of it."""

from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from trainyard.controllers.apiserver import ApiServer
from trainyard.controllers.destinations import Destinations
from trainyard.controllers.readiness import Readiness
from trainyard.controllers.run_logs import RunLogs
from trainyard.controllers.runs import RunController
from trainyard.controllers.sessions import Sessions
from trainyard.controllers.store import Store
from trainyard.controllers.uploads import Uploads
from trainyard.core.errors import Missing, Unreachable
from trainyard.core.remote import Observed, RemoteRun, Stage, Trouble
from trainyard.core.snapshot import Limits

NOW = datetime(2026, 11, 1, tzinfo=UTC)
RUNNING = RemoteRun("1", Stage.RUNNING, "RUNNING")
ENDED = RemoteRun("1", Stage.ENDED, "TERMINATED/SUCCESS")


class Seen:
    """A controller that knows of one run."""

    def __init__(self, **observed: object) -> None:
        nothing = cast(ApiServer, None), cast(Sessions, None), cast(Readiness, None)
        nothing_kept = cast(Uploads, None), cast(RunLogs, None), cast(Destinations, None)
        self.controller = RunController(Store(), *nothing, *nothing_kept, Limits(), lambda: self.now)
        self.now = NOW
        self.controller._observed["uid"] = Observed(attempt=1, **observed)  # type: ignore[arg-type]

    @property
    def observed(self) -> Observed:
        return self.controller._observed["uid"]

    def look(self, what: RemoteRun | Missing | Unreachable) -> bool:
        return self.controller.seen("uid", what)


def trouble(action: str) -> Trouble:
    return Trouble("Unreachable", "PlatformUnreachable", "answered 503", NOW, NOW + timedelta(seconds=8), action=action)


def test_a_good_look_ends_trouble_with_looking() -> None:
    seen = Seen(remote=RUNNING, trouble=trouble("Watch"))
    assert seen.look(RUNNING)
    assert seen.observed.trouble is None


@pytest.mark.parametrize("action", ["Cancel", "Collect"])
def test_a_good_look_leaves_an_action_its_pause(action: str) -> None:
    seen = Seen(remote=RUNNING, trouble=trouble(action))
    assert not seen.look(RUNNING)
    assert seen.observed.trouble == trouble(action)


def test_a_change_is_seen_though_an_action_is_in_trouble() -> None:
    seen = Seen(remote=RUNNING, trouble=trouble("Cancel"))
    assert seen.look(ENDED)
    assert seen.observed.remote == ENDED
    assert seen.observed.trouble == trouble("Cancel")


def test_a_bad_look_does_not_replace_the_trouble_of_an_action() -> None:
    seen = Seen(remote=RUNNING, trouble=trouble("Cancel"))
    assert not seen.look(Unreachable("answered 503"))
    assert seen.observed.trouble == trouble("Cancel")


def test_bad_looks_in_a_row_keep_their_beginning_and_wait_longer() -> None:
    seen = Seen(remote=RUNNING)
    pauses = []
    for _ in range(3):
        assert seen.look(Unreachable("answered 503"))
        found = seen.observed.trouble
        assert found is not None
        assert found.since == NOW
        pauses.append((found.retry_at - seen.now).total_seconds())
        seen.now += timedelta(seconds=1)
    assert pauses == [1, 2, 4]


def test_a_run_that_is_missing_has_vanished_whatever_the_trouble() -> None:
    seen = Seen(remote=RUNNING, trouble=trouble("Cancel"))
    assert seen.look(Missing("no such run"))
    assert seen.observed.vanished
    assert seen.observed.trouble is None


def test_an_equal_look_wakes_nobody() -> None:
    assert not Seen(remote=RUNNING).look(RUNNING)


def test_a_look_at_a_run_that_is_not_known_changes_nothing() -> None:
    assert not Seen().controller.seen("another", RUNNING)
