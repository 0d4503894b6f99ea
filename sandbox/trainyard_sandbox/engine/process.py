"""One subprocess on a leash: started in its own group, stopped for real, gone when the sandbox is gone.

run.py runs the user's code with it, libraries.py runs pip. See leash.py for what happens on the other side.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

LEASH = Path(__file__).with_name("leash.py")

GRACE_SECONDS = 5.0
"""Between SIGTERM and SIGKILL. The platform's own is not published; this is long enough for MLflow to end a run."""


class LeashedProcess:
    """A running command. Always `await wait()` in the end, and `close()` it."""

    def __init__(self, process: asyncio.subprocess.Process, leash_fd: int) -> None:
        self._process = process
        self._leash_fd: int | None = leash_fd

    @classmethod
    async def start(
        cls,
        command: list[str],
        environment: dict[str, str],
        work_dir: Path,
        output: Path,
        inherited: tuple[int, ...] = (),
    ) -> LeashedProcess:
        """Start `command` (an absolute path first) with stdout and stderr appended to the file `output`.

        Args:
            inherited: file descriptors that it finds open, under the same numbers.
        """
        reader, writer = os.pipe()
        try:
            with output.open("ab") as sink:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-I",
                    "-S",
                    str(LEASH),
                    str(reader),
                    *command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=sink,
                    stderr=sink,
                    env=environment,
                    cwd=work_dir,
                    pass_fds=(reader, *inherited),
                    start_new_session=True,
                )
        except BaseException:
            os.close(writer)
            raise
        finally:
            os.close(reader)
        return cls(process, writer)

    async def wait(self) -> int:
        """The exit status: 128 + signal number when a signal ended it."""
        return await self._process.wait()

    async def stop(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """SIGTERM to the whole group, SIGKILL after the grace period; returns when it is gone."""
        if self._process.returncode is None:
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), grace_seconds)
        except TimeoutError:
            self.close()
            await self._process.wait()

    def close(self) -> None:
        """Let go of the leash: whatever still runs in the group is killed."""
        if self._leash_fd is not None:
            os.close(self._leash_fd)
            self._leash_fd = None
