"""What an ended run left behind: metrics, model version, outputs, tasks, logs, and who has to act if it failed.

Called by `connection` in a lane's thread; the parts live in `logged`, `models`, `outputs`, `logs`, `failures`. Every
step may be repeated. What is missing is reported as a shortfall, never passed over.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from trainyard.core.errors import Denied, Missing, Refused
from trainyard.core.graph import not_forgiven
from trainyard.core.remote import End, RemoteRun, RemoteTask, Result, TaskText
from trainyard.platforms.base import Wanted
from trainyard.platforms.databricks.client import DatabricksClient
from trainyard.platforms.databricks.cluster_reasons import ORDINARY
from trainyard.platforms.databricks.failures import Evidence, judge, reason_in
from trainyard.platforms.databricks.logged import Logged, MlflowRuns
from trainyard.platforms.databricks.logs import ERROR_LENGTH, Printed, TaskOutputs
from trainyard.platforms.databricks.models import Models
from trainyard.platforms.databricks.outputs import Outputs
from trainyard.platforms.databricks.states import remote_tasks
from trainyard.platforms.failures import Verdict, worst
from trainyard.platforms.log_keeping import place
from trainyard.platforms.redaction import clean

JOBS = "/api/2.2/jobs"
CLUSTERS = "/api/2.1/clusters"
MAX_TASK_MESSAGE = 512
# Seconds from the beginning in which outputs, logs and sizes have to be asked for. The controller waits for 120
# (controllers/runs.py): by then the last request, and a log on its way, have to be over as well.
SECONDS = 50.0


@dataclass(frozen=True, slots=True)
class _Task:
    """One task with all that is known of it. `failed`: it was started, and did not end well.

    `words` are the last that a task which failed has printed; its whole output is never held on to.
    """

    seen: RemoteTask
    row: Mapping[str, Any] = field(default_factory=dict)
    verdict: Verdict | None = None
    words: str = ""
    message: str = ""

    @property
    def failed(self) -> bool:
        return self.seen.end not in (None, End.SUCCEEDED)


@dataclass(slots=True)
class _Logs:
    """Parts of logs by task, and where the whole ones are."""

    texts: dict[str, TaskText] = field(default_factory=dict)
    uris: dict[str, str] = field(default_factory=dict)


class Outcome:
    """Collects results through one client. `host` is the workspace's origin."""

    def __init__(self, client: DatabricksClient, host: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._mlflow = MlflowRuns(client, host)
        self._models = Models(client)
        self._outputs = Outputs(client, clock)
        self._task_outputs = TaskOutputs(client, clock)

    def collect(self, remote: RemoteRun, mlflow_run_id: str | None, wanted: Wanted) -> Result:
        """See `platforms.base.Connection.collect`. What may take long comes last, and is told if it was too long."""
        until = self._clock() + SECONDS
        logged = self._mlflow.read(remote, mlflow_run_id, wanted.earlier) if mlflow_run_id else Logged()
        ended_well = remote.end is End.SUCCEEDED
        reads = wanted.log_characters > 0 or wanted.keep is not None
        tasks = self._tasks(remote) if reads or wanted.tasks or not ended_well else []
        found = Result(metrics=logged.metrics, params=logged.params, mlflow_url=logged.url)
        # The platform may call it a success when a task failed. Then it is none: its model must not get the alias that
        # others follow.
        is_provided = ended_well and not _unprovided(tasks)
        if is_provided:
            found = self._with_model(found, logged, wanted)
        tasks, logs = self._read_all(tasks, wanted, until, reads=reads)
        names = [task.seen.name for task in tasks]
        found = replace(
            found,
            tasks=tuple(_told(each) for each in tasks) if wanted.tasks or len(tasks) > 1 else (),
            logs=tuple(logs.texts[name] for name in names) if reads else (),
            logs_uri=place([logs.uris[name] for name in names if name in logs.uris]),
        )
        if not ended_well:
            end, error = _failure(remote, tasks)
            return replace(found, end=None if end is remote.end else end, error=error)
        return replace(found, outputs=self._outputs.found(wanted.outputs, until)) if is_provided else found

    def _with_model(self, found: Result, logged: Logged, wanted: Wanted) -> Result:
        if wanted.model is None:
            return replace(found, shortfall=logged.unread)
        model, shortfall = self._models.made_by(logged.run_ids, wanted.model)
        return replace(found, model=model, shortfall=shortfall or logged.unread)

    def _tasks(self, remote: RemoteRun) -> list[_Task]:
        """Every task, as the platform shows it.

        A refusal to show them is no run without tasks, which would be retried whole: it is trouble, as of other reads.
        """
        rows = self._rows(remote.remote_id)
        by_id = {str(row.get("run_id", "")): row for row in rows}
        return [_Task(task, by_id.get(task.remote_id, {})) for task in remote_tasks({"tasks": rows})]

    def _read_all(
        self, tasks: Sequence[_Task], wanted: Wanted, until: float, *, reads: bool
    ) -> tuple[list[_Task], _Logs]:
        """The tasks, those that failed judged, and the logs; one after the other, so that one is held at a time."""
        logs, read = _Logs(), {task.seen.name: task for task in tasks}
        # Should there not be time for all, why it failed is what a person needs, and what a retry is decided on.
        for task in sorted(tasks, key=lambda task: not task.failed):
            if reads or task.failed:
                kept = self._task_outputs.of(task.seen, wanted, until)
                logs.texts[task.seen.name] = kept.log
                if kept.uri is not None:
                    logs.uris[task.seen.name] = kept.uri
                read[task.seen.name] = self._judged(task, kept.output, until) if task.failed else task
        return list(read.values()), logs

    def _rows(self, remote_id: str) -> list[dict[str, Any]]:
        """runs/get shows at most 100 tasks at a time (databricks-sdk jobs.get_run)."""
        query: dict[str, Any] = {"run_id": remote_id}
        rows: list[dict[str, Any]] = []
        while True:
            answer = self._client.do("GET", f"{JOBS}/runs/get", query=query)
            rows += answer.get("tasks") or []
            if not answer.get("next_page_token"):
                return rows
            query["page_token"] = answer["next_page_token"]

    def _judged(self, task: _Task, output: Printed, until: float) -> _Task:
        evidence = self._evidence(task, output, until)
        seen = replace(task.seen, message=clean(" ".join(evidence.message.split())))
        words = output.last_words()
        said = output.error[:ERROR_LENGTH] or words.rpartition("\n")[2]
        return replace(task, seen=seen, verdict=judge(evidence), words=words, message=said)

    def _evidence(self, task: _Task, output: Printed, until: float) -> Evidence:
        end = task.seen.end or End.INFRASTRUCTURE
        evidence = Evidence(
            end,
            message=task.seen.message,
            error=output.error,
            trace=output.trace,
            shared="existing_cluster_id" in task.row,
        )
        cluster_id = (task.row.get("cluster_instance") or {}).get("cluster_id")
        if end not in (End.INFRASTRUCTURE, End.CONFIGURATION) or not cluster_id or self._clock() > until:
            return evidence
        if reason_in(f"{evidence.message}\n{evidence.error}") != ("", ""):
            return evidence
        return self._with_cluster(evidence, str(cluster_id))

    def _with_cluster(self, evidence: Evidence, cluster_id: str) -> Evidence:
        """With why the cluster ended, where this identity may see it."""
        try:
            cluster = self._client.do("GET", f"{CLUSTERS}/get", query={"cluster_id": cluster_id})
        except (Denied, Missing, Refused):
            return evidence
        if cluster.get("state") in ("RUNNING", "RESIZING"):
            # It lives: whatever its last end was about, it was not this run.
            return evidence
        reason = cluster.get("termination_reason") or {}
        parameters = reason.get("parameters") or {}
        code, kind = str(reason.get("code") or ""), str(reason.get("type") or "")
        # Keys: Clusters API 2.0, TerminationParameter.
        spoken = [str(text) for key, text in sorted(parameters.items()) if key.endswith("_message")]
        if code and code not in ORDINARY:
            spoken.insert(0, f"cluster {cluster_id} was terminated: {code}({kind})")
        return replace(
            evidence,
            message="\n".join(filter(None, [evidence.message, str(cluster.get("state_message") or ""), *spoken])),
            reason=code,
            reason_type=kind,
            ended_by=str(parameters.get("username") or ""),
        )


def _unprovided(tasks: list[_Task]) -> bool:
    """Whether a task failed that nothing in the graph does without, as the platform's own words tell the graph."""
    forgiving = [
        {str(each.get("task_key")) for each in task.row.get("depends_on") or ()}
        for task in tasks
        if task.row.get("run_if") == "AT_LEAST_ONE_SUCCESS" and task.seen.end is End.SUCCEEDED
    ]
    return bool(not_forgiven([task.seen.name for task in tasks if task.failed], forgiving))


def _told(task: _Task) -> RemoteTask:
    """The task as it is told: its end as exactly as can be known, and the last line of why."""
    if task.verdict is None:
        return replace(task.seen, message=clean(task.seen.message)[:MAX_TASK_MESSAGE])
    message = ": ".join(filter(None, [task.verdict.advice, clean(task.message or task.seen.message)]))
    return replace(task.seen, end=task.verdict.end, message=message[:MAX_TASK_MESSAGE])


def _failure(remote: RemoteRun, tasks: list[_Task]) -> tuple[End | None, str]:
    """How the run ended, and why for people: of several tasks that failed, by the one that most needs a person."""
    message = clean(remote.message)
    failed = [task for task in tasks if task.verdict is not None]
    if remote.end in (End.CANCELLED, End.TIMED_OUT) or not failed:
        verdict = judge(Evidence(remote.end or End.INFRASTRUCTURE, message=message))
        said = next((task.words for task in failed), "")
        # Of a cancelled run, how it was cancelled says more than what it had printed by then.
        said = message or said if verdict.end is End.CANCELLED else said or message
        return verdict.end, _error([verdict.advice], said)
    end = worst(task.verdict.end for task in failed if task.verdict is not None)
    first = next(task for task in failed if task.verdict is not None and task.verdict.end is end)
    prefix = [_which(first, failed, tasks), first.verdict.advice if first.verdict else ""]
    return end, _error(prefix, first.words or clean(first.seen.message) or message)


def _which(first: _Task, failed: list[_Task], tasks: list[_Task]) -> str:
    """Which task failed; nothing in a run of one."""
    if len(tasks) < 2:
        return ""
    others = ", ".join(task.seen.name for task in failed if task is not first)
    return f"task {first.seen.name} failed" + (f" (as did {others})" if others else "")


def _error(prefix: list[str], said: str) -> str:
    """Bounded; of what was said, the last part is kept."""
    before = ": ".join(filter(None, prefix))[: ERROR_LENGTH // 2]
    if not before:
        return said[-ERROR_LENGTH:]
    return f"{before}: {said}"[: len(before) + 2] + said[-(ERROR_LENGTH - len(before) - 2) :] if said else before
