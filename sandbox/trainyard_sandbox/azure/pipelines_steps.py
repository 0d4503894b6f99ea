"""The steps of a pipeline job: what each waits for, and the command job that it becomes; no I/O.

pipelines.py calls it. A step names a command component and binds its inputs and outputs: to the pipeline's own
(`${{parent.inputs.x}}`, `${{parent.outputs.x}}`), or to another step's output (`${{parent.jobs.step.outputs.x}}`).

Azure Machine Learning documentation, "CLI (v2) pipeline job YAML schema" and "Core syntax" (bindings); the body of a
step, in snake case: azure-ai-ml `entities/_builders/command.py`, `_to_rest_object`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainyard_sandbox.azure import job_rules
from trainyard_sandbox.azure.assets import AssetVersion
from trainyard_sandbox.azure.errors import user_error
from trainyard_sandbox.azure.state import AzureState
from trainyard_sandbox.schema import AnyJson, MapOf, Obj, Str

STEP = Obj(
    {
        "type": Str(),
        "name": Str(),
        "display_name": Str(),
        "componentId": Str(min_length=1),
        "computeId": Str(),
        "resources": MapOf(AnyJson()),
        "limits": MapOf(AnyJson()),
        "distribution": MapOf(AnyJson()),
        "environment_variables": MapOf(Str()),
        "inputs": MapOf(MapOf(AnyJson())),
        "outputs": MapOf(MapOf(AnyJson())),
        "identity": MapOf(AnyJson()),
        "queue_settings": MapOf(AnyJson()),
        "properties": MapOf(Str()),
        "tags": MapOf(Str()),
        "comment": Str(),
        "_source": Str(),
    },
    ("type", "componentId"),
)
_BINDING = re.compile(r"\$\{\{\s*parent\.(?:(inputs|outputs)\.(\w+)|jobs\.(\w+)\.outputs\.(\w+))\s*\}\}")
_ANY_BINDING = re.compile(r"\$\{\{.*\}\}")
_RENAMED = {"job_input_type": "jobInputType", "job_output_type": "jobOutputType"}


@dataclass(frozen=True)
class Binding:
    """What a step's input or output is bound to: the pipeline's `place` (inputs, outputs), or another step's output."""

    name: str
    place: str = ""
    step: str = ""


def binding(value: object, where: str) -> Binding | None:
    """The binding that a value is; None when it is none.

    Raises:
        ArmError: 400 UserError, it is an expression of another kind.
    """
    if not isinstance(value, str) or _ANY_BINDING.search(value) is None:
        return None
    found = _BINDING.fullmatch(value.strip())
    if found is None:
        message = f"{where}: this sandbox supports ${{{{parent.inputs.x}}}}, ${{{{parent.outputs.x}}}} and "
        raise user_error(message + f"${{{{parent.jobs.step.outputs.x}}}}, got '{value}'.")
    return Binding(found[2], place=found[1]) if found[1] else Binding(found[4], step=found[3])


def needed(step: Mapping[str, Any], where: str) -> set[str]:
    """Names of the steps whose outputs a step reads."""
    bound = (binding(given.get("value"), f"{where}.inputs") for given in step.get("inputs", {}).values())
    return {found.step for found in bound if found is not None and found.step}


def component_of(azure: AzureState, step: Mapping[str, Any]) -> dict[str, Any]:
    """The specification of a step's component.

    Raises:
        ArmError: 400 UserError, there is none.
    """
    name, version = job_rules.child_of_workspace(azure, step["componentId"], "components", "versions")
    found: AssetVersion | None = azure.components.get(name, version)
    if found is None:
        raise user_error(f"Component {name}:{version} was not found.", "NotFound", "ComponentNotFound")
    spec: dict[str, Any] = found.properties["componentSpec"]
    return spec


def command_job(
    pipeline: Mapping[str, Any],
    name: str,
    spec: Mapping[str, Any],
    outputs_of: Mapping[str, Mapping[str, str]],
) -> dict[str, Any]:
    """The definition of the command job that a step becomes.

    Args:
        pipeline: the pipeline job's own definition.
        spec: of the step's component.
        outputs_of: URIs of outputs by name, of the steps that have ended, by the steps' names.

    Raises:
        ArmError: 400 UserError naming the step and the field.
    """
    step, where = pipeline["jobs"][name], f"properties.jobs.{name}"
    settings = pipeline.get("settings", {})
    properties: dict[str, Any] = {
        "jobType": "Command",
        "displayName": step.get("display_name") or name,
        "command": spec["command"],
        "environmentId": _plain(spec["environment"]),
        "inputs": _inputs(pipeline, step, spec, outputs_of, where),
        "outputs": _outputs(pipeline, step, spec, where),
        "environmentVariables": dict(step.get("environment_variables", {})),
        "tags": dict(step.get("tags", {})),
        "properties": dict(step.get("properties", {})),
    }
    compute = step.get("computeId") or settings.get("default_compute") or pipeline.get("computeId")
    optional = {
        "codeId": _plain(spec.get("code", "")),
        "computeId": _plain(compute or ""),
        "resources": _camel(dict(spec.get("resources", {})) | step.get("resources", {})),
        "distribution": _distribution(step.get("distribution") or spec.get("distribution") or {}),
        "limits": _camel(step.get("limits", {})),
        "identity": _camel(step.get("identity", {})),
        "queueSettings": _camel(step.get("queue_settings", {})),
    }
    return properties | {key: value for key, value in optional.items() if value}


