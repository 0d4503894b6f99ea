"""Data, secrets, references, identities and what is looked for afterwards."""

from typing import Any

import pytest

from tests.unit.translations import attempt, only_task, refusal, request
from trainyard.platforms.base import RunsAs
from trainyard.platforms.databricks.translate import wanted

ROOTS = {
    "dataRoots": {
        "sales": {"path": "/Volumes/main/sales/raw", "schema": "main.sales"},
        "lake": {"path": "s3://lake/gold"},
        "tables": {"schema": "main.marts"},
    }
}
INPUTS = {"orders": {"table": "data://sales/orders"}, "raw": {"uri": "data://sales/2026"}, "x": {"uri": "s3://b/c"}}
OUTPUTS = {"scores": {"uri": "data://lake/$(params.day)/$(run.attempt)"}, "mart": {"table": "data://tables/scores"}}
SECRETS = {"API_TOKEN": {"store": "vault", "key": "api"}}
STORES = {"secretStores": {"vault": {"databricksScope": "team-a"}}}


def variables(**fields: Any) -> dict[str, str]:
    found: dict[str, str] = only_task(compute={"class": "cluster"}, **fields)["new_cluster"]["spark_env_vars"]
    return found


def test_data_is_told_by_variables_and_by_references() -> None:
    fields: dict[str, Any] = {"workspace": ROOTS, "inputs": INPUTS, "outputs": OUTPUTS, "params": {"day": "7"}}
    told = variables(**fields)
    assert {name: value for name, value in told.items() if "PUT_" in name} == {
        "TRAINYARD_INPUT_ORDERS": "main.sales.orders",
        "TRAINYARD_INPUT_RAW": "/Volumes/main/sales/raw/2026",
        "TRAINYARD_INPUT_X": "s3://b/c",
        "TRAINYARD_OUTPUT_SCORES": "s3://lake/gold/7/1",
        "TRAINYARD_OUTPUT_MART": "main.marts.scores",
    }
    args = ["$(inputs.orders)", "--to=$(outputs.scores)", "$(run.name)/$(run.namespace)/$(run.uid)"]
    task = only_task(**fields, entrypoint={"args": args})
    assert task["spark_python_task"]["parameters"] == [
        "main.sales.orders",
        "--to=s3://lake/gold/7/1",
        "iris/team-a/6a5ee04b-6d47-44e5-8b2f-4fcd20e6b5d0",
    ]
    assert wanted(attempt(**fields)).outputs == {
        "scores": ("s3://lake/gold/7/1", None),
        "mart": (None, "main.marts.scores"),
    }


def test_secrets_are_references_that_only_the_job_cluster_resolves() -> None:
    told = variables(workspace=STORES, secrets=SECRETS)
    assert told["API_TOKEN"] == "{{secrets/team-a/api}}"


@pytest.mark.parametrize("where", ["small", "shared"])
def test_secrets_where_the_platform_gives_none_are_refused_saying_what_to_do(where: str) -> None:
    error = refusal(workspace=STORES, secrets=SECRETS, compute={"class": where})
    assert (error.field, error.reason) == ("spec.secrets", "SecretsNeedJobCluster")
    assert "dbutils.secrets.get('team-a', 'api')" in error.message


REFUSED: list[tuple[dict[str, Any], str, str, str]] = [
    ({"inputs": {"a": {"uri": "data://no/x"}}}, "spec.inputs[a].uri", "DataRootUnknown", "lake, sales, tables"),
    ({"inputs": {"a": {"uri": "data://tables/x"}}}, "spec.inputs[a].uri", "DataRootUnknown", "no path"),
    ({"outputs": {"a": {"table": "data://lake/x"}}}, "spec.outputs[a].table", "DataRootUnknown", "no schema"),
    ({"inputs": {"a": {"uri": "data://sales/../x"}}}, "spec.inputs[a].uri", "InvalidSpec", ".."),
    ({"outputs": {"a": {"uri": "/Volumes/main/x"}}}, "spec.outputs[a].uri", "InvalidSpec", "no volume"),
    ({"outputs": {"a": {"uri": "s3://b/$(params.x)"}}}, "spec.outputs[a].uri", "ParameterUnknown", "none"),
    ({"outputs": {"a": {"uri": "s3://b/$(inputs.x)"}}}, "spec.outputs[a].uri", "ReferenceUnknown", "here"),
    ({"inputs": {"a": {"uri": "s3://b"}, "A": {"uri": "s3://c"}}}, "spec.inputs[A]", "InvalidSpec", "INPUT_A"),
    ({"entrypoint": {"args": ["$(inputs.x)"]}}, "spec.entrypoint.args[0]", "ReferenceUnknown", "spec.inputs"),
    ({"entrypoint": {"args": ["$(run.id)"]}}, "spec.entrypoint.args[0]", "ReferenceUnknown", "attempt, name"),
    ({"entrypoint": {"args": ["$(mlflow.runId)"]}}, "spec.entrypoint.args[0]", "ReferenceUnknown", "MLFLOW_RUN_ID"),
    ({"secrets": {"T": {"store": "x", "key": "k"}}}, "spec.secrets[T].store", "SecretStoreUnknown", "none"),
    ({"secrets": {"MLFLOW_RUN_ID": {"store": "x", "key": "k"}}}, "spec.secrets[MLFLOW_RUN_ID]", "InvalidSpec", "name"),
    ({"secrets": {"TRAINYARD_X": {"store": "x", "key": "k"}}}, "spec.secrets[TRAINYARD_X]", "InvalidSpec", "name"),
    ({"inputs": {"a": {"uri": "s3://b/" + "x" * 510}}}, "spec", "InvalidSpec", "TRAINYARD_INPUT_A is longer than 512"),
    (
        {"inputs": {f"i{n}": {"uri": "s3://b"} for n in range(14)}, "model": {"name": "m"}},
        "spec",
        "InvalidSpec",
        "21 environment variables",
    ),
    (
        {
            "inputs": {f"i{n}": {"uri": "s3://b"} for n in range(15)},
            "secrets": {"T": {"store": "vault", "key": "k"}},
            "workspace": {"secretStores": {"vault": {"databricksScope": "s"}}},
            "compute": {"class": "cluster"},
        },
        "spec",
        "InvalidSpec",
        "21 environment variables",
    ),
    ({"model": {"name": "m", "tags": {"a.b": "c"}}}, "spec.model.tags", "InvalidSpec", "'a.b'"),
    ({"model": {"name": "m", "tags": {"Trainyard_uid": "c"}}}, "spec.model.tags", "InvalidSpec", "operator's"),
]


