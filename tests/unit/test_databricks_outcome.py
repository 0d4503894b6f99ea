"""What is read out of an ended run: metrics that are not numbers, last words without tokens, shortfalls."""

from typing import Any

import pytest

from trainyard.core.errors import Denied, Missing, Refused
from trainyard.core.remote import End, RemoteRun, Stage
from trainyard.platforms.base import ModelWanted, Wanted
from trainyard.platforms.databricks.logged import spoken
from trainyard.platforms.databricks.logs import printed
from trainyard.platforms.databricks.outcome import Outcome

VALUES = [
    (0.75, "0.75"),
    (1e-300, "1e-300"),
    (3, "3"),
    (float("nan"), "NaN"),
    (float("inf"), "Infinity"),
    (float("-inf"), "-Infinity"),
    ("NaN", "NaN"),
    ("-Infinity", "-Infinity"),
    (None, "0.0"),
    (-2.2250738585072014e-308, "-2.2250738585072014e-308"),
    # What the status has room for.
    ("9" * 40, "9" * 32),
    (10**40, "1" + "0" * 31),
]


@pytest.mark.parametrize(("value", "text"), VALUES)
def test_a_metric_survives_as_text(value: Any, text: str) -> None:
    assert spoken(value) == text


JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"
WORDS = [
    ({"error": "ValueError: boom", "error_trace": "Traceback\n  line\n\x1b[31mValueError: boom\x1b[0m"}, "Traceback"),
    ({"error": "ValueError: boom", "logs": "a\nb\n"}, "ValueError: boom\na\nb"),
    ({"logs": f"DATABRICKS_TOKEN=dapi-abc\nAuthorization: Bearer abc.def\n{JWT}"}, "DATABRICKS_TOKEN=[token]"),
    ({}, ""),
]


@pytest.mark.parametrize(("output", "words"), WORDS)
def test_last_words_are_told_without_colours_and_tokens(output: dict[str, str], words: str) -> None:
    text = printed(output).last_words()
    assert text.startswith(words)
    for secret in ("\x1b", "dapi-abc", "abc.def", JWT):
        assert secret not in text


def test_last_words_are_the_last_and_bounded() -> None:
    text = printed({"error": "E", "logs": "\n".join(f"line {n} " + "x" * 300 for n in range(100_000))}).last_words()
    assert text.endswith("x" * 300)
    assert "line 99999" in text
    assert len(text) <= 2000


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


def row(version: int, run_id: str, status: str = "READY") -> dict[str, Any]:
    return {"version": version, "run_id": run_id, "status": status}


DONE = RemoteRun("1", Stage.ENDED, "TERMINATED", End.SUCCEEDED)
WANTED = ModelWanted("main.ml.iris", "champion", {"a": "b"})


def collect(client: Client, remote: RemoteRun = DONE, model: ModelWanted | None = WANTED, **more: Any) -> Any:
    outcome = Outcome(client, "https://dbc.example")  # type: ignore[arg-type]  # the methods that are used
    return outcome.collect(remote, "mine", Wanted(model, **more))


def test_the_newest_version_of_this_run_is_taken_never_the_latest() -> None:
    client = Client(versions={"model_versions": [row(9, "mine"), row(10, "mine"), row(8, "mine"), row(11, "other")]})
    result = collect(client)
    assert (result.model.version, result.model.alias, result.shortfall) == ("10", "champion", None)
    assert result.model.uri == "models:/main.ml.iris/10"
    # Tags before the alias: who follows the alias finds a complete version.
    assert [path.rpartition("/")[2] for method, path, _ in client.asked if method != "GET"] == ["set-tag", "champion"]


