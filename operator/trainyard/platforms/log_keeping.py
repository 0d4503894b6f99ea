"""What becomes of a text that a run printed: its last part for the status, the whole at the workspace's destination.

Called by each platform's reader of logs. Texts are whole only as long as they have to be: one may have megabytes, a
character may take four bytes, and many runs may end at once.
"""

import itertools
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from trainyard.core.errors import TrainyardError, Unreachable
from trainyard.core.remote import TaskText
from trainyard.platforms.base import Wanted
from trainyard.platforms.limits import QuotaReached
from trainyard.platforms.redaction import clean

MAX_MISSING = 512
# Texts that are whole in this process at a time, on their way to a destination; and seconds that another waits.
WHOLE_TEXTS = 4
PATIENCE = 20.0
LATE = "not read in time; read it on the run's page"

_whole_texts = threading.BoundedSemaphore(WHOLE_TEXTS)
# Parsing, cleaning and cutting takes several copies of a text, and no request: so nobody waits for a network here.
parsing = threading.Lock()


@contextmanager
def turn(wanted: Wanted) -> Iterator[None]:
    """Room for one whole text on its way to a destination; where there is no destination, at once.

    Raises:
        QuotaReached: too many texts are under way; nothing is lost by asking again.
    """
    if wanted.keep is None:
        yield
        return
    if not _whole_texts.acquire(timeout=PATIENCE):
        raise QuotaReached("the logs of other runs are being kept; this one's are kept after them", retry_after=5.0)
    try:
        yield
    finally:
        _whole_texts.release()


def kept(
    name: str, text: str, wanted: Wanted, in_time: bool, *, truncated: bool = False, missing: str = ""
) -> tuple[TaskText, str | None]:
    """One text's last part, and where the whole is; what kept it from the destination is told, and raises nothing.

    Args:
        name: of the task that printed it.
        text: cleaned, as it has to be before it is cut.
        in_time: whether there is time left to send it.
        truncated: whether the platform itself had only a part.
        missing: why there is no text, if there is none.
    """
    uri = None
    if text and wanted.keep is not None:
        try:
            if not in_time:
                raise Unreachable("there was no time left")
            uri = wanted.keep(name, text)
        except TrainyardError as error:
            # The run has ended as it has, whatever becomes of its log.
            missing = f"the whole text was not kept at the workspace's log destination: {error.message}"
    part = text[-wanted.log_characters :] if wanted.log_characters else ""
    return TaskText(name, part, truncated or len(part) < len(text), clean(missing)[:MAX_MISSING]), uri


def place(uris: Sequence[str]) -> str | None:
    """Of one text its URI, of several the folder that they lie in."""
    if len(uris) < 2:
        return uris[0] if uris else None
    columns = zip(*(uri.split("/")[:-1] for uri in uris), strict=False)
    shared = itertools.takewhile(lambda column: len(set(column)) == 1, columns)
    return "/".join(column[0] for column in shared) or None
