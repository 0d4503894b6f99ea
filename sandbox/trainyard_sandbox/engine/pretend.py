"""The pretend engine: runs that only go through scripted states, thousands at once.

dispatch.py starts and stops runs here. There is no thread, task or process per run: each run has one entry in the event
loop's own timer heap. Metrics and model versions, where a script has them, are written through the platform's own API.

What is not scripted is as in the run engine: clusters are launched and may fail to start, a run_job_task starts its
child, and which tasks run follows from dag.py. A task's own timeout and retries are not pretended: the script says how
it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from trainyard_sandbox.compute.clusters import Cluster
from trainyard_sandbox.engine import child_run, cluster_start, dag
from trainyard_sandbox.engine.cluster_start import ClusterNotThere
from trainyard_sandbox.engine.runs import NOT_YET_PAID, Outcome, Run, TaskRun
from trainyard_sandbox.engine.scripts import Script
from trainyard_sandbox.engine.tracking import write_tracking
from trainyard_sandbox.state import SandboxState


@dataclass
class _Pretended:
    run: Run
    script: Script
    step: int = -1
    timer: asyncio.TimerHandle | None = None
    stopping: bool = False
    under_way: bool = False
    """It has left the states that cost nothing: its clusters are there and its children started."""
    clusters: list[tuple[TaskRun, Cluster]] = field(default_factory=list)
    children: dict[str, Run] = field(default_factory=dict)
    doomed: dict[str, Outcome] = field(default_factory=dict)
    """Tasks that end so whatever the script says, by key."""


class PretendEngine:
    """Moves runs along their scripts."""

    def __init__(self, state: SandboxState) -> None:
        self._state = state
        self._live: dict[int, _Pretended] = {}
        self._tracking: set[asyncio.Task[None]] = set()

    def start(self, run: Run, script: Script) -> None:
        """Begin a run's script."""
        pretended = _Pretended(run, script)
        self._live[run.run_id] = pretended
        self._request_clusters(pretended)
        self._advance(pretended)

    def stop_run(self, run: Run, outcome: Outcome) -> bool:
        """Stop a run as a cancel or a timeout does; False when it is not running here."""
        pretended = self._live.get(run.run_id)
        if pretended is None:
            return False
        if not pretended.stopping:
            pretended.stopping = True
            self._disarm(pretended)
            for child in pretended.children.values():
                self._state.engine.cancel(child, run.creator)
            for task in run.tasks:
                self._state.runs.move(run, "TERMINATING", outcome.message, task)
            self._state.runs.terminate(run, outcome)
            ends = {task.task_key: outcome for task in run.tasks}
            self._arm(pretended, pretended.script.cancel_seconds, lambda: self._end(pretended, outcome, ends))
        return True

    def forget(self, run: Run) -> None:
        """Drop a run at once, without an end: it was deleted."""
        pretended = self._live.pop(run.run_id, None)
        if pretended is not None:
            pretended.stopping = True
            self._disarm(pretended)
            self._release_clusters(pretended)
            for child in pretended.children.values():
                self._state.engine.cancel(child, run.creator)

    async def stop(self) -> None:
        """Drop all runs."""
        for pretended in list(self._live.values()):
            self.forget(pretended.run)
        for task in self._tracking:
            task.cancel()
        await asyncio.gather(*self._tracking, return_exceptions=True)

    def _request_clusters(self, pretended: _Pretended) -> None:
        for task in pretended.run.tasks:
            try:
                cluster = cluster_start.request(self._state, pretended.run, task).cluster
            except ClusterNotThere as error:
                pretended.doomed[task.task_key] = error.outcome
                continue
            if cluster is not None:
                pretended.clusters.append((task, cluster))
                if cluster.reason is not None:
                    outcome = cluster_start.outcome_of_start(cluster, cluster.reason)
                    pretended.doomed[task.task_key] = outcome

    def _release_clusters(self, pretended: _Pretended) -> None:
        for task, cluster in pretended.clusters:
            cluster_start.release(self._state, task, cluster)

    def _advance(self, pretended: _Pretended) -> None:
        pretended.step += 1
        script = pretended.script
        name = script.states[pretended.step][0] if pretended.step < len(script.states) else None
        if name not in NOT_YET_PAID:
            if pretended.doomed:
                self._end_by_tasks(pretended)
                return
            if not pretended.under_way:
                self._start_children(pretended)
        if name is not None:
            self._move(pretended, name, "")
            self._arm(pretended, script.states[pretended.step][1], lambda: self._advance(pretended))
        elif script.metrics or script.registered_model_name:
            task = asyncio.get_running_loop().create_task(self._track_and_end(pretended))
            self._tracking.add(task)
            task.add_done_callback(self._tracking.discard)
        else:
            self._end_with_children(pretended)

    def _start_children(self, pretended: _Pretended) -> None:
        pretended.under_way = True
        for task in pretended.run.tasks:
            if task.kind == "run_job_task":
                started = child_run.start(self._state, pretended.run, task)
                if isinstance(started, Outcome):
                    pretended.doomed[task.task_key] = started
                else:
                    pretended.children[task.task_key] = started

    async def _track_and_end(self, pretended: _Pretended) -> None:
        problem = await write_tracking(self._state, pretended.run, pretended.script)
        if pretended.stopping:
            return
        if problem:
            failed = Outcome(result_state="FAILED", message=f"Pretended tracking failed: {problem}")
            self._end(pretended, failed, {task.task_key: failed for task in pretended.run.tasks})
        else:
            self._end_with_children(pretended)

    def _end_with_children(self, pretended: _Pretended) -> None:
        """End once every child has ended."""
        for child in pretended.children.values():
            if child.active:
                child.when_ended.append(lambda: self._end_with_children(pretended))
                return
        if pretended.stopping or pretended.run.run_id not in self._live:
            return
        outcome = pretended.script.outcome
        if outcome is None or pretended.script.tasks:
            self._end_by_tasks(pretended)
        else:
            self._end(pretended, outcome, {task.task_key: outcome for task in pretended.run.tasks})

    def _end_by_tasks(self, pretended: _Pretended) -> None:
        """Each task ends as scripted, or does not run because of another; the run by its leaf tasks unless scripted."""
        run, script = pretended.run, pretended.script
        wanted = script.tasks | {key: child_run.outcome_of(child) for key, child in pretended.children.items()}
        wanted |= pretended.doomed
        waiting, ends = list(run.tasks), {}
        while waiting:
            task = next(one for one in waiting if not {other.task_key for other in waiting} & set(one.depends_on))
            waiting.remove(task)
            ends[task.task_key] = dag.not_run(run, task) or wanted.get(task.task_key, Outcome())
            self._finish_task(pretended, task, ends[task.task_key])
        scripted = None if pretended.doomed else script.outcome
        self._end(pretended, scripted or dag.overall(run), ends)

    def _move(self, pretended: _Pretended, name: str, message: str) -> None:
        for task in pretended.run.tasks:
            self._state.runs.move(pretended.run, name, message, task)
        self._state.runs.move(pretended.run, name, message)

    def _end(self, pretended: _Pretended, outcome: Outcome, ends: dict[str, Outcome]) -> None:
        for task in pretended.run.tasks:
            self._finish_task(pretended, task, ends[task.task_key])
        self._release_clusters(pretended)
        self._live.pop(pretended.run.run_id, None)
        self._state.runs.finish(pretended.run, outcome)

    def _finish_task(self, pretended: _Pretended, task: TaskRun, outcome: Outcome) -> None:
        script = pretended.script
        if task.kind not in ("notebook_task", "run_job_task"):
            task.logs = lambda: (script.logs, False)
        if outcome.result_state != "SUCCESS":
            task.error, task.error_trace = script.error, script.error_trace
        self._state.runs.finish(pretended.run, outcome, task)

    def _arm(self, pretended: _Pretended, seconds: float, then: Callable[[], None]) -> None:
        pretended.timer = asyncio.get_running_loop().call_later(seconds, then)

    def _disarm(self, pretended: _Pretended) -> None:
        if pretended.timer is not None:
            pretended.timer.cancel()
