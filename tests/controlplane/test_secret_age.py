"""How old a real API server says that a Secret's data is, and what its records can not tell."""

import base64
import io
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kubernetes.config import new_client_from_config

from trainyard.api.identity import SECRET_REF, Identity
from trainyard.audit.log import AuditLog
from trainyard.controllers.kube import Kube
from trainyard.core.errors import IdentityError
from trainyard.identity.base import SecretRef
from trainyard.identity.hosts import HostPolicy
from trainyard.identity.secret_age import CHANGED_AT
from trainyard.identity.secret_reading import OPT_IN
from trainyard.identity.secret_ref import SecretMode
from trainyard_localcluster import LocalCluster

NAME = "kept"
OAUTH = "DatabricksOAuthSecret"
DATA = {"client-id": "app", "client-secret": "first"}


@pytest.fixture(scope="module")
def kube(api: LocalCluster) -> Iterator[Kube]:
    """Requests as an administrator: what the operator's rights are is no matter here."""
    with new_client_from_config(str(api.kubeconfig)) as client:
        yield Kube(client)


class Team:
    """One Secret in a namespace of its own, as people and programs write it."""

    def __init__(self, api: LocalCluster, kube: Kube, namespace: str) -> None:
        self._api, self._kube, self.namespace = api, kube, namespace

    def apply(self, manager: str, labels: dict[str, str] | None = None, **data: str) -> None:
        """By server-side apply, as External Secrets writes (it forces, as it owns what it writes)."""
        body = self._body(DATA | {key.replace("_", "-"): value for key, value in data.items()})
        body["metadata"] |= {"labels": labels or {}, "annotations": {OPT_IN: OAUTH}}
        options = ("--server-side", "--force-conflicts", f"--field-manager={manager}")
        self._kubectl("apply", *options, "-f", "-", input=json.dumps(body))

    def patch(self, **data: str) -> None:
        """As a person does it."""
        self._kubectl("patch", "secret", NAME, "-p", json.dumps({"data": self._body(data)["data"]}))

    def label(self, value: str) -> None:
        self._kubectl("label", "--overwrite", "secret", NAME, f"note={value}")

    def annotate(self, name: str, value: str) -> None:
        self._kubectl("annotate", "--overwrite", "secret", NAME, f"{name}={value}")

    def changed_at(self) -> datetime:
        return self._kube.secret_data(SecretRef(self.namespace, NAME)).changed_at

    def _kubectl(self, *arguments: str, **options: Any) -> None:
        """After the second in which the API server last wrote: its records have no more than seconds."""
        time.sleep(1.01 - time.time() % 1)
        self._api.kubectl(*arguments, "-n", self.namespace, **options)

    def _body(self, data: dict[str, str]) -> dict[str, Any]:
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        metadata: dict[str, Any] = {"name": NAME, "namespace": self.namespace}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": encoded}


@pytest.fixture
def team(api: LocalCluster, kube: Kube, namespace: str) -> Team:
    made = Team(api, kube, namespace)
    made.apply("external-secrets")
    return made


def test_new_data_is_as_new_as_its_writing(team: Team) -> None:
    first = team.changed_at()
    assert timedelta(0) <= datetime.now(UTC) - first < timedelta(minutes=1)
    team.patch(**{"client-secret": "second"})
    second = team.changed_at()
    assert second > first
    team.apply("external-secrets", client_secret="third")
    assert team.changed_at() > second


def test_what_others_do_beside_the_data_does_not_make_it_new(team: Team) -> None:
    first = team.changed_at()
    team.label("x")
    team.annotate("example.com/note", "y")
    team.annotate(CHANGED_AT, "2030-01-01T00:00:00Z")
    assert team.changed_at() == first


def test_a_vault_that_applies_the_same_data_again_does_not_make_it_new(team: Team) -> None:
    first = team.changed_at()
    for _ in range(2):
        team.apply("external-secrets")
    assert team.changed_at() == first


@pytest.fixture
def start(kube: Kube) -> Callable[[], SecretMode]:
    """The mode of an operator that has just started."""
    return lambda: SecretMode(kube, HostPolicy(), AuditLog(io.StringIO()))


def asked(mode: SecretMode, team: Team, max_age: str) -> str:
    """Why the Secret is refused, or "" where it may be used."""
    given = {"name": NAME, "type": OAUTH, "maxAge": max_age}
    try:
        mode.speaker(Identity.model_validate({SECRET_REF: given}), team.namespace, "databricks")
    except IdentityError as error:
        return error.reason
    return ""


def test_an_annotation_makes_the_data_older_and_never_newer(team: Team, start: Callable[[], SecretMode]) -> None:
    mode = start()
    assert asked(mode, team, "1h") == ""
    team.annotate(CHANGED_AT, (datetime.now(UTC) - timedelta(hours=2)).isoformat())
    assert asked(mode, team, "1h") == "SecretTooOld"
    team.annotate(CHANGED_AT, (datetime.now(UTC) + timedelta(days=400)).isoformat())
    assert asked(mode, team, "1h") == ""
    assert asked(mode, team, "1s") == "SecretTooOld"


@pytest.mark.parametrize("rewrite", ["another writer", "a label of its own"])
def test_data_that_the_record_makes_look_new_stays_as_old_as_the_operator_knows_it(
    team: Team, start: Callable[[], SecretMode], rewrite: str
) -> None:
    """The API server dates all that a writer owns by the writer's last change, and a writer's first by itself.

    This pins what the API server does, because the operator's memory exists for it; an operator that starts afterwards
    knows only the record.
    """
    first, mode = team.changed_at(), start()
    assert asked(mode, team, "1h") == ""
    if rewrite == "another writer":
        team.apply("somebody-else")
    else:
        team.apply("external-secrets", labels={"touched": "yes"})
    assert team.changed_at() > first
    time.sleep(max(0.0, 4.0 - (datetime.now(UTC) - first).total_seconds()))
    age = f"{int((datetime.now(UTC) - first).total_seconds())}s"
    assert asked(mode, team, age) == "SecretTooOld"
    assert asked(start(), team, age) == ""
