"""The schema of spec.azureML: free in form, but for the fields that the operator owns, which are refused by name.

Used by training_run.py when its JSON schema is made. The translator (platforms/azureml) refuses the same names once
more, and also what no schema can see (tags of ours); a test holds the two lists together.
"""

from typing import Any

from trainyard.api.base import Rule

# Each owned field, as a path below spec.azureML: its type in the properties of a job, and what to write instead.
# Names are those of Microsoft.MachineLearningServices/workspaces/jobs (JobBase, CommandJob, SweepJob, PipelineJob).
OWNED_FIELDS: dict[str, tuple[str, str]] = {
    "codeId": ("string", "use spec.code"),
    "command": ("string", "use spec.entrypoint"),
    "componentId": ("string", "use it in a job of spec.azureML.jobs"),
    "computeId": ("string", "use spec.compute.class"),
    "environmentId": ("string", "use spec.environment"),
    "experimentName": ("string", "use spec.experiment"),
    "identity": ("object", "use spec.runAs"),
    "isArchived": ("boolean", "the operator sets it"),
    "limits.timeout": ("string", "use spec.attemptTimeoutSeconds"),
    "trial.codeId": ("string", "use spec.code"),
    "trial.command": ("string", "use spec.entrypoint"),
    "trial.environmentId": ("string", "use spec.environment"),
}

_FREE = {"x-kubernetes-preserve-unknown-fields": True}
_JOB_TYPE = (
    "Command starts the entrypoint once; Sweep starts it as the trial of a search, with searchSpace, objective, "
    "samplingAlgorithm and limits beside; Pipeline runs the graph in jobs. Absent: Command."
)
_JOBS = (
    "The graph of a Pipeline, as Azure ML writes it. In it $(trainyard.compute) stands for what the operator makes of "
    "spec.compute; where a step has fields for them, $(trainyard.code) and $(trainyard.environment) for spec.code and "
    "spec.environment. Give each step a limit of its own: Azure ML knows none for the graph. "
    "Absent unless jobType is Pipeline."
)
_GROUPS = {
    "limits": "Limits of a Sweep: maxTotalTrials, maxConcurrentTrials, trialTimeout. Absent: the platform's.",
    "trial": "Merged into the trial that the operator makes of the entrypoint. Absent: it stays as it is made.",
}


def block_schema() -> dict[str, Any]:
    """A `json_schema_extra` for the field: each owned field declared, so that CEL can see it, and a rule against it."""
    top: dict[str, Any] = {
        "jobType": {"type": "string", "enum": ["Command", "Sweep", "Pipeline"], "description": _JOB_TYPE},
        "jobs": {"type": "object", "description": _JOBS} | _FREE,
    }
    groups: dict[str, dict[str, Any]] = {name: {} for name in _GROUPS}
    for path, (kind, instead) in OWNED_FIELDS.items():
        group, _, name = path.rpartition(".")
        fields = groups[group] if group else top
        fields[name] = _declared(kind) | {"description": f"Refused: {instead}. Leave it absent."}
    for group, described in _GROUPS.items():
        top[group] = {"type": "object", "description": described, "properties": groups[group]} | _FREE
    return _FREE | {
        "properties": top,
        "x-kubernetes-validations": [
            *(_refused(path, instead) for path, (_, instead) in OWNED_FIELDS.items()),
            {
                "rule": "has(self.jobs) == (has(self.jobType) && self.jobType == 'Pipeline')",
                "message": "jobs is the graph of a Pipeline: write jobType: Pipeline with it, and jobs with jobType: "
                "Pipeline",
                "fieldPath": ".jobs",
            },
        ],
    }


def _declared(kind: str) -> dict[str, Any]:
    if kind == "object":
        return {"type": kind} | _FREE
    return {"type": kind} | ({"maxLength": 4096} if kind == "string" else {})


def _refused(path: str, instead: str) -> Rule:
    group, _, _name = path.rpartition(".")
    absent = f"!has(self.{path})"
    return {
        "rule": f"!has(self.{group}) || {absent}" if group else absent,
        "message": f"{path} can not be set here ({instead}): remove it",
        "fieldPath": f".{path}",
        "reason": "FieldValueForbidden",
    }
