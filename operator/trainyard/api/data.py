"""What a run reads, writes and is told in secret: spec.inputs, .outputs, .secrets. Imported through training_run.py."""

from typing import Annotated, Any, Literal

from pydantic import Field

from trainyard.api.base import ApiModel, rules
from trainyard.api.code import no_dots, one_of

DataName = Annotated[str, Field(min_length=1, max_length=63)]
EnvironmentName = Annotated[str, Field(min_length=1, max_length=128)]


def named_as_variables(what: str) -> dict[str, Any]:
    """A CEL rule for a map whose keys become environment variables; a structural schema takes no pattern for keys."""
    return rules(
        (
            "self.all(name, name.matches('^[A-Za-z_][A-Za-z0-9_]*$'))",
            f"{what} become environment variables: use letters, digits and _, and begin with no digit",
        )
    )


_URI = r"^([a-z][a-z0-9+.-]*://[^\s]+|dbfs:/[^\s]+|/Volumes/[^\s]+)$"
_URI_OR_ASSET = _URI.removesuffix(")$") + r"|azureml:[A-Za-z0-9_.-]+:[A-Za-z0-9_.-]+)$"
Form = Literal["Folder", "File", "MLflowModel"]
_TABLE = r"^(data://[A-Za-z0-9_-]+/[^\s/]+|[^\s./]+\.[^\s./]+\.[^\s./]+)$"


class Input(ApiModel):
    """Data that the code reads. Exactly one kind. The code finds it as $(inputs.NAME) and TRAINYARD_INPUT_NAME."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": one_of(
            ("uri", "table"),
            "an input needs exactly one of uri or table: add the one that you use, or remove the other",
        )
    }

    uri: Annotated[
        str | None,
        Field(
            default=None,
            max_length=1024,
            pattern=_URI_OR_ASSET,
            description="File or folder: data://ROOT/PATH, by a root of the workspace's dataRoots, or a URI or volume "
            "path of the platform, or azureml:NAME:VERSION for a data asset of Azure ML. Absent when table is given.",
            json_schema_extra=no_dots("uri"),
        ),
    ] = None
    table: Annotated[
        str | None,
        Field(
            default=None,
            max_length=255,
            pattern=_TABLE,
            description="Table: data://ROOT/TABLE, by a root of the workspace's dataRoots, or catalog.schema.table. "
            "Absent when uri is given.",
        ),
    ] = None
    form: Annotated[
        Form | None,
        Field(
            default=None,
            description="What lies at uri, where the code gets it as a path of its own (Azure ML). Absent: Folder.",
        ),
    ] = None


class Output(ApiModel):
    """Data that the code writes. Exactly one kind. The code finds it as $(outputs.NAME) and TRAINYARD_OUTPUT_NAME."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": one_of(
            ("uri", "table"),
            "an output needs exactly one of uri or table: add the one that you use, or remove the other",
        )
    }

    uri: Annotated[
        str | None,
        Field(
            default=None,
            max_length=1024,
            pattern=_URI,
            description="File or folder, as for an input. $(params.NAME), $(run.name), $(run.namespace), $(run.uid) "
            "and $(run.attempt) are replaced. Absent when table is given.",
            json_schema_extra=no_dots("uri"),
        ),
    ] = None
    table: Annotated[
        str | None,
        Field(
            default=None,
            max_length=255,
            pattern=_TABLE,
            description="Table, as for an input. Absent when uri is given.",
        ),
    ] = None
    form: Annotated[
        Form | None,
        Field(
            default=None,
            description="What lies at uri, where the code gets it as a path of its own (Azure ML). Absent: Folder.",
        ),
    ] = None


class StoredSecret(ApiModel):
    """A secret that the platform keeps and hands to the code itself. Its value never passes through Kubernetes."""

    store: Annotated[
        str, Field(min_length=1, max_length=63, description="A short name from the workspace's secretStores.")
    ]
    key: Annotated[
        str,
        Field(
            min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_.-]+$", description="Name of the secret in the store."
        ),
    ]
