"""What is read out of an ended run: metrics that are not numbers, last words without tokens, shortfalls."""

from typing import Any

import pytest

from tests.unit.ended import DONE, WANTED, Client, collect, row, task
from trainyard.core.errors import Denied, Missing, PlatformError, Refused, Unreachable
from trainyard.core.remote import End, RemoteRun, Stage
from trainyard.platforms.databricks.logs import printed
from trainyard.platforms.logged import spoken

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
    ({"logs": f"x{JWT} TOKEN={JWT}/abc.def Bearer {JWT}/abc.def dapi0123456789abcdef-2"}, "x[token] TOKEN=[token] "),
    ({"logs": "undapi0123456789abcdef dapi012"}, "undapi0123456789abcdef dapi012"),
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
    answers = {"jobs/runs/get_output": Denied("no CAN VIEW"), "jobs/runs/get": tasks}
    assert collect(Client(**answers), remote, None).error == "exit 1"


@pytest.mark.parametrize("error", [Denied("no CAN VIEW"), Missing("gone"), Refused("not so"), Unreachable("down")])
def test_tasks_that_are_not_shown_are_no_run_without_tasks(error: PlatformError) -> None:
    remote = RemoteRun("1", Stage.ENDED, "x", End.CODE, "exit 1")
    with pytest.raises(type(error)):
        collect(Client(**{"jobs/runs/get": error}), remote, None, tasks=("a", "b"))


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


def asked_for(client: Client, path: str) -> int:
    return sum(asked[1].endswith(path) for asked in client.asked)


FAILED = RemoteRun("1", Stage.ENDED, "x", End.INFRASTRUCTURE, "Cluster error")


def cluster_failure(message: str, **cluster: Any) -> Client:
    row = task("train", "FAILED", "CLUSTER_ERROR", "CLOUD_FAILURE", message=message)
    row["cluster_instance"] = {"cluster_id": "c-1"}
    if cluster.pop("shared", False):
        row["existing_cluster_id"] = "c-1"
    answers = {"clusters/get": cluster or Denied("no"), "jobs/runs/get_output": {}, "jobs/runs/get": {"tasks": [row]}}
    return Client(**answers)


def reason(code: str, kind: str = "CLIENT_ERROR", **parameters: str) -> dict[str, Any]:
    return {"state": "TERMINATED", "termination_reason": {"code": code, "type": kind, "parameters": parameters}}


def test_why_the_cluster_ended_is_asked_for_where_the_message_does_not_say() -> None:
    silent = cluster_failure("it failed", **reason("AZURE_QUOTA_EXCEEDED_EXCEPTION", azure_error_message="12 cores"))
    result = collect(silent, FAILED, None)
    assert result.end is End.QUOTA
    assert "AZURE_QUOTA_EXCEEDED_EXCEPTION" in result.error
    assert "12 cores" in result.error
    telling = cluster_failure("Terminated: SPOT_INSTANCE_TERMINATION(CLOUD_FAILURE)", **reason("INVALID_ARGUMENT"))
    assert collect(telling, FAILED, None).end is None
    assert asked_for(telling, "clusters/get") == 0


def test_a_cluster_that_can_not_be_seen_or_lives_on_says_nothing() -> None:
    assert collect(cluster_failure("it failed"), FAILED, None).end is None
    again = cluster_failure("it failed", **{**reason("USER_REQUEST"), "state": "RUNNING"})
    assert collect(again, FAILED, None).end is None
    done = cluster_failure("it failed", **reason("JOB_FINISHED", "SUCCESS"))
    assert collect(done, FAILED, None).error == "it failed"


def test_who_terminated_the_cluster_is_named() -> None:
    by_ada = reason("USER_REQUEST", "SUCCESS", username="ada@example.com")
    own = collect(cluster_failure("it failed", **by_ada), FAILED, None)
    assert (own.end, "ada@example.com" in own.error) == (End.CANCELLED, True)
    shared = collect(cluster_failure("it failed", **by_ada, shared=True), FAILED, None)
    assert (shared.end, "ada@example.com" in shared.error) == (None, True)


