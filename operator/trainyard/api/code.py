"""Where a run's source comes from and what is started: MLTrainingRun.spec.code and .entrypoint.

Imported through training_run.py.
"""

from typing import Annotated, Any

from pydantic import Field

from trainyard.api.base import ApiModel, Name, rules

DEFAULT_FILE = "main.py"

# A path below a folder: no leading slash, no empty, `.` or `..` part; the last is refused by CEL beside each use.
BELOW = r"^[A-Za-z0-9_.][A-Za-z0-9_./ +-]*$"
# A place on the platform, or a portable name for one.
LOCATION = r"^(data://[A-Za-z0-9_-]+(/[^\s]*)?|/(Workspace|Volumes)/[^\s]+)$"

Requirement = Annotated[
    str,
    Field(
        min_length=1,
        max_length=512,
        pattern=r"^[^-\s]",
        description="A requirement specifier (PEP 508), for example scikit-learn==1.9.1. Options of pip are refused.",
    ),
]
Location = Annotated[str, Field(min_length=2, max_length=1024, pattern=LOCATION)]


def below(name: str) -> dict[str, Any]:
    """A CEL rule that keeps a relative path inside its folder."""
    return rules(
        (
            "!self.split('/').exists(part, part in ['', '.', '..'])",
            f"{name} must be a path below the source folder, without empty, . or .. parts: write it as a/b/c",
        )
    )


def no_dots(name: str) -> dict[str, Any]:
    """A CEL rule that keeps a place below what it names first; parts of `..` would lead out of a data root."""
    return rules(
        (
            "!self.split('/').exists(part, part in ['.', '..'])",
            f"{name} must not have . or .. parts: write the place itself",
        )
    )


def one_of(names: tuple[str, ...], message: str) -> dict[str, Any]:
    """A CEL rule: exactly one of the fields is there."""
    present = ", ".join(f"has(self.{name})" for name in names)
    return rules((f"[{present}].filter(x, x).size() == 1", message))


class ConfigMapCode(ApiModel):
    """Source files kept in a ConfigMap of the run's namespace; each key is a file in one folder."""

    name: Annotated[Name, Field(description="Name of the ConfigMap.")]


class GitSecret(ApiModel):
    """The Secret that a private repository is read with."""

    name: Annotated[
        Name,
        Field(
            description="Secret of the run's namespace, of type kubernetes.io/ssh-auth (ssh-privatekey, known_hosts) "
            "or kubernetes.io/basic-auth (username, password). Its annotation "
            "trainyard.dev/git-host is HOST[:PORT][/PATH]: the one host that may be sent it, and the path below which "
            "the repository has to be; without a path, any repository of the host."
        ),
    ]


class GitCode(ApiModel):
    """A commit of a git repository, fetched by the operator. What ref means is resolved once, for all attempts."""

    url: Annotated[
        str,
        Field(
            min_length=8,
            max_length=1024,
            pattern=r"^(https://|ssh://|[A-Za-z0-9_][A-Za-z0-9._-]*@[A-Za-z0-9.-]+:)[^\s]+$",
            description="https://HOST/PATH, ssh://USER@HOST/PATH or USER@HOST:PATH. The host must be one that the "
            "operator allows. Credentials do not belong here: use secretRef.",
            json_schema_extra=rules(
                (
                    "!self.matches('^(https://[^/]*@|ssh://[^/@]*:[^/@]*@)')",
                    "url must hold no user or password: put them into a Secret and name it in secretRef",
                )
            ),
        ),
    ]
    ref: Annotated[
        str | None,
        Field(
            default=None,
            min_length=1,
            max_length=255,
            pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./+@-]*$",
            description="Branch, tag or full commit id. Absent: the repository's default branch.",
        ),
    ] = None
    path: Annotated[
        str | None,
        Field(
            default=None,
            min_length=1,
            max_length=512,
            pattern=BELOW,
            description="Folder of the repository that is the source. Absent: all of it.",
            json_schema_extra=below("path"),
        ),
    ] = None
    secret_ref: Annotated[
        GitSecret | None, Field(default=None, description="How a private repository is read. Absent: it is public.")
    ] = None


