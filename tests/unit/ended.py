"""Ended runs on a platform that answers as a test says; used by the tests of what is collected of them."""

import json
from typing import Any

from trainyard.core.remote import End, RemoteRun, Stage
from trainyard.platforms.base import ModelWanted, Wanted
from trainyard.platforms.databricks.outcome import Outcome


class Client:
    """Answers by method and the path's last words."""

    def __init__(self, **answers: Any) -> None:
        self.answers = {"versions": {"model_versions": [row(1, "other"), row(2, "mine"), row(10, "mine")]}, **answers}
        self.asked: list[tuple[str, str, Any]] = []

    def do(self, method: str, path: str, *, query: Any = None, body: Any = None) -> Any:
        self.asked.append((method, path, body))
        for key, answer in self.answers.items():
            if key in path.replace("-", "_"):
                if isinstance(answer, Exception):
                    raise answer
                return answer
        return {}

    def get_bytes(self, path: str, *, query: Any) -> bytes:
        return json.dumps(self.do("GET", path, query=query)).encode()


def row(version: int, run_id: str, status: str = "READY") -> dict[str, Any]:
    return {"version": version, "run_id": run_id, "status": status}


DONE = RemoteRun("1", Stage.ENDED, "TERMINATED", End.SUCCEEDED)
WANTED = ModelWanted("main.ml.iris", "champion", {"a": "b"})


def collect(client: Client, remote: RemoteRun = DONE, model: ModelWanted | None = WANTED, **more: Any) -> Any:
    outcome = Outcome(client, "https://dbc.example")  # type: ignore[arg-type]  # the methods that are used
    return outcome.collect(remote, "mine", Wanted(model, **more))


def task(key: str, result: str, code: str, kind: str = "CLIENT_ERROR", **more: Any) -> dict[str, Any]:
    details = {"code": code, "type": kind, "message": more.pop("message", "")}
    status = {"state": "TERMINATED", "termination_details": details}
    state = {"life_cycle_state": "TERMINATED", "result_state": result}
    return {"task_key": key, "run_id": len(key), "state": state, "status": status, **more}
