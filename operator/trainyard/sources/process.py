"""Running a program that is fed by strangers: bounded in time, in what it writes and answers, and in memory.

Called by `sources.repository`, in a thread. The program never gets a terminal, its standard streams are files of its
own folder, and its whole process group is killed when a bound is passed.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# Seconds between two looks at the time and at the folder's size. A fast network brings some ten megabytes meanwhile.
LOOK_SECONDS = 0.05
# ulimit is what POSIX has for setrlimit between fork and exec; Python's preexec_fn can deadlock in a threaded process
# (its documentation says so). -f counts 512 bytes each; -v, which dash, bash and busybox have, counts kilobytes.
_LIMITED = 'ulimit -c 0 && ulimit -f "$1" && { ulimit -v "$2" 2>/dev/null || :; } && shift 2 && exec "$@"'
# What one answer of ours to a question of git's own can need beyond what it fetches (lists of names).
_SLACK = 16 * 1024 * 1024
# The last of what it complains about; searched for known words, which takes long where a host wrote much.
_STDERR_BYTES = 8 * 1024


class OutOfTime(Exception):
    """The program was killed because its time was over."""


class OutOfSpace(Exception):
    """The program was killed because it wrote too much."""


class Stopped(Exception):
    """The program was killed because the operator stops."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of it: the exit code (negative: the signal), standard output, and the end of standard error.

    `cut` says that there was more output than might be: `out` is only its beginning.
    """

    code: int
    out: bytes
    err: str
    cut: bool


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of several programs together, in one folder.

    `deadline` is on the monotonic clock; `written` is bytes of the folder and of any file in it; `memory` is bytes of
    address space of each process. Once `stopping` is set, nothing runs on.
    """

    folder: Path
    deadline: float
    written: int
    memory: int
    stopping: threading.Event


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    bounds: Bounds,
    stdin: bytes = b"",
    *,
    answer: int,
    writes: bool,
) -> Ran:
    """Runs the program in the bounds' folder, in a session of its own.

    Args:
        answer: bytes of standard output that are read, whatever is printed: this process has them in memory.
        writes: whether it writes files of its own. If not, it is ended (SIGXFSZ) by printing more than `answer`.

    Raises:
        OutOfTime, OutOfSpace, Stopped: it was killed, with all that it had started.
    """
    folder = bounds.folder
    asked, answered, complained = folder / "stdin", folder / "stdout", folder / "stderr"
    asked.write_bytes(stdin)
    most = bounds.written + _SLACK if writes else answer
    limits = [str(most // 512 + 1), str(bounds.memory // 1024)]
    with asked.open("rb") as reads, answered.open("wb") as prints, complained.open("wb") as complains:
        process = subprocess.Popen(  # noqa: S603 - no shell reads the command: sh -c reads _LIMITED and execs it as it is
            ["/bin/sh", "-c", _LIMITED, "sh", *limits, *command],
            env=dict(environment),
            cwd=folder,
            stdin=reads,
            stdout=prints,
            stderr=complains,
            start_new_session=True,
        )
        try:
            _watch(process, bounds)
        finally:
            if process.returncode != 0:
                _kill(process)
    with complained.open("rb") as file:
        file.seek(max(0, complained.stat().st_size - _STDERR_BYTES))
        words = file.read().decode(errors="replace")
    with answered.open("rb") as file:
        return Ran(process.returncode, file.read(answer), words, answered.stat().st_size > answer)


def _watch(process: subprocess.Popen[bytes], bounds: Bounds) -> None:
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(LOOK_SECONDS)
        if size_of(bounds.folder) > bounds.written + _SLACK:
            raise OutOfSpace
        if process.returncode is not None:
            return
        if bounds.stopping.is_set():
            raise Stopped
        if time.monotonic() > bounds.deadline:
            raise OutOfTime


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Ends the process group: a git that is gone may have left its transport behind."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder; what vanishes while it is counted counts nothing."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += os.lstat(os.path.join(parent, name)).st_size
    return total
