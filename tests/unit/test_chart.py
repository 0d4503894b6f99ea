"""What the chart promises without Helm: few rights, known values, the CRDs of this checkout."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from trainyard.cli.main import app
from trainyard.identity import clouds

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "trainyard"
RULES = [rule for file in sorted((CHART / "files/rbac").glob("*.yaml")) for rule in yaml.safe_load(file.read_text())]
WITHOUT_TEMPLATE = re.compile(r"^\s*\{\{.*\}\}\n", re.MULTILINE)


def test_the_operator_has_no_wildcard_and_no_secrets() -> None:
    granted = {word for rule in RULES for words in rule.values() for word in words}
    assert RULES
    assert not {"*", "secrets", "impersonate", "escalate", "bind"} & granted


def test_secrets_are_granted_only_where_an_administrator_says_so_and_are_never_listed() -> None:
    template = (CHART / "templates/rbac.yaml").read_text()
    [guarded] = re.findall(r"\{\{- if \.Values\.git\.readSecrets \}\}\n(.*?)\{\{- end \}\}", template, re.DOTALL)
    [rule] = yaml.safe_load(guarded)
    assert (rule["resources"], rule["verbs"]) == (["secrets"], ["get"])
    assert template.count("secrets") == guarded.count("secrets")
    assert yaml.safe_load((CHART / "values.yaml").read_text())["git"]["readSecrets"] is False


def test_the_one_namespace_that_may_be_read_is_the_one_that_names_the_cluster() -> None:
    [rule] = [rule for rule in RULES if "namespaces" in rule["resources"]]
    assert (rule["verbs"], rule["resourceNames"]) == (["get"], ["kube-system"])


def test_no_field_is_given_twice_to_the_operators_container() -> None:
    container = (CHART / "templates/deployment.yaml").read_text().split("containers:")[1].split("\n      volumes:")[0]
    fields = [line.strip() for line in container.splitlines() if re.fullmatch(r" {10}[a-zA-Z]+:.*", line)]
    assert "env:" in fields
    assert len(fields) == len(set(fields))


def test_the_operator_writes_only_what_it_owns() -> None:
    writes = {
        (resource, verb)
        for rule in RULES
        for resource in rule["resources"]
        for verb in set(rule["verbs"]) - {"get", "list", "watch"}
    }
    ours = ("mltrainingruns", "mlworkspaces", "clustermlworkspaces")
    assert writes == {
        *((name, "patch") for name in ours),
        *((f"{name}/status", "update") for name in ours),
        ("mltrainingruns", "delete"),
        ("mlrunlogs", "create"),
        ("events", "create"),
        ("serviceaccounts/token", "create"),
    }


def test_tokens_are_granted_apart_from_everything_else() -> None:
    token = yaml.safe_load((CHART / "files/rbac/token.yaml").read_text())
    assert [rule for rule in RULES if "serviceaccounts/token" in rule["resources"]] == token
    assert [rule["resources"] for rule in token] == [["serviceaccounts/token"]]


def test_every_value_is_in_the_values_schema_and_no_other_is_accepted() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    schema["properties"].pop("global")  # Helm puts it there by itself
    compare(yaml.safe_load((CHART / "values.yaml").read_text()), schema, "values")


def compare(values: dict[str, Any], schema: dict[str, Any], path: str) -> None:
    assert schema["additionalProperties"] is False, path
    assert values.keys() == schema["properties"].keys(), path
    for name, value in values.items():
        if "properties" in schema["properties"][name]:
            compare(value, schema["properties"][name], f"{path}.{name}")


@pytest.mark.parametrize("keep", [True, False])
def test_the_charts_crds_are_those_of_the_checkout(keep: bool) -> None:
    text = (CHART / "templates/crds.yaml").read_text()
    if not keep:
        text = re.sub(r"  \{\{- if .Values.crds.keep \}\}\n.*?\{\{- end \}\}\n", "", text, flags=re.DOTALL)
    crds = [each for each in yaml.safe_load_all(WITHOUT_TEMPLATE.sub("", text)) if each]
    for crd in crds:
        annotations = crd["metadata"].pop("annotations", {})
        assert annotations == ({"helm.sh/resource-policy": "keep"} if keep else {})
    assert crds == [
        yaml.safe_load((ROOT / "crds" / f"{crd['spec']['names']['plural']}.yaml").read_text()) for crd in crds
    ]
    assert len(crds) == len(list((ROOT / "crds").glob("*.yaml")))


def test_the_chart_installs_the_version_of_this_checkout() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (version, version)


def test_a_cloud_of_the_values_is_what_the_operator_reads() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]["azureML"]["properties"]["clouds"]
    assert tuple(schema["items"]["required"]) == clouds.FIELDS
    assert set(schema["items"]["properties"]) == {*clouds.FIELDS, *clouds.OPTIONAL}
    assert schema["items"]["additionalProperties"] is False


def test_the_operator_finds_its_clouds_where_the_chart_puts_them() -> None:
    deployment = (CHART / "templates/deployment.yaml").read_text()
    [flag] = re.findall(r"--azure-cloud=(\S+)/\{\{ \.name \}\}\.json", deployment)
    [mounted] = re.findall(r"- name: azure-clouds\n\s+mountPath: (\S+)", deployment)
    assert flag == mounted
    name = '{{ include "trainyard.fullname" . }}-azure-clouds'
    made = (CHART / "templates/azure-clouds.yaml").read_text()
    assert f"name: {name}" in deployment
    assert f"name: {name}" in made
    assert "{{ .name }}.json: {{ . | toJson | quote }}" in made


def test_the_operator_knows_every_flag_that_the_chart_gives_it() -> None:
    given = set(re.findall(r"- (--[a-z-]+)", (CHART / "templates/deployment.yaml").read_text()))
    command = typer.main.get_command(app)
    known = {option for each in command.commands["operator"].params for option in each.opts}
    assert "--all-namespaces" in given
    assert given - known == set()
