"""Scripts of the pretend engine: which states a run goes through, for how long, and how it ends.

The control API reads them from JSON; dispatch.py picks one for each run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from trainyard_sandbox.engine.runs import (
    LIFE_CYCLE_STATES,
    RESULT_STATES,
    TERMINAL_STATES,
    TERMINATION_CODES,
    TERMINATION_TYPES,
    Outcome,
    Run,
)
from trainyard_sandbox.errors import invalid_parameter
from trainyard_sandbox.schema import AnyJson, Int, ListOf, MapOf, Number, Obj, Str

OUTCOME_SHAPE = Obj(
    {
        "life_cycle_state": Str(choices=sorted(TERMINAL_STATES)),
        "result_state": Str(choices=RESULT_STATES),
        "message": Str(),
        "code": Str(choices=TERMINATION_CODES),
        "type": Str(choices=TERMINATION_TYPES),
    }
)

SCRIPT_SHAPE = Obj(
    {
        "run_name": Str(),
        "tag": Str(),
        "times": Int(minimum=1),
        "states": ListOf(Obj({"state": Str(choices=LIFE_CYCLE_STATES), "seconds": Number()}, ("state", "seconds"))),
        "outcome": OUTCOME_SHAPE,
        "tasks": MapOf(OUTCOME_SHAPE),
        "cancel_seconds": Number(),
        "logs": Str(),
        "error": Str(),
        "error_trace": Str(),
        "metrics": MapOf(AnyJson()),
        "registered_model_name": Str(min_length=1),
    }
)


@dataclass
class Script:
    """What a pretended run does.

    Args:
        states: (life-cycle state, seconds to stay in it), in order; terminal states belong in `outcome`.
        outcome: how it ends after the last state; without one, by its tasks, and well when none is scripted.
        tasks: how single tasks end, by task key; the others end well, or do not run, as their conditions say.
        run_name: only runs whose name this regular expression matches wholly.
        tag: only runs whose cluster has this tag, written `key=value`.
        times: for how many runs; None for all.
        cancel_seconds: how long it stays TERMINATING when it is cancelled or times out.
        metrics: logged to the run named by MLFLOW_RUN_ID before it ends; "NaN", "Infinity", "-Infinity" as strings.
        registered_model_name: a version of this model is registered for that run before it ends.
    """

    states: list[tuple[str, float]] = field(default_factory=lambda: [("PENDING", 0.05), ("RUNNING", 0.1)])
    outcome: Outcome | None = None
    tasks: dict[str, Outcome] = field(default_factory=dict)
    run_name: str | None = None
    tag: str | None = None
    times: int | None = None
    cancel_seconds: float = 0.05
    logs: str = ""
    error: str | None = None
    error_trace: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    registered_model_name: str | None = None

    def matches(self, run: Run) -> bool:
        """Whether this script is for the run."""
        if self.times == 0:
            return False
        if self.run_name is not None and re.fullmatch(self.run_name, run.name) is None:
            return False
        return self.tag is None or self.tag in _cluster_tags(run)


def parse_outcome(document: dict[str, Any]) -> Outcome:
    """An outcome from validated JSON; INTERNAL_ERROR and SKIPPED get the results that the platform gives with them."""
    life_cycle_state = document.get("life_cycle_state", "TERMINATED")
    implied = {"TERMINATED": "SUCCESS", "INTERNAL_ERROR": "FAILED", "SKIPPED": "EXCLUDED"}[life_cycle_state]
    return Outcome(
        life_cycle_state=life_cycle_state,
        result_state=document.get("result_state", implied),
        message=document.get("message", ""),
        code=document.get("code"),
        type=document.get("type"),
    )


def parse_script(document: dict[str, Any]) -> Script:
    """A script from validated JSON (`SCRIPT_SHAPE`); what is not given keeps its default."""
    given = dict(document)
    if "states" in given:
        given["states"] = [(step["state"], float(step["seconds"])) for step in given["states"]]
        if any(state in TERMINAL_STATES for state, _ in given["states"]):
            raise invalid_parameter("A terminal state belongs in 'outcome', not in 'states'.")
    if "outcome" in given:
        given["outcome"] = parse_outcome(given["outcome"])
    if "tasks" in given:
        given["tasks"] = {key: parse_outcome(outcome) for key, outcome in given["tasks"].items()}
    return Script(**given)


def _cluster_tags(run: Run) -> set[str]:
    return {
        f"{key}={value}"
        for task in run.tasks
        for key, value in task.spec.get("new_cluster", {}).get("custom_tags", {}).items()
    }