def test_of_a_cancelled_run_the_platforms_words_are_told() -> None:
    rows = {"tasks": [task("train", "CANCELED", "USER_CANCELED")]}
    client = Client(**{"jobs/runs/get_output": {"logs": "epoch 1"}, "jobs/runs/get": rows})
    remote = RemoteRun("1", Stage.ENDED, "x", End.CANCELLED, "Run cancelled by ada@example.com.")
    result = collect(client, remote, None)
    assert (result.end, result.error) == (None, "Run cancelled by ada@example.com.")


def test_every_page_of_tasks_is_read() -> None:
    class Paging(Client):
        def do(self, method: str, path: str, *, query: Any = None, body: Any = None) -> Any:
            if path.endswith("jobs/runs/get"):
                if "page_token" in query:
                    return {"tasks": [task("second", "SUCCESS", "SUCCESS")]}
                return {"tasks": [task("a", "SUCCESS", "SUCCESS")], "next_page_token": "more"}
            return super().do(method, path, query=query, body=body)

    result = collect(Paging(), DONE, None, tasks=("a", "second"))
    assert [each.name for each in result.tasks] == ["a", "second"]


def test_a_long_error_keeps_its_end_and_which_task_it_was() -> None:
    rows = {"tasks": [task("fit", "FAILED", "RUN_EXECUTION_ERROR"), task("prepare", "SUCCESS", "SUCCESS")]}
    answers = {"jobs/runs/get_output": {"error": "E", "error_trace": "x" * 9000 + "\nthe end"}, "jobs/runs/get": rows}
    error = collect(Client(**answers), RemoteRun("1", Stage.ENDED, "x", End.CODE), None).error
    assert error.startswith("task fit failed: ")
    assert error.endswith("the end")
    assert len(error) <= 2000


OUTPUTS: list[tuple[dict[str, Any], str, bool, str]] = [
    ({"logs": "a\nb"}, "a\nb\n", False, ""),
    ({"logs": "a", "logs_truncated": True}, "a\n", True, ""),
    ({"logs": "a\nValueError: x", "error": "ValueError: x"}, "a\nValueError: x\n", False, ""),
    ({"logs": "a", "error": "ValueError: x", "error_trace": "T\nValueError: x"}, "a\nT\nValueError: x\n", False, ""),
    ({"notebook_output": {"result": "0.9", "truncated": True}}, "0.9\n", True, ""),
    ({"notebook_output": {}}, "", False, "run's page"),
    ({"run_job_output": {"run_id": 77}}, "", False, "page of job run 77"),
    ({"logs": ""}, "", False, ""),
    ({"sql_output": {}}, "", False, "prints nothing"),
    ({"logs": "\x1b]0;title\x07\x1b[31mred\x1b[0m\x00"}, "red\n", False, ""),
]


@pytest.mark.parametrize(("output", "text", "truncated", "missing"), OUTPUTS)
def test_a_tasks_text_is_all_that_it_printed_and_why_it_failed(
    output: dict[str, Any], text: str, truncated: bool, missing: str
) -> None:
    rows = {"tasks": [task("train", "SUCCESS", "SUCCESS")]}
    client = Client(**{"jobs/runs/get_output": output, "jobs/runs/get": rows})
    (log,) = collect(client, DONE, None, log_characters=1000).logs
    assert (log.name, log.text, log.truncated) == ("train", text, truncated)
    assert missing in log.missing
    assert bool(missing) == bool(log.missing)


@pytest.mark.parametrize("error", [Denied("no CAN VIEW"), Missing("gone"), Unreachable("x", reason="AnswerTooLarge")])
def test_a_text_that_can_not_be_had_says_why(error: Exception) -> None:
    rows = {"tasks": [task("train", "SUCCESS", "SUCCESS")]}
    client = Client(**{"jobs/runs/get_output": error, "jobs/runs/get": rows})
    (log,) = collect(client, DONE, None, log_characters=1000).logs
    assert (log.text, bool(log.missing)) == ("", True)


def test_a_platform_that_does_not_answer_loses_no_log() -> None:
    rows = {"tasks": [task("train", "SUCCESS", "SUCCESS")]}
    client = Client(**{"jobs/runs/get_output": Unreachable("down"), "jobs/runs/get": rows})
    with pytest.raises(Unreachable):
        collect(client, DONE, None, log_characters=1000)


