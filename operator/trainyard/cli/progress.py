"""Progress of a run or deployment for people: a line on stderr for each change worth one. Used by what waits."""

from datetime import datetime

from trainyard.cli.terminal import say
from trainyard.client import Deployment, Run

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


class DeploymentProgress:
    """Called with each state of one deployment; says what is new about it."""

    def __init__(self) -> None:
        self._told: tuple[object, ...] | None = None
        self._states: dict[str, str] = {}
        self._checks: dict[tuple[int, str, str], str] = {}

    def __call__(self, deployment: Deployment) -> None:
        """Says what has changed since the last state."""
        status = deployment.status
        state = (deployment.phase, deployment.reason, deployment.message, status.traffic)
        if state != self._told:
            self._told = state
            shares = f"  [{status.traffic}]" if status.traffic else ""
            _line(deployment.phase or "Created", (deployment.message or "not yet seen by the operator") + shares)
        for each in status.served_models:
            if self._states.get(each.served) != each.state:
                self._states[each.served] = each.state
                _line("", f"{each.served}: {each.state}" + (f": {each.message}" if each.message else ""))
        for found in status.rollout.checks if status.rollout else []:
            key = (status.rollout.step if status.rollout else 0, found.check, found.served)
            if self._checks.get(key) != found.outcome:
                self._checks[key] = found.outcome
                _line("", f"check {found.check} of {found.served}: {found.outcome}: {found.message}")


def _line(phase: str, text: str) -> None:
    say(f"{datetime.now().astimezone():%H:%M:%S}  {phase:<{_PHASE_WIDTH}}  {text}")
