"""What a model's own files say about serving it, and where a version came from."""

import pytest

from trainyard.platforms.azureml.serving_models import SERVER, lacking, origin_of
from trainyard.platforms.verdicts import NotToldError

SIGNATURE = 'signature:\n  inputs: \'[{"name": "x", "type": "double"}]\'\n'
CONDA = "dependencies:\n- python=3.11\n- pip\n- pip:\n  - mlflow==2.22\n  - {}\n"


def test_a_model_with_signature_and_server_lacks_nothing() -> None:
    assert lacking({"MLmodel": SIGNATURE, "conda.yaml": CONDA.format(f"{SERVER}==1.4.0")}) == []


@pytest.mark.parametrize(
    "written", [SERVER, "azureml_inference_server_http>=1", "AzureML-Inference-Server-HTTP ~= 1.3 ; python_version>'3'"]
)
def test_the_server_is_found_however_it_is_written(written: str) -> None:
    assert (
        lacking({"MLmodel": SIGNATURE, "conda.yaml": CONDA.format("scikit-learn"), "requirements.txt": written}) == []
    )


@pytest.mark.parametrize("line", ["azureml-inference-server-http-plugin", "# azureml-inference-server-http", "azureml"])
def test_what_only_looks_like_the_server_is_none(line: str) -> None:
    assert lacking({"MLmodel": SIGNATURE, "requirements.txt": line}) == [f"its environment lacks {SERVER}"]


def test_a_model_without_either_lacks_both() -> None:
    assert lacking({"MLmodel": "flavors: {}\n"}) == ["it has no signature", f"its environment lacks {SERVER}"]


@pytest.mark.parametrize("text", ["", "- a list", "a: [", "just words"])
def test_a_description_that_can_not_be_read_tells_nothing(text: str) -> None:
    with pytest.raises(NotToldError):
        lacking({"MLmodel": text, "requirements.txt": SERVER})


def test_broken_lists_of_packages_ask_for_nothing() -> None:
    assert lacking({"MLmodel": SIGNATURE, "conda.yaml": "dependencies: ["}) == [f"its environment lacks {SERVER}"]


def test_a_version_tells_the_run_that_made_it() -> None:
    tags = {"trainyard_name": "wine", "trainyard_uid": "u", "trainyard_commit": "abc", "trainyard_requested_by": "ada"}
    found = origin_of({"run_id": "r-1", "tags": [{"key": key, "value": value} for key, value in tags.items()]})
    assert found is not None
    assert (found.run, found.uid, found.mlflow_run_id, found.commit, found.requested_by) == (
        "wine",
        "u",
        "r-1",
        "abc",
        "ada",
    )
    assert origin_of({"version": "1"}) is None