def test_texts_of_several_tasks_share_the_folder_that_is_told() -> None:
    rows = {"tasks": [task("a", "SUCCESS", "SUCCESS"), task("bc", "SUCCESS", "SUCCESS")]}
    client = Client(**{"jobs/runs/get_output": {"logs": "x"}, "jobs/runs/get": rows})
    result = collect(client, DONE, None, keep=lambda name, text: f"s3://b/team/run-1/{name}.log")
    assert result.logs_uri == "s3://b/team/run-1"


def test_params_are_told_bounded_and_without_tokens() -> None:
    params = [{"key": f"p{n:03}", "value": "v" * 600} for n in range(150)] + [{"key": "a", "value": f"Bearer {JWT}"}]
    run = {"info": {"experiment_id": "7"}, "data": {"params": params}}
    result = collect(Client(**{"mlflow/runs/get": {"run": run}}), DONE, None)
    assert len(result.params) == 100
    assert max(len(value) for value in result.params.values()) == 500
    assert result.params["a"] == "Bearer [token]"
    assert result.mlflow_url == "https://dbc.example/ml/experiments/7/runs/mine"


def logged(run_id: str, **metrics: float) -> dict[str, Any]:
    data = {"metrics": [{"key": key, "value": value} for key, value in metrics.items()]}
    return {"info": {"run_id": run_id, "experiment_id": "7"}, "data": data}


class WithEarlier(Client):
    """An attempt that left out tasks which the two before it had done."""

    def do(self, method: str, path: str, *, query: Any = None, body: Any = None) -> Any:
        if path.endswith("runs/search"):
            assert body["experiment_ids"] == ["7"]
            number = body["filter"].partition("ty-u-")[2][0]
            return {"runs": [logged(f"run-{number}", **{f"loss{number}": 1.0, "both": float(number)})]}
        return super().do(method, path, query=query, body=body)


def test_what_earlier_attempts_of_the_same_graph_left_belongs_to_the_result() -> None:
    answers = {"mlflow/runs/get": {"run": logged("mine", score=0.9, both=3.0)}}
    versions = {"model_versions": [row(1, "run-1"), row(2, "run-2"), row(3, "other")]}
    client = WithEarlier(**answers, versions=versions)
    result = collect(client, DONE, WANTED, tasks=("score",), earlier=("ty-u-2", "ty-u-1"))
    assert result.metrics == {"loss1": "1.0", "loss2": "1.0", "score": "0.9", "both": "3.0"}
    assert (result.model.version, result.shortfall) == ("2", None)
    # Its own model goes before any of theirs, whatever the numbers.
    own = WithEarlier(**answers, versions={"model_versions": [row(1, "mine"), row(2, "run-2")]})
    assert collect(own, DONE, WANTED, tasks=("score",), earlier=("ty-u-2",)).model.version == "1"
    # An attempt that left nothing out is not helped by what others registered.
    alone = collect(WithEarlier(**answers, versions=versions), DONE, WANTED)
    assert (alone.model, alone.shortfall[0]) == (None, "ModelNotRegistered")


@pytest.mark.parametrize(("run_if", "decorated"), [("ALL_DONE", False), ("AT_LEAST_ONE_SUCCESS", True)])
def test_a_model_gets_no_alias_from_a_run_in_which_a_needed_task_failed(run_if: str, decorated: bool) -> None:
    after: dict[str, Any] = {"depends_on": [{"task_key": "fit"}, {"task_key": "check"}], "run_if": run_if}
    rows = [
        task("fit", "SUCCESS", "SUCCESS"),
        task("check", "FAILED", "RUN_EXECUTION_ERROR"),
        task("report", "SUCCESS", "SUCCESS", **after),
    ]
    client = Client(**{"jobs/runs/get_output": {}, "jobs/runs/get": {"tasks": rows}})
    result = collect(client, DONE, WANTED, tasks=("fit", "check", "report"))
    assert (result.model is not None) == decorated
    assert any(asked[1].endswith("/champion") for asked in client.asked) == decorated
    assert {each.name: each.end for each in result.tasks}["check"] is End.CODE
