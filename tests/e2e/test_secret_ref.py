"""A Secret speaks for a team: a real API server, an operator that may read just that Secret, and both platforms."""

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stand import Team, wait_for
from tests.e2e.scene import Scene
from tests.platforms import on_every_platform
from tests.platforms.base import FOREVER

KEPT, ADA = "kept", "ada@example.com"
KINDS = {"databricks": "DatabricksOAuthSecret", "azureml": "EntraClientSecret"}
CHANGED_AT = "trainyard.dev/changed-at"


@dataclass
class Keeper:
    """Who keeps the team's Secret up to date, and every value that it ever held."""

    scene: Scene
    team: Team
    kind: str
    values: list[str] = field(default_factory=list)
    end_old: Callable[[], None] = lambda: None

    @property
    def name(self) -> str:
        return self.team.workspace

    def rotate(self, made: datetime | None = None) -> None:
        """Stores a new secret; the old one is taken no more, where the platform can say so."""
        control, principal, self.end_old = self.scene.control, self.team.principal, lambda: None
        if self.kind == "DatabricksOAuthSecret":
            new = control.add_oauth_secret(principal)
            value, self.end_old = new.value, lambda: control.revoke_oauth_secret(new.credential_id)
        elif self.kind == "PersonalAccessToken":
            value = control.add_personal_access_token(ADA).value
        else:
            value = control.add_client_secret(principal)
        self.values.append(value)
        own = (
            {"token": value} if self.kind == "PersonalAccessToken" else {"client-id": principal, "client-secret": value}
        )
        data = {key: base64.b64encode(f"{each}\n".encode()).decode() for key, each in own.items()}
        annotations = {"trainyard.dev/identity": self.kind} | ({CHANGED_AT: made.isoformat()} if made else {})
        metadata = {"name": KEPT, "namespace": self.team.namespace, "annotations": annotations}
        self.scene.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})

    def workspace(self, **given: Any) -> None:
        """The team's workspace, in which the Secret speaks."""
        identity = {"secretRef": {"name": KEPT, "type": self.kind, **given}}
        self.scene.apply(self.scene.platform.workspace(self.team.namespace, identity=identity))

    def conditions(self) -> dict[str, dict[str, Any]]:
        status = self.scene.read("mlworkspaces", self.team.namespace, self.name).get("status", {})
        return {condition["type"]: condition for condition in status.get("conditions", [])}

    def told(self) -> str:
        """Everything that the operator has said of it."""
        path = f"/api/v1/namespaces/{self.team.namespace}/events"
        return f"{self.conditions()}{self.scene.cluster.call('GET', path)}{self.scene.operator.log.read_text()}"


def keeper_of(scene: Scene, kind: str) -> Keeper:
    team = scene.platform.newcomer(scene.namespace())
    scene.stand.allow_secret(team.namespace, KEPT)
    return Keeper(scene, team, kind)


@pytest.fixture
def keeper(scene: Scene, platform_name: str) -> Keeper:
    return keeper_of(scene, KINDS[platform_name])


@on_every_platform
def test_a_run_is_the_secrets_principal_and_nothing_but_that_secret_is_read(scene: Scene, keeper: Keeper) -> None:
    keeper.rotate()
    keeper.workspace()
    scene.workspace(keeper.team.namespace, "IdentityWorks")
    run = scene.run(keeper.team).until("Succeeded")
    assert run.only_remote().creator == keeper.team.principal
    [attempt] = run.status["attempts"]
    assert (attempt["mode"], attempt["principal"]) == ("secretRef", keeper.team.principal)
    asked = scene.api_requests(keeper.team.namespace)
    assert [each for each in asked if each["objectRef"].get("subresource") == "token"] == []
    looked = {(each["verb"], each["objectRef"]["name"]) for each in asked if each["objectRef"]["resource"] == "secrets"}
    assert looked == {("get", KEPT)}
    assert not any(value in keeper.told() for value in keeper.values)


@on_every_platform
def test_a_run_is_stopped_with_a_secret_that_was_rotated_while_it_was_under_way(scene: Scene, keeper: Keeper) -> None:
    scene.platform.pretend(FOREVER)
    keeper.rotate()
    keeper.workspace()
    run = scene.run(keeper.team).until("Running")
    end_old = keeper.end_old
    keeper.rotate()
    end_old()
    assert scene.platform.expire_tokens(keeper.team.principal)
    run.change(cancel=True)
    run.until("Cancelled")
    assert run.only_remote().result == "cancelled"


@on_every_platform
def test_an_ageing_secret_warns_then_stalls_the_workspace_and_a_new_one_mends_it(scene: Scene, keeper: Keeper) -> None:
    namespace = keeper.team.namespace
    keeper.rotate(made=datetime.now(UTC) - timedelta(days=25))
    keeper.workspace()
    scene.workspace(namespace, "IdentityWorks")
    warned = keeper.conditions()["CredentialExpiring"]
    assert (warned["status"], warned["reason"]) == ("True", "SecretExpiring")
    keeper.workspace(maxAge="20d")
    said = scene.workspace(namespace, "SecretTooOld")
    assert KEPT in said["message"]
    assert "CredentialExpiring" not in keeper.conditions()
    run = scene.run(keeper.team).because("WorkspaceNotReady")
    keeper.rotate()
    keeper.workspace(maxAge="21d")
    scene.workspace(namespace, "IdentityWorks")
    assert "CredentialExpiring" not in keeper.conditions()
    run.until("Succeeded")
    assert scene.events(namespace, keeper.name).count("SecretExpiring") == 1
    assert not any(value in keeper.told() for value in keeper.values)


def test_a_personal_token_runs_as_its_owner_and_is_warned_of(scene: Scene) -> None:
    scene.control.change_user(ADA, entitlements=["workspace-access", "allow-cluster-create"])
    keeper = keeper_of(scene, "PersonalAccessToken")
    keeper.rotate()
    keeper.workspace(allowPersonalAccessToken=True)
    scene.workspace(keeper.team.namespace, "IdentityWorks")
    warned = keeper.conditions()["PersonalAccessToken"]
    assert (warned["status"], warned["reason"]) == ("True", "PersonalAccessTokenInUse")
    run = scene.run(keeper.team).until("Succeeded")
    assert run.only_remote().creator == ADA
    assert [attempt["principal"] for attempt in run.status["attempts"]] == [ADA]
    wait_for("the Event", lambda: "PersonalAccessTokenInUse" in scene.events(keeper.team.namespace, keeper.name), 10)
    assert not any(value in keeper.told() for value in keeper.values)
