"""Data, secrets and places: what spec.inputs, .outputs, .secrets and data:// mean in a workspace. Pure.

Called by the translator, and again for what has to be fetched of an ended run, so that both name the same places.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from trainyard.api.training_run import MLTrainingRunSpec, Output
from trainyard.api.workspace import DataRoot, MLWorkspaceSpec
from trainyard.core.errors import TranslationError
from trainyard.platforms import short_names, told
from trainyard.platforms.base import Job
from trainyard.platforms.databricks import names
from trainyard.platforms.references import References, listed

# As the status holds what was written (api/run_status.py).
_LONGEST_URI = 1024
_LONGEST_TABLE = 255
_VOLUME = re.compile(r"/Volumes/([^/]+)/([^/]+)/([^/]+)(/.*)?")


@dataclass(frozen=True, slots=True)
class Place:
    """Where an input or output lies: a URI or path of files, or the full name of a table."""

    uri: str | None = None
    table: str | None = None

    @property
    def text(self) -> str:
        """As the code gets it."""
        return self.uri or self.table or ""


@dataclass(frozen=True, slots=True)
class Data:
    """All that a run reads and writes, by name."""

    inputs: Mapping[str, Place]
    outputs: Mapping[str, Place]


def data_of(job: Job) -> Data:
    """The run's inputs and outputs, with data:// and references replaced.

    Raises:
        TranslationError: DataRootUnknown, ParameterUnknown, ReferenceUnknown or InvalidSpec.
    """
    roots = job.workspace.data_roots
    references = References(job)
    inputs = {
        name: _place(each.uri, each.table, f"spec.inputs[{name}]", roots) for name, each in job.spec.inputs.items()
    }
    outputs = {name: _output(name, each, references, roots) for name, each in job.spec.outputs.items()}
    return Data(inputs, outputs)


def variables(data: Data) -> dict[str, str]:
    """The environment variables that tell the code where its data lies.

    Raises:
        TranslationError: two names become one variable.
    """
    return told.data_variables(
        {name: place.text for name, place in data.inputs.items()},
        {name: place.text for name, place in data.outputs.items()},
    )


def secret_references(spec: MLTrainingRunSpec, workspace: MLWorkspaceSpec) -> dict[str, tuple[str, str]]:
    """For each variable that the platform fills from its secret store, its (scope, key).

    Raises:
        TranslationError: SecretStoreUnknown, or a name that the operator uses itself.
    """
    found = {}
    for name, secret in spec.secrets.items():
        field = f"spec.secrets[{name}]"
        if name in (*names.MLFLOW_VARIABLES, names.REGISTRY_VARIABLE) or name.startswith(told.OUR_VARIABLES):
            raise TranslationError(field, f"{name} is a variable of the operator's; choose another name")
        store = workspace.secret_stores.get(secret.store)
        if store is None:
            raise TranslationError(
                f"{field}.store",
                f"{secret.store!r} is not a secret store of the workspace, which has {listed(workspace.secret_stores)}",
                reason="SecretStoreUnknown",
            )
        found[name] = (store.databricks_scope, secret.key)
    return found


def platform_path(location: str, field: str, workspace: MLWorkspaceSpec) -> str:
    """A place for code: a path of the workspace or of a volume.

    Raises:
        TranslationError: DataRootUnknown, or it is neither.
    """
    path = short_names.files(location, field, workspace.data_roots).rstrip("/")
    if not path.startswith(("/Workspace/", "/Volumes/")):
        raise TranslationError(field, f"is {path}, but code can lie below /Workspace and /Volumes only")
    return path


def volume_of(path: str) -> tuple[str, str, str] | None:
    """(catalog, schema, volume) of a path below /Volumes; None for any other place."""
    match = _VOLUME.fullmatch(path.removeprefix("dbfs:"))
    return (match[1], match[2], match[3]) if match else None


def _output(name: str, output: Output, references: References, roots: Mapping[str, DataRoot]) -> Place:
    field = f"spec.outputs[{name}]"
    uri = references.replaced(output.uri, f"{field}.uri") if output.uri is not None else None
    return _place(uri, output.table, field, roots)


def _place(uri: str | None, table: str | None, field: str, roots: Mapping[str, DataRoot]) -> Place:
    if uri is None:
        named = _table(table or "", f"{field}.table", roots)
        _refuse_longer(named, _LONGEST_TABLE, f"{field}.table")
        return Place(table=named)
    found = short_names.files(uri, f"{field}.uri", roots)
    _refuse_longer(found, _LONGEST_URI, f"{field}.uri")
    if found.startswith("/Volumes/") and volume_of(found) is None:
        raise TranslationError(f"{field}.uri", f"{found} names no volume: write /Volumes/CATALOG/SCHEMA/VOLUME/...")
    return Place(uri=found)


def _refuse_longer(text: str, most: int, field: str) -> None:
    if len(text) > most:
        raise TranslationError(field, f"with data roots and references replaced it is longer than {most} characters")


def _table(table: str, field: str, roots: Mapping[str, DataRoot]) -> str:
    if not table.startswith(short_names.SCHEME):
        return table
    name, _, rest = table.removeprefix(short_names.SCHEME).partition("/")
    schema = short_names.data_root(name, field, roots).schema_
    if schema is None:
        raise TranslationError(
            field, f"data root {name!r} of the workspace holds files only: it has no schema", reason="DataRootUnknown"
        )
    return f"{schema}.{rest}"
