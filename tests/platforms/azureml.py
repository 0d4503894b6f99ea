"""Azure ML in the words of tests/platforms/base.py."""

import re
from collections.abc import Mapping
from typing import Any, Literal

from stand import Stand, Team
from tests.platforms.base import FOREVER, WELL, Call, CallName, End, Pretence, Remote
from tests.platforms.serving_azureml import AzureMLServing

WORDS = {"queued": "Queued", "starting": "Preparing", "running": "Running"}
# As run history words them; the sandbox's own engine says the same of what really runs.
ENDS: dict[str, dict[str, Any]] = {
    "succeeded": {"status": "Completed"},
    "code": {"status": "Failed", "code": "UserError", "inner": ["ExecutionFailed"]},
    "packages": {"status": "Failed", "code": "UserError", "inner": ["ImageBuildFailure"]},
    "infrastructure": {"status": "Failed", "code": "ServiceError"},
    "cancelled": {"status": "Canceled"},
}
DATASTORE = "workspaceblobstore"
LOG = "user_logs/std_log.txt"
RIGHT, LEFT_OVER = "AzureML Data Scientist", "Reader"
Result = Literal["succeeded", "failed", "cancelled", "timed out"]
RESULTS: dict[str, Result] = {"Completed": "succeeded", "Canceled": "cancelled", "Failed": "failed"}


class AzureMLDriver:
    """The sandbox's Azure ML workspace."""

    name = "azureml"
    calls: Mapping[CallName, Call] = {
        "token": Call("/[^/]+/oauth2/v2.0/token"),
        "whoami": Call("/subscriptions/.*/workspaces/[^/]+", "GET"),
        "upload": Call("/blob/.*|/subscriptions/.*/codes/.*"),
        "submit": Call("/subscriptions/.*/jobs/[^/]+", "PUT"),
        "get": Call("/subscriptions/.*/jobs/[^/]+", "GET"),
        "list": Call("/subscriptions/.*/jobs", "GET"),
        "cancel": Call("/subscriptions/.*/jobs/[^/]+/cancel", "POST"),
        "metrics": Call("/mlflow/.*/runs/get"),
        "jobs": Call("/subscriptions/.*/jobs(/.*)?"),
        "any": Call(".*"),
    }

    def __init__(self, stand: Stand) -> None:
        self._stand = stand
        self._control = stand.control
        self.serving = AzureMLServing(stand)

    @property
    def host(self) -> str:
        return self._control.address.azure.workspace_url

    def team(self, namespace: str, service_account: str = "trainer", **spec: Any) -> Team:
        return self._stand.azure_team(namespace, service_account=service_account, **_portable(spec))

    def newcomer(self, namespace: str, service_account: str = "trainer") -> Team:
        return self._stand.azure_newcomer(namespace, service_account=service_account)

    def workspace(self, namespace: str, service_account: str = "trainer", **spec: Any) -> dict[str, Any]:
        return self._stand.azure_workspace(namespace, service_account, **_portable(spec))

    def annotation(self) -> str:
        return "trainyard.dev/azure-client-id"

    def model_name(self, name: str) -> str:
        return name

    def pretend(self, pretence: Pretence = FOREVER) -> None:
        end = pretence.end
        script: dict[str, Any] = {
            "display_name": ".*" if pretence.run is None else re.escape(pretence.run),
            "states": [(WORDS[stage], seconds) for stage, seconds in pretence.stages],
            "end": _end(end),
            "cancel_seconds": pretence.cancel_seconds,
            "metrics": dict(pretence.metrics),
        }
        script |= {} if pretence.attempt is None else {"tag": f"trainyard_attempt={pretence.attempt}"}
        script |= {} if pretence.times is None else {"times": pretence.times}
        script |= {} if pretence.model is None else {"registered_model_name": pretence.model}
        script |= {"logs": {LOG: end.trace}} if end.trace else {}
        self._control.script_azure_job(**script)

    def runs(self) -> list[Remote]:
        return [_remote(job) for job in self._control.azure_jobs()]

    def runs_of(self, namespace: str, name: str) -> list[Remote]:
        return [run for run in self.runs() if run.raw["display_name"] == f"{namespace}/{name}"]

    def paid(self) -> int:
        return self._control.azure_paid_total()

    def end(self, remote_id: str, end: End = WELL) -> None:
        self._control.end_azure_job(remote_id, **_end(end))

    def vanish(self, remote_id: str) -> None:
        self._control.delete_azure_job(remote_id)

    def show(self, remote_id: str, word: str | None) -> None:
        self._control.set_azure_job_state(remote_id, word)

    def fault(self, kind: str, call: CallName, **fields: Any) -> int:
        return self._control.add_fault(kind, **self.calls[call].fields(), **fields)

    def requests(self, call: CallName) -> list[dict[str, Any]]:
        return self._control.requests(**self.calls[call].fields())

    def take_right(self, team: Team) -> None:
        self._control.assign_role(team.principal, LEFT_OVER)
        self._control.remove_role(team.principal, RIGHT)

    def give_right(self, team: Team) -> None:
        self._control.assign_role(team.principal, RIGHT)

    def put_data(self, team: Team, path: str, content: bytes) -> None:
        self._control.put_azure_blob(DATASTORE, f"data/{path}", content)

    def data(self, team: Team, path: str) -> bytes:
        return self._control.azure_blob(DATASTORE, f"data/{path}")

    def absent_compute(self) -> dict[str, Any]:
        return {"azureML": {"compute": "not-there"}}

    def present_compute(self) -> dict[str, Any]:
        return {"azureML": {"serverless": {"instanceType": "Standard_DS3_v2"}}}

    def expire_tokens(self, principal: str) -> int:
        return self._control.expire_azure_tokens(principal)

    def tokens(self) -> list[str]:
        return [token["value"] for token in self._control.azure_tokens()]

    def clean(self) -> None:
        self.serving.clean()
        self._control.clear_faults()
        self._control.clear_azure_scripts()


def _portable(spec: dict[str, Any]) -> dict[str, Any]:
    return {"dataRoots": {"data": {"path": f"azureml://datastores/{DATASTORE}/paths/data"}}} | spec


def _end(end: End) -> dict[str, Any]:
    return ENDS[end.kind] | ({"message": end.message} if end.message else {})


def _remote(job: dict[str, Any]) -> Remote:
    timed_out = "JobTimeout" in ((job["error"] or {}).get("inner") or [])
    return Remote(
        id=job["name"],
        token=job["tags"].get("trainyard_token", ""),
        creator=job["creator"],
        paid=job["paid"],
        active=job["active"],
        result="timed out" if timed_out else RESULTS.get(job["status"]),
        word=job["status"],
        raw=job,
    )