def _inputs(
    pipeline: Mapping[str, Any],
    step: Mapping[str, Any],
    spec: Mapping[str, Any],
    outputs_of: Mapping[str, Mapping[str, str]],
    where: str,
) -> dict[str, Any]:
    given, declared = step.get("inputs", {}), spec.get("inputs", {})
    unknown = sorted(set(given) - set(declared))
    if unknown:
        raise user_error(f"{where}.inputs.{unknown[0]}: the component has no such input.")
    found: dict[str, Any] = {}
    for name, kind in declared.items():
        if name in given:
            bound = binding(given[name].get("value"), f"{where}.inputs.{name}")
            found[name] = _camel(given[name]) if bound is None else _bound(pipeline, bound, kind, outputs_of, where)
        elif kind.get("default") is not None:
            found[name] = {"jobInputType": "literal", "value": str(kind["default"])}
        elif not kind.get("optional"):
            raise user_error(f"{where}.inputs.{name}: the component needs this input.")
    return found


def _bound(
    pipeline: Mapping[str, Any],
    bound: Binding,
    kind: Mapping[str, Any],
    outputs_of: Mapping[str, Mapping[str, str]],
    where: str,
) -> dict[str, Any]:
    if bound.place == "inputs" and bound.name in pipeline.get("inputs", {}):
        return dict(pipeline["inputs"][bound.name])
    if bound.step and bound.name in outputs_of.get(bound.step, {}):
        return {"jobInputType": kind["type"], "uri": outputs_of[bound.step][bound.name]}
    place = f"jobs.{bound.step}.outputs" if bound.step else bound.place
    raise user_error(f"{where}.inputs: there is no parent.{place}.{bound.name}.")


def _outputs(
    pipeline: Mapping[str, Any], step: Mapping[str, Any], spec: Mapping[str, Any], where: str
) -> dict[str, Any]:
    given, declared = step.get("outputs", {}), spec.get("outputs", {})
    unknown = sorted(set(given) - set(declared))
    if unknown:
        raise user_error(f"{where}.outputs.{unknown[0]}: the component has no such output.")
    found: dict[str, Any] = {}
    for name, kind in declared.items():
        found[name] = {"jobOutputType": kind["type"]}
        own = given.get(name, {})
        bound = binding(own.get("value"), f"{where}.outputs.{name}")
        if bound is None:
            found[name] |= _camel({key: value for key, value in own.items() if key not in ("type", "value")})
        elif bound.place == "outputs" and bound.name in pipeline.get("outputs", {}):
            found[name] |= {key: value for key, value in pipeline["outputs"][bound.name].items() if value is not None}
        else:
            raise user_error(f"{where}.outputs.{name}: there is no parent.outputs.{bound.name}.")
    return found


def bound_output(step: Mapping[str, Any], name: str) -> str | None:
    """The output of the pipeline that a step's output is, if it is one."""
    bound = binding(step.get("outputs", {}).get(name, {}).get("value"), "outputs")
    return bound.name if bound is not None and bound.place == "outputs" else None


def _plain(reference: str) -> str:
    """A resource id without the `azureml:` that the SDK puts before it; short names keep it."""
    return reference.removeprefix("azureml:") if reference.startswith("azureml:/subscriptions/") else reference


def _camel(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a step in the words of a job's body."""
    return {
        _RENAMED.get(key) or re.sub(r"_(\w)", lambda part: part[1].upper(), key): value for key, value in fields.items()
    }


def _distribution(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A distribution as a job's body has it; a component says `type: pytorch` for `distributionType: PyTorch`."""
    named = dict(_camel(fields))
    kind = str(named.pop("type", named.pop("distributionType", "")))
    if not kind:
        return {}
    names = {"pytorch": "PyTorch", "mpi": "Mpi", "tensorflow": "TensorFlow"}
    return {"distributionType": names.get(kind.lower(), kind)} | named
