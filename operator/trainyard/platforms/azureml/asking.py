"""Which rights and things a request will fail without: the `needs` of a Request. Pure.

Called by translate.py. The words are those of needs.py. Who needs what: jobs, code and environments are written by
whoever submits; data is read and written by whoever the code runs as, through datastores of the workspace.
"""

from dataclasses import dataclass

from trainyard.platforms.azureml import needs
from trainyard.platforms.azureml.computing import Machines
from trainyard.platforms.azureml.data import Data, Place
from trainyard.platforms.azureml.entry import Source
from trainyard.platforms.azureml.names import CODE_INPUT
from trainyard.platforms.azureml.software import Software
from trainyard.platforms.base import Job, ModelWanted, Need, RunsAs


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request is made of; None is what it does not use."""

    data: Data
    source: Source
    machines: Machines | None
    software: Software | None
    copied: str | None = None
    machine_count: int = 1


def needs_of(job: Job, runs_as: RunsAs | None, model: ModelWanted | None, asked: Asked) -> tuple[Need, ...]:
    """Every need once, in the order in which a person would grant them."""
    asking = _Asking(job.target.principal, runs_as.name if runs_as is not None else job.target.principal)
    asking.workspace(needs.JOBS_READ, "spec.workspaceRef")
    asking.workspace(needs.JOBS_WRITE, "spec.workspaceRef")
    asking.workspace(needs.JOBS_CANCEL, "spec.workspaceRef")
    if asked.source.files is not None:
        asking.workspace(needs.CODE_WRITE, "spec.code")
    if asked.copied is not None:
        asking.submitter(needs.JOB, asked.copied, needs.EXISTS, "spec.jobRef.name")
    if asked.machines is not None:
        asking.machines(asked.machines, asked.machine_count)
    if asked.software is not None:
        asking.software(asked.software)
    if runs_as is not None and runs_as.kind == "managed_identity":
        asking.submitter(needs.MANAGED_IDENTITY, runs_as.name, needs.ASSIGNED, "spec.runAs")
    for name, place in asked.source.inputs.items():
        asking.place(place, needs.READ, "spec.code.path" if name == CODE_INPUT else "spec.code.wheel.path")
    for name, place in asked.data.inputs.items():
        asking.place(place, needs.READ, f"spec.inputs[{name}].uri")
    for name, place in asked.data.outputs.items():
        asking.place(place, needs.WRITE, f"spec.outputs[{name}].uri")
    if model is not None:
        asking.workspace(needs.MODEL_WRITE, "spec.model")
    return tuple(asking.found)


class _Asking:
    """Collects needs, each once. The submitter makes things, the runner is whom the code runs as."""

    def __init__(self, submitter: str, runner: str) -> None:
        self._submitter = submitter
        self._runner = runner
        self.found: dict[Need, None] = {}

    def submitter(self, kind: str, name: str, right: str, field: str) -> None:
        self.found.setdefault(Need(kind, name, right, self._submitter, field))

    def workspace(self, action: str, field: str) -> None:
        self.submitter(needs.WORKSPACE, needs.THIS, action, field)

    def machines(self, machines: Machines, count: int) -> None:
        # Answers are remembered by need: one about a single machine is none about eight.
        right = needs.EXISTS if count == 1 else f"{needs.EXISTS} for {count} machines"
        if machines.compute is not None:
            self.submitter(needs.COMPUTE, machines.compute, right, "spec.compute.class")
        elif machines.instance_type is not None:
            self.submitter(needs.VM_SIZE, machines.instance_type, right, "spec.compute.class")

    def software(self, software: Software) -> None:
        if software.named is not None:
            self.submitter(needs.ENVIRONMENT, software.named, needs.EXISTS, "spec.environment.runtime")
        else:
            self.workspace(needs.ENVIRONMENT_WRITE, "spec.environment")

    def place(self, place: Place, right: str, field: str) -> None:
        if place.asset is not None:
            kind = needs.MODEL if place.asset[0] == "models" else needs.DATA
            self.submitter(kind, place.asset[1], needs.EXISTS, field)
        elif place.datastore is not None:
            self.found.setdefault(Need(needs.DATASTORE, place.datastore, right, self._runner, field))
