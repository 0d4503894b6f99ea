"""Several requests at a time on behalf of one, as when many files are sent. Called in a lane's thread."""

import contextvars
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

# As many as the transport keeps connections.
AT_ONCE = 8


def each(items: Sequence[T], work: Callable[[T], None]) -> None:
    """Does the work for each item; after an error nothing more is begun, and the first error is raised."""
    left = iter(items)
    taking = threading.Lock()
    errors: list[BaseException] = []

    def take() -> None:
        while not errors:
            with taking:
                try:
                    item = next(left)
                except StopIteration:
                    return
            try:
                work(item)
            except BaseException as error:  # noqa: BLE001 - raised again below, in the lane's thread
                errors.append(error)

    # Daemons, as the lane's own threads are: a request that hangs must not keep the operator from stopping. Each in a
    # copy of the lane's context, so that the audit log knows what the request is made for.
    threads = [
        threading.Thread(target=contextvars.copy_context().run, args=(take,), name="upload", daemon=True)
        for _ in range(min(AT_ONCE, len(items)))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
