"""The load generator that end-to-end tests judge endpoints by, against a small server on loopback."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from load import Asked, Load, Question, counts, failed, off_by, summary

Answer = tuple[int, bytes]
HEAD = "x-version"


class Server:
    """Answers what `say` says of the number of the request, and keeps what it was asked."""

    def __init__(self, say: Callable[[int], Answer | None]) -> None:
        self.say = say
        self.seen: list[dict[str, Any]] = []
        self.connections = 0
        lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # one segment an answer, or each waits for an acknowledgement

            def setup(self) -> None:
                super().setup()
                with lock:
                    outer.connections += 1

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with lock:
                    number = len(outer.seen)
                    seen = {"path": self.path, "token": self.headers["Authorization"], "body": json.loads(body)}
                    outer.seen.append(seen)
                answer = outer.say(number)
                if answer is None:
                    self.close_connection = True
                    return
                status, text = answer
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.send_header(HEAD, f"v{number % 4 // 3 + 1}")  # three of four by v1
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/score?x=1"


@contextmanager
def serving(say: Callable[[int], Answer | None]) -> Iterator[Server]:
    made = Server(say)
    thread = threading.Thread(target=made.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        made.http.shutdown()
        made.http.server_close()
        thread.join()


def question(server: Server, bearer: Callable[[], str] = lambda: "token") -> Question:
    return Question(server.url, {"rows": [1]}, bearer, lambda headers, document: headers[HEAD])


def well(number: int) -> Answer:
    return 200, b"[1]"


def test_every_request_is_logged_with_its_version_and_sent_as_a_client_would(tmp_path: Path) -> None:
    tokens = iter(f"token-{number}" for number in range(10_000))
    log = tmp_path / "load.jsonl"
    with serving(well) as server:
        with Load(question(server, lambda: next(tokens)), clients=3, rate=300, log=log) as load:
            load.wait(20, 10)
        asked = load.asked()
        assert len(asked) == len(server.seen) >= 20
        assert {seen["path"] for seen in server.seen} == {"/score?x=1"}
        assert all(seen["body"] == {"rows": [1]} for seen in server.seen)
        assert len({seen["token"] for seen in server.seen}) == len(asked)
        assert server.connections == 3
    assert failed(asked) == []
    assert counts(asked).keys() == {"v1", "v2"}
    assert off_by(asked, {"v1": 75, "v2": 25}) <= 1
    assert [json.loads(line)["by"] for line in log.read_text().splitlines()] == [each.by for each in asked]


def test_no_failure_is_forgotten_or_tried_again() -> None:
    says: list[Answer | None] = [(200, b"[1]"), (503, b"busy"), (200, b"no json"), None, (200, b"[1]")]
    with serving(lambda number: says[number % len(says)]) as server:
        with Load(question(server), clients=1, rate=400) as load:
            load.wait(10, 10)
        asked = load.asked()
        assert len(server.seen) == len(asked)
    assert [each.status for each in asked[:5]] == [200, 503, 200, 0, 200]
    bad = failed(asked[:5])
    assert [each.error.partition(":")[0] for each in bad] == ["busy", "JSONDecodeError", "RemoteDisconnected"]
    assert "3 failed, the first at" in summary(asked[:5])


def test_nobody_there_is_a_failure_too() -> None:
    with serving(well) as server:
        nobody = question(server)
    with Load(nobody, clients=2, rate=100) as load:
        found = load.wait(4, 10)
    assert {(each.status, each.ok) for each in found} == {(0, False)}
    assert "ConnectionRefusedError" in found[0].error


def test_the_rate_is_kept_and_a_slow_endpoint_is_not_asked_in_bursts() -> None:
    def slow_once(number: int) -> Answer:
        time.sleep(0.3 if number == 5 else 0)
        return 200, b"[1]"

    with serving(slow_once) as server, Load(question(server), clients=1, rate=100) as load:
        load.wait(30, 10)
        took = load.now()
    asked = load.asked()
    assert max(each.seconds for each in asked) >= 0.3
    assert len(asked) <= (took - 0.3) * 100 + 3, "what was missed was made up for"


def test_waiting_in_vain_says_what_was_answered() -> None:
    with (
        serving(lambda number: (500, b"broken")) as server,
        Load(question(server), clients=1, rate=50) as load,
        pytest.raises(TimeoutError, match="500 broken"),
    ):
        load.wait(1_000, 0.2)


@pytest.mark.parametrize(
    ("by", "shares", "expected"),
    [
        ("aaab", {"a": 75, "b": 25}, 0),
        ("aaaa", {"a": 75, "b": 25}, 1),
        ("aabb", {"a": 100, "b": 0}, float("inf")),
        ("aac", {"a": 100}, float("inf")),
        ("aaa", {"a": 100, "b": 0}, 0),
    ],
)
def test_a_version_is_off_its_share_by_so_many_requests(by: str, shares: dict[str, int], expected: float) -> None:
    asked = [Asked(number, 0.1, 200, version) for number, version in enumerate(by)]
    assert off_by(asked, shares) == expected
