"""The conditions of a workspace that warn: when they come, stay and go, and that each comes with one Event."""

import io
from datetime import timedelta
from typing import Any, cast

import pytest

from tests.unit.stage import HOST, NOW, Api, Remote, _Sessions
from trainyard.api.identity import SECRET_REF
from trainyard.audit.log import AuditLog
from trainyard.controllers.apiserver import ApiServer
from trainyard.controllers.kube import CLUSTER_WORKSPACE, WORKSPACE, Kube, KubeError
from trainyard.controllers.store import Key, Store
from trainyard.controllers.workspaces import WorkspaceController
from trainyard.core.errors import IdentityError, TrainyardError, Unreachable
from trainyard.identity.base import SecretData, SecretRef
from trainyard.identity.broker import Broker
from trainyard.identity.hosts import HostPolicy
from trainyard.identity.secret_reading import OPT_IN
from trainyard.identity.secret_ref import SecretMode
from trainyard.platforms.base import Account

DAY = timedelta(days=1)
RECHECK = timedelta(minutes=5)
OAUTH, PERSONAL = "DatabricksOAuthSecret", "PersonalAccessToken"


class Stand(Remote):
    """One workspace whose identity is a Secret, both in memory; and a clock."""

    def __init__(self, kind: str = OAUTH, *, shared: bool = False) -> None:
        super().__init__()
        self.now = NOW
        self.kind = kind
        self.value = b"first"
        self.changed_at = NOW
        self.read = 0
        self.missing: TrainyardError | None = None
        self.refuses: TrainyardError | None = None
        self.api = Api()
        log = AuditLog(io.StringIO())
        mode = SecretMode(self, HostPolicy(), log, lambda: self.now)
        sessions = _Sessions(Broker(HostPolicy(), {SECRET_REF: mode}), log, 3600)
        sessions.remote = self
        self.store = Store()
        kube = ApiServer(cast(Kube, self.api))
        self.controller = WorkspaceController(self.store, kube, sessions, RECHECK, lambda: self.now)
        allowed = {"allowPersonalAccessToken": True} if kind == PERSONAL else {}
        found = CLUSTER_WORKSPACE if shared else WORKSPACE
        self.key = Key(found.name, "team", "dbx")
        spec = {
            "databricks": {"host": HOST},
            "identity": {SECRET_REF: {"name": "kept", "type": kind, **allowed}},
            "computeClasses": {},
        }
        obj = {"metadata": {"namespace": "team", "name": "dbx"}, "spec": spec}
        self.store.put(self.key, self.api.seed(found.name, obj))

    def secret_data(self, _secret: SecretRef) -> SecretData:
        self.read += 1
        if self.missing is not None:
            raise self.missing
        data = {"client-id": b"app-id", "client-secret": self.value, "token": self.value}
        return SecretData({OPT_IN: self.kind}, data, self.changed_at)

    def whoami(self) -> Account:
        if self.refuses is not None:
            raise self.refuses
        return Account("app-id", None)

    async def after(self, passed: timedelta) -> dict[str, dict[str, Any]]:
        """The conditions once the workspace has been checked that much later."""
        self.now += passed
        await self.controller.reconcile(self.key)
        status = self.api.objects[self.key]["status"]
        return {condition["type"]: condition for condition in status["conditions"]}

    @property
    def warned(self) -> list[str]:
        return [note["reason"] for note in self.api.notes if note["type"] == "Warning"]

    @property
    def writes(self) -> int:
        return sum(1 for each in self.api.asked if each.endswith("/status"))


@pytest.fixture(autouse=True)
def _nobody_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainyard.identity.broker.CONSENT_HOLDS", -1.0)


