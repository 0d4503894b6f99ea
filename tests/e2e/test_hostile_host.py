"""Assertions go only where they belong: a hostile host gets none, because none is even minted.

The API server's audit log is the witness for what was minted, and a listener of our own for what was sent elsewhere.
"""

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

import pytest

from stand import wait_for
from tests.e2e.scene import Scene


@dataclass
class Elsewhere:
    """A port of somebody else's: notes who connects, and answers nothing."""

    server: socket.socket
    visits: list[Any] = field(default_factory=list)

    @property
    def host(self) -> str:
        return f"https://127.0.0.1:{self.server.getsockname()[1]}"

    def listen(self) -> None:
        while True:
            try:
                connection, peer = self.server.accept()
            except OSError:
                return
            self.visits.append(peer)
            connection.close()


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    """The other host."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        made = Elsewhere(server)
        listener = Thread(target=made.listen)
        listener.start()
        yield made
        server.shutdown(socket.SHUT_RDWR)
        listener.join()


def minted(scene: Scene, namespace: str) -> list[str]:
    """ServiceAccounts of that namespace that the operator requested tokens of."""
    return [
        record["objectRef"]["name"]
        for record in scene.api_requests(namespace)
        if (record["objectRef"]["resource"], record["objectRef"].get("subresource")) == ("serviceaccounts", "token")
    ]


def assert_nothing_was_minted(scene: Scene, namespace: str) -> None:
    """Proved on a log that is known to have reached the end: it holds the writes that came after the refusal."""
    wait_for("the audit log", lambda: any("status" in str(r["objectRef"]) for r in scene.api_requests(namespace)))
    assert minted(scene, namespace) == []


def test_a_good_host_gets_an_assertion_and_the_log_would_show_it(scene: Scene) -> None:
    team = scene.team()
    scene.workspace(team.namespace, "IdentityWorks")
    assert minted(scene, team.namespace) == ["trainer"]


def test_a_host_off_the_allow_list_is_not_even_asked(scene: Scene, elsewhere: Elsewhere) -> None:
    team = scene.team(host=elsewhere.host)
    condition = scene.workspace(team.namespace, "HostNotAllowed")
    assert elsewhere.host.removeprefix("https://") in condition["message"]
    run = scene.run(team).because("WorkspaceNotReady")
    assert "HostNotAllowed" in run.message
    assert_nothing_was_minted(scene, team.namespace)
    assert elsewhere.visits == []


@pytest.mark.parametrize("document", ["metadata", "oidc"])
def test_a_token_endpoint_elsewhere_gets_no_assertion(scene: Scene, elsewhere: Elsewhere, document: str) -> None:
    field_of = {"metadata": "oidc_endpoint", "oidc": "token_endpoint"}
    scene.control.override_discovery(**{document: {field_of[document]: f"{elsewhere.host}/oidc"}})
    team = scene.team()
    condition = scene.workspace(team.namespace, "TokenEndpointNotAllowed")
    assert elsewhere.host.removeprefix("https://") in condition["message"]
    assert_nothing_was_minted(scene, team.namespace)
    assert elsewhere.visits == []


@pytest.mark.parametrize("path", ["/.well-known/databricks-config", "/oidc/.well-known/.*"])
def test_a_discovery_document_that_redirects_is_refused(scene: Scene, elsewhere: Elsewhere, path: str) -> None:
    scene.control.add_fault("redirect", path, times=0, location=f"{elsewhere.host}/")
    team = scene.team()
    condition = scene.workspace(team.namespace, "RedirectRefused")
    assert "redirects" in condition["message"]
    assert_nothing_was_minted(scene, team.namespace)
    assert elsewhere.visits == []


def test_a_token_endpoint_that_redirects_is_not_followed(scene: Scene, elsewhere: Elsewhere) -> None:
    scene.control.add_fault("redirect", "/oidc/v1/token", times=0, location=f"{elsewhere.host}/token")
    team = scene.team()
    scene.workspace(team.namespace, "RedirectRefused")
    assert elsewhere.visits == []


def test_an_api_that_redirects_gets_no_token_elsewhere(scene: Scene, elsewhere: Elsewhere) -> None:
    scene.control.add_fault("redirect", "/api/.*", times=0, location=f"{elsewhere.host}/api")
    team = scene.team()
    scene.workspace(team.namespace, "RedirectRefused")
    assert elsewhere.visits == []


def test_a_service_account_that_has_not_opted_in_is_not_used(scene: Scene) -> None:
    namespace = scene.namespace()
    scene.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "trainer", "namespace": namespace}},
        scene.stand.workspace(namespace),
    )
    condition = scene.workspace(namespace, "ServiceAccountNotOptedIn")
    assert "trainyard.dev/databricks-client-id" in condition["message"]
    assert_nothing_was_minted(scene, namespace)


class TestSharedWorkspace:
    """A ClusterMLWorkspace: each namespace with its own ServiceAccount, and only those that it allows."""

    NAME = "shared"

    @pytest.fixture
    def namespaces(self, scene: Scene) -> Iterator[tuple[str, str]]:
        """A namespace that the shared workspace allows, and one that it does not."""
        allowed, other = scene.team(), scene.team()
        spec = scene.stand.workspace(allowed.namespace)["spec"]
        scene.apply(
            {
                "apiVersion": "trainyard.dev/v1alpha1",
                "kind": "ClusterMLWorkspace",
                "metadata": {"name": self.NAME},
                "spec": {**spec, "allowedNamespaces": [allowed.namespace]},
            }
        )
        for namespace in (allowed.namespace, other.namespace):
            scene.workspace(namespace, "IdentityWorks")
        yield allowed.namespace, other.namespace
        scene.cluster.kubectl("delete", "cmlws", self.NAME, "--wait=false")

    def test_an_allowed_namespace_runs_as_its_own_service_account(
        self, scene: Scene, namespaces: tuple[str, str]
    ) -> None:
        allowed, other = namespaces
        before = minted(scene, other)
        run = scene.run(allowed, workspaceRef={"kind": "ClusterMLWorkspace", "name": self.NAME}).until("Succeeded")
        assert run.status["identity"]["serviceAccount"] == f"{allowed}/trainer"
        assert run.only_remote().creator == run.status["identity"]["submittedAs"]
        assert minted(scene, other) == before

    def test_another_namespace_is_refused_and_nobody_elses_service_account_is_used(
        self, scene: Scene, namespaces: tuple[str, str]
    ) -> None:
        allowed, other = namespaces
        before = minted(scene, allowed), minted(scene, other)
        run = scene.run(other, workspaceRef={"kind": "ClusterMLWorkspace", "name": self.NAME}).until("Stalled")
        assert run.reason == "NamespaceNotAllowed"
        assert (minted(scene, allowed), minted(scene, other)) == before
        assert run.remote() == []
