"""Every validation rule of the CRDs, accepted and refused by a real API server, with the words that people read."""

import json
import re
from collections.abc import Iterator

import pytest
from kubernetes.client import ApiClient, CustomObjectsApi
from kubernetes.client.exceptions import ApiException
from kubernetes.config import new_client_from_config

from crdgen.crds import KINDS, Kind, root_schema
from tests.controlplane import crd_cases
from tests.controlplane.crd_azureml import AZURE_REFUSED_AT_CHANGE, AZURE_REFUSED_AT_CREATION
from tests.controlplane.crd_cases import NEW_RUN, Case
from tests.controlplane.crd_deployment import (
    DEPLOYMENT_CHANGES,
    DEPLOYMENTS_ACCEPTED,
    DEPLOYMENTS_REFUSED,
    DEPLOYMENTS_REFUSED_AT_CHANGE,
    DEPLOYMENTS_REFUSED_TWICE,
)
from tests.controlplane.crd_identity import IDENTITIES_ACCEPTED, IDENTITIES_REFUSED, IDENTITIES_REFUSED_TWICE
from tests.controlplane.crd_patterns import wrong_specs
from tests.controlplane.crd_specs import (
    ADLS_WORKSPACE,
    AZURE_WORKSPACE,
    FULL_AZURE_WORKSPACE,
    FULL_RUN,
    FULL_WORKSPACE,
    GIT_RUN,
    JOB_RUN,
    NAMED_JOB_RUN,
    NOTEBOOK_RUN,
    PATH_RUN,
    PIPELINE_RUN,
    RUN,
    RUN_LOG,
    S3_WORKSPACE,
    SCRIPTS_RUN,
    SWEEP_RUN,
    TASKS,
    TASKS_RUN,
    WHEEL_FILE_RUN,
    WHEEL_RUN,
    WORKSPACE,
    Object,
    patched,
)
from trainyard.api.base import API_VERSION, GROUP, VERSION
from trainyard_localcluster import LocalCluster
from trainyard_localcluster.api import ApiError

REFUSED_AT_CREATION = [
    *crd_cases.REFUSED_AT_CREATION,
    *AZURE_REFUSED_AT_CREATION,
    *IDENTITIES_REFUSED,
    *DEPLOYMENTS_REFUSED,
]
REFUSED_TWICE = [*IDENTITIES_REFUSED_TWICE, *DEPLOYMENTS_REFUSED_TWICE]
REFUSED_AT_CHANGE = [*crd_cases.REFUSED_AT_CHANGE, *AZURE_REFUSED_AT_CHANGE, *DEPLOYMENTS_REFUSED_AT_CHANGE]
SHAPES = (
    GIT_RUN,
    PATH_RUN,
    NOTEBOOK_RUN,
    WHEEL_RUN,
    WHEEL_FILE_RUN,
    JOB_RUN,
    NAMED_JOB_RUN,
    TASKS_RUN,
    SCRIPTS_RUN,
    SWEEP_RUN,
    PIPELINE_RUN,
)


class Server:
    """Creates and replaces resources, as a dry run where that will do: it validates in full and leaves nothing."""

    def __init__(self, client: ApiClient, namespace: Object) -> None:
        self._api = CustomObjectsApi(client)
        self.namespace: str = namespace["metadata"]["name"]
        self._left_in_the_cluster: list[tuple[str, str]] = []

    def clean(self) -> None:
        """Removes what does not go with the namespace."""
        for plural, name in self._left_in_the_cluster:
            self._api.delete_cluster_custom_object(GROUP, VERSION, plural, name)

    def create(self, kind: str, spec: Object, dry_run: bool = True) -> Object:
        body = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"generateName": "test-"}, "spec": spec}
        options: Object = {"dry_run": "All"} if dry_run else {}
        if kind == "ClusterMLWorkspace":
            made = self._api.create_cluster_custom_object(GROUP, VERSION, f"{kind.lower()}s", body, **options)
            if not dry_run:
                self._left_in_the_cluster.append((f"{kind.lower()}s", made["metadata"]["name"]))
        else:
            made = self._api.create_namespaced_custom_object(
                GROUP, VERSION, self.namespace, f"{kind.lower()}s", body, **options
            )
        return dict(made)

    def replace(self, existing: Object, spec: Object) -> Object:
        body, plural = existing | {"spec": spec}, existing["kind"].lower() + "s"
        name, options = existing["metadata"]["name"], {"dry_run": "All"}
        if existing["kind"] == "ClusterMLWorkspace":
            return dict(self._api.replace_cluster_custom_object(GROUP, VERSION, plural, name, body, **options))
        return dict(
            self._api.replace_namespaced_custom_object(GROUP, VERSION, self.namespace, plural, name, body, **options)
        )


