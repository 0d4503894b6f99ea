"""Which rights and things a request will fail without: the `needs` of a Request. Pure.

Called by translate.py once the tasks are made, overrides included, so that what is asked for is what is sent. The words
are those of needs.py. Who needs what: cluster creation, policies and pools are asked of whoever submits; what the code
touches, of whoever it runs as (Databricks documentation, "Configure identity, permissions, and privileges for jobs").
"""

from collections.abc import Mapping, Sequence
from typing import Any

from trainyard.platforms.base import Job, ModelWanted, Need, RunsAs
from trainyard.platforms.databricks import needs
from trainyard.platforms.databricks.data import Data, Place, volume_of
from trainyard.platforms.databricks.entry import Source
from trainyard.platforms.databricks.steps import Step

# Catalogs that are not Unity Catalog's, or are open to everybody.
_OPEN_CATALOGS = frozenset({"hive_metastore", "samples", "system"})
# Schemes of cloud storage that Unity Catalog can have external locations for.
_STORAGE = ("abfs://", "abfss://", "gs://", "r2://", "s3://", "s3a://", "wasbs://")


def needs_of(
    job: Job,
    runs_as: RunsAs | None,
    model: ModelWanted | None,
    data: Data,
    secrets: Mapping[str, tuple[str, str]],
    source: Source,
    steps: Sequence[Step],
    tasks: Sequence[Mapping[str, Any]],
) -> tuple[Need, ...]:
    """Every need once, in the order in which a person would grant them."""
    asking = _Asking(job.target.principal, runs_as.name if runs_as is not None else job.target.principal)
    if runs_as is not None:
        asking.identity(runs_as)
    if model is not None:
        asking.model(model)
    for name, place in data.inputs.items():
        asking.reads(place, f"spec.inputs[{name}]")
    for name, place in data.outputs.items():
        asking.writes(place, f"spec.outputs[{name}]")
    for name, (scope, key) in secrets.items():
        asking.runner(needs.SECRET, f"{scope}/{key}", needs.READ, f"spec.secrets[{name}]")
    asking.code(source)
    by_name = {step.name: step for step in steps}
    for task in tasks:
        asking.task(by_name[task["task_key"]], task)
    asking.budget(by_name, tasks, job)
    return tuple(asking.found)


