"""What a platform does not have is refused from one table, in both directions, and nothing else is."""

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.azureml_jobs import CLASSES, ROOTS, RUN_AS, attempt, request
from tests.wire.jobs import job as databricks_job
from trainyard.core.errors import TranslationError
from trainyard.platforms.azureml import translate as azureml
from trainyard.platforms.base import Job
from trainyard.platforms.databricks import translate as databricks
from trainyard.platforms.lacking import LACKING, REASON

WHEEL = {"consoleScript": "train"}

# Each entry of the tables by what it says is lacking: a run that asks for it, with the field that is named.
ON_AZURE_ML: dict[str, list[tuple[dict[str, Any], str]]] = {
    "a graph of tasks": [({"tasks": [{"name": "a", "entrypoint": {}}]}, "spec.tasks")],
    "notebooks": [({"entrypoint": {"notebook": "main.py"}}, "spec.entrypoint.notebook")],
    "a secret store that fills variables": [({"secrets": {"KEY": {"store": "team", "key": "k"}}}, "spec.secrets")],
    "tables": [
        ({"inputs": {"a": {"table": "main.sales.orders"}}}, "spec.inputs[a].table"),
        ({"outputs": {"a": {"table": "data://raw/orders"}}}, "spec.outputs[a].table"),
    ],
    "volumes and DBFS": [
        ({"inputs": {"a": {"uri": "/Volumes/main/sales/raw"}}}, "spec.inputs[a].uri"),
        ({"inputs": {"a": {"uri": "data://volume/2026"}}}, "spec.inputs[a].uri"),
        ({"outputs": {"a": {"uri": "dbfs:/tmp/a"}}}, "spec.outputs[a].uri"),
    ],
    "folders of a Databricks workspace": [
        ({"code": {"path": "/Workspace/Shared/iris"}}, "spec.code.path"),
        ({"code": {"path": "data://volume/iris"}}, "spec.code.path"),
        (
            {"code": {"wheel": {"path": "/Volumes/main/code/whl/a-1-py3-none-any.whl"}}, "entrypoint": WHEEL},
            "spec.code.wheel.path",
        ),
    ],
    "ids of jobs": [({"jobRef": {"id": "12"}, "code": None}, "spec.jobRef.id")],
    "service principals and users to run as": [({"runAs": "principal"}, "spec.runAs")],
    "machines of Databricks": [({"compute": {"class": "databricks"}}, "spec.compute.class")],
    "volumes to keep logs in": [
        ({"workspace": {"logDestination": {"volume": "/Volumes/main/ops/logs"}}}, "spec.workspaceRef")
    ],
}
ON_DATABRICKS: dict[str, list[tuple[dict[str, Any], str]]] = {
    "Pipelines of Azure ML": [
        (
            {"code": None, "compute": None, "azureML": {"jobType": "Pipeline", "jobs": {"a": {}}}},
            "spec.azureML.jobs",
        )
    ],
    "data assets and datastores": [
        ({"inputs": {"a": {"uri": "azureml:wine:1"}}}, "spec.inputs[a].uri"),
        ({"inputs": {"a": {"uri": "data://raw/2026"}}}, "spec.inputs[a].uri"),
        ({"outputs": {"a": {"uri": "azureml://datastores/lake/paths/out"}}}, "spec.outputs[a].uri"),
    ],
    "datastores to hold code": [({"code": {"path": "data://raw/iris"}}, "spec.code.path")],
    "managed identities to run as": [({"runAs": "trainer"}, "spec.runAs"), ({"runAs": "me"}, "spec.runAs")],
    "machines of Azure ML": [
        ({"compute": {"class": "cluster"}}, "spec.compute.class"),
        (
            {"compute": None, "tasks": [{"name": "a", "entrypoint": {}, "compute": {"class": "cluster"}}]},
            "spec.tasks[a].compute.class",
        ),
    ],
}


def on_databricks(workspace: dict[str, Any] | None = None, **spec: Any) -> Job:
    classes = {"small": {"serverless": {"environmentVersion": "5"}}, "cluster": CLASSES["cluster"]}
    mapped = {"computeClasses": classes, "dataRoots": ROOTS, "runAs": RUN_AS, **(workspace or {})}
    made = databricks_job(workspace=mapped, **{key: value for key, value in spec.items() if value is not None})
    # As absent as the schema lets them be where something else is run.
    absent: dict[str, Any] = {name: None for name in ("code", "compute") if name in spec and spec[name] is None}
    return replace(made, spec=made.spec.model_copy(update=absent))


def refused(translate: Any, job: Job) -> TranslationError:
    with pytest.raises(TranslationError) as raised:
        translate(job)
    return raised.value


def rows(table: dict[str, list[tuple[dict[str, Any], str]]]) -> list[tuple[str, dict[str, Any], str]]:
    return [(what, spec, field) for what, cases in table.items() for spec, field in cases]


@pytest.mark.parametrize(("what", "spec", "field"), rows(ON_AZURE_ML))
def test_what_azure_ml_does_not_have_is_refused_by_name(what: str, spec: dict[str, Any], field: str) -> None:
    error = refused(azureml.translate, attempt(**spec))
    sentence = next(lack.sentence for lack in LACKING["azureml"] if lack.what == what)
    assert (error.field, error.reason, str(error)) == (field, REASON, f"{field}: {sentence}")


@pytest.mark.parametrize(("what", "spec", "field"), rows(ON_DATABRICKS))
def test_what_databricks_does_not_have_is_refused_by_name(what: str, spec: dict[str, Any], field: str) -> None:
    error = refused(databricks.translate, on_databricks(**spec))
    sentence = next(lack.sentence for lack in LACKING["databricks"] if lack.what == what)
    assert (error.field, error.reason, str(error)) == (field, REASON, f"{field}: {sentence}")


def test_every_entry_of_the_tables_is_tried_above() -> None:
    assert {platform: [lack.what for lack in table] for platform, table in LACKING.items()} == {
        "azureml": list(ON_AZURE_ML),
        "databricks": list(ON_DATABRICKS),
    }


def test_what_only_helps_elsewhere_is_no_lack() -> None:
    described: dict[str, Any] = {
        "inputs": {"a": {"uri": "abfss://raw@acme.dfs.core.windows.net/a.csv", "form": "File"}}
    }
    blocks: dict[str, Any] = {"azureML": {"tags": {"a": "b"}}, "databricks": {"queue": {"enabled": True}}}
    assert databricks.translate(on_databricks(**described, **blocks)).body["tasks"]
    assert request(**described, **blocks).body["properties"]["inputs"]["a"]["jobInputType"] == "uri_file"


@pytest.mark.parametrize(
    "spec",
    [
        {"inputs": {"a": {"uri": "s3://bucket/raw"}}},
        {"outputs": {"a": {"uri": "https://acme.blob.core.windows.net/out"}}},
    ],
)
def test_what_azure_ml_can_not_mount_is_refused(spec: dict[str, Any]) -> None:
    assert refused(azureml.translate, attempt(**spec)).reason == REASON
