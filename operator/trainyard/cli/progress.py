"""Progress of a run for people: one line on stderr for each change worth a line. Used by the verbs that wait."""

from datetime import datetime

from trainyard.cli.terminal import say
from trainyard.client import Run

# The longest phase, BuildingEnvironment.
_PHASE_WIDTH = 19


class Progress:
    """Called with each state of one run; says what is new about it."""

    def __init__(self) -> None:
        self._told: tuple[object, ...] | None = None
        self._url: str | None = None
        self._tasks: dict[tuple[int, str], str] = {}

    def __call__(self, run: Run) -> None:
        """Says what has changed since the last state."""
        state = (run.phase, run.reason, run.message, run.newest_attempt)
        new_page = run.url if run.url != self._url else None
        if state != self._told or new_page:
            self._told, self._url = state, run.url
            page = f"  {new_page}" if new_page else ""
            _line(run.phase or "Created", (run.message or "not yet seen by the operator") + page)
        self._say_tasks(run)

    def _say_tasks(self, run: Run) -> None:
        attempt = run.attempt()
        for task in attempt.tasks if attempt else []:
            key = (attempt.number if attempt else 0, task.name)
            if self._tasks.get(key) != task.state:
                self._tasks[key] = task.state
                _line("", f"task {task.name}: {task.state}" + (f": {task.message}" if task.message else ""))


def _line(phase: str, text: str) -> None:
    say(f"{datetime.now().astimezone():%H:%M:%S}  {phase:<{_PHASE_WIDTH}}  {text}")
