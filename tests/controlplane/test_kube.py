"""The operator's requests, under the chart's rights, to a real API server."""

import base64
import shlex
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

from trainyard.controllers.apiserver import ApiServer
from trainyard.controllers.code import CodeFinder
from trainyard.controllers.kube import RUN, RUN_LOG, ConflictError, ForbiddenError, Kube, NotFoundError
from trainyard.controllers.snapshots import run_snapshot
from trainyard.core.snapshot import Blocked
from trainyard.sources.git import GIT_HOST, GitCredential, GitSource
from trainyard_localcluster import LocalCluster

ROOT = Path(__file__).resolve().parents[2]
SYSTEM = "trainyard-system"


@pytest.fixture(scope="module")
def kube(api: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Kube:
    """Requests as the operator's own ServiceAccount."""
    for kind, path in (("namespaces", "/api/v1"), ("serviceaccounts", f"/api/v1/namespaces/{SYSTEM}")):
        name = SYSTEM if kind == "namespaces" else "trainyard"
        if name not in [each["metadata"]["name"] for each in api.call("GET", f"{path}/{kind}")["items"]]:
            api.call("POST", f"{path}/{kind}", {"metadata": {"name": name}})
    api.kubectl("apply", "-f", str(ROOT / "hack" / "rbac.yaml"))
    file = api.service_account_kubeconfig(SYSTEM, "trainyard", tmp_path_factory.mktemp("kube") / "kubeconfig")
    found = client.Configuration()
    config.load_kube_config(config_file=str(file), client_configuration=found)  # type: ignore[no-untyped-call]
    return Kube(client.ApiClient(found))


def create(api: LocalCluster, namespace: str, name: str = "iris", **spec: Any) -> dict[str, Any]:
    code = {"code": {"inline": "print(1)"}} if "code" not in spec else {}
    full = {"workspaceRef": {"name": "dbx"}, "compute": {"class": "small"}, **code, **spec}
    body = {"apiVersion": "trainyard.dev/v1alpha1", "kind": "MLTrainingRun", "metadata": {"name": name}, "spec": full}
    made: dict[str, Any] = api.call("POST", f"/apis/trainyard.dev/v1alpha1/namespaces/{namespace}/mltrainingruns", body)
    return made


def secret(api: LocalCluster, namespace: str, name: str) -> None:
    data = {key: base64.b64encode(key.encode()).decode() for key in ("username", "password")}
    metadata = {"name": name, "annotations": {GIT_HOST: "github.com"}}
    body = {"metadata": metadata, "type": "kubernetes.io/basic-auth", "data": data}
    api.call("POST", f"/api/v1/namespaces/{namespace}/secrets", body)


def test_a_run_that_has_changed_since_is_not_deleted(api: LocalCluster, kube: Kube, namespace: str) -> None:
    made = create(api, namespace)
    kube.put_finalizers(RUN, made, ["example.com/someone-else"])
    with pytest.raises(ConflictError):
        kube.delete(RUN, made)
    kept = kube.get(RUN, namespace, "iris")
    assert "deletionTimestamp" not in kept["metadata"]
    kube.put_finalizers(RUN, kept, [])
    kube.delete(RUN, kube.get(RUN, namespace, "iris"))
    with pytest.raises(NotFoundError):
        kube.get(RUN, namespace, "iris")


def test_another_run_of_the_same_name_is_not_deleted(api: LocalCluster, kube: Kube, namespace: str) -> None:
    old = create(api, namespace)
    kube.delete(RUN, old)
    new = create(api, namespace)
    with pytest.raises(ConflictError):
        kube.delete(RUN, {"metadata": {**new["metadata"], "uid": old["metadata"]["uid"]}})
    assert kube.get(RUN, namespace, "iris")["metadata"]["uid"] == new["metadata"]["uid"]


def test_the_status_of_a_finished_run_is_written_though_its_code_is_not_remembered(
    api: LocalCluster, kube: Kube, namespace: str
) -> None:
    """The store drops the source of finished runs; what it writes must not drop it in the API server."""
    made = create(api, namespace)
    spec = {name: value for name, value in made["spec"].items() if name != "code"}
    wrote = kube.put_status(RUN, {**made, "spec": spec}, {"phase": "Succeeded"})
    assert wrote["status"]["phase"] == "Succeeded"
    assert kube.get(RUN, namespace, "iris")["spec"] == made["spec"]


def test_a_run_log_is_written_once(api: LocalCluster, kube: Kube, namespace: str) -> None:
    spec = {"runName": "iris", "runUid": "u", "attempt": 1, "at": "2026-11-01T12:00:00Z", "tasks": []}
    body = {
        "apiVersion": "trainyard.dev/v1alpha1",
        "kind": "MLRunLog",
        "metadata": {"name": "iris-1", "namespace": namespace},
        "spec": spec,
    }
    kube.create(RUN_LOG, namespace, body)
    with pytest.raises(ConflictError):
        kube.create(RUN_LOG, namespace, body)
    assert kube.get(RUN_LOG, namespace, "iris-1")["spec"]["runUid"] == "u"


def test_the_operator_knows_itself_and_its_cluster(kube: Kube) -> None:
    assert kube.own_name() == f"system:serviceaccount:{SYSTEM}:trainyard"
    assert len(kube.namespace_uid("kube-system")) == 36
    with pytest.raises(ForbiddenError):
        kube.namespace_uid("default")


class Repository:
    """A private repository, which is told the credential."""

    def __init__(self) -> None:
        self.given: list[GitCredential | None] = []

    def resolve(self, source: GitSource, credential: GitCredential | None) -> str:
        self.given.append(credential)
        return "a" * 40

    def files(self, source: GitSource, commit: str, credential: GitCredential | None) -> dict[str, bytes]:
        return {"main.py": b""}


async def test_what_a_blocked_run_says_about_its_secret_is_what_lets_it_go_on(
    api: LocalCluster, kube: Kube, namespace: str
) -> None:
    """Our own message is followed to the letter; another Secret of the namespace stays closed."""
    for name in ("forge", "other"):
        secret(api, namespace, name)
    code = {"git": {"url": "https://github.com/acme/churn", "secretRef": {"name": "forge"}}}
    run = run_snapshot(create(api, namespace, code=code))
    repository = Repository()
    finder = CodeFinder(ApiServer(kube), repository)
    held = await finder.of(run)
    assert isinstance(held, Blocked)
    assert held.reason == "OperatorForbidden"
    for command in held.message.split("Allow it: ")[1].split(" && "):
        program, *arguments = shlex.split(command)
        assert program == "kubectl"
        api.kubectl(*arguments)
    found = await finder.of(run)
    assert not isinstance(found, Blocked), found
    assert repository.given == [GitCredential("https", "github.com", "username", "password")]
    with pytest.raises(ForbiddenError):
        kube.secret(namespace, "other")
