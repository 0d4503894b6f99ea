"""Every kind of call to a platform, for tests of what becomes of it when the platform does not take its token."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from trainyard.core.errors import Unauthenticated
from trainyard.core.remote import RemoteRun
from trainyard.platforms.base import Connection, Request, Wanted

BEGINNING = timedelta(hours=1)
Call = Callable[[Connection, Request, RemoteRun], object]


def _swept(pages: Iterator[list[RemoteRun]]) -> list[RemoteRun]:
    return [run for page in pages for run in page]


def _since() -> datetime:
    return datetime.now(UTC) - BEGINNING


# What the operator does with a connection; each with a run that has ended, which a cancellation is fine with.
CALLS: dict[str, Call] = {
    "whoami": lambda connection, request, ended: connection.whoami(),
    "submit": lambda connection, request, ended: connection.submit(request),
    "locate": lambda connection, request, ended: connection.locate("nothing", _since()),
    "get": lambda connection, request, ended: connection.get(ended.remote_id),
    "sweep": lambda connection, request, ended: _swept(connection.sweep(_since())),
    "cancel": lambda connection, request, ended: connection.cancel(ended.remote_id),
    "collect": lambda connection, request, ended: connection.collect(
        ended, ended.mlflow_run_id, Wanted(log_characters=100)
    ),
    "preflight": lambda connection, request, ended: connection.preflight(request),
    "retire": lambda connection, request, ended: connection.retire(ended.remote_id),
}


def is_refused(call: Callable[[], object]) -> bool:
    """Whether the call says that the platform does not take the token."""
    try:
        call()
    except Unauthenticated:
        return True
    return False
