"""The rights that a request asks for: each once, of whoever needs it."""

from typing import Any

import pytest

from tests.unit.translations import NOTEBOOK, request, step
from trainyard.platforms.base import Need
from trainyard.platforms.databricks import needs

ME = "app-id"


def asked(*args: Any, **kwargs: Any) -> list[tuple[str, str, str, str]]:
    return [(need.kind, need.name, need.right, need.holder) for need in request(*args, **kwargs).needs]


def fields(*args: Any, **kwargs: Any) -> dict[tuple[str, str], str]:
    return {(need.kind, need.right): need.field for need in request(*args, **kwargs).needs}


RUN_AS = {"runAs": {"identities": {"it": {"servicePrincipal": "sp-2"}, "ada": {"user": "ada@example.com"}}}}


def test_a_plain_serverless_run_asks_for_nothing() -> None:
    assert asked() == []


def test_a_model_asks_for_its_catalog_schema_and_registration() -> None:
    assert asked(model={"name": "m", "alias": "best"}) == [
        ("catalog", "main", "USE CATALOG", ME),
        ("schema", "main.ml", "USE SCHEMA", ME),
        ("model", "main.ml.m", needs.REGISTER, ME),
        ("model", "main.ml.m", needs.SET_TAGS, ME),
        ("model", "main.ml.m", needs.SET_ALIAS, ME),
    ]
    assert fields(model={"name": "m", "alias": "best"})[("model", needs.SET_ALIAS)] == "spec.model.alias"


def test_the_code_s_identity_registers_and_the_submitter_tags() -> None:
    found = asked(workspace=RUN_AS, runAs="it", model={"name": "m"})
    assert ("service-principal", "sp-2", "servicePrincipal.user", ME) in found
    assert ("model", "main.ml.m", needs.REGISTER, "sp-2") in found
    assert ("model", "main.ml.m", needs.SET_TAGS, ME) in found
    assert {("schema", "main.ml", "USE SCHEMA", who) for who in (ME, "sp-2")} <= set(found)


def test_running_as_a_user_takes_an_admin() -> None:
    assert asked(workspace=RUN_AS, runAs="ada")[0] == ("user", "ada@example.com", "workspace admin", ME)


DATA = [
    ({"inputs": {"x": {"uri": "/Volumes/a/b/c/d"}}}, ("volume", "a.b.c", "READ VOLUME")),
    ({"outputs": {"x": {"uri": "dbfs:/Volumes/a/b/c"}}}, ("volume", "a.b.c", "WRITE VOLUME")),
    ({"inputs": {"x": {"table": "a.b.t"}}}, ("table", "a.b.t", "SELECT")),
    ({"outputs": {"x": {"table": "a.b.t"}}}, ("table", "a.b.t", needs.WRITE)),
    (
        {"inputs": {"x": {"uri": "abfss://c@a.dfs.core.windows.net/d"}}},
        ("external-location", "abfss://c@a.dfs.core.windows.net/d", "READ FILES"),
    ),
    ({"outputs": {"x": {"uri": "s3://b/d"}}}, ("external-location", "s3://b/d", "WRITE FILES")),
]


@pytest.mark.parametrize(("spec", "need"), DATA)
def test_data_asks_for_its_own_right_and_all_above_it(spec: Any, need: tuple[str, str, str]) -> None:
    found = asked(workspace=RUN_AS, runAs="it", **spec)[1:]
    assert found[-1] == (*need, "sp-2")
    above = [] if need[0] == "external-location" else [("catalog", "a", "USE CATALOG"), ("schema", "a.b", "USE SCHEMA")]
    assert found[:-1] == [(*each, "sp-2") for each in above]


@pytest.mark.parametrize("uri", ["https://example.com/x.csv", "dbfs:/tmp/x", "hdfs://x/y"])
def test_what_unity_catalog_does_not_guard_asks_for_nothing(uri: str) -> None:
    assert asked(inputs={"x": {"uri": uri}}) == []


def test_sample_tables_are_everybody_s() -> None:
    assert asked(inputs={"x": {"table": "samples.nyctaxi.trips"}, "y": {"table": "hive_metastore.a.b"}}) == []


