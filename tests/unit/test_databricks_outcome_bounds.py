"""Bounds of what is collected of an ended run: time, and the memory of a process in which many end at once."""

import json
import threading
import tracemalloc
from contextlib import ExitStack
from typing import Any

import pytest

from tests.unit.ended import DONE, WANTED, Client, collect, task
from trainyard.core.remote import End, RemoteRun, Stage
from trainyard.platforms import log_keeping
from trainyard.platforms.base import Wanted
from trainyard.platforms.databricks.outcome import Outcome
from trainyard.platforms.limits import QuotaReached


class Clock:
    """Stands still but for what each request takes."""

    def __init__(self, seconds: float) -> None:
        self.now, self.seconds = 0.0, seconds

    def __call__(self) -> float:
        return self.now


class Slow(Client):
    """Each request takes its time; a folder has ever another folder in it."""

    def __init__(self, clock: Clock, **answers: Any) -> None:
        super().__init__(**answers)
        self.clock = clock

    def do(self, method: str, path: str, *, query: Any = None, body: Any = None) -> Any:
        self.clock.now += self.clock.seconds
        if "/fs/directories" in path:
            deeper = path.removeprefix("/api/2.0/fs/directories")
            return {"contents": [{"path": f"{deeper}/x", "is_directory": True}, {"path": "f", "file_size": 7}]}
        return super().do(method, path, query=query, body=body)


def test_sizes_are_measured_for_as_long_as_there_is_time() -> None:
    clock = Clock(1.0)
    outputs = {"deep": ("/Volumes/a/b/c/d", None), "late": ("/Volumes/a/b/c/e", None), "table": (None, "a.b.c")}
    client = Slow(clock)
    outcome = Outcome(client, "https://dbc.example", clock)  # type: ignore[arg-type]  # the methods that are used
    result = outcome.collect(DONE, "mine", Wanted(WANTED, outputs=outputs))
    assert clock.now < 60
    deep = result.outputs["deep"]
    assert (deep.message.startswith("not measured in time: "), (deep.files or 0) > 20) == (True, True)
    for name in ("late", "table"):
        assert result.outputs[name].message == "not measured in time"
    assert (result.model is not None, result.shortfall) == (True, None)


def test_of_many_slow_logs_those_of_failed_tasks_are_read_and_the_rest_is_said_to_be_missing() -> None:
    clock = Clock(8.0)
    rows = [task("x" * n, "SUCCESS", "SUCCESS") for n in range(1, 20)] + [
        task("f" * 20, "FAILED", "RUN_EXECUTION_ERROR")
    ]
    client = Slow(clock, **{"jobs/runs/get_output": {"logs": "out", "error": "boom"}, "jobs/runs/get": {"tasks": rows}})
    outcome = Outcome(client, "https://dbc.example", clock)  # type: ignore[arg-type]  # the methods that are used
    result = outcome.collect(RemoteRun("1", Stage.ENDED, "x", End.CODE), None, Wanted(log_characters=99))
    assert clock.now < 60
    assert [log.name for log in result.logs] == [str(each["task_key"]) for each in rows]
    assert [(log.name, log.text) for log in result.logs if log.text][-1] == ("f" * 20, "out\nboom\n")
    assert {log.missing.partition(";")[0] for log in result.logs if not log.text} == {"not read in time"}
    assert "boom" in result.error


MEGABYTE = 2**20
# What Databricks gives of an output at most, with one character that makes each of them take four bytes.
LARGEST = 5 * MEGABYTE


class Printing(Client):
    """Tasks that printed as much as they can."""

    def __init__(self, tasks: int) -> None:
        rows = [task("x" * n, "FAILED", "RUN_EXECUTION_ERROR") for n in range(1, tasks + 1)]
        super().__init__(**{"jobs/runs/get": {"tasks": rows}})
        line = "x" * 99 + "\n"
        self.body = json.dumps({"logs": "\N{SNAKE}" + line * (LARGEST // 100), "error": "boom"}).encode()

    def get_bytes(self, path: str, *, query: Any) -> bytes:
        return bytes(bytearray(self.body))


# Megabytes: five times the largest text, in characters of four bytes, would be 100.
@pytest.mark.parametrize(("runs", "tasks", "most"), [(1, 32, 100), (8, 4, 200)])
def test_many_large_logs_at_once_do_not_take_the_memory_of_all_of_them(runs: int, tasks: int, most: int) -> None:
    kept: list[int] = []
    stored = threading.Event()

    def keep(name: str, text: str) -> str:
        kept.append(len(text.encode()))
        stored.wait(0.05 * (runs - 1))  # so that several are on their way at once
        return f"s3://b/{name}.log"

    client = Printing(tasks)
    problems: list[BaseException] = []

    def work() -> None:
        try:
            result = collect(client, RemoteRun("1", Stage.ENDED, "x", End.CODE), None, log_characters=1000, keep=keep)
            assert len(result.logs) == tasks
        except BaseException as error:  # noqa: BLE001 - told in the test's own thread
            problems.append(error)

    threads = [threading.Thread(target=work) for _ in range(runs)]
    tracemalloc.start()
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        peak = tracemalloc.get_traced_memory()[1] / MEGABYTE
    finally:
        tracemalloc.stop()
    assert problems == []
    assert (len(kept), min(kept) > LARGEST * 0.9) == (tasks * runs, True)
    assert peak < most


def test_a_text_that_has_to_wait_too_long_for_its_turn_is_asked_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_keeping, "PATIENCE", 0.0)
    rows = {"tasks": [task("train", "SUCCESS", "SUCCESS")]}
    client = Client(**{"jobs/runs/get_output": {"logs": "x"}, "jobs/runs/get": rows})
    place = "s3://b/x.log"
    for _ in range(2):
        with ExitStack() as others:
            for _ in range(log_keeping.WHOLE_TEXTS):
                others.enter_context(log_keeping._whole_texts)
            # Not its platform's fault: nothing else that is asked of it has to wait.
            with pytest.raises(QuotaReached):
                collect(client, DONE, None, keep=lambda name, text: place)
            assert len(collect(client, DONE, None, log_characters=9).logs) == 1
        for _ in range(log_keeping.WHOLE_TEXTS + 1):
            assert collect(client, DONE, None, keep=lambda name, text: place).logs_uri == place