class _Asking:
    """Collects needs, each once. The submitter makes things, the runner is whom the code runs as."""

    def __init__(self, submitter: str, runner: str) -> None:
        self._submitter = submitter
        self._runner = runner
        self.found: dict[Need, None] = {}

    def submitter(self, kind: str, name: str, right: str, field: str) -> None:
        self._add(Need(kind, name, right, self._submitter, field))

    def runner(self, kind: str, name: str, right: str, field: str) -> None:
        self._add(Need(kind, name, right, self._runner, field))

    def identity(self, runs_as: RunsAs) -> None:
        if runs_as.kind == "service_principal":
            self.submitter(needs.SERVICE_PRINCIPAL, runs_as.name, needs.PRINCIPAL_USER, "spec.runAs")
        else:
            self.submitter(needs.USER, runs_as.name, needs.WORKSPACE_ADMIN, "spec.runAs")

    def model(self, model: ModelWanted) -> None:
        """The code registers, and the submitter then names and labels what was registered."""
        self._schema(model.full_name, self._runner, "spec.model")
        self.runner(needs.MODEL, model.full_name, needs.REGISTER, "spec.model")
        self._schema(model.full_name, self._submitter, "spec.model")
        self.submitter(needs.MODEL, model.full_name, needs.SET_TAGS, "spec.model")
        if model.alias is not None:
            self.submitter(needs.MODEL, model.full_name, needs.SET_ALIAS, "spec.model.alias")

    def reads(self, place: Place, field: str) -> None:
        if place.table is not None:
            self._unity(needs.TABLE, place.table, needs.SELECT, f"{field}.table")
        elif place.uri is not None:
            self._files(place.uri, needs.READ_VOLUME, needs.READ_FILES, f"{field}.uri")

    def writes(self, place: Place, field: str) -> None:
        if place.table is not None:
            self._unity(needs.TABLE, place.table, needs.WRITE, f"{field}.table")
        elif place.uri is not None:
            self._files(place.uri, needs.WRITE_VOLUME, needs.WRITE_FILES, f"{field}.uri")

    def code(self, source: Source) -> None:
        if source.folder is not None and source.files is None:
            self._there(source.folder, "spec.code.path")
        if source.wheel is not None and source.wheel.path is not None:
            self._there(source.wheel.path, "spec.code.wheel.path")

    def task(self, step: Step, task: Mapping[str, Any]) -> None:
        if "new_cluster" in task:
            self._cluster(task["new_cluster"], step.compute_field)
        if "existing_cluster_id" in task:
            self.runner(needs.CLUSTER, task["existing_cluster_id"], needs.CAN_ATTACH_TO, step.compute_field)
        if "run_job_task" in task:
            self._job(step, task["run_job_task"])
        if "for_each_task" in task:
            self.task(step, task["for_each_task"]["task"])

    def budget(self, steps: Mapping[str, Step], tasks: Sequence[Mapping[str, Any]], job: Job) -> None:
        """The budget policies of serverless classes."""
        for task in tasks:
            step = steps[task["task_key"]]
            if "environment_key" in task and step.compute is not None:
                shape = job.workspace.compute_classes[step.compute.class_].serverless
                if shape is not None and shape.budget_policy_id is not None:
                    policy = shape.budget_policy_id
                    self.submitter(needs.BUDGET_POLICY, policy, needs.BUDGET_POLICY_USER, step.compute_field)

    def _cluster(self, cluster: Mapping[str, Any], field: str) -> None:
        if "policy_id" in cluster:
            self.submitter(needs.POLICY, cluster["policy_id"], needs.CAN_USE, field)
        else:
            self.submitter(needs.WORKSPACE, needs.THIS, needs.ALLOW_CLUSTER_CREATE, field)
        for name in ("instance_pool_id", "driver_instance_pool_id"):
            if name in cluster:
                self.submitter(needs.POOL, cluster[name], needs.CAN_ATTACH_TO, field)
        for name in ("node_type_id", "driver_node_type_id"):
            if name in cluster:
                self.submitter(needs.NODE_TYPE, cluster[name], needs.EXISTS, field)
        if "spark_version" in cluster:
            self.submitter(needs.SPARK_VERSION, cluster["spark_version"], needs.EXISTS, field)

    def _job(self, step: Step, run_job: Mapping[str, Any]) -> None:
        if "job_id" in run_job:
            field = f"{step.field}.jobRef.id" if step.ours else f"{step.field}.databricks.run_job_task"
            self.runner(needs.JOB, str(run_job["job_id"]), needs.CAN_MANAGE_RUN, field)
        elif step.job is not None and step.job.name is not None:
            self.runner(needs.JOB_NAME, step.job.name, needs.CAN_MANAGE_RUN, f"{step.field}.jobRef.name")

    def _files(self, uri: str, volume_right: str, files_right: str, field: str) -> None:
        volume = volume_of(uri)
        if volume is not None:
            self._unity(needs.VOLUME, ".".join(volume), volume_right, field)
        elif uri.startswith("/Workspace/"):
            self.runner(needs.WORKSPACE_PATH, uri, needs.CAN_READ, field)
        elif uri.startswith(_STORAGE):
            self.runner(needs.EXTERNAL_LOCATION, uri, files_right, field)

    def _there(self, path: str, field: str) -> None:
        """Code that is on the platform already."""
        volume = volume_of(path)
        if volume is None:
            self.runner(needs.WORKSPACE_PATH, path, needs.CAN_READ, field)
        else:
            self._unity(needs.VOLUME, ".".join(volume), needs.READ_VOLUME, field)
            self.runner(needs.VOLUME_PATH, path, needs.EXISTS, field)

    def _unity(self, kind: str, name: str, right: str, field: str) -> None:
        if name.partition(".")[0] not in _OPEN_CATALOGS:
            self._schema(name, self._runner, field)
            self.runner(kind, name, right, field)

    def _schema(self, name: str, holder: str, field: str) -> None:
        """What stands before everything in Unity Catalog; asked for once, for whatever comes first."""
        catalog, schema, _ = name.split(".", 2)
        self._add(Need(needs.CATALOG, catalog, needs.USE_CATALOG, holder, field))
        self._add(Need(needs.SCHEMA, f"{catalog}.{schema}", needs.USE_SCHEMA, holder, field))

    def _add(self, need: Need) -> None:
        same = (need.kind, need.name, need.right, need.holder)
        if not any((each.kind, each.name, each.right, each.holder) == same for each in self.found):
            self.found[need] = None