SHORTFALLS: list[tuple[dict[str, Any], str, str | None]] = [
    ({"versions": {"model_versions": [row(1, "other")]}}, "ModelNotRegistered", None),
    ({"versions": Missing("no model")}, "ModelNotRegistered", None),
    ({"versions": Denied("no EXECUTE")}, "ModelNotReadable", None),
    ({"versions": {"model_versions": [row(3, "mine", "PENDING_REGISTRATION")]}}, "ModelNotReady", None),
    ({"set_tag": Denied("no APPLY TAG")}, "ModelTagsDenied", "10"),
    ({"aliases": Denied("not the owner")}, "ModelAliasDenied", "10"),
    ({"aliases": Refused("reserved alias")}, "ModelAliasDenied", "10"),
    ({"versions": Refused("no Unity Catalog")}, "ModelNotReadable", None),
    ({"set_tag": Refused("governed tag")}, "ModelTagsDenied", "10"),
    ({"set_tag": Missing("just deleted")}, "ModelTagsDenied", "10"),
    ({"aliases": Missing("just deleted")}, "ModelAliasDenied", "10"),
    ({"mlflow/runs/get": Denied("no CAN READ")}, "MetricsNotReadable", "10"),
    ({"mlflow/runs/get": Refused("no tracking")}, "MetricsNotReadable", "10"),
    ({"mlflow/runs/get": Denied("no CAN READ"), "aliases": Denied("not the owner")}, "ModelAliasDenied", "10"),
]


@pytest.mark.parametrize(("answers", "reason", "version"), SHORTFALLS)
def test_what_is_missing_is_a_shortfall_with_advice(answers: dict[str, Any], reason: str, version: str | None) -> None:
    client = Client()
    client.answers = {**answers, **{key: value for key, value in client.answers.items() if key not in answers}}
    result = collect(client)
    assert result.shortfall is not None
    assert result.shortfall[0] == reason
    assert (result.model.version if result.model else None) == version


ENDS = [(End.SUCCEEDED, "FINISHED"), (End.CODE, "FAILED"), (End.CANCELLED, "KILLED"), (End.TIMED_OUT, "KILLED")]


@pytest.mark.parametrize(("end", "status"), ENDS)
def test_an_mlflow_run_that_nobody_closed_is_closed_as_the_run_ended(end: End, status: str) -> None:
    client = Client(**{"mlflow/runs/get": {"run": {"info": {"status": "RUNNING"}}}})
    collect(client, RemoteRun("1", Stage.ENDED, "x", end), None)
    [(_, _, body)] = [asked for asked in client.asked if asked[1].endswith("mlflow/runs/update")]
    assert (body["run_id"], body["status"]) == ("mine", status)


@pytest.mark.parametrize("error", [Denied("no CAN EDIT"), Missing("just deleted"), Refused("ended already")])
def test_an_mlflow_run_that_can_not_be_closed_does_not_hold_up_the_result(error: Exception) -> None:
    running = {"run": {"info": {"status": "RUNNING"}, "data": {"metrics": [{"key": "loss", "value": 0.5}]}}}
    result = collect(Client(**{"mlflow/runs/get": running, "runs/update": error}), model=None)
    assert (result.metrics, result.shortfall) == ({"loss": "0.5"}, None)


def test_a_failed_run_has_failed_whether_its_words_can_be_read_or_not() -> None:
    remote = RemoteRun("1", Stage.ENDED, "x", End.CODE, "exit 1")
    tasks = {"tasks": [{"run_id": 5}]}
    for answers in (
        {"jobs/runs/get": Missing("gone")},
        {"jobs/runs/get_output": Denied("no CAN VIEW"), "jobs/runs/get": tasks},
    ):
        assert collect(Client(**answers), remote, None).error == "exit 1"


def test_a_deleted_mlflow_run_does_not_change_how_the_training_ended() -> None:
    result = collect(Client(**{"mlflow/runs/get": Missing("gone")}), model=None)
    assert (result.metrics, result.error) == ({}, "")


def test_at_most_a_hundred_metrics_are_told() -> None:
    metrics = [{"key": f"m{n:03}", "value": n} for n in range(150)]
    result = collect(Client(**{"mlflow/runs/get": {"run": {"data": {"metrics": metrics}}}}), model=None)
    assert len(result.metrics) == 100


def test_a_run_that_never_started_says_what_the_platform_says() -> None:
    remote = RemoteRun("1", Stage.ENDED, "x", End.INFRASTRUCTURE, "no capacity")
    assert collect(Client(), remote, None).error == "no capacity"
    started = Client(**{"jobs/runs/get_output": Refused("no output"), "jobs/runs/get": {"tasks": [{"run_id": 5}]}})
    assert collect(started, remote, None).error == "no capacity"
