"""Inputs and outputs of an Azure ML job: what spec.inputs, .outputs and data:// mean there. Pure.

Called by the translator, and again for what has to be fetched of an ended run, so that both name the same places. Which
places and modes there are: https://learn.microsoft.com/azure/machine-learning/how-to-read-write-data-v2 ("Paths",
"Modes"); field names are those of azure-ai-ml's rest models (UriFolderJobInput, UriFolderJobOutput).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainyard.api.data import Form
from trainyard.core.errors import TranslationError
from trainyard.platforms import short_names, told
from trainyard.platforms.azureml import names
from trainyard.platforms.azureml.command import Expression
from trainyard.platforms.base import Job
from trainyard.platforms.references import References

_KINDS: dict[Form, str] = {"Folder": "uri_folder", "File": "uri_file", "MLflowModel": "mlflow_model"}
_ASSET = re.compile(r"azureml:([A-Za-z0-9_.-]+):([A-Za-z0-9_.-]+)")
_DATASTORE = re.compile(r"azureml://(?:[^\s]*/)?datastores/([^/\s]+)/paths/[^\s]*")
_READ = ("azureml://", "abfs://", "abfss://", "http://", "https://", "wasb://", "wasbs://")
_WRITTEN = ("azureml://", "abfs://", "abfss://", "wasb://", "wasbs://")
# As the status holds what was written (api/run_status.py).
_LONGEST_URI = 1024


@dataclass(frozen=True, slots=True)
class Place:
    """Where an input or output lies. `uri` is what Azure ML gets; `asset` the (kind, NAME:VERSION) of a data asset."""

    kind: str
    uri: str
    asset: tuple[str, str] | None = None

    @property
    def datastore(self) -> str | None:
        """The datastore of the workspace that it lies in, if it is named by one."""
        match = _DATASTORE.fullmatch(self.uri)
        return match[1] if match else None


@dataclass(frozen=True, slots=True)
class Data:
    """All that a run reads and writes, by name."""

    inputs: Mapping[str, Place]
    outputs: Mapping[str, Place]

    def expressions(self, place: str) -> dict[str, str]:
        """What stands for each of the inputs or outputs in the command, by name."""
        return {name: Expression(place, name).text for name in getattr(self, place)}

    def variables(self) -> dict[str, str]:
        """The environment variables that tell the code where its data lies.

        Raises:
            TranslationError: two names become one variable.
        """
        return told.data_variables(self.expressions("inputs"), self.expressions("outputs"))


def data_of(job: Job) -> Data:
    """The run's inputs and outputs, with data:// and references replaced.

    Raises:
        TranslationError: DataRootUnknown, ParameterUnknown, ReferenceUnknown or InvalidSpec.
    """
    inputs = {}
    for name, each in job.spec.inputs.items():
        _check_name(name, f"spec.inputs[{name}]")
        inputs[name] = _input(job, each.uri or "", each.form, f"spec.inputs[{name}].uri")
    return Data(inputs, outputs_of(job))


def outputs_of(job: Job) -> dict[str, Place]:
    """The run's outputs, with data:// and references replaced.

    Raises:
        TranslationError: as data_of.
    """
    references, outputs = References(job), {}
    for name, each in job.spec.outputs.items():
        field = f"spec.outputs[{name}].uri"
        _check_name(name, f"spec.outputs[{name}]")
        outputs[name] = _written(job, references.replaced(each.uri or "", field), each.form, field)
    return outputs


def as_inputs(places: Mapping[str, Place]) -> dict[str, Any]:
    """Inputs as the job has them."""
    return {
        name: {"jobInputType": place.kind, "uri": place.uri, "mode": "ReadOnlyMount"} for name, place in places.items()
    }


def as_outputs(places: Mapping[str, Place]) -> dict[str, Any]:
    """Outputs as the job has them."""
    return {
        name: {"jobOutputType": place.kind, "uri": place.uri, "mode": "ReadWriteMount"}
        for name, place in places.items()
    }


def folder(job: Job, location: str, field: str) -> Place:
    """A folder of files that is read: code that lies in Azure storage.

    Raises:
        TranslationError: DataRootUnknown, or Azure ML can not mount it.
    """
    return _input(job, location, "Folder", field)


def _input(job: Job, uri: str, form: Form | None, field: str) -> Place:
    kind = _KINDS[form or "Folder"]
    asset = _ASSET.fullmatch(uri)
    if asset is not None:
        collection = "models" if kind == "mlflow_model" else "data"
        found = f"{names.workspace_id(job.target)}/{collection}/{asset[1]}/versions/{asset[2]}"
        return Place(kind, found, (collection, f"{asset[1]}:{asset[2]}"))
    return Place(kind, _checked(short_names.files(uri, field, job.workspace.data_roots), _READ, field))


def _written(job: Job, uri: str, form: Form | None, field: str) -> Place:
    found = _checked(short_names.files(uri, field, job.workspace.data_roots), _WRITTEN, field)
    if len(found) > _LONGEST_URI:
        raise TranslationError(
            field, f"with data roots and references replaced it is longer than {_LONGEST_URI} characters"
        )
    return Place(_KINDS[form or "Folder"], found)


def _checked(uri: str, schemes: tuple[str, ...], field: str) -> str:
    if not uri.startswith(schemes):
        raise TranslationError(
            field,
            f"is {uri}, which Azure ML can not mount; it takes {', '.join(schemes)}. A datastore of the workspace is "
            "azureml://datastores/NAME/paths/PATH",
            reason="UnsupportedOnPlatform",
        )
    if uri.startswith("azureml://") and _DATASTORE.fullmatch(uri) is None:
        raise TranslationError(field, f"is {uri}; a datastore is written azureml://datastores/NAME/paths/PATH")
    return uri


def _check_name(name: str, field: str) -> None:
    if name.lower().startswith(names.OUR_INPUTS):
        raise TranslationError(
            field, f"names that start with {names.OUR_INPUTS} are the operator's; choose another name"
        )
