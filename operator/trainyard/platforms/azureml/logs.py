"""What a job printed, as far as Azure ML still has it: files that run history names with signed URLs.

Called by `outcome`. Text is cleaned of tokens before it is cut or handed on. What the platform does not give is said,
never passed over. Names of the files: azure-ai-ml `constants/_job/job.py` (JobLogPattern).
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainyard.core.errors import Denied, Missing, Refused
from trainyard.core.remote import TaskText
from trainyard.platforms.azureml.client import AzureMLClient
from trainyard.platforms.base import Wanted
from trainyard.platforms.limits import BesideUnreachable
from trainyard.platforms.log_keeping import LATE, MAX_MISSING, kept, parsing, place, turn
from trainyard.platforms.redaction import clean

# What a run of one task is called in its logs (api/run_log.py).
TASK = "train"
_USER_LOG = re.compile(r"user_logs/std_log(.*)\.txt")
# What there is of a job whose code never began, or which is made of others.
_OTHER_LOGS = (
    re.compile(r"azureml-logs/\d\d_image_build_log\.txt"),
    re.compile(r"azureml-logs/hyperdrive\.txt"),
    re.compile(r"logs/azureml/executionlogs\.txt"),
    re.compile(r"azureml-logs/\d\d.+\.txt"),
)
MOST_FILES = 32
# Bytes of one file that are read from its end: for a destination, and where only the last part is kept and judged.
WHOLE = 5 * 1024 * 1024
TAIL = 64 * 1024
# Seconds for which storage that does not answer is asked again. A private endpoint without a way to it never answers,
# and what has ended must not wait for that; an outage is over when it has not been met for the second of these.
SILENT_MAY_TAKE = 600.0
OUTAGE_OVER = 180.0
# A character of UTF-8 takes at most so many bytes.
BYTES_PER_CHARACTER = 4


@dataclass(frozen=True, slots=True)
class Logs:
    """The last part of each text, where the whole is, and what is judged of a failure."""

    texts: tuple[TaskText, ...] = ()
    uri: str | None = None
    printed: str = ""

    @classmethod
    def none(cls, missing: str) -> "Logs":
        """No text, and why."""
        return cls((TaskText(TASK, "", missing=clean(missing)[:MAX_MISSING]),))


class LogFiles:
    """Reads through one client."""

    def __init__(self, client: AzureMLClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._silent: tuple[float, float] | None = None  # when storage was first and last met without an answer

    def of(self, details: Mapping[str, Any], wanted: Wanted, until: float, *, failed: bool) -> Logs:
        """What the job printed, of each of its processes.

        Args:
            details: run history's, with `logFiles`.
            until: of the clock; after it nothing more is read, which is told.
            failed: whether it is read to be judged, even where nobody wants to keep it.

        Raises:
            QuotaReached: too many texts are under way to destinations; nothing is lost by asking again.
            Unreachable: storage does not answer, and has not been silent for long.
        """
        if not (failed or wanted.log_characters > 0 or wanted.keep is not None):
            return Logs()
        files: Mapping[str, Any] = details.get("logFiles") or {}
        chosen = named(files)
        if not chosen:
            return Logs.none("the platform has no log of it: it printed nothing, or its code was never started")
        texts: list[TaskText] = []
        uris: list[str] = []
        printed = ""
        for task, file in list(chosen.items())[:MOST_FILES]:
            with turn(wanted):
                text, truncated, missing = self._read(str(files[file]), wanted, until)
                # Where one of many processes fails, the others are stopped: the last words that name an error count.
                printed = text[-TAIL:] if not printed or "Error" in text[-TAIL:] else printed
                in_time = self._clock() <= until
                log, uri = kept(task, text, wanted, in_time, truncated=truncated, missing=missing)
            texts.append(log)
            uris += [uri] if uri is not None else []
        return Logs(tuple(texts), place(uris), printed)

    def _read(self, signed: str, wanted: Wanted, until: float) -> tuple[str, bool, str]:
        """The text, whether there was more before it, and why there is none."""
        if self._clock() > until:
            return "", False, LATE
        most = WHOLE if wanted.keep is not None else max(TAIL, wanted.log_characters * BYTES_PER_CHARACTER)
        try:
            data, size = self._client.in_blob(signed, lambda blob: _end_of(blob, min(most, WHOLE)))
        except (Denied, Missing, Refused) as error:
            return "", False, clean(f"the platform does not give its log: {error.message}")[:MAX_MISSING]
        except BesideUnreachable as error:
            if not self._long_silent():
                raise
            return "", False, clean(f"storage has not answered for long: {error.message}")[:MAX_MISSING]
        self._silent = None
        with parsing:
            return clean(data.decode("utf-8", "replace")), size > len(data), ""

    def _long_silent(self) -> bool:
        now = self._clock()
        first, last = self._silent or (now, now)
        self._silent = (first, now) if now - last < OUTAGE_OVER else (now, now)
        return now - self._silent[0] >= SILENT_MAY_TAKE


def named(files: Mapping[str, Any]) -> dict[str, str]:
    """The files that hold what was printed, by the task's name: `train`, or one for each process.

    Where the code never began, what was printed before it.
    """
    found: dict[str, str] = {}
    for file in sorted(files):
        said = _USER_LOG.fullmatch(file)
        if said is not None:
            rest = re.sub(r"[^a-z0-9]+", "-", said[1].lower()).strip("-")
            found[f"{TASK}-{rest}" if rest else TASK] = file
    if found:
        return found
    for pattern in _OTHER_LOGS:
        matching: Sequence[str] = [file for file in sorted(files) if pattern.fullmatch(file)]
        if matching:
            return {TASK: matching[-1]}
    return {}


def _end_of(blob: Any, most: int) -> tuple[bytes, int]:
    """The last bytes of a blob, and its size. Storage knows no range that counts from the end."""
    size = int(blob.get_blob_properties().size)
    if size == 0:
        return b"", 0
    begin = max(0, size - most)
    return bytes(blob.download_blob(offset=begin, length=size - begin).readall()), size
