"""Keeps what an attempt printed: the last part in an MLRunLog, the whole where the workspace says, if it does.

Used by the run controller when an attempt has ended, before its last status is written. Logs that can not be kept are
told by an Event and never hold up a result.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import structlog

from trainyard.api.base import API_VERSION
from trainyard.api.run_log import MOST_CHARACTERS, MLRunLogSpec, TaskLog, log_name
from trainyard.api.training_run import Attempt
from trainyard.controllers.apiserver import ApiServer
from trainyard.controllers.kube import RUN, RUN_LOG, ConflictError, KubeError
from trainyard.core.actions import Note
from trainyard.core.errors import TrainyardError
from trainyard.core.remote import Result, TaskText
from trainyard.core.snapshot import RunSnapshot
from trainyard.core.times import stamp
from trainyard.core.transition import clip
from trainyard.telemetry.metrics import LOGS

log = structlog.get_logger(__name__)

# Bytes of all texts together as JSON: etcd takes 1.5 MiB for a whole object.
MOST_BYTES = 1_048_576


class RunLogs:
    """Writes MLRunLogs. `characters` is the most of one task's text that is kept in one; 0 makes none."""

    def __init__(self, api: ApiServer, characters: int, clock: Callable[[], datetime]) -> None:
        self._api = api
        self.characters = characters
        self._now = clock

    async def keep(
        self, obj: Mapping[str, Any], run: RunSnapshot, attempt: Attempt, result: Result, failure: TrainyardError | None
    ) -> None:
        """Keeps the logs as well as they can be kept. `obj` is the run's object, `failure` the destination's."""
        problems = []
        if failure is not None:
            problems.append(f"whole logs are not kept where the workspace says: {failure.message}")
        if self.characters and result.logs:
            problem = await self._written(run, attempt, result)
            LOGS.labels("object", "failed" if problem else "kept").inc()
            problems += [problem] if problem else []
        if problems:
            log.warning("logs not kept", run=f"{run.namespace}/{run.name}", why=problems)
            await self._api.note(RUN, obj, Note("Warning", "LogsNotKept", clip("; ".join(problems), 900)))

    async def _written(self, run: RunSnapshot, attempt: Attempt, result: Result) -> str | None:
        """Writes the MLRunLog, if it is not there. Returns what kept it from being written."""
        name = log_name(run.name, run.uid, attempt.number)
        try:
            await self._api.create(
                RUN_LOG, run.namespace, _object(run, attempt, name, self._spec(run, attempt, result))
            )
        except ConflictError:
            return await self._someone_elses(run, name)
        except KubeError as error:
            return f"MLRunLog {name} could not be written: {error.message}"
        return None

    async def _someone_elses(self, run: RunSnapshot, name: str) -> str | None:
        """None if the one that is there was written for this run, before a crash."""
        try:
            found = await self._api.read(RUN_LOG, run.namespace, name)
        except KubeError as error:
            return f"MLRunLog {name} is there and can not be read: {error.message}"
        if found.get("spec", {}).get("runUid") == run.uid:
            return None
        return f"MLRunLog {name} is there and belongs to another run; delete it"

    def _spec(self, run: RunSnapshot, attempt: Attempt, result: Result) -> MLRunLogSpec:
        return MLRunLogSpec(
            run_name=run.name,
            run_uid=run.uid,
            attempt=attempt.number,
            remote_id=attempt.remote_id,
            at=stamp(self._now()),
            uri=result.logs_uri,
            tasks=shortened(result.logs, self.characters),
        )


def shortened(texts: Sequence[TaskText], characters: int) -> list[TaskLog]:
    """The last part of each text, so that all of them together fit into one object."""
    each = min(characters, MOST_CHARACTERS)
    while True:
        logs = [_task_log(text, each) for text in texts]
        size = sum(len(entry.text) for entry in logs)
        if size <= MOST_CHARACTERS and len(json.dumps([entry.wire() for entry in logs])) <= MOST_BYTES:
            return logs
        each = each * 3 // 4


def _task_log(found: TaskText, characters: int) -> TaskLog:
    text = found.text[-characters:] if characters else ""
    cut = found.truncated or len(text) < len(found.text)
    missing = clip(found.missing, 512) or None
    return TaskLog(name=found.name[:63], text=text, truncated=True if cut else None, missing=missing)


def _object(run: RunSnapshot, attempt: Attempt, name: str, spec: MLRunLogSpec) -> dict[str, object]:
    owner = {
        "apiVersion": API_VERSION,
        "kind": RUN.name,
        "name": run.name,
        "uid": run.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
    labels = {"trainyard.dev/attempt": str(attempt.number), "trainyard.dev/run-uid": run.uid}
    return {
        "apiVersion": API_VERSION,
        "kind": RUN_LOG.name,
        "metadata": {"name": name, "namespace": run.namespace, "labels": labels, "ownerReferences": [owner]},
        "spec": spec.wire(),
    }
