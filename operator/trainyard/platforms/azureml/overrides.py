"""`spec.azureML`: an RFC 7396 merge over the properties of the translated job, and the types of job it makes. Pure.

jobType Sweep starts the entrypoint as the trial of a search: command, code, environment and machines go into `trial`,
and a param that `searchSpace` names has each trial's own value. Pipeline runs the graph in `jobs`. What is refused is
in api/azureml_block.py, and here once more, with what no schema can see. Types of jobs are those of azure-ai-ml's rest
models (CommandJob, SweepJob, PipelineJob); fields that this version does not know go to the platform, which judges.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from trainyard.api.azureml_block import OWNED_FIELDS
from trainyard.core.errors import TranslationError
from trainyard.platforms.azureml import names
from trainyard.platforms.merging import check_depth, forbidden, look
from trainyard.platforms.told import OUR_TAGS, OUR_VARIABLES

FIELD = "spec.azureML"
# What exactly-once, the deadlines and the identity stand on.
OWNED = frozenset(OWNED_FIELDS)
JOB_TYPES = ("Command", "Sweep", "Pipeline")

# Objects that may be added to but not taken away, because ours are in them.
_KEPT = ("environmentVariables", "inputs", "limits", "outputs", "tags", "trial", "trial.environmentVariables")
_TEXT_BY_NAME = ("environmentVariables", "tags", "trial.environmentVariables")
# Fields of a Command that a Sweep has in its trial.
_OF_TRIAL = frozenset({"distribution", "environmentVariables", "resources"})
# What a search can not be without (SweepJob).
_OF_SWEEP = ("searchSpace", "objective", "samplingAlgorithm")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# A trial's value stands in double quotes in a shell's command, and is put there as it is.
_READ_BY_A_SHELL = re.compile(r"[\"$`\\\x00-\x1f\x7f]")


def job_type(block: Mapping[str, Any] | None) -> str:
    """Command, Sweep or Pipeline.

    Raises:
        TranslationError: InvalidSpec.
    """
    found = (block or {}).get("jobType", "Command")
    if found not in JOB_TYPES:
        raise TranslationError(f"{FIELD}.jobType", f"is {found!r}, and must be one of {', '.join(JOB_TYPES)}")
    return str(found)


def refuse_owned(block: Mapping[str, Any] | None) -> None:
    """Checks the block, before anything is merged.

    Raises:
        TranslationError: OverrideForbidden or InvalidSpec, naming the field.
    """
    if not block:
        return
    check_depth(block, FIELD, "Azure ML's")
    for path in sorted(OWNED):
        if look(block, path)[0]:
            raise forbidden(f"{FIELD}.{path}", OWNED_FIELDS[path][1])
    for path in _KEPT:
        found, value = look(block, path)
        if found and not isinstance(value, Mapping):
            raise forbidden(f"{FIELD}.{path}", "must be an object: what the operator puts there stays")
    for path in _TEXT_BY_NAME:
        _check_texts(look(block, path)[1] or {}, f"{FIELD}.{path}")
    graph = block.get("jobs")
    for name, node in graph.items() if isinstance(graph, Mapping) else ():
        if isinstance(node, Mapping) and "identity" in node:
            raise forbidden(f"{FIELD}.jobs.{name}.identity", "use spec.runAs, which holds for each job of the graph")
    for path in ("inputs", "outputs"):
        for name in block.get(path, {}):
            if name.startswith(names.OUR_INPUTS):
                raise forbidden(f"{FIELD}.{path}.{name}", "the operator owns it")


def check_type(block: Mapping[str, Any] | None) -> None:
    """Checks that the block has what its type of job needs, and nothing of another's.

    Raises:
        TranslationError: InvalidSpec, naming the field.
    """
    block, kind = block or {}, job_type(block)
    if kind == "Sweep":
        for name in _OF_SWEEP:
            if block.get(name) is None:
                raise TranslationError(f"{FIELD}.{name}", "is missing: a Sweep can not be without it")
        for name in sorted(_OF_TRIAL.intersection(block)):
            raise TranslationError(f"{FIELD}.{name}", f"a Sweep has it in its trial: write {FIELD}.trial.{name}")
    elif "trial" in block:
        raise TranslationError(f"{FIELD}.trial", "only a Sweep has a trial: add jobType: Sweep, or remove it")
    if (kind == "Pipeline") != isinstance(block.get("jobs"), Mapping):
        raise TranslationError(f"{FIELD}.jobs", "a Pipeline needs jobs, its graph, and nothing else has one")


def search_space(block: Mapping[str, Any] | None) -> frozenset[str]:
    """The names of which each trial of a Sweep has its own value; none for other jobs.

    Raises:
        TranslationError: InvalidSpec.
    """
    if job_type(block) != "Sweep":
        return frozenset()
    field, space = f"{FIELD}.searchSpace", (block or {}).get("searchSpace")
    if not isinstance(space, Mapping):
        raise TranslationError(field, "must be an object: a distribution for each name")
    for name, distribution in space.items():
        if not _NAME.fullmatch(name):
            raise TranslationError(f"{field}.{name}", "use letters, digits and _, and begin with no digit")
        for text in _texts(distribution):
            if _READ_BY_A_SHELL.search(text):
                raise TranslationError(
                    f"{field}.{name}",
                    f"{text!r} would be read by the shell that starts the trial; use no quotes, $, `, \\ or newlines",
                )
    return frozenset(space)


def filled_in(value: Any, standing_for: Mapping[str, str | None], used: set[str], field: str) -> Any:
    """A Pipeline's graph with $(trainyard.code), .environment and .compute replaced; `used` gets what was.

    Raises:
        TranslationError: ReferenceUnknown: nothing of the spec makes what is referred to.
    """
    if isinstance(value, Mapping):
        return {key: filled_in(each, standing_for, used, f"{field}.{key}") for key, each in value.items()}
    if isinstance(value, list):
        return [filled_in(each, standing_for, used, f"{field}[{index}]") for index, each in enumerate(value)]
    if not isinstance(value, str):
        return value
    for name, text in standing_for.items():
        reference = f"$(trainyard.{name})"
        if reference in value:
            if text is None:
                raise TranslationError(
                    field, f"{reference} stands for what spec.{name} makes; give one", reason="ReferenceUnknown"
                )
            used.add(name)
            value = value.replace(reference, text)
    return value


def _check_texts(values: Mapping[str, Any], field: str) -> None:
    for name, value in values.items():
        if name.startswith(OUR_VARIABLES) or name.lower().startswith(OUR_TAGS):
            raise forbidden(f"{field}.{name}", "the operator owns it")
        if value is not None and not isinstance(value, str):
            raise TranslationError(f"{field}.{name}", "must be text; put it in quotes")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
