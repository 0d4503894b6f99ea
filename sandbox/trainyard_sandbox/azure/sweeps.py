"""Sweep jobs: trials of one command with different hyperparameters, each a job of its own, and the best of them.

dispatch.py runs them as the job type `Sweep`. A trial is a child job named `<sweep>_<number>`; it logs the primary
metric to its own MLflow run. Not supported, and refused by name: Bayesian and Sobol sampling, early termination.

Azure Machine Learning documentation, "Hyperparameter tuning a model", "CLI (v2) sweep job YAML schema" (limits and
their defaults); azure-ai-ml `entities/_job/sweep/sweep_job.py` (the body) and `constants/_common.py`
(`best_child_run_id`). The other properties and the names of trials are those of public listings of HyperDrive runs.
That a sweep without any completed trial fails is our reading.
"""

from __future__ import annotations

import itertools
import json
import math
from itertools import islice
from typing import Any

from trainyard_sandbox.azure.arm import AzureCall
from trainyard_sandbox.azure.engine.command import check_run
from trainyard_sandbox.azure.engine.live import LiveJob
from trainyard_sandbox.azure.errors import user_error
from trainyard_sandbox.azure.job_bindings import check_references, references
from trainyard_sandbox.azure.job_shapes import (
    BASE_FIELDS,
    INPUTS,
    OUTPUTS,
    QUEUE_SETTINGS,
    RESOURCES,
    RUN_FIELDS,
    Duration,
    Kinds,
    check_binding_name,
)
from trainyard_sandbox.azure.job_store import AzureJob, JobEnd, JobError
from trainyard_sandbox.azure.mlflow_tracking import AzureTracking
from trainyard_sandbox.azure.pipelines_children import Children
from trainyard_sandbox.azure.sweeps_space import Value, check_space, trials
from trainyard_sandbox.schema import AnyJson, Int, MapOf, Obj, Str
from trainyard_sandbox.state import SandboxState

DEFAULT_TRIALS = 1000
GOALS = ("Minimize", "Maximize", "minimize", "maximize")
"""The published words, and as azure-ai-ml sends them."""

_SAMPLING = Kinds(
    "samplingAlgorithmType",
    {
        "Random": Obj({"rule": Str(("Random", "Sobol")), "seed": Int(), "logbase": AnyJson()}),
        "Grid": Obj({}),
        "Bayesian": Obj({}),
    },
)
_LIMITS = Obj(
    {
        "maxTotalTrials": Int(minimum=1, maximum=DEFAULT_TRIALS),
        "maxConcurrentTrials": Int(minimum=1, maximum=DEFAULT_TRIALS),
        "timeout": Duration(),
        "trialTimeout": Duration(),
    }
)
SWEEP_JOB = Obj(
    BASE_FIELDS
    | {
        "trial": Obj(RUN_FIELDS, ("command", "environmentId")),
        "searchSpace": MapOf(AnyJson()),
        "samplingAlgorithm": _SAMPLING,
        "objective": Obj({"primaryMetric": Str(min_length=1), "goal": Str(GOALS)}, ("primaryMetric", "goal")),
        "limits": Kinds("jobLimitsType", {"Sweep": _LIMITS}),
        "earlyTermination": AnyJson(),
        "inputs": INPUTS,
        "outputs": OUTPUTS,
        "queueSettings": QUEUE_SETTINGS,
        "resources": RESOURCES,
    },
    ("jobType", "trial", "searchSpace", "samplingAlgorithm", "objective"),
)


def attach(state: SandboxState) -> None:
    """Serve the job type `Sweep`."""
    state.azure.job_types["Sweep"] = SweepJobs(state)


