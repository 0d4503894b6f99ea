"""What the body of a job's PUT may hold: the command job, and the parts that sweep and pipeline jobs share with it.

jobs.py checks each body with `parse_properties`; sweeps.py and pipelines.py build their shapes from the parts here.

Fields and types: azure-ai-ml `_restclient/arm_ml_service/models/_models.py` (CommandJob, JobBaseProperties, JobInput,
JobOutput, JobResourceConfiguration and what they name), and what its `entities/_job` send beyond these
(`assetVersion`, `locations`, `queueSettings.priority`). Checked against the published example
`examples/Job/CommandJob/createOrUpdate.json` of api-version 2023-04-01. The service ignores fields that it does not
know; here they are refused, because a field that is ignored in silence is what a stand-in exists to find.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainyard_sandbox.azure.arm import checked
from trainyard_sandbox.azure.errors import user_error
from trainyard_sandbox.errors import invalid_parameter
from trainyard_sandbox.schema import AnyJson, Bool, Int, ListOf, MapOf, Obj, Shape, Str

ASSET_TYPES = ("uri_file", "uri_folder", "mltable", "custom_model", "mlflow_model", "triton_model")
INPUT_MODES = ("ReadOnlyMount", "ReadWriteMount", "Download", "Direct", "EvalMount", "EvalDownload")
OUTPUT_MODES = ("ReadWriteMount", "Upload", "Direct")
JOB_TIERS = ("Null", "Spot", "Basic", "Standard", "Premium")
READ_ONLY = ("status", "parameters", "parentJobName")
"""What the service fills in: a body that was read and is sent back may hold it, and it changes nothing."""

_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?")
_SIZE = re.compile(r"[1-9][0-9]*[bkmgBKMG]?")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Duration(Shape):
    """An ISO 8601 duration of at least a second in days, hours, minutes, seconds: `PT1H30M`."""

    def check(self, value: Any, path: str) -> str:
        """See `Shape.check`."""
        text = Str().check(value, path)
        if duration_seconds(text) < 1:
            raise invalid_parameter(f"'{path}' must be an ISO 8601 duration of at least a second, such as PT1H.")
        return text


@dataclass(frozen=True)
class Pattern(Shape):
    """A string that a regular expression matches wholly; `hint` says what it should be."""

    pattern: re.Pattern[str]
    hint: str

    def check(self, value: Any, path: str) -> str:
        """See `Shape.check`."""
        text = Str().check(value, path)
        if self.pattern.fullmatch(text) is None:
            raise invalid_parameter(f"'{path}' is not valid: '{text}'. {self.hint}")
        return text


@dataclass(frozen=True)
class Kinds(Shape):
    """An object whose field `discriminator` says which of `shapes` it has."""

    discriminator: str
    shapes: Mapping[str, Obj]

    def check(self, value: Any, path: str) -> dict[str, Any]:
        """See `Shape.check`."""
        kind = MapOf(AnyJson()).check(value, path).get(self.discriminator)
        if not isinstance(kind, str) or kind not in self.shapes:
            raise invalid_parameter(
                f"Invalid value '{kind}' for '{path}.{self.discriminator}'. Valid values: {', '.join(self.shapes)}."
            )
        rest = {key: entry for key, entry in value.items() if key != self.discriminator}
        return {self.discriminator: kind} | self.shapes[kind].check(rest, path)


def duration_seconds(text: str) -> float:
    """Seconds of an ISO 8601 duration; 0 when it is none."""
    found = _DURATION.fullmatch(text)
    if found is None or not any(found.groups()):
        return 0.0
    days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


STRINGS = MapOf(Str())

_ASSET_INPUT = Obj(
    {"uri": Str(min_length=1), "mode": Str(INPUT_MODES), "description": Str(), "pathOnCompute": Str()}, ("uri",)
)
_LITERAL = Obj({"value": Str(), "description": Str()}, ("value",))
_ASSET_OUTPUT = Obj(
    {
        "uri": Str(),
        "mode": Str(OUTPUT_MODES),
        "description": Str(),
        "assetName": Str(),
        "assetVersion": Str(),
        "pathOnCompute": Str(),
    }
)
INPUTS = MapOf(Kinds("jobInputType", dict.fromkeys(ASSET_TYPES, _ASSET_INPUT) | {"literal": _LITERAL}))
OUTPUTS = MapOf(Kinds("jobOutputType", dict.fromkeys(ASSET_TYPES, _ASSET_OUTPUT)))

IDENTITY = Kinds(
    "identityType",
    {
        "AMLToken": Obj({}),
        "Managed": Obj({"clientId": Str(), "objectId": Str(), "resourceId": Str()}),
        "UserIdentity": Obj({}),
    },
)
DISTRIBUTION = Kinds(
    "distributionType",
    {
        "PyTorch": Obj({"processCountPerInstance": Int(minimum=1)}),
        "Mpi": Obj({"processCountPerInstance": Int(minimum=1)}),
        "TensorFlow": Obj({"workerCount": Int(minimum=0), "parameterServerCount": Int(minimum=0)}),
    },
)
RESOURCES = Obj(
    {
        "instanceCount": Int(minimum=1),
        "instanceType": Str(),
        "locations": ListOf(Str()),
        "maxInstanceCount": Int(minimum=1),
        "properties": MapOf(AnyJson()),
        "dockerArgs": Str(),
        "dockerArgsList": ListOf(Str()),
        "shmSize": Pattern(_SIZE, "Write a number and one of b, k, m, g, such as 2g."),
    }
)
QUEUE_SETTINGS = Obj({"jobTier": Str(JOB_TIERS), "priority": Int(minimum=1, maximum=3)})
_SERVICE = Obj(
    {
        "endpoint": Str(),
        "jobServiceType": Str(),
        "nodes": Kinds("nodesValueType", {"All": Obj({})}),
        "port": Int(),
        "properties": STRINGS,
        "status": Str(),
        "errorMessage": Str(),
    }
)
BASE_FIELDS: dict[str, Shape] = {
    "jobType": Str(),
    "description": Str(),
    "displayName": Str(),
    "tags": STRINGS,
    "properties": STRINGS,
    "isArchived": Bool(),
    "experimentName": Str(min_length=1),
    "computeId": Str(),
    "componentId": Str(),
    "identity": IDENTITY,
    "services": MapOf(_SERVICE),
    "notificationSetting": Obj(
        {
            "emailOn": ListOf(Str(("JobCompleted", "JobFailed", "JobCancelled"))),
            "emails": ListOf(Str()),
            "webhooks": MapOf(AnyJson()),
        }
    ),
    "status": AnyJson(),
    "parameters": AnyJson(),
    "parentJobName": AnyJson(),
}
"""The fields of every job type (JobBaseProperties)."""

RUN_FIELDS: dict[str, Shape] = {
    "command": Str(min_length=1),
    "codeId": Str(),
    "environmentId": Str(min_length=1),
    "environmentVariables": STRINGS,
    "distribution": DISTRIBUTION,
    "resources": RESOURCES,
}
"""What a command job has in common with a sweep's trial."""