@pytest.fixture(scope="session")
def client(api: LocalCluster) -> Iterator[ApiClient]:
    with new_client_from_config(str(api.kubeconfig)) as made:
        yield made


@pytest.fixture(scope="module")
def server(api: LocalCluster, client: ApiClient) -> Iterator[Server]:
    made = Server(client, api.call("POST", "/api/v1/namespaces", {"metadata": {"generateName": "test-"}}))
    yield made
    made.clean()
    api.call("DELETE", f"/api/v1/namespaces/{made.namespace}")


def complaints(error: ApiException) -> list[tuple[str, str]]:
    """The field and the words of each reason that the server gives."""
    assert error.status == 422, error.body
    causes = json.loads(error.body)["details"]["causes"]
    return [(cause["field"], cause["message"]) for cause in causes]


@pytest.mark.parametrize("case", REFUSED_AT_CREATION, ids=str)
def test_a_mistake_is_refused_at_creation_in_words_that_say_what_to_do(server: Server, case: Case) -> None:
    with pytest.raises(ApiException) as caught:
        server.create(case.kind, patched(case.base, case.patch))
    [(field, words)] = complaints(caught.value)
    assert field == case.field
    assert words.endswith(case.message)


@pytest.mark.parametrize(("kind", "spec", "said"), REFUSED_TWICE)
def test_one_mistake_that_breaks_two_rules_is_told_by_both(
    server: Server, kind: str, spec: Object, said: set[tuple[str, str]]
) -> None:
    with pytest.raises(ApiException) as caught:
        server.create(kind, spec)
    assert {(field, words.partition(": ")[2]) for field, words in complaints(caught.value)} == said


@pytest.mark.parametrize("case", REFUSED_AT_CHANGE, ids=str)
def test_what_may_not_change_is_refused_in_words_that_say_what_to_do(server: Server, case: Case) -> None:
    existing = server.create(case.kind, case.base, dry_run=False)
    with pytest.raises(ApiException) as caught:
        server.replace(existing, patched(case.base, case.patch))
    [(field, words)] = complaints(caught.value)
    assert field == case.field
    assert words.endswith(case.message)


def test_every_rule_of_every_crd_is_refused_by_a_case_above() -> None:
    rules = {(kind.name, *rule) for kind in KINDS for rule in rules_in(root_schema(kind)["properties"]["spec"], "spec")}
    cases = REFUSED_AT_CREATION + REFUSED_AT_CHANGE
    refused = {(case.kind, re.sub(r"\[.*?\]", "[]", case.field), case.message) for case in cases}
    refused |= {(kind, *each) for kind, _, said in REFUSED_TWICE for each in said}
    assert rules - refused == set()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.status is not None], ids=lambda kind: kind.name)
def test_every_pattern_refuses_what_it_is_there_to_refuse(server: Server, kind: Kind) -> None:
    accepted = []
    for field in patterns_in(root_schema(kind)["properties"]["spec"], "spec"):
        for spec, path in wrong_specs(kind.name, field):
            if not refused_by_pattern(server, kind.name, spec, path):
                accepted.append((path, spec))
    assert accepted == []


def refused_by_pattern(server: Server, kind: str, spec: Object, path: str) -> bool:
    try:
        server.create(kind, spec)
    except ApiException as error:
        return any(field == path and "should match" in words for field, words in complaints(error))
    return False


