"""What an ended run left behind: metrics, model version, outputs, tasks, logs, and who has to act if it failed.

Called by `connection` in a lane's thread; the parts live in `logged`, `models`, `outputs`, `logs`, `failures`. Every
step may be repeated. What is missing is reported as a shortfall, never passed over.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from trainyard.core.errors import Denied, Missing, Refused
from trainyard.core.remote import End, RemoteRun, RemoteTask, Result, Written
from trainyard.platforms.base import Wanted
from trainyard.platforms.databricks.client import DatabricksClient
from trainyard.platforms.databricks.cluster_reasons import ORDINARY
from trainyard.platforms.databricks.failures import Evidence, Verdict, judge, reason_in, worst
from trainyard.platforms.databricks.logged import Logged, MlflowRuns
from trainyard.platforms.databricks.logs import ERROR_LENGTH, Printed, TaskOutputs, kept
from trainyard.platforms.databricks.models import Models
from trainyard.platforms.databricks.outputs import Outputs
from trainyard.platforms.databricks.redaction import clean
from trainyard.platforms.databricks.states import remote_tasks

JOBS = "/api/2.2/jobs"
CLUSTERS = "/api/2.1/clusters"
MAX_TASK_MESSAGE = 512


@dataclass(frozen=True, slots=True)
class _Task:
    """One task with all that is known of it. `failed`: it was started, and did not end well."""

    seen: RemoteTask
    row: Mapping[str, Any] = field(default_factory=dict)
    output: Printed = field(default_factory=Printed)
    verdict: Verdict | None = None

    @property
    def failed(self) -> bool:
        return self.seen.end not in (None, End.SUCCEEDED)


class Outcome:
    """Collects results through one client. `host` is the workspace's origin."""

    def __init__(self, client: DatabricksClient, host: str) -> None:
        self._client = client
        self._mlflow = MlflowRuns(client, host)
        self._models = Models(client)
        self._outputs = Outputs(client)
        self._task_outputs = TaskOutputs(client)

    def collect(self, remote: RemoteRun, mlflow_run_id: str | None, wanted: Wanted) -> Result:
        """See `platforms.base.Connection.collect`."""
        logged = self._mlflow.read(remote, mlflow_run_id, wanted.earlier) if mlflow_run_id else Logged()
        ended_well = remote.end is End.SUCCEEDED
        reads = wanted.log_characters > 0 or wanted.keep is not None
        tasks = self._tasks(remote, reads) if reads or wanted.tasks or not ended_well else []
        logs, logs_uri = kept(((each.seen.name, each.output) for each in tasks), wanted) if reads else ((), None)
        found = Result(
            metrics=logged.metrics,
            params=logged.params,
            mlflow_url=logged.url,
            tasks=tuple(_judged(each) for each in tasks) if wanted.tasks or len(tasks) > 1 else (),
            logs=logs,
            logs_uri=logs_uri,
        )
        if not ended_well:
            end, error = _failure(remote, tasks)
            return replace(found, end=None if end is remote.end else end, error=error)
        if _unprovided(tasks):
            # The platform calls this a success. The run is none: its model must not get the alias that others follow.
            return found
        outputs: dict[str, Written] = self._outputs.found(wanted.outputs)
        if wanted.model is None:
            return replace(found, outputs=outputs, shortfall=logged.unread)
        model, shortfall = self._models.made_by(logged.run_ids, wanted.model)
        return replace(found, outputs=outputs, model=model, shortfall=shortfall or logged.unread)

    def _tasks(self, remote: RemoteRun, reads: bool) -> list[_Task]:
        """Every task; empty where the platform no longer shows the run. Failed ones are judged."""
        try:
            rows = self._rows(remote.remote_id)
        except (Denied, Missing, Refused):
            return []
        seen = {task.name: task for task in remote_tasks({"tasks": rows})}
        by_id = {str(row.get("run_id", "")): row for row in rows}
        tasks = [_Task(task, by_id.get(task.remote_id, {})) for task in seen.values()]
        return [self._read(task) if reads or task.failed else task for task in tasks]

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

    def _read(self, task: _Task) -> _Task:
        read = replace(task, output=self._task_outputs.of(task.seen))
        if not read.failed:
            return read
        evidence = self._evidence(read)
        seen = replace(read.seen, message=clean(" ".join(evidence.message.split())))
        return replace(read, seen=seen, verdict=judge(evidence))

    def _evidence(self, task: _Task) -> Evidence:
        end = task.seen.end or End.INFRASTRUCTURE
        evidence = Evidence(
            end,
            message=task.seen.message,
            error=task.output.error,
            trace=task.output.trace,
            shared="existing_cluster_id" in task.row,
        )
        cluster_id = (task.row.get("cluster_instance") or {}).get("cluster_id")
        if end not in (End.INFRASTRUCTURE, End.CONFIGURATION) or not cluster_id:
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
    """Whether a task failed that nothing in the graph does without, as `core.graph.unforgiven` has it."""
    forgiving = [
        {str(each.get("task_key")) for each in task.row.get("depends_on") or ()}
        for task in tasks
        if task.row.get("run_if") == "AT_LEAST_ONE_SUCCESS" and task.seen.end is End.SUCCEEDED
    ]
    return any(task.failed and not any(task.seen.name in names for names in forgiving) for task in tasks)


def _judged(task: _Task) -> RemoteTask:
    """The task as it is told: its end as exactly as can be known, and the last line of why."""
    if task.verdict is None:
        return replace(task.seen, message=clean(task.seen.message)[:MAX_TASK_MESSAGE])
    said = task.output.error or task.output.last_words().rpartition("\n")[2] or task.seen.message
    message = ": ".join(filter(None, [task.verdict.advice, clean(said)]))
    return replace(task.seen, end=task.verdict.end, message=message[:MAX_TASK_MESSAGE])


def _failure(remote: RemoteRun, tasks: list[_Task]) -> tuple[End | None, str]:
    """How the run ended, and why for people: of several tasks that failed, by the one that most needs a person."""
    message = clean(remote.message)
    failed = [task for task in tasks if task.verdict is not None]
    if remote.end in (End.CANCELLED, End.TIMED_OUT) or not failed:
        verdict = judge(Evidence(remote.end or End.INFRASTRUCTURE, message=message))
        said = next((task.output.last_words() for task in failed), "")
        # Of a cancelled run, how it was cancelled says more than what it had printed by then.
        said = message or said if verdict.end is End.CANCELLED else said or message
        return verdict.end, _error([verdict.advice], said)
    end = worst(task.verdict.end for task in failed if task.verdict is not None)
    first = next(task for task in failed if task.verdict is not None and task.verdict.end is end)
    prefix = [_which(first, failed, tasks), first.verdict.advice if first.verdict else ""]
    return end, _error(prefix, first.output.last_words() or clean(first.seen.message) or message)


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
