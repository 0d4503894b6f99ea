"""In the operator's pod the doctor needs no flags: what the chart says to the operator it says to the doctor too."""

import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from trainyard.cli import examining
from trainyard.cli.main import app

TEMPLATE = (Path(__file__).resolve().parents[2] / "charts" / "trainyard" / "templates" / "deployment.yaml").read_text()
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def test_each_argument_of_the_chart_that_the_doctor_has_is_in_its_environment() -> None:
    given = set(re.findall(r'^ +- (?:\{\{ printf ")?(--[a-z-]+)=', TEMPLATE, re.MULTILINE))
    shared = {
        option.opts[0]: option.envvar
        for option in COMMANDS["doctor"].params
        if option.envvar and option.opts[0] in given
    }
    assert set(shared) == {"--allowed-host", "--allowed-issuer", "--azure-cloud", "--databricks-audience"}
    assert [name for name in shared.values() if f"- name: {name}\n" not in TEMPLATE] == []
    assert "- name: TRAINYARD_OPERATOR\n" in TEMPLATE


def test_flags_that_both_have_are_the_same_of_the_operator_and_of_the_doctor() -> None:
    operator = {option.opts[0]: option for option in COMMANDS["operator"].params}
    own = {"--namespace", "--kubeconfig", "--audit-file"}  # of every verb, and of the command line's own requests
    for option in COMMANDS["doctor"].params:
        same = operator.get(option.opts[0])
        if same is not None and option.opts[0] not in own:
            assert (option.envvar, option.default, option.help) == (same.envvar, same.default, same.help)


def test_the_environment_of_the_pod_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[examining.Flags] = []
    monkeypatch.setattr(examining, "examine", lambda *given, **_: taken.append(given[3]))
    environment = {
        "TRAINYARD_OPERATOR": "tools/yard",
        "TRAINYARD_ALLOWED_HOSTS": "a.example b.example:8443",
        "TRAINYARD_ALLOWED_ISSUERS": "https://issuer.example/id",
        "TRAINYARD_DATABRICKS_AUDIENCE": "ours",
        "TRAINYARD_AZURE_CLOUDS": "/etc/one.json /etc/two.json",
        "TRAINYARD_IMDS_ENDPOINT": "http://imds.example",
    }
    assert CliRunner().invoke(app, ["doctor", "databricks"], env=environment).exit_code == 0
    (flags,) = taken
    assert flags.operator == ("tools", "yard")
    assert flags.allowed_hosts == ("a.example", "b.example:8443")
    assert flags.allowed_issuers == ("https://issuer.example/id",)
    assert (flags.databricks_audience, flags.imds_endpoint) == ("ours", "http://imds.example")
    assert flags.azure_clouds == (Path("/etc/one.json"), Path("/etc/two.json"))
