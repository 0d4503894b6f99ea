"""What the local control plane promises: it is real, it is alone with itself, and it leaves nothing behind."""

from __future__ import annotations

import base64
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import jwt
import psutil
import pytest
import yaml

from trainyard_localcluster import KubectlError, LocalCluster, LocalClusterError, NotLocalError, require_local
from trainyard_localcluster import cluster as cluster_module
from trainyard_localcluster.api import Api, ApiError
from trainyard_localcluster.cluster import Ports, free_ports
from trainyard_localcluster.errors import AlreadyRunning

COMMAND = [sys.executable, "-m", "trainyard_localcluster.cli"]
START_AND_WAIT = """
import sys
from pathlib import Path
from trainyard_localcluster import LocalCluster
with LocalCluster.start(Path(sys.argv[1])):
    print("ready", flush=True)
    sys.stdin.read()
"""


def until(condition: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.05)


def processes_of(directory: Path) -> list[psutil.Process]:
    """Whatever runs with this directory in its command line, whoever its parent is by now."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(str(directory) in word for word in process.info["cmdline"] or []) and process.pid != os.getpid():
            found.append(process)
    return found


def servers_of(directory: Path) -> list[str]:
    names = {"etcd", "kube-apiserver", "kube-controller-manager"}
    commands = [Path(process.info["cmdline"][0]).name for process in processes_of(directory)]
    return sorted(name for name in commands if name in names)


def nothing_left(directory: Path) -> bool:
    return not processes_of(directory) and not list(directory.iterdir())


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """An empty directory; should a test fail half way, what runs in it ends with the test."""
    directory = tmp_path / "home"
    directory.mkdir()
    yield directory
    for process in processes_of(directory):
        process.kill()


# --- it is a real control plane


def test_anyone_may_read_the_issuers_discovery_document_and_keys_and_nothing_else(cluster: LocalCluster) -> None:
    anyone = Api(cluster.url, cluster.ca_file)
    document = anyone.call("GET", "/.well-known/openid-configuration")
    assert document["issuer"] == cluster.issuer == cluster.url
    assert document["jwks_uri"] == f"{cluster.url}/openid/v1/jwks"
    assert anyone.call("GET", "/openid/v1/jwks")["keys"][0]["alg"] == "RS256"
    for path in (
        "/",
        "/api",
        "/apis",
        "/openapi/v2",
        "/metrics",
        "/api/v1/namespaces",
        "/api/v1/namespaces/default/secrets",
    ):
        with pytest.raises(ApiError) as refused:
            anyone.call("GET", path)
        assert refused.value.status == 403, path


def test_a_service_accounts_token_verifies_against_the_published_keys_and_is_bound_by_rbac(
    cluster: LocalCluster, namespace: str, tmp_path: Path
) -> None:
    cluster.kubectl("create", "serviceaccount", "trainer", "-n", namespace)
    path = cluster.service_account_kubeconfig(namespace, "trainer", tmp_path / "trainer.kubeconfig", seconds=600)
    require_local(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    token = yaml.safe_load(path.read_text())["users"][0]["user"]["token"]
    keys = jwt.PyJWKSet.from_dict(Api(cluster.url, cluster.ca_file).call("GET", "/openid/v1/jwks"))
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, algorithms=["RS256"], audience=cluster.issuer, issuer=cluster.issuer)
    assert claims["sub"] == f"system:serviceaccount:{namespace}:trainer"
    assert claims["exp"] - claims["iat"] == 600
    with pytest.raises(KubectlError, match="cannot list resource"):
        cluster.kubectl("--kubeconfig", str(path), "get", "pods")


def test_no_token_lives_longer_than_a_day(cluster: LocalCluster, namespace: str) -> None:
    cluster.kubectl("create", "serviceaccount", "trainer", "-n", namespace)
    request = {"spec": {"expirationSeconds": 30 * 24 * 3600}}
    answer = cluster.call("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts/trainer/token", request)
    claims = jwt.decode(answer["status"]["token"], options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 24 * 3600


def test_a_dependent_is_collected_and_a_namespace_really_goes(cluster: LocalCluster) -> None:
    name = f"going-{uuid.uuid4().hex[:8]}"
    maps = f"/api/v1/namespaces/{name}/configmaps"
    cluster.kubectl("create", "namespace", name)
    owner = cluster.call("POST", maps, {"metadata": {"name": "owner"}})["metadata"]
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["uid"]}
    cluster.call("POST", maps, {"metadata": {"name": "dependent", "ownerReferences": [reference]}})
    cluster.call("DELETE", f"{maps}/owner")
    cluster.kubectl("wait", "--for=delete", "configmap/dependent", "-n", name, "--timeout=60s")
    cluster.kubectl("delete", "namespace", name, "--timeout=60s")


def test_the_audit_log_has_writes_token_requests_and_looks_at_secrets_but_no_other_reads_and_no_values(
    cluster: LocalCluster, namespace: str, tmp_path: Path
) -> None:
    cluster.kubectl("create", "serviceaccount", "audited", "-n", namespace)
    cluster.kubectl("get", "serviceaccount", "audited", "-n", namespace)
    path = cluster.service_account_kubeconfig(namespace, "audited", tmp_path / "kubeconfig")
    token = yaml.safe_load(path.read_text())["users"][0]["user"]["token"]
    value = uuid.uuid4().hex
    cluster.kubectl("create", "secret", "generic", "audited", "-n", namespace, f"--from-literal=key={value}")
    cluster.kubectl("get", "secret", "audited", "-n", namespace)
    text = cluster.audit_log.read_text()
    events = [yaml.safe_load(line) for line in text.splitlines() if namespace in line and '"audited"' in line]
    asked = [(e["verb"], e["objectRef"]["resource"], e["objectRef"].get("subresource")) for e in events]
    assert asked == [
        ("create", "serviceaccounts", None),
        ("create", "serviceaccounts", "token"),
        ("create", "secrets", None),
        ("get", "secrets", None),
    ]
    reads = [line for line in text.splitlines() if '"verb":"get"' in line]
    assert [line for line in reads if '"resource":"secrets"' not in line] == []
    assert token not in text
    assert value not in text
    assert base64.b64encode(value.encode()).decode() not in text


def test_secrets_are_encrypted_in_etcd_and_nothing_else_is(cluster: LocalCluster, namespace: str) -> None:
    """What is found in etcd has leaked there; what is kept in a Secret is not found."""
    kept, told = uuid.uuid4().hex, uuid.uuid4().hex
    path = f"/api/v1/namespaces/{namespace}"
    cluster.call("POST", f"{path}/secrets", {"metadata": {"name": "kept"}, "stringData": {"key": kept}})
    cluster.call("POST", f"{path}/configmaps", {"metadata": {"name": "told"}, "data": {"key": told}})
    found = cluster.dump_etcd(history=True)
    assert f"/registry/secrets/{namespace}/kept".encode() in found
    assert kept.encode() not in found
    assert told.encode() in found
    read = cluster.call("GET", f"{path}/secrets/kept")["data"]["key"]
    assert base64.b64decode(read).decode() == kept


def test_etcds_contents_can_be_searched_also_for_what_was_overwritten(
    cluster: LocalCluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = uuid.uuid4().hex, uuid.uuid4().hex
    maps = f"/api/v1/namespaces/{namespace}/configmaps"
    cluster.call("POST", maps, {"metadata": {"name": "searched"}, "data": {"value": first}})
    cluster.call("PUT", f"{maps}/searched", {"metadata": {"name": "searched"}, "data": {"value": second}})
    monkeypatch.setattr(cluster_module, "ETCD_PAGE", 7)  # the pages must join without a gap
    now = cluster.dump_etcd()
    assert second.encode() in now
    assert first.encode() not in now
    assert f"/registry/namespaces/{namespace}".encode() in now
    assert b"/registry/apiregistration.k8s.io/apiservices/v1." in now  # the first keys
    assert b"/registry/services/specs/default/kubernetes" in now  # the last ones
    assert first.encode() in cluster.dump_etcd(history=True)


def test_every_process_listens_on_loopback_only(cluster: LocalCluster) -> None:
    assert servers_of(cluster.dir) == ["etcd", "kube-apiserver", "kube-controller-manager"]
    connections = [each for process in processes_of(cluster.dir) for each in process.net_connections(kind="inet")]
    listening = {each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}


# --- its kubeconfig is known, and no other is taken for it


def test_the_kubeconfig_is_private_and_ours(cluster: LocalCluster) -> None:
    assert cluster.kubeconfig == cluster.dir / "kubeconfig"
    assert stat.S_IMODE(cluster.kubeconfig.stat().st_mode) == 0o600
    require_local(cluster.kubeconfig)


@pytest.mark.parametrize(
    ("change", "objection"),
    [
        ({"extensions": []}, "was not made by"),
        ({"extensions": None}, "was not made by"),
        ({"server": "https://10.1.2.3:6443"}, "not at loopback"),
        ({"server": "https://localhost.example.com:6443"}, "not at loopback"),
        ({"server": "http://127.0.0.1:6443"}, "not at loopback"),
        ({"certificate-authority-data": "b3RoZXI="}, "another certificate authority"),
        ({"certificate-authority-data": "x"}, "not base64"),
        ({"proxy-url": "http://10.1.2.3:3128"}, "sets proxy-url"),
        ({"insecure-skip-tls-verify": True}, "sets insecure-skip-tls-verify"),
    ],
)
def test_a_kubeconfig_that_leads_elsewhere_is_refused(
    cluster: LocalCluster, tmp_path: Path, change: dict[str, object], objection: str
) -> None:
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    other = {"name": "other", "cluster": {**config["clusters"][0]["cluster"], **change}}
    config["clusters"].append(other)  # beside a good one: --context could choose it
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(NotLocalError, match=objection):
        require_local(path)


@pytest.mark.parametrize("text", ["", "[]", "clusters: []", "clusters: [1]", "clusters: [{name: x}]", "\t{"])
def test_what_is_no_kubeconfig_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(NotLocalError):
        require_local(path)
    with pytest.raises(NotLocalError, match="cannot be read"):
        require_local(tmp_path / "missing")


def test_a_directory_with_somebody_elses_files_is_left_alone(home: Path) -> None:
    (home / "kubeconfig").write_text("clusters: [{name: production, cluster: {server: https://10.1.2.3}}]")
    with pytest.raises(LocalClusterError, match="somebody else's"):
        LocalCluster.start(home)
    (home / "kubeconfig").unlink()
    (home / "controlplane").mkdir()
    (home / "controlplane" / "thesis.tex").touch()
    with pytest.raises(LocalClusterError, match="was not made by"):
        LocalCluster.start(home)
    assert (home / "controlplane" / "thesis.tex").exists()


# --- it leaves nothing behind


def test_nothing_is_left_when_the_parent_gets_sigkill(home: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", START_AND_WAIT, home], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        assert servers_of(home) == ["etcd", "kube-apiserver", "kube-controller-manager"]
        parent.kill()
    until(lambda: nothing_left(home), "everything to go")


def test_a_fork_of_the_parent_does_not_keep_what_it_started_alive(home: Path) -> None:
    fork_and_wait = (
        "import os, sys; from pathlib import Path; from trainyard_localcluster.supervision import Supervised; "
        "home = Path(sys.argv[1]); (home / 'log').touch(); supervised = Supervised(home); "
        "supervised.start('tail', ['tail', '-f', str(home / 'log')], {'PATH': os.defpath}, home, home / 'tail.log'); "
        "os.write(1, b'%d\\n' % os.fork()); sys.stdin.read()"  # one write each, as both write to one pipe
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", fork_and_wait, home], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with parent:
        assert parent.stdout is not None
        forks = {int(parent.stdout.readline()), int(parent.stdout.readline())} - {0}
        until(lambda: [each for each in processes_of(home) if "tail" in each.info["cmdline"]], "the process to start")
        parent.kill()
        parent.wait()
        until(lambda: {each.pid for each in processes_of(home)} == forks, "all but the fork to end")


def test_nothing_is_left_when_the_supervisor_gets_sigkill_as_well(home: Path) -> None:
    with LocalCluster.start(home) as cluster:
        [supervisor] = [
            each for each in processes_of(home) if any("supervisor.py" in word for word in each.info["cmdline"])
        ]
        supervisor.kill()
        until(lambda: not servers_of(home), "the kernel to end the servers")
        with pytest.raises(LocalClusterError, match="supervising process ended"):
            cluster.check()
    assert nothing_left(home)
    (home / "kubeconfig").write_text("the next owner's")
    cluster.stop()  # again: must not touch what came after it
    assert (home / "kubeconfig").exists()


@pytest.mark.parametrize("moment", ["as it starts", "when it is ready"])
def test_ctrl_c_leaves_nothing(home: Path, moment: str) -> None:
    with subprocess.Popen([*COMMAND, "run", home], stdout=subprocess.PIPE, start_new_session=True) as command:
        assert command.stdout is not None
        if moment == "when it is ready":
            assert command.stdout.readline().decode().strip() == str(home / "kubeconfig")
        else:
            until(lambda: "kube-apiserver" in servers_of(home), "a server to run")
        os.killpg(command.pid, signal.SIGINT)  # as a terminal does: to the whole group
        assert command.wait(30) == (0 if moment == "when it is ready" else 130)
    assert nothing_left(home)


def test_run_ends_with_the_shell_that_started_it(home: Path) -> None:
    shell = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess; subprocess.run({[*COMMAND, 'run', str(home)]})"]
    )
    until((home / "kubeconfig").exists, "the control plane", 60)
    shell.kill()
    shell.wait()
    until(lambda: nothing_left(home), "everything to go")


def test_start_stays_until_stop(home: Path) -> None:
    started = subprocess.run([*COMMAND, "start", "--audit", home], capture_output=True, text=True, check=True)
    assert started.stdout.strip() == str(home / "kubeconfig")
    again = subprocess.run([*COMMAND, "start", home], capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "is running in" in again.stderr
    with pytest.raises(AlreadyRunning):
        LocalCluster.start(home)
    attached = LocalCluster.attach(home)
    assert "default" in attached.kubectl("get", "namespaces", "-o", "name").stdout
    assert attached.audit_log.exists()
    subprocess.run([*COMMAND, "stop", home], check=True)
    assert nothing_left(home)
    with pytest.raises(LocalClusterError, match="no control plane is running"):
        LocalCluster.attach(home)


def test_several_run_side_by_side_from_threads_and_find_another_port_when_theirs_is_taken(
    tmp_path: Path, cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as occupied:
        occupied.bind(("127.0.0.1", 0))
        occupied.listen()
        taken = occupied.getsockname()[1]
        choices = [Ports(taken, free_ports().apiserver), Ports(free_ports().etcd, taken)]
        monkeypatch.setattr(cluster_module, "free_ports", lambda: choices.pop() if choices else free_ports())
        started: list[LocalCluster] = []
        thread = threading.Thread(target=lambda: started.append(LocalCluster.start(tmp_path)))
        thread.start()
        thread.join()  # PR_SET_PDEATHSIG goes by thread: the servers must not go with this one
    [other] = started
    with other:
        assert not choices
        assert other.url != cluster.url
        for each in (cluster, other):
            each.check()
            assert each.kubectl("get", "--raw", "/readyz").stdout == "ok"
        with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):  # each trusts its own authority only
            Api(other.url, cluster.ca_file).fetch("GET", "/readyz")
    assert nothing_left(tmp_path)


def test_a_server_that_ends_is_reported_with_the_end_of_its_log(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        cluster_module, "apiserver_command", lambda programs, *_: [str(programs.apiserver), "--nonsense"]
    )
    with pytest.raises(LocalClusterError, match=r"kube-apiserver ended with 1(.|\n)*unknown flag: --nonsense"):
        LocalCluster.start(home)
    assert nothing_left(home)