def test_data_of_one_schema_asks_for_the_schema_once() -> None:
    found = asked(inputs={"x": {"table": "a.b.t"}, "y": {"table": "a.b.u"}, "z": {"uri": "/Volumes/a/b/c/d"}})
    assert len(found) == len(set(found)) == 5


def test_code_on_the_platform_has_to_be_readable() -> None:
    assert asked({}, code={"path": "/Workspace/Shared/x"}) == [
        ("workspace-path", "/Workspace/Shared/x", "CAN_READ", ME)
    ]
    wheel = asked({}, code={"wheel": {"path": "/Volumes/a/b/c/x-1.whl"}}, entrypoint={"module": "x"})
    assert wheel[-2:] == [
        ("volume", "a.b.c", "READ VOLUME", ME),
        ("volume-path", "/Volumes/a/b/c/x-1.whl", "EXISTS", ME),
    ]


NODES = {"nodeTypeId": "m", "driverNodeTypeId": "d", "sparkVersion": "v", "dataSecurityMode": "SINGLE_USER"}
POOL = {"instancePoolId": "p", "driverInstancePoolId": "q", "sparkVersion": "v", "dataSecurityMode": "SINGLE_USER"}
COMPUTE = [
    (
        {"jobCluster": NODES},
        [
            ("workspace", needs.THIS, "allow-cluster-create"),
            ("node-type", "m", "EXISTS"),
            ("node-type", "d", "EXISTS"),
            ("spark-version", "v", "EXISTS"),
        ],
    ),
    (
        {"jobCluster": {**POOL, "policyId": "pol"}},
        [
            ("cluster-policy", "pol", "CAN_USE"),
            ("instance-pool", "p", "CAN_ATTACH_TO"),
            ("instance-pool", "q", "CAN_ATTACH_TO"),
            ("spark-version", "v", "EXISTS"),
        ],
    ),
    ({"serverless": {"environmentVersion": "5", "budgetPolicyId": "b"}}, [("budget-policy", "b", "budgetPolicy.user")]),
]


@pytest.mark.parametrize(("shape", "rights"), COMPUTE)
def test_new_compute_is_the_submitter_s_to_make(shape: Any, rights: list[tuple[str, str, str]]) -> None:
    found = request(workspace={**RUN_AS, "computeClasses": {"it": shape}}, compute={"class": "it"}, runAs="it").needs
    assert [(each.kind, each.name, each.right) for each in found][1:] == rights
    assert {(each.holder, each.field) for each in found[1:]} == {(ME, "spec.compute.class")}


def test_what_an_override_asks_for_is_asked_for() -> None:
    found = asked(
        compute={"class": "cluster"}, databricks={"task": {"new_cluster": {"policy_id": "p", "node_type_id": None}}}
    )
    assert ("cluster-policy", "p", "CAN_USE", ME) in found
    assert not {"workspace", "node-type"} & {kind for kind, *_ in found}


def test_a_running_cluster_jobs_and_secrets_are_used_by_whoever_the_code_runs_as() -> None:
    found = request(
        {"n.py": NOTEBOOK, "main.py": b""},
        workspace={**RUN_AS, "secretStores": {"vault": {"databricksScope": "s"}}},
        runAs="it",
        tasks=[
            step("a", compute={"class": "shared"}),
            step("b", jobRef={"id": "7"}),
            step("c", jobRef={"name": "nightly"}),
        ],
    ).needs
    assert found[1:] == (
        Need("cluster", "0123-456789-abc", "CAN_ATTACH_TO", "sp-2", "spec.tasks[a].compute.class"),
        Need("job", "7", "CAN_MANAGE_RUN", "sp-2", "spec.tasks[b].jobRef.id"),
        Need("job-name", "nightly", "CAN_MANAGE_RUN", "sp-2", "spec.tasks[c].jobRef.name"),
    )
    secret = request(
        workspace={**RUN_AS, "secretStores": {"vault": {"databricksScope": "s"}}},
        runAs="it",
        compute={"class": "cluster"},
        secrets={"T": {"store": "vault", "key": "k"}},
    ).needs
    assert Need("secret", "s/k", "READ", "sp-2", "spec.secrets[T]") in secret
