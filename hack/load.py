"""A load generator: clients that ask an endpoint at a steady rate over plain HTTPS, and a log of every answer.

Used by the end-to-end tests and by the demo, which judge from outside what an endpoint answers while it is changed. It
shares no code with the operator and asks only what any client would: the standard library's `http.client`, one kept
connection per client, opened anew after a failure. Nothing is tried again, so that each failure is in the log.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from ssl import SSLContext
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

OK = 200


@dataclass(frozen=True)
class Question:
    """One request that is sent again and again.

    `bearer` gives the token of each request, as a client that renews it would. `answered_by` tells from an answer's
    headers (lower case) and document which version it came from; "" if it does not tell.
    """

    url: str
    body: Any
    bearer: Callable[[], str]
    answered_by: Callable[[Mapping[str, str], Any], str]
    tls: SSLContext | None = None
    headers: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Asked:
    """One request. `at` is when it was sent, in seconds since the load began; `seconds` is how long it took.

    `status` is 0 where there was no answer, and `error` says why; of an answer that is not 200 it is the beginning.
    """

    at: float
    seconds: float
    status: int
    by: str = ""
    error: str = ""

    @property
    def ok(self) -> bool:
        """Whether it was answered as it should be, by a version that tells which it is."""
        return self.status == OK and bool(self.by)


class Load:
    """Asks as long as it is open: `rate` requests per second in all, from so many clients. Thread-safe.

    Each client sends at its own places of a fixed timetable. One that is late sends at once and leaves out what it has
    missed: a slow endpoint is asked less often, and never by a burst.
    """

    def __init__(
        self,
        question: Question,
        *,
        clients: int = 4,
        rate: float = 20.0,
        timeout: float = 30.0,
        log: Path | None = None,
    ) -> None:
        self._question, self._rate, self._timeout, self._clients = question, rate, timeout, clients
        self._body = json.dumps(question.body).encode()
        self._where = urlsplit(question.url)
        self._asked: list[Asked] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._log = log
        self._began = time.monotonic()
        self._threads = [threading.Thread(target=self._ask_on, args=(n,), name=f"load-{n}") for n in range(clients)]

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> list[Asked]:
        """Ends it, after the requests that are under way. Returns the log, and writes it to its file."""
        self._ended.set()
        for thread in self._threads:
            thread.join(self._timeout + 5)
        asked = self.asked()
        if self._log is not None:
            self._log.write_text("".join(f"{json.dumps(asdict(each))}\n" for each in asked))
        return asked

    def now(self) -> float:
        """Seconds since it began: what `Asked.at` is counted in."""
        return time.monotonic() - self._began

    def asked(self, since: float = 0.0, until: float = float("inf")) -> list[Asked]:
        """Every request that was sent in that time and has ended, oldest first."""
        with self._lock:
            found = [each for each in self._asked if since <= each.at < until]
        return sorted(found, key=lambda each: each.at)

    def wait(self, count: int, seconds: float = 60.0) -> list[Asked]:
        """The requests sent from now on, once there are so many.

        Raises:
            TimeoutError: there were not in that time.
        """
        since, deadline = self.now(), time.monotonic() + seconds
        while True:
            found = self.asked(since)
            if len(found) >= count:
                return found
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(found)} of {count} requests in {seconds:g} s: {summary(self.asked())}")
            time.sleep(0.02)

    def _ask_on(self, number: int) -> None:
        connection = self._connection()
        turn = number
        while not self._ended.is_set():
            wait = turn / self._rate - self.now()
            if wait > 0 and self._ended.wait(wait):
                break
            asked = self._ask(connection)
            if asked.status == 0:
                connection.close()
            with self._lock:
                self._asked.append(asked)
            missed = max(0, int((self.now() * self._rate - turn) // self._clients))
            turn += self._clients * max(1, missed)
        connection.close()

    def _ask(self, connection: HTTPConnection) -> Asked:
        at = self.now()
        headers = {
            "Content-Type": "application/json",
            "Authorization": f"Bearer {self._question.bearer()}",
            **(self._question.headers or {}),
        }
        path = self._where.path + (f"?{self._where.query}" if self._where.query else "")
        try:
            connection.request("POST", path, self._body, headers)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, HTTPException) as error:
            return Asked(at, self.now() - at, 0, error=f"{type(error).__name__}: {error}")
        took = self.now() - at
        if answer.status != OK:
            return Asked(at, took, answer.status, error=text[:300].decode(errors="replace"))
        said = {name.lower(): value for name, value in answer.getheaders()}
        try:
            by = self._question.answered_by(said, json.loads(text))
        except (ValueError, LookupError, TypeError) as error:
            return Asked(at, took, answer.status, error=f"{type(error).__name__}: {error} in {text[:300]!r}")
        return Asked(at, took, answer.status, by)

    def _connection(self) -> HTTPConnection:
        host, port = self._where.hostname or "", self._where.port
        if self._where.scheme == "https":
            return HTTPSConnection(host, port, timeout=self._timeout, context=self._question.tls)
        return HTTPConnection(host, port, timeout=self._timeout)


def failed(asked: Iterable[Asked]) -> list[Asked]:
    """Those that were not answered as they should be."""
    return [each for each in asked if not each.ok]


def counts(asked: Iterable[Asked]) -> Counter[str]:
    """How many each version answered."""
    return Counter(each.by for each in asked if each.ok)


def off_by(asked: Sequence[Asked], shares: Mapping[str, int]) -> float:
    """How many requests the version furthest from its share has too many or too few, of those that were answered.

    `shares` are percentages by version, and sum to 100. Infinite where a version without a share has answered.
    """
    found = counts(asked)
    total = sum(found.values())
    if any(not shares.get(version) for version in found):
        return float("inf")
    return max(abs(found[version] - total * share / 100) for version, share in shares.items())


def summary(asked: Sequence[Asked]) -> str:
    """One line: how many, how many of them failed and how the first did, by whom, and the slowest."""
    bad = failed(asked)
    first = f", the first at {bad[0].at:.2f} s with {bad[0].status} {bad[0].error}" if bad else ""
    by = ", ".join(f"{version}: {count}" for version, count in sorted(counts(asked).items()))
    slowest = max((each.seconds for each in asked), default=0.0)
    return f"{len(asked)} requests, {len(bad)} failed{first}; {by or 'no answers'}; slowest {slowest:.2f} s"
