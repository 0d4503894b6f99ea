"""The page on portability says what the translators do: every field is on it, and nothing that they did not say."""

import dataclasses
from typing import Any

import pytest

from crdgen import portability
from crdgen.portability import NOTHING, OURS, render_portability, row, told
from crdgen.portable import NAMES, SAMPLES, Sample
from trainyard.api.training_run import MLTrainingRunSpec
from trainyard.core.errors import TranslationError
from trainyard.platforms.base import Job, Request
from trainyard.platforms.lacking import LACKING
from trainyard.platforms.registry import platform_named

BY_NAME = {sample.name: sample for sample in SAMPLES}
EVERYWHERE = pytest.mark.parametrize("platform", NAMES)


def test_every_field_of_a_run_is_on_the_page() -> None:
    fields = {field.alias or name for name, field in MLTrainingRunSpec.model_fields.items()}
    assert fields - {"workspaceRef"} == {sample.name.split(".")[0] for sample in SAMPLES}


@EVERYWHERE
def test_every_field_is_told_of_every_platform(platform: str) -> None:
    for sample in SAMPLES:
        assert all(value for _, value in told(platform, sample)), sample.name


@pytest.mark.parametrize(
    ("platform", "sample", "expected"),
    [
        ("databricks", "attemptTimeoutSeconds", [("timeout_seconds", "3600")]),
        ("azureml", "attemptTimeoutSeconds", [("limits.timeout", '"PT3600S"')]),
        ("databricks", "experiment", [("experiment", '"/Shared/experiments/wine"')]),
        ("azureml", "experiment", [("experimentName", '"wine"')]),
        ("databricks", "retry", [("", NOTHING)]),
        ("azureml", "databricks", [("", "passed over: it is for Databricks alone")]),
        ("databricks", "azureML", [("", "passed over: it is for Azure ML alone")]),
    ],
)
def test_a_field_is_told_as_path_and_value(platform: str, sample: str, expected: list[tuple[str, str]]) -> None:
    assert told(platform, BY_NAME[sample]) == expected


def test_what_a_platform_lacks_is_told_in_the_sentence_that_refuses_it() -> None:
    [(path, said)] = told("azureml", BY_NAME["tasks"])
    sentence = next(lack.sentence for lack in LACKING["azureml"] if lack.what == "a graph of tasks")
    assert (path, said) == ("", f"not there: spec.tasks: {sentence}")


def test_every_lack_is_on_the_page() -> None:
    page = render_portability()
    assert all(f"| {lack.what} | {lack.sentence} |" in page for lacks in LACKING.values() for lack in lacks)


def test_another_refusal_is_not_taken_for_a_lack() -> None:
    with pytest.raises(TranslationError, match="no-such-class"):
        told("databricks", Sample("compute.class", {"compute": {"class": "no-such-class"}}))


def test_what_is_left_of_a_request_is_not_said_to_go() -> None:
    told_of_job = dict(told("databricks", BY_NAME["jobRef.id"]))
    assert told_of_job["tasks[0].run_job_task.job_id"] == "4711"
    assert [path for path, value in told_of_job.items() if value == "gone" and path.startswith("tasks")] == [
        "tasks[0].spark_python_task",
        "tasks[0].disable_auto_optimization",
        "tasks[0].environment_key",
        "tasks[0].environment_variables_key",
    ]


def test_a_field_that_no_platform_gets_is_the_operators() -> None:
    assert row(BY_NAME["cancel"]).count(OURS) == len(NAMES)
    assert OURS not in row(BY_NAME["inputs.form"])


def test_the_page_follows_the_translator(monkeypatch: pytest.MonkeyPatch) -> None:
    class Changed:
        """A platform whose translator sends one thing more of runs with tags."""

        def __init__(self, name: str) -> None:
            self.wanted = platform_named(name).wanted
            self._translate = platform_named(name).translate

        def translate(self, job: Job) -> Request:
            request = self._translate(job)
            more: dict[str, Any] = {"labelled": True} if job.spec.tags else {}
            return dataclasses.replace(request, body={**request.body, **more})

    monkeypatch.setattr(portability, "platform_named", Changed)
    assert ("labelled", "true") in told("databricks", BY_NAME["tags"])


def test_a_bar_does_not_end_a_cell_of_the_table() -> None:
    line = row(Sample("entrypoint.args", {"entrypoint": {"args": ["a|b"]}}))
    assert line.replace("\\|", "").count("|") == 3 + len(NAMES)
