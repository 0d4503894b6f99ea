"""What an ended job of Azure ML left, as far as no wire is needed to tell."""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from trainyard.core.errors import Denied, Missing, PlatformError, Refused, Unreachable
from trainyard.core.remote import End, RemoteRun, Result, Stage
from trainyard.platforms.azureml.logs import WHOLE, LogFiles, named
from trainyard.platforms.azureml.mlflow_runs import MlflowRuns
from trainyard.platforms.azureml.outcome import Outcome
from trainyard.platforms.azureml.outputs import MOST_ENTRIES, Outputs, default_uri
from trainyard.platforms.base import ModelWanted, Wanted
from trainyard.platforms.limits import BesideUnreachable

DONE = RemoteRun("ty-1", Stage.ENDED, "Completed", End.SUCCEEDED, url="https://ml.azure.com/runs/ty-1")
FAILED = RemoteRun("ty-1", Stage.ENDED, "Failed", End.CODE)
LOGS = Wanted(log_characters=100)


class Blob:
    """A blob as azure-storage-blob shows it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.read: list[tuple[int, int]] = []

    def get_blob_properties(self) -> Any:
        return SimpleNamespace(size=len(self.data))

    def download_blob(self, offset: int, length: int) -> Any:
        self.read.append((offset, length))
        return SimpleNamespace(readall=lambda: self.data[offset : offset + length])


class Container:
    """A container as azure-storage-blob shows it."""

    def __init__(self, **sizes: int) -> None:
        self.sizes = sizes

    def list_blobs(self, name_starts_with: str | None) -> Any:
        self.listed = 0
        for name, size in sorted(self.sizes.items()):
            if name.startswith(name_starts_with or ""):
                self.listed += 1
                yield SimpleNamespace(name=name, size=size)


class Client:
    """The client, without a wire: answers of Azure Resource Manager by path, blobs and containers by URL."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.cloud = SimpleNamespace(storage_suffix="core.windows.net")
        self.opened: list[str] = []

    def do(self, method: str, path: str, version: str, **_: Any) -> dict[str, Any]:
        return dict(self._answer(f"{method} {path}"))

    def in_blob(self, signed: str, ask: Callable[[Any], Any]) -> Any:
        return ask(self._answer(signed))

    def in_container(self, signed: str, ask: Callable[[Any], Any]) -> Any:
        self.opened.append(signed)
        return ask(self._answer("container"))

    def _answer(self, key: str) -> Any:
        found = self.answers.get(key)
        if isinstance(found, PlatformError):
            raise found
        return found


@dataclass
class History:
    """Run history and MLflow, without a wire."""

    run: dict[str, Any] | PlatformError
    mlflow_answers: dict[str, Any]
    started: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def details(self, name: str) -> dict[str, Any]:
        if isinstance(self.run, PlatformError):
            raise self.run
        return {"runId": name, **self.run}

    def children(self, name: str) -> list[str]:
        return list(self.started)

    def mlflow(self, method: str, path: str, *, query: Any = None, body: Any = None) -> dict[str, Any]:
        self.asked.append((path, dict(body or query or {})))
        found = self.mlflow_answers.get(path, {})
        if callable(found):
            found = found(query or body)
        if isinstance(found, PlatformError):
            raise found
        return dict(found)


def collect(remote: RemoteRun, history: History, client: Any = None, wanted: Wanted = LOGS) -> Result:
    return Outcome(client or Client(), history).collect(remote, wanted)  # type: ignore[arg-type]


def test_times_are_those_of_the_run() -> None:
    run = {"startTimeUtc": "2026-11-23T08:00:00Z", "endTimeUtc": "2026-11-23T08:01:00.5Z"}
    result = collect(DONE, History(run, {}))
    assert result.started_at is not None
    assert result.ended_at is not None
    assert (result.ended_at - result.started_at).total_seconds() == 60.5


@pytest.mark.parametrize(("end", "expected"), [("08:09:59", End.TIMED_OUT), ("08:05:00", None)])
def test_a_cancelled_job_that_ran_as_long_as_it_may_has_timed_out(end: str, expected: End | None) -> None:
    run = {
        "startTimeUtc": "2026-11-23T08:00:00Z",
        "endTimeUtc": f"2026-11-23T{end}Z",
        "runDefinition": {"maxRunDurationSeconds": 600},
    }
    cancelled = RemoteRun("ty-1", Stage.ENDED, "Canceled", End.CANCELLED)
    assert collect(cancelled, History(run, {})).end is expected