@pytest.mark.parametrize(("fields", "field", "reason", "words"), REFUSED)
def test_what_has_no_meaning_is_refused_naming_the_field(
    fields: dict[str, Any], field: str, reason: str, words: str
) -> None:
    error = refusal(**{"workspace": ROOTS, **fields})
    assert (error.field, error.reason) == (field, reason)
    assert words in error.message


# Whom the code runs as.

PEOPLE = {
    "trainer": {"servicePrincipal": "sp-2"},
    "ada": {"user": "ada@example.com"},
    "self": {"servicePrincipal": "app-id"},
}
IDENTITIES = [
    ({}, {}, None),
    ({"runAs": "trainer"}, {}, RunsAs("service_principal", "sp-2")),
    ({"runAs": "ada"}, {"required": True}, RunsAs("user", "ada@example.com")),
    ({}, {"default": "trainer"}, RunsAs("service_principal", "sp-2")),
    ({"runAs": "ada"}, {"default": "trainer"}, RunsAs("user", "ada@example.com")),
    ({"runAs": "self"}, {"default": "trainer"}, None),
]


@pytest.mark.parametrize(("spec", "mapping", "runs_as"), IDENTITIES)
def test_code_runs_as_the_named_identity(spec: Any, mapping: Any, runs_as: RunsAs | None) -> None:
    asked = request(workspace={"runAs": {"identities": PEOPLE, **mapping}}, **spec)
    assert asked.runs_as == runs_as
    assert asked.body.get("run_as") == ({f"{runs_as.kind}_name": runs_as.name} if runs_as else None)
    # Uploads and the experiment stay the submitter's.
    assert asked.code_folder.startswith("/Users/app-id/")
    assert asked.experiment == "/Users/app-id/team-a"


@pytest.mark.parametrize(
    ("spec", "mapping", "reason", "words"),
    [
        ({"runAs": "x"}, {}, "RunAsUnknown", "ada, self, trainer"),
        ({}, {"required": True}, "RunAsRequired", "ada, trainer"),
        ({"runAs": "self"}, {"required": True}, "RunAsRequired", "ada, trainer"),
    ],
)
def test_an_identity_that_may_not_be_is_refused(spec: Any, mapping: Any, reason: str, words: str) -> None:
    error = refusal(workspace={"runAs": {"identities": PEOPLE, **mapping}}, **spec)
    assert (error.field, error.reason) == ("spec.runAs", reason)
    assert words in error.message


def test_an_identity_in_a_workspace_without_any_is_refused() -> None:
    assert refusal(runAs="x").reason == "RunAsUnknown"


# What says whose it is.

FACTS = {"cluster": "prod", "commit": "0a1b", "requested_by": "ada@example.com"}


def test_tags_tell_cluster_commit_and_who_asked_as_far_as_they_are_known() -> None:
    tags = request(facts=FACTS).tags
    assert tags["trainyard.dev/cluster"] == "prod"
    assert tags["trainyard.dev/commit"] == "0a1b"
    assert tags["trainyard.dev/requested-by"] == "ada@example.com"
    assert not {"trainyard.dev/cluster", "trainyard.dev/commit", "trainyard.dev/requested-by"} & set(request().tags)


def test_a_model_version_carries_them_in_keys_that_unity_catalog_takes() -> None:
    model = wanted(attempt(model={"name": "m", "tags": {"data": "wine"}}, facts=FACTS)).model
    assert model is not None
    assert model.tags == {
        "data": "wine",
        "trainyard_cluster": "prod",
        "trainyard_namespace": "team-a",
        "trainyard_name": "iris",
        "trainyard_uid": "6a5ee04b-6d47-44e5-8b2f-4fcd20e6b5d0",
        "trainyard_commit": "0a1b",
        "trainyard_requested_by": "ada@example.com",
    }
