"""A run as a list of steps: one, or a graph of several, each with what it takes over from the run. Pure.

Called by the translator. The graph is checked here, before anything is asked of the platform.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from trainyard.api.training_run import Compute, Entrypoint, Environment, JobRef, MLTrainingRunSpec, RunIf, Task
from trainyard.core.errors import TranslationError
from trainyard.platforms.databricks import names
from trainyard.platforms.references import listed


@dataclass(frozen=True, slots=True)
class Step:
    """One task of the request. `field` is where it stands in the spec; without entrypoint and job it is `block`."""

    name: str
    field: str
    entrypoint: Entrypoint | None
    job: JobRef | None
    compute: Compute | None
    compute_field: str
    environment: Environment | None
    environment_field: str
    depends_on: tuple[str, ...] = ()
    run_if: RunIf | None = None
    timeout_seconds: int | None = None
    block: dict[str, Any] | None = None
    alone: bool = True  # the run is this one step

    @property
    def ours(self) -> bool:
        """Whether the operator makes the task; otherwise the block does."""
        return self.entrypoint is not None or self.job is not None


def steps_of(spec: MLTrainingRunSpec) -> list[Step]:
    """All steps of the run, in the order of the spec.

    Raises:
        TranslationError: InvalidSpec: a dependency that is unknown, or a cycle, whose path is named.
    """
    if not spec.tasks:
        return [_only(spec)]
    steps = [_step(task, spec) for task in spec.tasks]
    known = {step.name for step in steps}
    for step in steps:
        unknown = [name for name in step.depends_on if name not in known]
        if unknown:
            raise TranslationError(
                f"{step.field}.dependsOn", f"{unknown[0]!r} is not a task of the run, which has {listed(known)}"
            )
    _refuse_cycles(steps)
    return steps


def remaining(steps: Sequence[Step], done: frozenset[str]) -> list[Step]:
    """The steps of an attempt that leaves out those which an earlier one has done."""
    return [_without(step, done) for step in steps if step.name not in done]


def _without(step: Step, done: frozenset[str]) -> Step:
    kept = tuple(name for name in step.depends_on if name not in done)
    # One has succeeded already: what is left is to wait for the others.
    settled = step.run_if == "AtLeastOneSucceeded" and len(kept) < len(step.depends_on)
    return replace(step, depends_on=kept, run_if="AllDone" if settled else step.run_if)


def _only(spec: MLTrainingRunSpec) -> Step:
    return Step(
        name=names.TASK_KEY,
        field="spec",
        entrypoint=None if spec.job_ref is not None else spec.entrypoint or Entrypoint(),
        job=spec.job_ref,
        compute=spec.compute,
        compute_field="spec.compute.class",
        environment=spec.environment,
        environment_field="spec.environment",
    )


def _step(task: Task, spec: MLTrainingRunSpec) -> Step:
    field = f"spec.tasks[{task.name}]"
    return Step(
        name=task.name,
        field=field,
        entrypoint=task.entrypoint,
        job=task.job_ref,
        compute=task.compute or spec.compute,
        compute_field=f"{field}.compute.class" if task.compute is not None else "spec.compute.class",
        environment=task.environment or spec.environment,
        environment_field=f"{field}.environment" if task.environment is not None else "spec.environment",
        depends_on=tuple(task.depends_on),
        run_if=task.run_if,
        timeout_seconds=task.timeout_seconds,
        block=task.databricks,
        alone=False,
    )


def _refuse_cycles(steps: Sequence[Step]) -> None:
    needs = {step.name: step.depends_on for step in steps}
    settled: set[str] = set()
    while len(settled) < len(needs):
        ready = {name for name in needs if name not in settled and settled.issuperset(needs[name])}
        if not ready:
            path = _cycle({name: each for name, each in needs.items() if name not in settled})
            raise TranslationError(
                f"spec.tasks[{path[0]}].dependsOn",
                f"the tasks wait for each other in a circle: {' -> '.join(path)}; remove one of these dependencies",
            )
        settled |= ready


def _cycle(needs: dict[str, tuple[str, ...]]) -> list[str]:
    """A circle among tasks of which each needs another one of them, with its first task once more at the end."""
    path = [min(needs)]
    while path[-1] not in path[:-1]:
        path.append(next(name for name in needs[path[-1]] if name in needs))
    return path[path.index(path[-1]) :]