def test_a_job_whose_history_can_not_be_read_says_so() -> None:
    result = collect(DONE, History(Denied("no role"), {}))
    assert result.logs[0].missing == "the job's run history can not be read: no role"
    failed = collect(FAILED, History(Denied("no role"), {}))
    assert "no role" in failed.error


def test_metrics_that_can_not_be_read_are_a_shortfall_of_a_success_only() -> None:
    history = History({}, {"runs/get": Denied("no role")})
    assert (collect(DONE, history).shortfall or ("", ""))[0] == "MetricsNotReadable"
    assert collect(FAILED, history).shortfall is None


def test_a_job_without_an_mlflow_run_has_no_metrics_and_no_shortfall() -> None:
    result = collect(DONE, History({}, {"runs/get": Missing("none")}))
    assert (result.metrics, result.shortfall) == ({}, None)


def test_a_sweep_shows_what_its_best_trial_logged_beside_its_own() -> None:
    def run(query: dict[str, str]) -> dict[str, Any]:
        metrics = {"ty-1": [{"key": "trials", "value": 4.0}], "ty-1_2": [{"key": "accuracy", "value": 0.9}]}
        return {"run": {"data": {"metrics": metrics[query["run_id"]]}}}

    history = History({"properties": {"best_child_run_id": "ty-1_2"}}, {"runs/get": run})
    assert collect(DONE, history).metrics == {"trials": "4.0", "accuracy": "0.9"}


def versions(*rows: tuple[str, str, dict[str, str]]) -> dict[str, Any]:
    found = [
        {"version": version, "run_id": run, "tags": [{"key": key, "value": value} for key, value in tags.items()]}
        for version, run, tags in rows
    ]
    return {"model_versions": found}


WANTED = ModelWanted("wine", "champion", {"team": "a"})


def test_the_model_version_is_that_of_this_run_and_never_the_newest_of_another() -> None:
    search = versions(("9", "other", {}), ("10", "ty-1", {}), ("3", "ty-1", {}))
    model, shortfall = MlflowRuns(History({}, {"model-versions/search": search})).model_of(["ty-1"], WANTED)  # type: ignore[arg-type]
    assert shortfall is None
    assert model is not None
    assert (model.version, model.alias) == ("10", "champion")


def test_an_alias_is_taken_off_the_version_that_had_it_once_the_new_one_has_it() -> None:
    search = versions(("1", "old", {"alias": "champion"}), ("2", "older", {"alias": "challenger"}), ("3", "ty-1", {}))
    history = History({}, {"model-versions/search": search})
    MlflowRuns(history).model_of(["ty-1"], WANTED)  # type: ignore[arg-type]
    changes = [(path, body["version"], body["key"]) for path, body in history.asked if "search" not in path]
    assert changes == [
        ("model-versions/set-tag", "3", "team"),
        ("model-versions/set-tag", "3", "alias"),
        ("model-versions/delete-tag", "1", "alias"),
    ]


def test_a_model_with_versions_without_end_is_not_read_for_ever() -> None:
    history = History({}, {"model-versions/search": {"model_versions": [], "next_page_token": "again"}})
    _, shortfall = MlflowRuns(history).model_of(["ty-1"], WANTED)  # type: ignore[arg-type]
    assert (shortfall or ("",))[0] == "ModelNotReadable"
    assert len(history.asked) <= 100


SHORTFALLS = [
    ({"model-versions/search": versions(("1", "other", {}))}, "ModelNotRegistered"),
    ({"model-versions/search": Missing("no such model")}, "ModelNotRegistered"),
    ({"model-versions/search": Denied("no role")}, "ModelNotReadable"),
    ({"model-versions/search": versions(("1", "ty-1", {})), "model-versions/set-tag": Denied("no")}, "ModelTagsDenied"),
]


