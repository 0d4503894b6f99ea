"""The near end of `supervisor.py`: starts processes that die with this one, and tells which of them ended.

Called by `cluster` and `build`. Works from any thread. Never starts a process outside the supervisor.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from trainyard_localcluster.errors import LocalClusterError

SUPERVISOR = Path(__file__).with_name("supervisor.py")
END_SECONDS = 60.0  # killing three processes and removing their data


@dataclass(frozen=True)
class Exit:
    """A supervised process that ended: its name and its exit code (negative: the number of a signal)."""

    name: str
    code: int


class Supervised:
    """A supervisor process and what runs under it.

    Closing it, or the death of this process in any way, kills what runs under it and removes `remove`.
    """

    def __init__(
        self,
        directory: Path,
        remove: Sequence[Path] = (),
        keep_open: Sequence[int] = (),
        end_seconds: float = END_SECONDS,
    ) -> None:
        """`directory` gets the report and the supervisor's own log; descriptors in `keep_open` (a lock) stay open as
        long as the supervisor lives; `close` gives it `end_seconds` to remove what is to be removed."""
        self._end_seconds = end_seconds
        self._report = directory / "report.jsonl"
        self._log = directory / "supervisor.log"
        command = [sys.executable, "-I", str(SUPERVISOR), f"--parent={os.getpid()}", f"--report={self._report}"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *(f"--remove={path}" for path in remove)],
                stdin=subprocess.PIPE,
                bufsize=0,
                cwd="/",
                stdout=log,
                stderr=log,
                env={},
                pass_fds=keep_open,
                start_new_session=True,  # a Ctrl-C goes to us, who then end it in order
            )

    def __enter__(self) -> Supervised:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self, name: str, argv: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path) -> None:
        """Start a process whose output is appended to `log`; `exits` tells when it has ended."""
        self._order({"start": name, "argv": list(argv), "env": dict(env), "cwd": str(cwd), "log": str(log)})

    def exits(self) -> list[Exit]:
        """What ended so far, oldest first. Raises LocalClusterError when the supervisor itself is gone."""
        if self._process.poll() is not None:
            last_words = self._log.read_text(errors="replace") if self._log.exists() else ""
            raise LocalClusterError(f"the supervising process ended with {self._process.returncode}. {last_words}")
        if not self._report.exists():
            return []
        lines = self._report.read_text().splitlines(keepends=True)
        whole = [json.loads(line) for line in lines if line.endswith("\n")]
        return [Exit(entry["exited"], entry["code"]) for entry in whole]

    def wait(self, seconds: float) -> bool:
        """Wait for the supervisor to end, at most `seconds`; True when it has."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def detach(self) -> None:
        """From now on it lives until SIGTERM, whatever happens to this process."""
        self._order({"detach": True})
        self._hang_up()
        self._process.returncode = 0  # not ours to wait for any more: Popen would warn of a child left behind

    def close(self) -> None:
        """Kill what runs, remove what was to be removed; returns when that is done. Again is harmless."""
        if self._process.poll() is not None:
            self._hang_up()
            return
        self._hang_up()
        if not self.wait(self._end_seconds):
            self._process.kill()
            self._process.wait()
            raise LocalClusterError(f"the supervising process {self.pid} did not end in {self._end_seconds:.0f} s")

    def _hang_up(self) -> None:
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()

    def _order(self, order: Mapping[str, object]) -> None:
        pipe = self._process.stdin
        if pipe is None or pipe.closed:
            raise LocalClusterError("the supervising process was already told to end")
        try:
            pipe.write(json.dumps(order).encode() + b"\n")
        except BrokenPipeError as error:
            raise LocalClusterError(f"the supervising process {self.pid} is gone") from error
