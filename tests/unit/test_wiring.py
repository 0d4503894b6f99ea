"""How an operator is put together from its flags: what it calls its cluster, and where it fetches source to."""

import io
import os
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import pytest
from typer.testing import CliRunner

from trainyard.api.identity import MODES
from trainyard.audit.log import AuditLog
from trainyard.cli.environment import drop_foreign_credentials
from trainyard.cli.main import app
from trainyard.cli.wiring import (
    USAGE,
    _built,
    _cluster_name,
    _repositories,
    run_operator,
)
from trainyard.controllers.kube import ForbiddenError, Kube, KubeError
from trainyard.controllers.settings import OperatorSettings
from trainyard.identity.hosts import HostPolicy
from trainyard.identity.modes import IdentitySettings, modes


class Namespaces:
    """An API server that knows, or does not tell, the uid of kube-system."""

    host = "https://10.0.0.1:6443"

    def __init__(self, answer: str | KubeError) -> None:
        self.answer = answer

    def namespace_uid(self, name: str) -> str:
        assert name == "kube-system"
        if isinstance(self.answer, KubeError):
            raise self.answer
        return self.answer


def name(answer: str | KubeError, **settings: str) -> str:
    return _cluster_name(OperatorSettings(**settings), cast(Kube, Namespaces(answer)))  # type: ignore[arg-type]


def test_a_cluster_is_called_by_what_stays_when_its_address_changes() -> None:
    assert name("4f0e") == "4f0e"


def test_an_administrators_name_goes_first() -> None:
    assert name(ForbiddenError("403"), cluster_name="prod") == "prod"


def test_an_operator_that_may_not_read_the_uid_still_starts() -> None:
    assert name(ForbiddenError("403")) == "https://10.0.0.1:6443"


def test_a_passing_trouble_gives_the_cluster_no_other_name() -> None:
    """It would lose sight of what it has uploaded."""
    with pytest.raises(KubeError):
        name(KubeError("the API server answered 503"))


def test_what_is_fetched_lies_in_a_folder_that_goes_with_the_operator() -> None:
    with ExitStack() as stack:
        folder = _repositories(OperatorSettings(), stack)._work_dir
        assert folder.is_dir()
    assert not folder.exists()


def test_a_folder_of_ones_own_stays(tmp_path: Path) -> None:
    with ExitStack() as stack:
        _repositories(OperatorSettings(git_work_dir=tmp_path / "git"), stack)
    assert (tmp_path / "git").is_dir()


def test_certificates_that_are_not_there_are_told_at_the_start(tmp_path: Path) -> None:
    with ExitStack() as stack, pytest.raises(ValueError, match="--git-ca-file"):
        _repositories(OperatorSettings(git_ca_file=tmp_path / "ca.pem"), stack)


@pytest.mark.parametrize("text", ["", "{}", '{"name": "AzurePublic"}'])
def test_a_cloud_that_can_not_be_read_is_told_at_the_start(tmp_path: Path, text: str) -> None:
    file = tmp_path / "cloud.json"
    file.write_text(text)
    with ExitStack() as stack, pytest.raises(ValueError, match=r"--azure-cloud .*cloud\.json"):
        _built(OperatorSettings(azure_clouds=(file,)), stack)


def test_what_the_environment_says_of_platforms_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = [
        "DATABRICKS_TOKEN",
        "AZURE_CLIENT_SECRET",
        "AZURE_AUTHORITY_HOST",
        "AZUREML_CURRENT_CLOUD",
        "MSI_ENDPOINT",
    ]
    ours = ["TRAINYARD_AZURE_CLOUDS", "REQUESTS_CA_BUNDLE", "HTTPS_PROXY"]
    for name in [*foreign, *ours]:
        monkeypatch.setenv(name, "x")
    drop_foreign_credentials()
    assert [name for name in foreign if name in os.environ] == []
    assert [name for name in ours if name not in os.environ] == []


def test_what_azures_webhook_says_is_kept_for_the_one_mode_and_dropped_for_all_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An SDK that found the variables would sign in with them by itself."""
    monkeypatch.setenv("AZURE_CLIENT_ID", "lent")
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", "/var/run/secrets/azure/tokens/azure-identity-token")
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com/")
    monkeypatch.setattr("trainyard.telemetry.logs.configure", lambda _: None)
    built: list[OperatorSettings] = []

    def stop(settings: OperatorSettings, _stack: ExitStack) -> None:
        assert not [name for name in os.environ if name.startswith("AZURE_")]
        built.append(settings)
        raise ValueError("enough")

    monkeypatch.setattr("trainyard.cli.wiring._built", stop)
    assert run_operator(OperatorSettings(identity=IdentitySettings(databricks_audience="ours"))) == USAGE
    [settings] = built
    assert settings.identity.databricks_audience == "ours"
    said = settings.identity.workload
    assert (said.client_id, said.token_file, said.authority) == (
        "lent",
        "/var/run/secrets/azure/tokens/azure-identity-token",
        "https://login.microsoftonline.com/",
    )


def test_every_mode_of_the_schema_is_one_that_an_operator_has() -> None:
    made = modes(cast(Kube, None), HostPolicy(), AuditLog(io.StringIO()), IdentitySettings())
    assert set(made) == set(MODES)


def test_an_endpoint_that_is_none_is_told_at_the_start() -> None:
    with pytest.raises(ValueError, match="--imds-endpoint"):
        modes(
            cast(Kube, None),
            HostPolicy(),
            AuditLog(io.StringIO()),
            IdentitySettings(imds_endpoint="https://imds.example"),
        )


def test_the_flag_of_the_metadata_service_reaches_the_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[OperatorSettings] = []

    def run(settings: OperatorSettings) -> int:
        given.append(settings)
        return 0

    monkeypatch.setattr("trainyard.cli.wiring.run_operator", run)
    for arguments, endpoint in (
        ([], "http://169.254.169.254"),
        (["--imds-endpoint", "http://127.0.0.1:1"], "http://127.0.0.1:1"),
    ):
        assert CliRunner().invoke(app, ["operator", "--all-namespaces", *arguments]).exit_code == 0
        assert given.pop().identity.imds_endpoint == endpoint
