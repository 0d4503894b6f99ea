"""Which API server and namespace the client takes: as kubectl would."""

from pathlib import Path

import pytest
import yaml
from kubernetes.config import incluster_config

from trainyard.client import Unreachable, access
from trainyard.client.access import find_access


def kubeconfig(path: Path, *contexts: tuple[str, str | None], current: str | None = None) -> Path:
    """A file with a context, a cluster and a user of each name."""
    made = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}.example"}} for name, _ in contexts],
        "users": [{"name": name, "user": {"token": f"token-of-{name}"}} for name, _ in contexts],
        "contexts": [
            {"name": name, "context": {"cluster": name, "user": name} | ({"namespace": space} if space else {})}
            for name, space in contexts
        ],
    }
    path.write_text(yaml.safe_dump(made | ({"current-context": current} if current else {})))
    return path


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither a kubeconfig of the developer nor a pod around the tests."""
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "POD_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def test_the_current_context_and_its_namespace_are_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = kubeconfig(tmp_path / "a", ("one", "team-one"), ("two", None), current="one")
    monkeypatch.setenv("KUBECONFIG", str(file))
    found = find_access()
    assert (found.api.configuration.host, found.namespace) == ("https://one.example", "team-one")
    other = find_access(context="two")
    assert (other.api.configuration.host, other.namespace) == ("https://two.example", "default")


def test_the_files_in_kubeconfig_are_taken_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = kubeconfig(tmp_path / "a", ("one", "team-one"), current="one")
    second = kubeconfig(tmp_path / "b", ("two", "team-two"))
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'missing'}:{first}:{second}")
    assert find_access().namespace == "team-one"
    assert find_access(context="two").namespace == "team-two"


def test_a_file_that_is_named_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "a", ("one", "team-one"), current="one")))
    named = kubeconfig(tmp_path / "b", ("two", "team-two"), current="two")
    assert find_access(kubeconfig=named).namespace == "team-two"


def test_the_file_in_the_home_directory_is_found(tmp_path: Path) -> None:
    (tmp_path / "home" / ".kube").mkdir(parents=True)
    kubeconfig(tmp_path / "home" / ".kube" / "config", ("one", "team-one"), current="one")
    assert find_access().namespace == "team-one"


def test_in_a_pod_its_own_service_account_and_namespace_are_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, words in (("token", "abc"), ("ca.crt", "pem"), ("namespace", "team-pod\n")):
        (tmp_path / name).write_text(words)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setattr(access, "NAMESPACE_FILE", tmp_path / "namespace")
    loader = incluster_config.InClusterConfigLoader(str(tmp_path / "token"), str(tmp_path / "ca.crt"))
    monkeypatch.setattr(
        "kubernetes.config.load_incluster_config",
        lambda client_configuration: loader.load_and_set(client_configuration),
    )
    monkeypatch.setattr("kubernetes.client.ApiClient", lambda settings: settings)
    found = find_access()
    assert found.api.host == "https://10.0.0.1:443"  # type: ignore[attr-defined]
    assert found.namespace == "team-pod"
    monkeypatch.setenv("POD_NAMESPACE", "team-env")
    assert find_access().namespace == "team-env"


@pytest.mark.parametrize(
    ("text", "context", "words"),
    [
        (None, None, "there is no kubeconfig"),
        (None, "one", "context one was asked for, but there is no kubeconfig"),
        ("kind: [", None, "no way to an API server"),
        ("", None, "no way to an API server"),
        ("apiVersion: v1\nkind: Config\n", None, "no way to an API server"),
    ],
)
def test_no_way_to_a_server_is_told_in_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None, context: str | None, words: str
) -> None:
    if text is not None:
        (tmp_path / "bad").write_text(text)
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "bad"))
    with pytest.raises(Unreachable, match=words):
        find_access(context=context)


def test_a_context_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "a", ("one", None), current="one")))
    with pytest.raises(Unreachable, match="two"):
        find_access(context="two")
    with pytest.raises(Unreachable, match="is not a file"):
        find_access(kubeconfig=tmp_path / "missing")
