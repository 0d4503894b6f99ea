"""What the tasks of an ended run printed, as far as Databricks still has it.

Called by `outcome`, for one task after the other: for the logs that are kept and for why a task failed. Text is cleaned
of tokens before it is cut or handed on, and whole only as long as it has to be: a task may print 5 MB, a character may
take four bytes, and many runs may end at once. What the platform does not tell is said, never passed over.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from trainyard.core.errors import Denied, Missing, Refused, Unreachable
from trainyard.core.remote import RemoteTask, TaskText
from trainyard.platforms.base import Wanted
from trainyard.platforms.databricks.client import DatabricksClient
from trainyard.platforms.log_keeping import LATE, MAX_MISSING, kept, parsing, turn
from trainyard.platforms.redaction import clean, last_lines

JOBS = "/api/2.2/jobs"
ERROR_LINES = 20
ERROR_LENGTH = 2000
# Of what a failed task printed, error and trace apart, this much is judged.
TAIL = 64 * 1024


@dataclass(frozen=True, slots=True)
class Printed:
    """The output of one task run. `missing` says why there is no text."""

    text: str = ""
    error: str = ""
    trace: str = ""
    truncated: bool = False
    missing: str = ""

    def last_words(self) -> str:
        """The error and the last lines of what was printed, bounded."""
        tail = last_lines(self.trace or self.text, ERROR_LINES, ERROR_LENGTH)
        return (tail if self.error in tail else f"{self.error}\n{tail}".strip())[-ERROR_LENGTH:]

    def shortened(self) -> "Printed":
        """What is left of it once its text has been kept."""
        return replace(self, text=self.text[-TAIL:], error=self.error[:TAIL], trace=self.trace[-TAIL:])


@dataclass(frozen=True, slots=True)
class Kept:
    """One task's output, shortened, with what becomes a log: its last part, and where the whole is."""

    output: Printed
    log: TaskText
    uri: str | None = None


class TaskOutputs:
    """Reads through one client."""

    def __init__(self, client: DatabricksClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock

    def of(self, task: RemoteTask, wanted: Wanted, until: float) -> Kept:
        """What one task printed. Output belongs to the task's run; the parent's is refused.

        Raises:
            QuotaReached: too many texts are under way to destinations; nothing is lost by asking again.
            Unreachable, IdentityError: the platform does not answer.
        """
        body = self._read(task, until)
        if isinstance(body, Printed):
            return Kept(body, TaskText(task.name, "", missing=clean(body.missing)[:MAX_MISSING]))
        with turn(wanted):
            with parsing:
                output = printed(_parsed(body))
                del body
                text = whole(output)
                output = output.shortened()
            in_time = self._clock() <= until
            log, uri = kept(task.name, text, wanted, in_time, truncated=output.truncated, missing=output.missing)
            return Kept(output, log, uri)

    def _read(self, task: RemoteTask, until: float) -> bytes | Printed:
        """The answer of get-output, or why there is none."""
        if task.skipped or task.remote_id in ("", "0"):
            return Printed(missing="the task was never started")
        if self._clock() > until:
            return Printed(missing=LATE)
        try:
            return self._client.get_bytes(f"{JOBS}/runs/get-output", query={"run_id": task.remote_id})
        except (Denied, Missing, Refused) as error:
            # A run that never started has no output, and one that ended has ended, readable or not.
            return Printed(missing=f"the platform does not give its output: {error.message}")
        except Unreachable as error:
            if error.reason != "AnswerTooLarge":
                raise
            return Printed(missing=f"{error.message}; read it on the run's page")


def _parsed(body: bytes) -> Mapping[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError as error:
        raise Unreachable(
            "get-output answered with something else than JSON", reason="PlatformAnswerMalformed"
        ) from error
    if not isinstance(answer, dict):
        raise Unreachable("get-output did not answer with an object", reason="PlatformAnswerMalformed")
    return answer


def printed(output: Mapping[str, Any]) -> Printed:
    """An answer of get-output (databricks-sdk service/jobs.py, RunOutput), cleaned."""
    notebook = output.get("notebook_output") or {}
    child = (output.get("run_job_output") or {}).get("run_id")
    text = clean(str(output.get("logs") or notebook.get("result") or ""))
    error = clean(str(output.get("error") or "")).strip()
    trace = clean(str(output.get("error_trace") or "")).strip()
    missing = ""
    if not (text or error or trace):
        missing = f"its output is on the page of job run {child}" if child else _nothing(output)
    truncated = bool(output.get("logs_truncated") or notebook.get("truncated"))
    return Printed(text, error, trace, truncated, missing)


def _nothing(output: Mapping[str, Any]) -> str:
    if "notebook_output" in output:
        return "a notebook's cells are on the run's page only; what it ends with by dbutils.notebook.exit is kept here"
    return "" if "logs" in output else "this kind of task prints nothing that the platform hands out"


def whole(output: Printed) -> str:
    """Everything as one text: what was printed, then the error unless it stands there already."""
    parts = [output.text.rstrip("\n")] if output.text else []
    for more in (output.trace, output.error):
        if more and not any(more.splitlines()[-1].strip() in part[-TAIL:] for part in parts):
            parts.append(more)
    return "\n".join([*parts, ""]) if parts else ""
