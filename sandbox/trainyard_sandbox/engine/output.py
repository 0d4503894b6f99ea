"""What a run wrote: the end of its log, and the error of a failed script, as `runs/get-output` shows them.

task_process.py hands the log file here. Nothing is ever written.

Read in: databricks-sdk `jobs.get_run_output` ("Databricks restricts this API to returning the first 5 MB of the
output") and RunOutput.logs / logs_truncated. The vendor's page on logs says the last 5 MB, which is what a person
needs.
"""

from __future__ import annotations

from pathlib import Path

MAX_LOG_BYTES = 5 * 1024 * 1024
"""5 MB, as the platform cuts the logs of a task run."""

_TRACEBACK = "Traceback (most recent call last):"


def tail(log: Path) -> tuple[str, bool]:
    """The last 5 MB of a log and whether something before them is missing."""
    size = log.stat().st_size
    with log.open("rb") as source:
        source.seek(max(0, size - MAX_LOG_BYTES))
        return source.read(MAX_LOG_BYTES).decode("utf-8", "replace"), size > MAX_LOG_BYTES


def failure(log: Path, status: int) -> tuple[str, str]:
    """(error, error_trace) of a script that ended with a status other than 0."""
    text, _ = tail(log)
    start = text.rfind(_TRACEBACK)
    if start < 0:
        reason = f"the process was killed by signal {status - 128}" if status > 128 else f"SystemExit: {status}"
        return reason, ""
    trace = text[start:].rstrip()
    final = [line for line in trace.splitlines() if line and not line.startswith((" ", "\t"))]
    return final[-1], trace
