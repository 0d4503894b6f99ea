"""Databricks in the words of tests/platforms/base.py."""

import re
import ssl
from collections.abc import Mapping
from typing import Any, Literal

import httpx

from stand import Stand, Team
from tests.platforms.base import FOREVER, WELL, Call, CallName, End, Pretence, Remote
from tests.platforms.serving_databricks import DatabricksServing

WORDS = {"queued": "QUEUED", "starting": "PENDING", "running": "RUNNING"}
OUTCOMES: dict[str, dict[str, str]] = {
    "succeeded": {"result_state": "SUCCESS"},
    "code": {"result_state": "FAILED"},
    "packages": {"result_state": "FAILED", "code": "LIBRARY_INSTALLATION_ERROR"},
    "infrastructure": {"life_cycle_state": "INTERNAL_ERROR"},
    "cancelled": {"result_state": "CANCELED"},
}
Result = Literal["succeeded", "failed", "cancelled", "timed out"]
RESULTS: dict[str, Result] = {"SUCCESS": "succeeded", "CANCELED": "cancelled", "TIMEDOUT": "timed out"}
VOLUME = "main.ml.data"
DATA = "/Volumes/main/ml/data"
JOBS = "/api/2.2/jobs/runs"


class DatabricksDriver:
    """The sandbox's Databricks."""

    name = "databricks"
    calls: Mapping[CallName, Call] = {
        "token": Call("/oidc/v1/token"),
        "whoami": Call("/api/2.0/preview/scim/v2/Me"),
        "upload": Call("/api/2.0/workspace/.*"),
        "submit": Call(f"{JOBS}/submit"),
        "get": Call(f"{JOBS}/get"),
        "list": Call(f"{JOBS}/list"),
        "cancel": Call(f"{JOBS}/cancel"),
        "metrics": Call("/api/2.0/mlflow/runs/get"),
        "any": Call(".*"),
        "jobs": Call(".*/jobs/.*"),
    }

    def __init__(self, stand: Stand) -> None:
        self._stand = stand
        self._control = stand.control
        self.serving = DatabricksServing(stand)

    @property
    def host(self) -> str:
        return self._control.address.host

    def team(self, namespace: str, service_account: str = "trainer", **spec: Any) -> Team:
        return self._stand.team(namespace, service_account=service_account, **_portable(spec))

    def newcomer(self, namespace: str, service_account: str = "trainer") -> Team:
        return self._stand.newcomer(namespace, service_account=service_account)

    def workspace(self, namespace: str, service_account: str = "trainer", **spec: Any) -> dict[str, Any]:
        return self._stand.workspace(namespace, service_account, **_portable(spec))

    def annotation(self) -> str:
        return "trainyard.dev/databricks-client-id"

    def model_name(self, name: str) -> str:
        return f"main.ml.{name}"

    def pretend(self, pretence: Pretence = FOREVER) -> None:
        end = pretence.end
        script: dict[str, Any] = {
            "run_name": _run_name(pretence),
            "states": [(WORDS[stage], seconds) for stage, seconds in pretence.stages],
            "outcome": _outcome(end),
            "cancel_seconds": pretence.cancel_seconds,
            "metrics": dict(pretence.metrics),
        }
        script |= {} if pretence.times is None else {"times": pretence.times}
        script |= {} if pretence.model is None else {"registered_model_name": pretence.model}
        script |= {"error": end.message, "error_trace": end.trace} if end.kind == "code" else {}
        self._control.add_script(**script)

    def runs(self) -> list[Remote]:
        return [_remote(row) for row in self._control.runs()]

    def runs_of(self, namespace: str, name: str) -> list[Remote]:
        return [run for run in self.runs() if run.raw["run_name"].startswith(f"{namespace}/{name} ")]

    def paid(self) -> int:
        return self._control.paid_runs()

    def end(self, remote_id: str, end: End = WELL) -> None:
        self._control.end_run(remote_id, **_outcome(end))

    def vanish(self, remote_id: str) -> None:
        self._control.delete_run(remote_id)

    def show(self, remote_id: str, word: str | None) -> None:
        self._control.show_state(remote_id, word)

    def fault(self, kind: str, call: CallName, **fields: Any) -> int:
        return self._control.add_fault(kind, **self.calls[call].fields(), **fields)

    def requests(self, call: CallName) -> list[dict[str, Any]]:
        return self._control.requests(**self.calls[call].fields())

    def take_right(self, team: Team) -> None:
        self._control.revoke(team.principal, "main.ml", "CREATE MODEL")

    def give_right(self, team: Team) -> None:
        self._control.grant(team.principal, "main.ml", "CREATE MODEL")

    def put_data(self, team: Team, path: str, content: bytes) -> None:
        self._control.add_volume(VOLUME)
        self._control.grant(team.principal, VOLUME, "READ VOLUME", "WRITE VOLUME")
        self._control.add_volume_file(f"{DATA}/{path}", content)

    def data(self, team: Team, path: str) -> bytes:
        address = self._control.address
        verify = ssl.create_default_context(cafile=str(address.ca_file))
        token = {"Authorization": f"Bearer {self._control.issue_token(team.principal)}"}
        url = f"{address.host}/api/2.0/fs/files{DATA}/{path}"
        answer = httpx.get(url, headers=token, verify=verify, trust_env=False)
        return answer.raise_for_status().content

    def absent_compute(self) -> dict[str, Any]:
        return {"existingCluster": {"clusterId": "1123-120000-abcdefgh"}}

    def present_compute(self) -> dict[str, Any]:
        return {"serverless": {"environmentVersion": "5"}}

    def expire_tokens(self, principal: str) -> int:
        return self._control.expire_tokens(principal)

    def tokens(self) -> list[str]:
        return [token["value"] for token in self._control.tokens()]

    def clean(self) -> None:
        self.serving.clean()
        self._control.clear_faults()
        self._control.clear_scripts()
        self._control.override_discovery()


def _portable(spec: dict[str, Any]) -> dict[str, Any]:
    return {"dataRoots": {"data": {"path": DATA}}} | spec


def _run_name(pretence: Pretence) -> str:
    """As `translate` names runs: NAMESPACE/NAME attempt N (TOKEN)."""
    run = ".*" if pretence.run is None else re.escape(pretence.run)
    attempt = ".*" if pretence.attempt is None else f"{pretence.attempt} .*"
    return f"{run} attempt {attempt}"


def _outcome(end: End) -> dict[str, str]:
    return OUTCOMES[end.kind] | ({"message": end.message} if end.message else {})


def _remote(row: dict[str, Any]) -> Remote:
    result = row["result_state"]
    return Remote(
        id=row["run_id"],
        token=row["idempotency_token"] or "",
        creator=row["creator"],
        paid=row["paid"],
        active=row["active"],
        result=None if row["active"] else RESULTS.get(result, "failed"),
        word=row["life_cycle_state"],
        raw=row,
    )
