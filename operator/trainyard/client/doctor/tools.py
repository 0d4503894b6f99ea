"""Runs the clouds' own command lines (az, databricks) with the credentials of whoever runs the doctor. Only reads.

Called by `counting`. Bounded in time; nothing that they print is shown, for nobody knows what is in
it: only JSON on stdout is looked at.
"""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

SECONDS = 30.0


class ToolError(Exception):
    """The command line is not there, or did not answer. `message` says which, for people."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Tools:
    """Command lines in one environment.

    Args:
        environment: theirs; also where they are looked for (PATH).
        seconds: that each may take.
    """

    def __init__(self, environment: Mapping[str, str], seconds: float = SECONDS) -> None:
        self._environment = dict(environment)
        self._seconds = seconds

    def has(self, name: str) -> bool:
        """Whether it is installed."""
        return self._path(name) is not None

    def rows(self, words: Sequence[str]) -> list[dict[str, Any]]:
        """The list that the command prints as JSON. Raises ToolError."""
        path = self._path(words[0])
        if path is None:
            raise ToolError(f"{words[0]} is not installed here")
        document = self._run([path, *words[1:]], words[0])
        # Some versions wrap what others print bare.
        if isinstance(document, dict):
            document = next((value for value in document.values() if isinstance(value, list)), [])
        if not isinstance(document, list):
            raise ToolError(f"{words[0]} printed something else than a list")
        return [row for row in document if isinstance(row, dict)]

    def _path(self, name: str) -> str | None:
        return shutil.which(name, path=self._environment.get("PATH", ""))

    def _run(self, command: Sequence[str], name: str) -> Any:
        try:
            process = subprocess.Popen(  # noqa: S603 - words of ours, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=self._environment,
                start_new_session=True,
            )
        except OSError as error:
            raise ToolError(f"{name} can not be started: {error.strerror}") from error
        with process:
            try:
                printed, _ = process.communicate(timeout=self._seconds)
            except subprocess.TimeoutExpired as error:
                os.killpg(process.pid, signal.SIGKILL)  # it is a script that starts others
                raise ToolError(f"{name} did not answer in {self._seconds:g} s") from error
        if process.returncode != 0:
            raise ToolError(f"{name} ended with {process.returncode}: is it signed in, with the right to list this?")
        try:
            return json.loads(printed)
        except ValueError as error:
            raise ToolError(f"{name} printed something else than JSON") from error
