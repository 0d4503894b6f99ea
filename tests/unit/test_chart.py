"""What the chart promises without Helm: few rights, known values, the CRDs of this checkout."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from crdgen.rights import rights_in
from trainyard.api.identity import AZURE_WORKLOAD_IDENTITY, FEDERATED, MANAGED_IDENTITY, MODES, OIDC, SECRET_REF
from trainyard.cli.main import app
from trainyard.identity import clouds
from trainyard.identity.base import AZURE_WORKLOAD_CLIENT_ID

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "trainyard"
RIGHTS = CHART / "files/rbac"
MODE_FILES = sorted((RIGHTS / "modes").glob("*.yaml"))
RULES = [rule for file in sorted(RIGHTS.glob("*.yaml")) for rule in yaml.safe_load(file.read_text())]
ALL_RULES = RULES + [rule for file in MODE_FILES for rule in yaml.safe_load(file.read_text())]
WITHOUT_TEMPLATE = re.compile(r"^\s*\{\{.*\}\}\n", re.MULTILINE)


def test_the_operator_has_no_wildcard_and_without_an_identity_that_needs_one_no_secret() -> None:
    assert RULES
    assert not {"secrets", "serviceaccounts", "serviceaccounts/token"} & words_of(RULES)
    assert not {"*", "impersonate", "escalate", "bind"} & words_of(ALL_RULES)


def words_of(rules: list[dict[str, Any]]) -> set[str]:
    return {word for rule in rules for words in rule.values() for word in words}


def rules_of(mode: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((RIGHTS / "modes" / f"{mode}.yaml").read_text())
    return found


def test_each_identity_mode_has_a_file_of_what_it_needs() -> None:
    assert {file.stem for file in MODE_FILES} == set(MODES)


def test_the_rights_to_secrets_are_the_same_whichever_mode_reads_them_and_bound_by_name() -> None:
    """One template grants them for both modes, from identity.secrets alone."""
    assert rules_of(OIDC) == rules_of(SECRET_REF)
    template = (CHART / "templates/rbac-identity.yaml").read_text()
    before, _, granted = template.partition("{{- range $secret := .Values.identity.secrets }}")
    assert "modes/secretRef.yaml" not in before
    assert '(dict "resourceNames" (list $secret.name))' in granted
    assert "namespace: {{ $secret.namespace }}" in granted
    assert "ClusterRole" not in granted
    assert yaml.safe_load((CHART / "values.yaml").read_text())["identity"]["secrets"] == []


def test_no_identity_lists_or_watches_secrets_or_service_accounts() -> None:
    held = {verb for file in MODE_FILES for rule in yaml.safe_load(file.read_text()) for verb in rule["verbs"]}
    assert held == {"get", "create"}
    assert rules_of(FEDERATED)
    assert rules_of(AZURE_WORKLOAD_IDENTITY) == rules_of(MANAGED_IDENTITY) == []


def test_a_rule_that_does_not_say_what_it_is_for_is_no_rule(tmp_path: Path) -> None:
    (tmp_path / "mute.yaml").write_text('- apiGroups: [""]\n  resources: [pods]\n  verbs: [get]\n')
    with pytest.raises(ValueError, match="what for"):
        rights_in(tmp_path / "mute.yaml")


def test_the_tests_operator_has_what_the_chart_grants_and_no_secret() -> None:
    """Federation is bound for every ServiceAccount; Secrets by name only, where a test needs one."""
    documents = yaml.safe_load_all((ROOT / "hack" / "rbac.yaml").read_text())
    assert [rule for each in documents for rule in each.get("rules", [])] == RULES + rules_of(FEDERATED)


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
    ours = ("mltrainingruns", "mlworkspaces", "modeldeployments", "clustermlworkspaces")
    assert writes == {
        *((name, "patch") for name in ours),
        *((f"{name}/status", "update") for name in ours),
        ("mltrainingruns", "delete"),
        ("mlrunlogs", "create"),
        ("events", "create"),
    }


def test_tokens_are_granted_by_name_unless_all_are_allowed() -> None:
    template = (CHART / "templates/rbac-identity.yaml").read_text()
    everyone, _, named = template.partition("{{- else }}\n")
    assert everyone.count("modes/federated.yaml") == 1
    assert "{{- if .Values.identity.allServiceAccounts }}" in everyone
    assert '(dict "resourceNames" (list $account.name))' in named
    assert [rule["resources"] for rule in rules_of(FEDERATED)] == [["serviceaccounts"], ["serviceaccounts/token"]]


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
    given = set(re.findall(r'- (?:\{\{ printf ")?(--[a-z-]+)', (CHART / "templates/deployment.yaml").read_text()))
    command = typer.main.get_command(app)
    known = {option for each in command.commands["operator"].params for option in each.opts}
    assert "--all-namespaces" in given
    assert given - known == set()


def test_no_value_that_is_free_text_can_become_other_yaml() -> None:
    """`prod #1` would be cut off without a word, `a: b` be no argument at all."""
    deployment = (CHART / "templates/deployment.yaml").read_text()
    bare = set(re.findall(r"- (--[a-z-]+)=[^\n]*\{\{", deployment))
    numbers = {"--git-seconds", "--git-max-bytes", "--git-max-files", "--log-characters"}
    # Words of a list, and names for which the values' schema has a pattern.
    assert bare == numbers | {"--log-format", "--namespace", "--azure-cloud"}
    assert re.findall(r'- \{\{ printf "--[a-z-]+=%s" [.A-Za-z]+ \}\}', deployment) == []


def test_one_value_has_aks_give_the_operator_its_workload_identity() -> None:
    """The webhook looks for the label at the pod and for the annotation at its ServiceAccount."""
    deployment = (CHART / "templates/deployment.yaml").read_text()
    account = (CHART / "templates/serviceaccount.yaml").read_text()
    [(pod, label)] = re.findall(
        r"\{\{- if \.Values\.azureWorkloadIdentity\.clientId \}\}\n( +)(.*)\n\s+\{\{- end \}\}", deployment
    )
    assert (len(pod), label) == (8, 'azure.workload.identity/use: "true"')
    template = deployment.split("  template:")[1].split("      containers:")[0]
    assert label in template.split("labels:")[1].split("annotations:")[0]
    assert label not in deployment.split("  template:")[0]  # the selector can not be changed later
    [given] = re.findall(
        r"\{\{- with \.Values\.azureWorkloadIdentity\.clientId \}\}\n\s+(.*)\n\s+\{\{- end \}\}", account
    )
    assert given == f"{AZURE_WORKLOAD_CLIENT_ID}: {{{{ . | quote }}}}"
    assert "{{- if or .Values.azureWorkloadIdentity.clientId .Values.serviceAccount.annotations }}" in account
    assert yaml.safe_load((CHART / "values.yaml").read_text())["azureWorkloadIdentity"] == {"clientId": ""}


@pytest.mark.parametrize(
    ("given", "fits"), [("", True), ("3f2504e0-4f89-11d3-9a0c-0305e82c3301", True), ("two words", False), ("-x", False)]
)
def test_the_chart_takes_what_the_schema_of_a_workspace_takes_for_a_client_id(given: str, fits: bool) -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]["azureWorkloadIdentity"]
    assert (re.search(schema["properties"]["clientId"]["pattern"], given) is not None) == fits