async def test_a_secret_is_warned_of_once_from_seven_days_before_and_refused_at_the_end() -> None:
    stand = Stand()
    assert set(await stand.after(0 * DAY)) == {"Ready", "Reconciling", "Stalled"}
    assert "CredentialExpiring" not in await stand.after(22 * DAY)
    writes = stand.writes
    assert writes == 1
    warned = (await stand.after(1 * DAY))["CredentialExpiring"]
    assert (warned["status"], warned["reason"]) == ("True", "SecretExpiring")
    assert "2026-12-01T12:00:00Z" in warned["message"]
    assert warned["observedGeneration"] == 1
    for _ in range(6):
        found = await stand.after(1 * DAY)
        assert (found["CredentialExpiring"], found["Ready"]["status"]) == (warned, "True")
    assert (stand.writes - writes, stand.warned) == (1, ["SecretExpiring"])
    found = await stand.after(1 * DAY)
    assert "CredentialExpiring" not in found
    assert (found["Stalled"]["status"], found["Stalled"]["reason"]) == ("True", "SecretTooOld")
    assert stand.warned == ["SecretExpiring", "SecretTooOld"]


async def test_a_rotated_secret_ends_the_warning_and_the_next_one_warns_again() -> None:
    stand = Stand()
    assert "CredentialExpiring" in await stand.after(25 * DAY)
    stand.value, stand.changed_at = b"second", stand.now
    assert "CredentialExpiring" not in await stand.after(1 * DAY)
    assert "CredentialExpiring" in await stand.after(25 * DAY)
    assert stand.warned == ["SecretExpiring", "SecretExpiring"]
    stand.value, stand.changed_at = b"third", stand.now
    stand.now += 10 * DAY
    assert (await stand.after(0 * DAY))["Ready"]["reason"] == "IdentityWorks"


async def test_a_warning_stays_while_nobody_can_say_whether_it_holds() -> None:
    """An API server that does not answer for a moment neither ends it nor makes it begin again, with another Event."""
    stand = Stand()
    warned = (await stand.after(25 * DAY))["CredentialExpiring"]
    stand.missing = KubeError("the API server did not answer")
    found = await stand.after(timedelta(hours=1))
    assert (found["CredentialExpiring"], found["Ready"]["status"]) == (warned, "False")
    stand.missing = None
    found = await stand.after(timedelta(hours=1))
    assert (found["CredentialExpiring"], found["Ready"]["status"]) == (warned, "True")
    assert stand.warned.count("SecretExpiring") == 1


async def test_a_platform_that_does_not_answer_hides_no_warning() -> None:
    stand = Stand()
    stand.refuses = Unreachable("no answer")
    found = await stand.after(25 * DAY)
    assert (found["CredentialExpiring"]["status"], found["Ready"]["status"]) == ("True", "False")


async def test_a_personal_access_token_is_warned_of_for_as_long_as_the_workspace_names_it() -> None:
    stand = Stand(PERSONAL)
    warned = (await stand.after(0 * DAY))["PersonalAccessToken"]
    assert (warned["status"], warned["reason"]) == ("True", "PersonalAccessTokenInUse")
    both = await stand.after(25 * DAY)
    assert both["PersonalAccessToken"] == warned
    assert both["CredentialExpiring"]["status"] == "True"
    stand.missing = IdentityError("no such Secret", reason="SecretNotFound", waiting=True)
    gone = await stand.after(1 * DAY)
    assert gone["PersonalAccessToken"] == warned
    assert "CredentialExpiring" not in gone
    assert gone["Ready"]["reason"] == "SecretNotFound"
    assert stand.warned == ["PersonalAccessTokenInUse", "SecretExpiring", "SecretNotFound"]


async def test_a_workspace_that_is_shared_looks_at_no_namespaces_secret() -> None:
    stand = Stand(PERSONAL, shared=True)
    found = await stand.after(25 * DAY)
    assert set(found) == {"Ready", "Reconciling", "Stalled", "PersonalAccessToken"}
    assert (found["Ready"]["status"], stand.read) == ("True", 0)


async def test_the_workspace_is_looked_at_again_in_time_to_warn() -> None:
    stand = Stand()
    again = await stand.controller.reconcile(stand.key)
    assert again == NOW + RECHECK