@pytest.mark.parametrize(("answers", "reason"), SHORTFALLS)
def test_a_model_that_is_not_there_as_wanted_is_a_shortfall(answers: dict[str, Any], reason: str) -> None:
    _, shortfall = MlflowRuns(History({}, answers)).model_of(["ty-1"], WANTED)  # type: ignore[arg-type]
    assert shortfall is not None
    assert shortfall[0] == reason


def test_a_pipelines_model_is_found_in_the_jobs_that_it_started() -> None:
    history = History({}, {"model-versions/search": versions(("4", "child-2", {}))}, ("child-1", "child-2"))
    result = collect(DONE, history, wanted=Wanted(WANTED))
    assert result.model is not None
    assert result.model.version == "4"


def test_a_commands_model_is_not_looked_for_elsewhere() -> None:
    run = {"runDefinition": {"command": "python main.py"}}
    history = History(run, {"model-versions/search": versions(("4", "child-2", {}))}, ("child-2",))
    result = collect(DONE, history, wanted=Wanted(WANTED))
    assert (result.model, (result.shortfall or ("",))[0]) == (None, "ModelNotRegistered")


NAMES: list[tuple[list[str], dict[str, str]]] = [
    (["user_logs/std_log.txt", "system_logs/x.log"], {"train": "user_logs/std_log.txt"}),
    (
        ["user_logs/std_log_process_0.txt", "user_logs/std_log_process_1.txt"],
        {
            "train-process-0": "user_logs/std_log_process_0.txt",
            "train-process-1": "user_logs/std_log_process_1.txt",
        },
    ),
    (["azureml-logs/20_image_build_log.txt", "logs/azureml/x.log"], {"train": "azureml-logs/20_image_build_log.txt"}),
    (["azureml-logs/hyperdrive.txt"], {"train": "azureml-logs/hyperdrive.txt"}),
    (["logs/azureml/executionlogs.txt"], {"train": "logs/azureml/executionlogs.txt"}),
    (["system_logs/lifecycler/lifecycler.log"], {}),
]


@pytest.mark.parametrize(("files", "expected"), NAMES)
def test_the_texts_are_those_that_the_code_printed_or_what_there_is_before_it(
    files: list[str], expected: dict[str, str]
) -> None:
    assert named(dict.fromkeys(files, "https://x")) == expected


def logs_of(data: bytes | PlatformError, wanted: Wanted = LOGS, *, failed: bool = False) -> tuple[Any, Blob]:
    blob = Blob(b"" if isinstance(data, PlatformError) else data)
    client = Client(**{"https://b": data if isinstance(data, PlatformError) else blob})
    details = {"logFiles": {"user_logs/std_log.txt": "https://b"}}
    return LogFiles(client).of(details, wanted, 1e12, failed=failed), blob  # type: ignore[arg-type]


def test_only_the_end_of_a_huge_log_is_ever_read() -> None:
    found, blob = logs_of(b"x" * (WHOLE + 10) + b"end", Wanted(log_characters=5, keep=lambda name, text: "s3://x"))
    assert blob.read == [(13, WHOLE)]
    assert (found.texts[0].text, found.texts[0].truncated) == ("xxend", True)
    assert found.uri == "s3://x"


def test_an_empty_log_is_no_log_that_is_missing() -> None:
    found, blob = logs_of(b"")
    assert (found.texts[0].text, found.texts[0].missing, blob.read) == ("", "", [])


def test_bytes_that_are_no_text_do_not_hide_the_rest() -> None:
    found, _ = logs_of(b"\xff\xfe caf\xc3\xa9")
    assert found.texts[0].text == "�� café"


@pytest.mark.parametrize("error", [Denied("no"), Missing("gone"), Refused("https://evil", reason="HostNotAllowed")])
def test_a_log_that_storage_does_not_give_is_told(error: PlatformError) -> None:
    found, _ = logs_of(error)
    assert error.message in found.texts[0].missing


def test_storage_that_does_not_answer_is_asked_again() -> None:
    with pytest.raises(Unreachable):
        logs_of(Unreachable("no answer"))


