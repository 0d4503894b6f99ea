"""Runs one command in a process group that cannot outlive the sandbox. A script for -I -S, never imported.

Usage: leash.py FD COMMAND [ARGUMENT...]. FD is the reading end of a pipe whose other end only the sandbox holds:
when it closes, because the sandbox let go or was killed, the whole group gets SIGKILL. SIGTERM is passed on to the
group. When the command ends, whatever it left behind in its group is killed, and the leash ends with its exit status
(128 + signal number when a signal ended it). Standard library only and few imports: it starts before every run.
"""

import os
import select
import signal
import sys


def main() -> int:
    """See the module's docstring."""
    leash_fd, command = int(sys.argv[1]), sys.argv[2:]
    os.set_inheritable(leash_fd, False)
    wake_reader, wake_writer = os.pipe()
    os.set_blocking(wake_writer, False)
    signal.set_wakeup_fd(wake_writer)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    terminate: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: terminate.append(number))
    child = os.posix_spawn(command[0], command, os.environ, setpgroup=0)
    while True:
        readable, _, _ = select.select([leash_fd, wake_reader], [], [])
        if wake_reader in readable:
            os.read(wake_reader, 4096)
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            _signal_group(child, signal.SIGKILL)
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        if leash_fd in readable:
            _signal_group(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return 128 + signal.SIGKILL
        while terminate:
            _signal_group(child, terminate.pop())


def _signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    sys.exit(main())