def patterns_in(node: Object, path: str) -> Iterator[str]:
    """Every field that has a pattern."""
    if "pattern" in node:
        yield path
    for name, child in node.get("properties", {}).items():
        yield from patterns_in(child, f"{path}.{name}")
    for inner in ("items", "additionalProperties"):
        if inner in node:
            yield from patterns_in(node[inner], f"{path}[]")


def rules_in(node: Object, path: str) -> Iterator[tuple[str, str]]:
    """The field that each rule blames, and its message."""
    for rule in node.get("x-kubernetes-validations", []):
        yield path + rule.get("fieldPath", ""), rule["message"]
    for name, child in node.get("properties", {}).items():
        yield from rules_in(child, f"{path}.{name}")
    for inner in ("items", "additionalProperties"):
        if inner in node:
            yield from rules_in(node[inner], f"{path}[]")


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("MLTrainingRun", RUN),
        ("MLTrainingRun", FULL_RUN),
        ("MLTrainingRun", patched(RUN, {"code": {"inline": None, "configMap": {"name": "code"}}})),
        *(("MLTrainingRun", spec) for spec in SHAPES),
        ("MLTrainingRun", patched(TASKS_RUN, {"compute": None, "tasks": [TASKS[1] | {"dependsOn": []}]})),
        ("MLTrainingRun", {"workspaceRef": {"name": "team"}, "tasks": [TASKS[3] | {"dependsOn": []}]}),
        ("MLTrainingRun", FULL_RUN | {"tasks": []}),
        ("MLTrainingRun", JOB_RUN | {"tasks": []}),
        ("MLTrainingRun", patched(NOTEBOOK_RUN, {"entrypoint": {"args": []}})),
        ("MLTrainingRun", RUN | {"timeoutSeconds": 10, "attemptTimeoutSeconds": 10, "queueTimeoutSeconds": 10}),
        ("MLTrainingRun", RUN | {"attemptTimeoutSeconds": 10}),
        ("MLTrainingRun", RUN | {"retry": {"backoffSeconds": 600}}),
        ("MLTrainingRun", RUN | {"retry": {"maxBackoffSeconds": 30}}),
        ("MLTrainingRun", RUN | {"model": {"name": "m", "alias": "v1-candidate"}}),
        ("MLTrainingRun", RUN | {"params": {"p" * 63: "x"}, "tags": {"t" * 63: "x"}, "cancel": True}),
        ("MLWorkspace", WORKSPACE),
        ("MLWorkspace", patched(WORKSPACE, {"databricks": {"host": "https://127.0.0.1:8443"}})),
        ("MLWorkspace", FULL_WORKSPACE),
        ("MLWorkspace", S3_WORKSPACE),
        ("MLWorkspace", ADLS_WORKSPACE),
        ("MLWorkspace", AZURE_WORKSPACE),
        ("MLWorkspace", FULL_AZURE_WORKSPACE),
        ("ClusterMLWorkspace", FULL_AZURE_WORKSPACE | {"allowedNamespaces": ["team-a"]}),
        ("ClusterMLWorkspace", WORKSPACE),
        ("ClusterMLWorkspace", FULL_WORKSPACE | {"allowedNamespaces": ["team-a", "team-b"]}),
        *IDENTITIES_ACCEPTED,
        *DEPLOYMENTS_ACCEPTED,
    ],
)
def test_what_is_right_is_accepted_and_stored_as_it_was_written(server: Server, kind: str, spec: Object) -> None:
    assert server.create(kind, spec)["spec"] == spec