COMMAND_JOB = Obj(
    BASE_FIELDS
    | RUN_FIELDS
    | {
        "inputs": INPUTS,
        "outputs": OUTPUTS,
        "limits": Kinds("jobLimitsType", {"Command": Obj({"timeout": Duration()})}),
        "queueSettings": QUEUE_SETTINGS,
        "autologgerSettings": Obj({"mlflowAutologger": Str(("Enabled", "Disabled"))}),
    },
    ("jobType", "command", "environmentId"),
)


def parse_properties(body: Any, shape: Obj) -> dict[str, Any]:
    """The `properties` of a job's body, without what is read-only, null or empty.

    Raises:
        ArmError: 400 UserError naming the field.
    """
    properties: dict[str, Any] = checked(body.get("properties"), shape, "properties")
    for place in ("inputs", "outputs"):
        for name in properties.get(place, {}):
            check_binding_name(place, name)
    return {key: value for key, value in properties.items() if key not in READ_ONLY and value not in ({}, [])}


def check_binding_name(place: str, name: str) -> None:
    """Refuse a name of an input or output that the SDK would refuse (`validate_key_contains_allowed_characters`).

    Raises:
        ArmError: 400 UserError.
    """
    if _IDENTIFIER.fullmatch(name) is None:
        message = f"Key name {name} of {place} must be composed letters, numbers, and underscore"
        raise user_error(message)
