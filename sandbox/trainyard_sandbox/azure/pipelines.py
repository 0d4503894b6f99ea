"""Pipeline jobs: steps that are command jobs of their own, each started when what it reads is there.

dispatch.py runs them as the job type `Pipeline`. The steps are children in run history; in Azure Resource Manager they
have no properties (job_view.py). Not supported, and refused by name: steps and components other than commands,
pipelines of a component or of a schedule, other default datastores. Nothing is reused from earlier pipelines.

Azure Machine Learning documentation, "CLI (v2) pipeline job YAML schema" (settings and their defaults: without
`continue_on_step_failure` a failed step stops the pipeline and cancels what runs); azure-ai-ml
`entities/_job/pipeline/pipeline_job.py` (the body). The sentence of a failed pipeline is ours.
"""

from __future__ import annotations

import uuid
from typing import Any

from trainyard_sandbox.azure import pipelines_steps
from trainyard_sandbox.azure.arm import AzureCall
from trainyard_sandbox.azure.datastores import DEFAULT
from trainyard_sandbox.azure.engine.command import check_run
from trainyard_sandbox.azure.engine.live import LiveJob
from trainyard_sandbox.azure.errors import user_error
from trainyard_sandbox.azure.job_bindings import check_references
from trainyard_sandbox.azure.job_shapes import BASE_FIELDS, COMMAND_JOB, INPUTS, OUTPUTS, parse_properties
from trainyard_sandbox.azure.job_store import AzureJob, JobEnd, JobError
from trainyard_sandbox.azure.pipelines_children import Children
from trainyard_sandbox.schema import Bool, MapOf, Obj, Str
from trainyard_sandbox.state import SandboxState

PIPELINE_JOB = Obj(
    BASE_FIELDS
    | {
        "inputs": INPUTS,
        "outputs": OUTPUTS,
        "jobs": MapOf(pipelines_steps.STEP),
        "settings": Obj(
            {
                "default_compute": Str(),
                "default_datastore": Str(),
                "continue_on_step_failure": Bool(),
                "force_rerun": Bool(),
                "_source": Str(),
            }
        ),
        "sourceJobId": Str(),
    },
    ("jobType", "jobs"),
)


def attach(state: SandboxState) -> None:
    """Serve the job type `Pipeline`."""
    state.azure.job_types["Pipeline"] = PipelineJobs(state)


class PipelineJobs:
    """The job type Pipeline."""

    def __init__(self, state: SandboxState) -> None:
        self._azure = state.azure

    @property
    def shape(self) -> Obj:
        """See `JobType.shape`."""
        return PIPELINE_JOB

    def check(self, call: AzureCall, properties: dict[str, Any]) -> None:
        """See `JobType.check`."""
        for field in ("componentId", "sourceJobId"):
            if properties.get(field):
                raise user_error(f"This sandbox does not support properties.{field} of a pipeline: give its jobs.")
        datastore = properties.get("settings", {}).get("default_datastore", DEFAULT)
        if datastore.rpartition("/")[2] != DEFAULT:
            raise user_error(f"This sandbox supports properties.settings.default_datastore {DEFAULT} only.")
        if not properties.get("jobs"):
            raise user_error("properties.jobs must name at least one step.")
        specs = {name: self._component(name, step) for name, step in properties["jobs"].items()}
        _check_order(properties["jobs"])
        promised = {
            name: {output: f"azureml://datastores/{DEFAULT}/paths/{output}" for output in spec.get("outputs", {})}
            for name, spec in specs.items()
        }
        for name, spec in specs.items():
            job = pipelines_steps.command_job(properties, name, spec, promised)
            job = parse_properties({"properties": job}, COMMAND_JOB)
            check_references(job["command"], job.get("inputs", {}), job.get("outputs", {}))
            check_run(call, job)

    async def run(self, live: LiveJob) -> JobEnd:
        """See `JobType.run`."""
        pipeline = live.job.definition
        live.running()
        children = Children(self._azure, live)
        step_of: dict[str, str] = {}
        outputs: dict[str, dict[str, str]] = {}
        failed: list[str] = []
        while True:
            for name in _ready(pipeline["jobs"], set(step_of.values()), outputs):
                job = self._command_job(pipeline, name, outputs)
                step_of[children.submit(str(uuid.uuid4()), job).name] = name
            if not children:
                return _ended(failed)
            ended = await children.ended()
            if ended is None:
                return live.stopped
            for child in ended:
                if child.status == "Completed":
                    outputs[step_of[child.name]] = self._kept(live.job, step_of[child.name], child)
                else:
                    failed.append(step_of[child.name])
            if failed and not pipeline.get("settings", {}).get("continue_on_step_failure"):
                await children.stop()
                return _ended(failed)

    def _component(self, name: str, step: dict[str, Any]) -> dict[str, Any]:
        if step["type"] != "command":
            message = f"This sandbox supports steps of type command; properties.jobs.{name}.type is '{step['type']}'."
            raise user_error(message)
        return pipelines_steps.component_of(self._azure, step)

    def _command_job(self, pipeline: dict[str, Any], name: str, outputs: dict[str, dict[str, str]]) -> dict[str, Any]:
        spec = pipelines_steps.component_of(self._azure, pipeline["jobs"][name])
        job = pipelines_steps.command_job(pipeline, name, spec, outputs)
        return parse_properties({"properties": job}, COMMAND_JOB)

    def _kept(self, pipeline: AzureJob, name: str, child: AzureJob) -> dict[str, str]:
        """Outputs of a step that ended well; those of the pipeline among them are its outputs too."""
        for output, uri in child.output_uris.items():
            own = pipelines_steps.bound_output(pipeline.definition["jobs"][name], output)
            if own is not None:
                pipeline.output_uris[own] = uri
        return dict(child.output_uris)


def _check_order(steps: dict[str, Any]) -> None:
    """Refuse steps that wait for one that is not there, or for each other.

    Raises:
        ArmError: 400 UserError.
    """
    waits = {name: pipelines_steps.needed(step, f"properties.jobs.{name}") for name, step in steps.items()}
    for name, others in waits.items():
        for other in sorted(others - set(steps)):
            raise user_error(f"properties.jobs.{name}: there is no step {other}.")
    while free := [name for name, others in waits.items() if not others & set(waits)]:
        for name in free:
            del waits[name]
    if waits:
        raise user_error(f"The steps {', '.join(sorted(waits))} wait for each other.")


def _ready(steps: dict[str, Any], started: set[str], outputs: dict[str, dict[str, str]]) -> list[str]:
    """The steps to start: all that they read is there."""
    return [
        name
        for name, step in steps.items()
        if name not in started and pipelines_steps.needed(step, name) <= set(outputs)
    ]


def _ended(failed: list[str]) -> JobEnd:
    if not failed:
        return JobEnd()
    message = f"The pipeline job failed because of its steps: {', '.join(sorted(failed))}. See their logs."
    return JobEnd("Failed", JobError("UserError", message, ("PipelineStepFailed",)))