def test_storage_that_never_answers_holds_up_no_end_of_a_run_for_long() -> None:
    now = [0.0]
    reader = LogFiles(Client(**{"https://b": BesideUnreachable("no way to 10.0.0.4")}), clock=lambda: now[0])  # type: ignore[arg-type]
    details = {"logFiles": {"user_logs/std_log.txt": "https://b"}}
    for now[0] in (0.0, 60.0, 150.0, 300.0, 450.0, 599.0):
        with pytest.raises(Unreachable):
            reader.of(details, LOGS, 1e12, failed=False)
    now[0] = 601.0
    assert "no way to 10.0.0.4" in reader.of(details, LOGS, 1e12, failed=False).texts[0].missing
    now[0] = 5000.0  # another outage
    with pytest.raises(Unreachable):
        reader.of(details, LOGS, 1e12, failed=False)


def test_nothing_is_read_that_nobody_wants() -> None:
    found, blob = logs_of(b"text", Wanted())
    assert (found.texts, blob.read) == ((), [])


def test_what_is_read_after_the_time_is_up_is_told() -> None:
    details = {"logFiles": {"user_logs/std_log.txt": "https://b"}}
    found = LogFiles(Client(), clock=lambda: 2.0).of(details, LOGS, 1.0, failed=False)  # type: ignore[arg-type]
    assert "not read in time" in found.texts[0].missing


STORE = {"properties": {"accountName": "acc", "containerName": "box", "endpoint": "core.windows.net"}}
PLACE = "azureml://datastores/lake/paths/out/1"


def outputs(container: Any, secrets: Any = None, store: Any = STORE) -> tuple[Any, Client]:
    secrets = {"sasToken": "?sv=1&sig=x"} if secrets is None else secrets
    answers = {"GET /datastores/lake": store, "POST /datastores/lake/listSecrets": secrets, "container": container}
    client = Client(**answers)
    found = Outputs(client, lambda: 0.0).found("ty-1", {"scores": (PLACE, None)}, 1.0)  # type: ignore[arg-type]
    return found["scores"], client


def test_an_output_is_counted_below_its_own_path_only() -> None:
    found, client = outputs(Container(**{"out/1/a.csv": 3, "out/1/deep/b.csv": 4, "out/10/c.csv": 100}))
    assert (found.uri, found.size_bytes, found.files, found.message) == (PLACE, 7, 2, "")
    assert client.opened == ["https://acc.blob.core.windows.net/box?sv=1&sig=x"]


def test_an_output_that_is_one_file_is_counted() -> None:
    found, _ = outputs(Container(**{"out/1": 9}))
    assert (found.size_bytes, found.files) == (9, 1)


def test_what_only_begins_like_an_output_is_not_gone_through() -> None:
    container = Container(**{f"out/1-old/{at}": 1 for at in range(50)})
    found, _ = outputs(container)
    assert (found.files, container.listed <= 1) == (0, True)


def test_an_output_at_the_root_of_a_datastore_is_counted() -> None:
    client = Client(
        **{
            "GET /datastores/lake": STORE,
            "POST /datastores/lake/listSecrets": {"sasToken": "sig=x"},
            "container": Container(a=1, b=2),
        }
    )
    place = "azureml://datastores/lake/paths/"
    found = Outputs(client, lambda: 0.0).found("ty-1", {"all": (place, None)}, 1.0)["all"]  # type: ignore[arg-type]
    assert (found.size_bytes, found.files) == (3, 2)


def test_an_output_with_too_many_files_is_counted_in_part_and_says_so() -> None:
    found, _ = outputs(Container(**{f"out/1/{at}": 1 for at in range(MOST_ENTRIES + 1)}))
    assert (found.files, "only the first were counted" in found.message) == (MOST_ENTRIES, True)


def test_an_accounts_key_is_not_used() -> None:
    found, client = outputs(Container(), {"key": "account-key", "secretsType": "AccountKey"})
    assert "gives no signature" in found.message
    assert client.opened == []


UNREAD = [Denied("no role"), Missing("no datastore"), Refused("no"), Unreachable("private endpoint")]


@pytest.mark.parametrize("error", UNREAD)
def test_an_output_that_can_not_be_measured_says_why_and_fails_nothing(error: PlatformError) -> None:
    found, _ = outputs(Container(), secrets=error)
    assert (found.uri, found.size_bytes) == (PLACE, None)
    assert error.message in found.message


def test_an_output_without_a_place_has_azures_own() -> None:
    assert default_uri("ty-1", "scores") == "azureml://datastores/workspaceblobstore/paths/azureml/ty-1/scores/"