@pytest.mark.parametrize(
    ("base", "patch"),
    [
        (RUN, {"cancel": True}),
        (FULL_RUN, {"cancel": True}),
        *((FULL_RUN, {"suspend": suspend}) for suspend in (True, None)),
        (RUN, {"suspend": True}),
        *((FULL_RUN, {"ttlSecondsAfterFinished": ttl}) for ttl in (0, None)),
        (RUN, {"ttlSecondsAfterFinished": 60}),
        *((spec, {"cancel": True}) for spec in SHAPES),
        (RUN | {"cancel": False}, {"cancel": True}),
        (RUN | {"cancel": True}, {"retry": {"limit": 0}}),
        (FULL_RUN, {"deletionPolicy": "Orphan"}),
        (RUN, {"deletionPolicy": "Orphan"}),
        (FULL_RUN, {"deletionPolicy": None}),
        (FULL_RUN, {"retry": {"limit": 5}}),
        (FULL_RUN, {"retry": {"limit": None}}),
        (RUN, {"retry": {"limit": 5}}),
        (RUN | {"retry": {"limit": 5}}, {"retry": None}),
        (FULL_RUN, {}),
    ],
)
def test_what_may_change_in_a_run_changes(server: Server, base: Object, patch: Object) -> None:
    existing = server.create("MLTrainingRun", base, dry_run=False)
    assert server.replace(existing, patched(base, patch))["spec"] == patched(base, patch)


def test_what_may_change_in_a_workspace_changes(server: Server) -> None:
    existing = server.create("MLWorkspace", FULL_WORKSPACE, dry_run=False)
    assert server.replace(existing, WORKSPACE)["spec"] == WORKSPACE


@pytest.mark.parametrize(("base", "patch"), DEPLOYMENT_CHANGES, ids=lambda each: "+".join(each))
def test_what_may_change_in_a_deployment_changes_and_changes_back(server: Server, base: Object, patch: Object) -> None:
    changed = patched(base, patch)
    assert changed != base
    for before, after in ((base, changed), (changed, base)):
        existing = server.create("ModelDeployment", before, dry_run=False)
        assert server.replace(existing, after)["spec"] == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"budget_policy_id": "a"}, {"performance_target": "b"}),
        ({"task": {"libraries": []}}, {"queue": {"enabled": True}}),
        ({"task": {"libraries": []}}, {"task": {"health": {}}}),
    ],
)
def test_a_key_swap_in_the_databricks_block_passes_cel_so_that_only_the_digest_sees_it(
    server: Server, before: Object, after: Object
) -> None:
    """CEL's equality skips a key that one side lacks, in the block itself and in task, as long as the counts agree.

    This pins what the API server does, because Stalled/SpecChanged exists for it. If it ever fails, the API server
    has learned to compare these keys, and the operator's comparison of digests is no longer the only guard.
    """
    existing = server.create("MLTrainingRun", RUN | {"databricks": before}, dry_run=False)
    assert server.replace(existing, RUN | {"databricks": after})["spec"]["databricks"] == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"queue": {"enabled": True}}, {"queue": {"other": True}}),
        ({"task": {"new_cluster": {"a": "x"}}}, {"task": {"new_cluster": {"b": "x"}}}),
    ],
)
def test_a_key_swap_deeper_in_the_databricks_block_is_refused(server: Server, before: Object, after: Object) -> None:
    existing = server.create("MLTrainingRun", RUN | {"databricks": before}, dry_run=False)
    with pytest.raises(ApiException) as caught:
        server.replace(existing, RUN | {"databricks": after})
    assert complaints(caught.value) == [("spec.databricks", f"Forbidden: databricks {NEW_RUN}")]


def test_null_in_the_azure_block_is_kept_as_well(server: Server) -> None:
    block = {"queueSettings": None, "resources": {"dockerArgs": None}}
    assert server.create("MLTrainingRun", RUN | {"azureML": block})["spec"]["azureML"] == block


def test_null_in_the_databricks_block_is_kept_because_rfc_7396_removes_with_it(server: Server) -> None:
    block = {"queue": None, "task": {"libraries": None}}
    assert server.create("MLTrainingRun", RUN | {"databricks": block})["spec"]["databricks"] == block


