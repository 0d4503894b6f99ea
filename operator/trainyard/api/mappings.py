"""What a workspace maps beside compute: identities for code, data roots, secret stores, where logs are kept.

Imported through workspace.py.
"""

from typing import Annotated, Literal

from pydantic import Field

from trainyard.api.base import ApiModel, ShortName, rules
from trainyard.api.code import one_of

# A part of a path that no store, URL or file system reads otherwise than as a name; neither . nor ..
_PART = r"\.{0,2}[^/\s\\.\x00-\x1f\x7f][^/\s\\\x00-\x1f\x7f]*"
# Folders of an object store, in the characters that every store and every tool takes; 512 of them leave room for the
# keys of the longest names (keeping.base).
_LETTER = "[A-Za-z0-9!_*'()=@+,:~-]"
_FOLDER = rf"\.{{0,2}}{_LETTER}[A-Za-z0-9!_.*'()=@+,:~-]*"
_PREFIX = rf"^{_FOLDER}(/{_FOLDER})*/?$"


class RunAsIdentity(ApiModel):
    """An identity of the platform that code may run as. Exactly one kind."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": one_of(
            ("servicePrincipal", "user", "managedIdentity", "submittedUser"),
            "an identity needs exactly one of servicePrincipal, user (Databricks), managedIdentity or submittedUser "
            "(Azure ML): add the one that you use, or remove the others",
        )
    }

    service_principal: Annotated[
        str | None,
        Field(default=None, min_length=1, max_length=64, description="Application id. Absent when another is given."),
    ] = None
    user: Annotated[
        str | None,
        Field(
            default=None,
            min_length=1,
            max_length=255,
            description="User name, for example ada@example.com. Absent when another is given.",
        ),
    ] = None
    managed_identity: Annotated[
        str | None,
        Field(
            default=None,
            max_length=36,
            pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
            description="Client id of a managed identity of the compute (Azure ML). Absent when another is given.",
        ),
    ] = None
    submitted_user: Annotated[
        Literal[True] | None,
        Field(
            default=None,
            description="True: the identity that submits, handed on to the code (Azure ML's UserIdentity), in place of "
            "the workspace's own. Absent when another is given.",
        ),
    ] = None


class RunAs(ApiModel):
    """Identities that code runs as, apart from the one that submits."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            (
                "!has(self.default) || self.default in self.identities",
                "default must be one of identities: add it there, or name another",
            )
        )
    }

    identities: Annotated[
        dict[ShortName, RunAsIdentity],
        Field(min_length=1, max_length=64, description="Short names that runs use in spec.runAs."),
    ]
    default: Annotated[
        ShortName | None,
        Field(default=None, description="Identity of runs that name none. Absent: they run as their submitter."),
    ] = None
    required: Annotated[
        bool | None,
        Field(
            default=None,
            description="True refuses runs that would run as their submitter. Absent: false.",
        ),
    ] = None


class DataRoot(ApiModel):
    """What data://NAME means here. At least one of the two; files and tables are looked for in their own."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            ("has(self.path) || has(self.schema)", "a data root needs path, or schema, or both: add what it stands for")
        )
    }

    path: Annotated[
        str | None,
        Field(
            default=None,
            max_length=512,
            pattern=r"^(/(Volumes|Workspace)/[^\s]*[^/\s]|dbfs:/[^\s]*[^/\s]|[a-z][a-z0-9+.-]*://[^\s]*[^/\s])$",
            description="Volume path or URI that file names are put after, for example /Volumes/main/sales/raw. "
            "Absent: it holds tables only.",
        ),
    ] = None
    schema_: Annotated[
        str | None,
        Field(
            alias="schema",
            default=None,
            max_length=255,
            pattern=r"^[^.\s/]+\.[^.\s/]+$",
            description="catalog.schema that table names are put after. Absent: it holds files only.",
        ),
    ] = None


class SecretStore(ApiModel):
    """Where the platform keeps secrets for code."""

    databricks_scope: Annotated[
        str,
        Field(
            min_length=1,
            max_length=128,
            pattern=r"^[A-Za-z0-9_.@-]+$",
            description="Secret scope of the Databricks workspace.",
        ),
    ]


class S3Destination(ApiModel):
    """A folder of an S3 bucket, written with a role that trusts the namespace's ServiceAccount."""

    bucket: Annotated[
        str, Field(min_length=3, max_length=63, pattern=r"^[a-z0-9][a-z0-9.-]*[a-z0-9]$", description="Its name.")
    ]
    prefix: Annotated[
        str | None,
        Field(
            default=None,
            max_length=512,
            pattern=_PREFIX,
            description="Folder in the bucket. Absent: its root.",
        ),
    ] = None
    region: Annotated[
        str,
        Field(
            max_length=32,
            pattern=r"^[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}$",
            description="Region of the bucket, for example eu-central-1.",
        ),
    ]
    role_arn: Annotated[
        str,
        Field(
            max_length=255,
            pattern=r"^arn:[a-z-]+:iam::[0-9]{12}:role/[^\s]+$",
            description="Role that is assumed (AssumeRoleWithWebIdentity) with a token of the ServiceAccount in "
            "identity.",
        ),
    ]


class ADLSDestination(ApiModel):
    """A folder of an Azure storage container, written as an application that trusts the namespace's ServiceAccount."""

    account: Annotated[
        str, Field(min_length=3, max_length=24, pattern=r"^[a-z0-9]+$", description="Name of the storage account.")
    ]
    container: Annotated[
        str,
        Field(min_length=3, max_length=63, pattern=r"^[a-z0-9](-?[a-z0-9])*$", description="Name of the container."),
    ]
    prefix: Annotated[
        str | None,
        Field(default=None, max_length=512, pattern=_PREFIX, description="Folder in it. Absent: its root."),
    ] = None
    tenant_id: Annotated[
        str,
        Field(max_length=64, pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$", description="Entra tenant."),
    ]
    client_id: Annotated[
        str, Field(max_length=64, pattern=r"^[A-Za-z0-9-]+$", description="Application that may write the container.")
    ]


class LogDestination(ApiModel):
    """Where whole logs are kept after the platform has forgotten them. Exactly one kind."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": one_of(
            ("s3", "adls", "volume"),
            "a log destination needs exactly one of s3, adls or volume: add the one that you use, or remove the others",
        )
    }

    s3: Annotated[
        S3Destination | None,
        Field(
            default=None,
            description="A folder of an S3 bucket, written with a role that trusts the namespace's ServiceAccount. "
            "Absent when another is given.",
        ),
    ] = None
    adls: Annotated[
        ADLSDestination | None,
        Field(
            default=None,
            description="A folder of an Azure storage container, written as an application that trusts the namespace's "
            "ServiceAccount. Absent when another is given.",
        ),
    ] = None
    volume: Annotated[
        str | None,
        Field(
            default=None,
            max_length=512,
            pattern=rf"^/Volumes/{_PART}/{_PART}/{_PART}(/{_PART})*$",
            description="Folder of a Unity Catalog volume that the submitting identity may write. Absent when another "
            "is given.",
        ),
    ] = None
