"""What the tasks of an ended run printed, as far as Databricks still has it.

Called by `outcome`. Read once for each task: for the logs that are kept and for why a task failed. Text is cleaned of
tokens before it is cut or handed on. What the platform does not tell is said, never passed over.
"""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trainyard.core.errors import Denied, Missing, Refused, TrainyardError, Unreachable
from trainyard.core.remote import RemoteTask, TaskText
from trainyard.platforms.base import Wanted
from trainyard.platforms.databricks.client import DatabricksClient
from trainyard.platforms.databricks.redaction import clean, last_lines

JOBS = "/api/2.2/jobs"
ERROR_LINES = 20
ERROR_LENGTH = 2000
MAX_MISSING = 512


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


class TaskOutputs:
    """Reads through one client."""

    def __init__(self, client: DatabricksClient) -> None:
        self._client = client

    def of(self, task: RemoteTask) -> Printed:
        """What one task printed. Output belongs to the task's run; the parent's is refused."""
        if task.skipped or task.remote_id in ("", "0"):
            return Printed(missing="the task was never started")
        try:
            output = self._client.do("GET", f"{JOBS}/runs/get-output", query={"run_id": task.remote_id})
        except (Denied, Missing, Refused) as error:
            # A run that never started has no output, and one that ended has ended, readable or not.
            return Printed(missing=f"the platform does not give its output: {error.message}")
        except Unreachable as error:
            if error.reason != "AnswerTooLarge":
                raise
            return Printed(missing=f"{error.message}; read it on the run's page")
        return printed(output)


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
        if more and not any(more.splitlines()[-1].strip() in part[-64 * 1024 :] for part in parts):
            parts.append(more)
    return "\n".join(parts) + ("\n" if parts else "")


def kept(outputs: Iterable[tuple[str, Printed]], wanted: Wanted) -> tuple[tuple[TaskText, ...], str | None]:
    """The last part of each task's text, and where the workspace keeps the whole."""
    texts, uris = [], []
    for name, output in outputs:
        text, missing = whole(output), output.missing
        if text and wanted.keep is not None:
            try:
                uris.append(wanted.keep(name, text))
            except TrainyardError as error:
                # The run has ended as it has, whatever becomes of its log.
                missing = f"the whole text was not kept at the workspace's log destination: {error.message}"
        part = text[-wanted.log_characters :] if wanted.log_characters else ""
        truncated = output.truncated or len(part) < len(text)
        texts.append(TaskText(name, part, truncated, clean(missing)[:MAX_MISSING]))
    return tuple(texts), _place(uris)


def _place(uris: list[str]) -> str | None:
    """Of one text its URI, of several the folder that they lie in."""
    if len(uris) < 2:
        return uris[0] if uris else None
    columns = zip(*(uri.split("/")[:-1] for uri in uris), strict=False)
    shared = itertools.takewhile(lambda column: len(set(column)) == 1, columns)
    return "/".join(column[0] for column in shared) or None
