"""From code and entrypoint to the command of an Azure ML job, and to the asset and inputs that it needs. Pure.

Called by translate.py. Azure ML starts a command in the folder of the job's code, so that files beside it can be opened
and imported (https://learn.microsoft.com/azure/machine-learning/reference-yaml-job-command).
"""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field

from trainyard.api.training_run import Entrypoint
from trainyard.core.errors import TranslationError
from trainyard.platforms.azureml import data, names
from trainyard.platforms.azureml.command import Expression, Part, Text, exported, in_turn, word
from trainyard.platforms.azureml.data import Place
from trainyard.platforms.azureml.software import is_used_as_it_is
from trainyard.platforms.base import Job
from trainyard.platforms.entrypoints import check_file, check_module, no_files, no_wheel
from trainyard.platforms.references import References

_FIELD = "spec.entrypoint"
# pip in several processes at once would break the one environment that they share; flock is util-linux's.
_LOCK = "flock /tmp/trainyard-wheel.lock "


@dataclass(frozen=True, slots=True)
class Source:
    """Where the code lies. `upload` is the code asset of `files`; `inputs` are what the job mounts for its code.

    `requirement` is a wheel that the environment installs; `installs` are what the command does before it starts.
    """

    upload: str
    files: Mapping[str, bytes] | None = None
    inputs: Mapping[str, Place] = field(default_factory=dict)
    requirement: str | None = None
    installs: tuple[str, ...] = ()
    has_wheel: bool = False


def source_of(job: Job, processes: int) -> Source:
    """Where the run's code lies. `processes` is how often each machine starts the command.

    Raises:
        TranslationError: DataRootUnknown, InvalidSpec or UnsupportedOnPlatform.
    """
    upload = names.code_folder(job.target.principal, job.upload_scope or job.cluster, job.code_digest)
    code = job.spec.code
    if code is None:
        return Source(upload)
    if code.path is not None:
        return Source(upload, inputs={names.CODE_INPUT: data.folder(job, code.path, "spec.code.path")})
    if code.wheel is None:
        return Source(upload, files=job.files)
    pip = f"{_LOCK if processes > 1 else ''}python -m pip install "
    if code.wheel.package is not None:
        if not is_used_as_it_is(job):
            return Source(upload, requirement=code.wheel.package, has_wheel=True)
        requirement = word([Text(code.wheel.package)], "spec.code.wheel.package")
        return Source(upload, installs=(pip + requirement,), has_wheel=True)
    where = "spec.code.wheel.path"
    folder, _, file = (code.wheel.path or "").rstrip("/").rpartition("/")
    if not file.endswith(".whl"):
        raise TranslationError(where, f"{file} is no wheel: its name must end with .whl")
    # pip reads a wheel's name, which a mounted folder keeps for certain.
    path = word([Expression("inputs", names.WHEEL_INPUT), Text(f"/{file}")], where)
    mounted = {names.WHEEL_INPUT: data.folder(job, folder, where)}
    return Source(upload, inputs=mounted, installs=(pip + path,), has_wheel=True)


def command_of(
    job: Job, source: Source, references: References, search_space: frozenset[str], variables: Mapping[str, str]
) -> str:
    """The command that starts the entrypoint.

    Args:
        job: the attempt.
        source: where its code lies.
        references: what arguments may refer to.
        search_space: names of params that each trial of a sweep has its own value of.
        variables: environment variables that are set to expressions.

    Raises:
        TranslationError: EntrypointMissing, ParameterUnknown, ReferenceUnknown or InvalidSpec.
    """
    entrypoint = job.spec.entrypoint or Entrypoint()
    words = [_started(entrypoint, source)]
    for index, arg in enumerate(entrypoint.args):
        where = f"{_FIELD}.args[{index}]"
        words.append(word(_parts(references, arg, where, search_space), where))
    mounted = [f'cd "{Expression("inputs", names.CODE_INPUT).text}"'] if names.CODE_INPUT in source.inputs else []
    told = [exported(variables)] if variables else []
    return in_turn([*told, *source.installs, *mounted, " ".join(words)])


def _started(entrypoint: Entrypoint, source: Source) -> str:
    if entrypoint.console_script is not None:
        if not source.has_wheel:
            raise no_wheel(f"{_FIELD}.consoleScript")
        # Never a builtin of the shell that has the same name.
        return f"env {entrypoint.console_script}"
    if entrypoint.module is not None:
        check_module(entrypoint.module, f"{_FIELD}.module", source.files)
        return f"python -m {entrypoint.module}"
    file, where = entrypoint.file or "", f"{_FIELD}.pythonFile"
    if source.has_wheel:
        raise no_files(where)
    check_file(file, where, source.files)
    return f"python {word([Text(posixpath.normpath(file))], where)}"


def _parts(references: References, text: str, where: str, search_space: frozenset[str]) -> list[Part]:
    """An argument in parts: text, and what Azure ML replaces."""
    found: list[Part] = []
    for group, name, value in references.parts(text, where):
        if group in ("inputs", "outputs"):
            found.append(Expression(group, name))
        elif group == "params" and name in search_space:
            found.append(Expression("search_space", name))
        else:
            found.append(Text(value))
    return found