class SweepJobs:
    """The job type Sweep."""

    def __init__(self, state: SandboxState) -> None:
        self._azure = state.azure

    @property
    def shape(self) -> Obj:
        """See `JobType.shape`."""
        return SWEEP_JOB

    def check(self, call: AzureCall, properties: dict[str, Any]) -> None:
        """See `JobType.check`."""
        if properties.get("earlyTermination"):
            raise user_error("This sandbox does not support properties.earlyTermination: leave it out.")
        sampling = properties["samplingAlgorithm"]
        if sampling["samplingAlgorithmType"] == "Bayesian" or sampling.get("rule") == "Sobol":
            raise user_error("This sandbox supports properties.samplingAlgorithm Random (rule Random) and Grid.")
        space, inputs, trial = properties["searchSpace"], properties.get("inputs", {}), properties["trial"]
        check_space(space, sampling["samplingAlgorithmType"])
        for name in space:
            check_binding_name("searchSpace", name)
            if name in inputs:
                raise user_error(f"'{name}' is both an input and in the search space.")
        missing = sorted(references(trial["command"], "search_space") - set(space))
        if missing:
            raise user_error(
                f"The command refers to search_space.{missing[0]}, which is not in properties.searchSpace."
            )
        check_references(trial["command"], inputs, properties.get("outputs", {}))
        check_run(call, self._machine(properties) | trial)

    async def run(self, live: LiveJob) -> JobEnd:
        """See `JobType.run`."""
        job = live.job
        sampling = job.definition["samplingAlgorithm"]
        drawn = trials(job.definition["searchSpace"], sampling["samplingAlgorithmType"], sampling.get("seed"))
        limits = job.definition.get("limits", {})
        to_come = islice(drawn, int(limits.get("maxTotalTrials", DEFAULT_TRIALS)))
        job.properties["primary_metric_config"] = json.dumps(
            {"name": job.definition["objective"]["primaryMetric"], "goal": job.definition["objective"]["goal"].lower()}
        )
        live.running()
        children, number = Children(self._azure, live), itertools.count()
        at_once = int(limits.get("maxConcurrentTrials", DEFAULT_TRIALS))
        while True:
            for values in islice(to_come, at_once - len(children)):
                index = next(number)
                children.submit(f"{job.name}_{index}", self._trial(job, index, values))
            if not children:
                return await self._ended(job)
            if await children.ended() is None:
                return live.stopped

    def _trial(self, parent: AzureJob, index: int, values: dict[str, Value]) -> dict[str, Any]:
        """One trial as a command job."""
        properties: dict[str, Any] = self._machine(parent.definition) | parent.definition["trial"]
        literals = {name: {"jobInputType": "literal", "value": _text(value)} for name, value in values.items()}
        properties |= {
            "jobType": "Command",
            "displayName": f"{parent.display_name}_{index}",
            "inputs": parent.definition.get("inputs", {}) | literals,
            "outputs": parent.definition.get("outputs", {}),
            "tags": {"hyperparameters": json.dumps(values)},
        }
        timeout = parent.definition.get("limits", {}).get("trialTimeout")
        limits = {"limits": {"jobLimitsType": "Command", "timeout": timeout}} if timeout else {}
        return properties | limits

    async def _ended(self, job: AzureJob) -> JobEnd:
        """Name the best trial, if any logged the primary metric."""
        completed = [child for child in self._azure.jobs.children(job) if child.status == "Completed"]
        if not completed:
            message = "The sweep job failed because none of its trials completed. See the logs of its child jobs."
            return JobEnd("Failed", JobError("UserError", message, ("AllTrialsFailed",)))
        objective = job.definition["objective"]
        sign = 1 if objective["goal"].lower() == "maximize" else -1
        scores: list[tuple[float, AzureJob]] = []
        for child in completed:
            values = await self._metric(child, objective["primaryMetric"])
            if values:
                scores.append((max(sign * value for value in values), child))
        if scores:
            score, best = max(scores, key=lambda scored: (scored[0], -scored[1].number))
            job.properties |= {
                "best_child_run_id": best.name,
                "best_data_container_id": f"dcid.{best.name}",
                "score": _text(sign * score),
            }
        job.properties["best_metric_status"] = "Succeeded" if scores else "Failed"
        return JobEnd()

    async def _metric(self, child: AzureJob, name: str) -> list[float]:
        tracking: AzureTracking = self._azure.mlflow
        asked = {"run_id": await tracking.backend_run(child.name), "metric_key": name}
        answer = await tracking.call("GET", "/metrics/get-history", asked)
        values = [float(metric["value"]) for metric in answer.get("metrics", [])]
        return [value for value in values if not math.isnan(value)]

    @staticmethod
    def _machine(definition: dict[str, Any]) -> dict[str, Any]:
        """Where a trial runs: what the sweep says, which the trial itself may overrule."""
        fields = ("computeId", "resources", "queueSettings", "identity")
        return {name: definition[name] for name in fields if name in definition}


def _text(value: Value) -> str:
    return value if isinstance(value, str) else json.dumps(value)