@pytest.mark.parametrize(("options", "kept"), [(["--server-side"], True), ([], False)])
def test_kubectl_apply_sends_a_null_only_from_the_server_side(
    api: LocalCluster, server: Server, options: list[str], kept: bool
) -> None:
    """Pins what the cookbook says of null in the databricks block; client-side apply takes it for a deletion."""
    metadata = {"name": f"null-{len(options)}", "namespace": server.namespace}
    spec = RUN | {"databricks": {"task": {"new_cluster": {"num_workers": None, "autoscale": {"max_workers": 2}}}}}
    body = {"apiVersion": API_VERSION, "kind": "MLTrainingRun", "metadata": metadata, "spec": spec}
    api.kubectl("apply", *options, "-f", "-", input=json.dumps(body))
    found = api.call("GET", f"/apis/{API_VERSION}/namespaces/{server.namespace}/mltrainingruns/{metadata['name']}")
    assert ("num_workers" in found["spec"]["databricks"]["task"]["new_cluster"]) is kept


def test_kubectl_knows_the_short_names_and_the_category(api: LocalCluster) -> None:
    served = api.call("GET", f"/apis/{API_VERSION}")["resources"]
    assert {each["name"]: (each["shortNames"], each["categories"]) for each in served if "shortNames" in each} == {
        "mltrainingruns": (["mltr"], ["trainyard"]),
        "modeldeployments": (["mldep"], ["trainyard"]),
        "mlrunlogs": (["mlrl"], ["trainyard"]),
        "mlworkspaces": (["mlws"], ["trainyard"]),
        "clustermlworkspaces": (["cmlws"], ["trainyard"]),
    }


def test_kubectl_explain_describes_the_deepest_fields(api: LocalCluster) -> None:
    # Full names: kubectl takes short ones from its cache, which may be older than the CRDs.
    for path, words in {
        "mltrainingruns.spec.databricks.task.max_retries": "Refused: use spec.retry",
        "mltrainingruns.spec.retry.backoffSeconds": "doubled for each later one",
        "modeldeployments.spec.rollout.steps.checks.bounds.minRequests": "the step waits for them",
        "modeldeployments.spec.models.scaleToZero": "not on Azure ML",
        "mltrainingruns.spec.tasks.retry.limit": "Number of times that it is tried again",
        "mltrainingruns.spec.code.git.secretRef.name": "the one host that may be sent it",
        "mlworkspaces.spec.logDestination.s3.roleArn": "AssumeRoleWithWebIdentity",
        "mlrunlogs.spec.tasks.text": "tokens blanked out",
        "clustermlworkspaces.spec.computeClasses.jobCluster": "Access mode",
    }.items():
        assert words in " ".join(api.kubectl("explain", path).stdout.split())


def test_kubectl_get_shows_the_columns(api: LocalCluster, server: Server) -> None:
    server.create("MLTrainingRun", RUN, dry_run=False)
    server.create("MLWorkspace", WORKSPACE, dry_run=False)
    assert "PRINCIPAL" in api.kubectl("get", "mlworkspaces", "-n", server.namespace).stdout
    head = api.kubectl("get", "mltrainingruns", "-n", server.namespace).stdout.splitlines()[0].split("  ")
    assert [title.strip() for title in head if title.strip()] == [
        "NAME",
        "PHASE",
        "WORKSPACE",
        "ATTEMPT",
        "DURATION",
        "AGE",
    ]
    assert "REMOTE ID" in api.kubectl("get", "mltrainingruns", "-n", server.namespace, "-o", "wide").stdout


def test_a_log_is_kept_as_it_was_written_and_has_no_status(api: LocalCluster, server: Server) -> None:
    made = server.create("MLRunLog", RUN_LOG, dry_run=False)
    assert made["spec"] == RUN_LOG
    head, row = api.kubectl("get", "mlrl", "-n", server.namespace).stdout.splitlines()
    assert head.split() == ["NAME", "RUN", "ATTEMPT", "AGE"]
    assert row.split()[1:3] == ["iris", "2"]
    path = f"/apis/{API_VERSION}/namespaces/{server.namespace}/mlrunlogs/{made['metadata']['name']}/status"
    with pytest.raises(ApiError, match="404"):
        api.call("GET", path)
