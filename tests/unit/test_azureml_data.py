"""Inputs, outputs and machines of a job on Azure ML: where they lie, and what the run is refused."""

from typing import Any

import pytest

from tests.unit.azureml_jobs import CLASSES, UID, WS, attempt, properties, refusal
from trainyard.platforms.azureml.translate import wanted


def test_a_data_root_stands_for_a_place_of_azure_storage() -> None:
    sent = properties(
        inputs={
            "raw": {"uri": "data://raw/2026"},
            "table": {"uri": "https://acme.blob.core.windows.net/a.csv", "form": "File"},
        },
        outputs={"made": {"uri": "data://raw/out/$(run.uid)/$(params.day)"}},
        params={"day": "1"},
    )
    assert sent["inputs"]["raw"] == {
        "jobInputType": "uri_folder",
        "uri": "azureml://datastores/lake/paths/raw/2026",
        "mode": "ReadOnlyMount",
    }
    assert sent["inputs"]["table"]["jobInputType"] == "uri_file"
    assert sent["outputs"]["made"] == {
        "jobOutputType": "uri_folder",
        "uri": f"azureml://datastores/lake/paths/raw/out/{UID}/1",
        "mode": "ReadWriteMount",
    }


def test_what_was_written_is_fetched_from_where_it_was_sent() -> None:
    spec = {"made": {"uri": "data://raw/out/$(run.attempt)"}}
    found = wanted(attempt(outputs=spec)).outputs
    assert found == {"made": (properties(outputs=spec)["outputs"]["made"]["uri"], None)}


def test_an_asset_is_named_by_its_id() -> None:
    sent = properties(inputs={"a": {"uri": "azureml:wine:1"}, "m": {"uri": "azureml:churn:3", "form": "MLflowModel"}})
    assert sent["inputs"]["a"]["uri"] == f"{WS}/data/wine/versions/1"
    assert sent["inputs"]["m"] == {
        "jobInputType": "mlflow_model",
        "uri": f"{WS}/models/churn/versions/3",
        "mode": "ReadOnlyMount",
    }


@pytest.mark.parametrize(
    ("spec", "field", "reason"),
    [
        ({"inputs": {"a": {"uri": "data://none/a"}}}, "spec.inputs[a].uri", "DataRootUnknown"),
        ({"inputs": {"a": {"uri": "data://raw/../b"}}}, "spec.inputs[a].uri", "InvalidSpec"),
        ({"inputs": {"a": {"uri": "azureml://datastores/lake/raw"}}}, "spec.inputs[a].uri", "InvalidSpec"),
        ({"inputs": {"trainyard_code": {"uri": "data://raw"}}}, "spec.inputs[trainyard_code]", "InvalidSpec"),
        ({"outputs": {"Trainyard_x": {"uri": "data://raw"}}}, "spec.outputs[Trainyard_x]", "InvalidSpec"),
        ({"outputs": {"a": {"uri": f"data://raw/{'x' * 1000}"}}}, "spec.outputs[a].uri", "InvalidSpec"),
        (
            {"inputs": {"a": {"uri": "data://raw"}, "A": {"uri": "data://raw"}}},
            "spec.inputs[A]",
            "InvalidSpec",
        ),
        (
            {"code": {"wheel": {"path": "data://raw/a.zip"}}, "entrypoint": {"module": "a"}},
            "spec.code.wheel.path",
            "InvalidSpec",
        ),
    ],
)
def test_what_has_no_place_is_refused(spec: dict[str, Any], field: str, reason: str) -> None:
    refused = refusal(**spec)
    assert (refused.field, refused.reason) == (field, reason)


def test_a_serverless_class_names_no_compute() -> None:
    sent = properties()
    assert "computeId" not in sent
    assert sent["resources"] == {"instanceCount": 1, "instanceType": "Standard_DS3_v2"}


def test_an_attached_cluster_has_instance_types_of_its_own() -> None:
    kubernetes = {"k8s": {"azureML": {"compute": "attached", "instanceType": "gpu.large"}}}
    sent = properties(workspace={"computeClasses": kubernetes}, compute={"class": "k8s"})
    assert sent["computeId"] == f"{WS}/computes/attached"
    assert sent["resources"] == {"instanceCount": 1, "instanceType": "gpu.large"}


def test_processes_are_one_where_nobody_says_how_many() -> None:
    shape = {"azureML": {"compute": "gpu", "distribution": {"type": "PyTorch"}, "instanceCount": 2}}
    sent = properties(workspace={"computeClasses": {"small": shape}})
    assert sent["distribution"] == {"distributionType": "PyTorch", "processCountPerInstance": 1}


def test_a_class_that_azure_ml_can_not_have_is_refused() -> None:
    wrong = {"small": {"azureML": {"compute": "cpu-cluster", "tier": "Spot"}}}
    refused = refusal(workspace={"computeClasses": wrong})
    assert (refused.field, refused.reason) == ("spec.compute.class", "ComputeClassInvalid")


def test_an_unknown_class_is_refused_with_those_that_there_are() -> None:
    refused = refusal(compute={"class": "huge"})
    assert (refused.field, refused.reason) == ("spec.compute.class", "ComputeClassUnknown")
    assert all(name in str(refused) for name in CLASSES)