class WheelCode(ApiModel):
    """A built wheel. Exactly one way to name it."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": one_of(
            ("package", "path"),
            "a wheel needs exactly one of package or path: add the one that you use, or remove the other",
        )
    }

    package: Annotated[
        Requirement | None,
        Field(
            default=None,
            description="Requirement specifier of a package on the index that the platform installs from, for example "
            "acme-churn==1.4.0. Absent when path is given.",
        ),
    ] = None
    path: Annotated[
        Location | None,
        Field(
            default=None,
            description="A wheel that is already on the platform: data://ROOT/PATH, or the platform's own path, on "
            "Databricks /Volumes/... or /Workspace/.... Absent when package is given.",
            json_schema_extra=no_dots("path"),
        ),
    ] = None
    name: Annotated[
        str | None,
        Field(
            default=None,
            min_length=1,
            max_length=128,
            pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$",
            description="Name of the distribution, for entrypoint.consoleScript. Absent: read from package or from the "
            "wheel's file name.",
        ),
    ] = None


class Code(ApiModel):
    """Where the source comes from. Exactly one way."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": one_of(
            ("inline", "configMap", "git", "path", "wheel"),
            "code needs exactly one of inline, configMap, git, path or wheel: add the one that you use, or remove the "
            "others",
        )
    }

    inline: Annotated[
        str | None,
        Field(
            default=None,
            min_length=1,
            max_length=65536,
            description="Source text of the entrypoint's file, at most 65,536 characters. "
            "Absent when another way is given.",
        ),
    ] = None
    config_map: Annotated[
        ConfigMapCode | None,
        Field(
            default=None,
            description="Source files from a ConfigMap of the same namespace; each key is a file. Absent when another "
            "way is given.",
        ),
    ] = None
    git: Annotated[
        GitCode | None,
        Field(
            default=None,
            description="Source files from a git repository, fetched by the operator. What ref means is looked up "
            "once, and every attempt runs that commit. Absent when another way is given.",
        ),
    ] = None
    path: Annotated[
        Location | None,
        Field(
            default=None,
            description="A folder that is already on the platform: data://ROOT/PATH, or the platform's own path, on "
            "Databricks /Workspace/... or /Volumes/.... Its content is not pinned: keep it in a folder per version. "
            "Absent when another way is given.",
            json_schema_extra=no_dots("path"),
        ),
    ] = None
    wheel: Annotated[
        WheelCode | None,
        Field(
            default=None,
            description="A built wheel, from an index of packages or on the platform. Absent when another is given.",
        ),
    ] = None


class Entrypoint(ApiModel):
    """What is started: at most one of pythonFile, module, consoleScript and notebook; pythonFile main.py if none is."""

    model_config = ApiModel.model_config | {
        "json_schema_extra": rules(
            (
                "[has(self.pythonFile), has(self.module), has(self.consoleScript), has(self.notebook)]"
                ".filter(x, x).size() <= 1",
                "an entrypoint has at most one of pythonFile, module, consoleScript and notebook: remove the others",
            ),
            (
                "!has(self.notebook) || !has(self.args) || self.args.size() == 0",
                "a notebook takes no args: remove them, and read spec.params with its widgets",
            ),
        )
    }

    python_file: Annotated[
        str | None,
        Field(
            default=None,
            min_length=4,
            max_length=512,
            pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]*\.py$",
            description="The Python file to run, as a path in the source. With inline code it is the name that the "
            "text gets. Absent: main.py, unless another entrypoint is given.",
            json_schema_extra=below("pythonFile"),
        ),
    ] = None
    module: Annotated[
        str | None,
        Field(
            default=None,
            min_length=1,
            max_length=255,
            pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$",
            description="The Python module to run, as `python -m` would, for example acme.train. Absent when another "
            "entrypoint is given.",
        ),
    ] = None
    console_script: Annotated[
        str | None,
        Field(
            default=None,
            min_length=1,
            max_length=128,
            pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$",
            description="A console script of the wheel in code.wheel. Absent when another entrypoint is given.",
        ),
    ] = None
    notebook: Annotated[
        str | None,
        Field(
            default=None,
            min_length=1,
            max_length=512,
            pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./ -]*$",
            description="The notebook to run, as a path in the source: a .py file that begins with `# Databricks "
            "notebook source`, or an .ipynb file. Its widgets get spec.params. Absent when another is given.",
            json_schema_extra=below("notebook"),
        ),
    ] = None
    args: Annotated[
        list[Annotated[str, Field(max_length=2048)]],
        Field(
            default_factory=list,
            max_length=64,
            description="Command-line arguments. $(params.NAME), $(inputs.NAME), $(outputs.NAME), $(run.name), "
            "$(run.namespace), $(run.uid) and $(run.attempt) are replaced; $$( stands for $( . Absent: none.",
        ),
    ]

    @property
    def file(self) -> str | None:
        """The source file that has to be there: the Python file or the notebook; None for a module or a script."""
        if self.module is not None or self.console_script is not None:
            return None
        return self.notebook or self.python_file or DEFAULT_FILE
