"""What a caller gives to the client, and what is made of it before anything is sent."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from trainyard.api.training_run import MLTrainingRunSpec
from trainyard.client import BadManifest, Run
from trainyard.client.changes import changed, parse_change
from trainyard.client.manifests import copied, differing_fields, in_namespace, planned, read_manifest, to_create

Object = dict[str, Any]
SPEC: Object = {
    "workspaceRef": {"name": "databricks"},
    "code": {"git": {"url": "https://git.example/churn", "ref": "main"}},
    "tasks": [
        {"name": "prepare", "entrypoint": {"pythonFile": "prepare.py"}},
        {"name": "fit", "entrypoint": {"pythonFile": "fit.py", "args": ["--fast", "1"]}, "dependsOn": ["prepare"]},
    ],
    "compute": {"class": "small"},
    "params": {"trees": "100", "a.b": "1"},
    "databricks": {"tags": {"team": "wine"}},
}


def manifest(**meta: Any) -> Object:
    return {"apiVersion": "trainyard.dev/v1alpha1", "kind": "MLTrainingRun", "metadata": meta, "spec": dict(SPEC)}


def stored(spec: Object, **meta: Any) -> Run:
    server = {"namespace": "team", "uid": "u1", "resourceVersion": "7", "creationTimestamp": "2026-11-23T12:00:00Z"}
    return Run({**manifest(**(server | {"name": "churn"} | meta)), "spec": spec, "status": {"phase": "Failed"}})


def test_a_manifest_may_be_a_dict_a_path_or_a_text(tmp_path: Path) -> None:
    given = manifest(name="churn")
    file = tmp_path / "run.yaml"
    file.write_text("---\n" + yaml.safe_dump(given))
    assert read_manifest(given) == read_manifest(file) == read_manifest(str(file)) == given
    assert read_manifest(yaml.safe_dump(given)) == given


def test_what_is_given_is_never_changed() -> None:
    given = manifest(name="churn")
    read_manifest(given)["spec"]["params"]["trees"] = "1"
    planned(given)
    assert given == manifest(name="churn")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: [\n", "no YAML"),
        ("kind: ConfigMap\n", "is no MLTrainingRun"),
        ("- a\n- b\n", "is no MLTrainingRun"),
        ("\n", "has 0 objects"),
        (yaml.safe_dump_all([manifest(name="a"), manifest(name="b")]), "has 2 objects"),
        (yaml.safe_dump(manifest(labels={})), "neither metadata.name nor metadata.generateName"),
        (yaml.safe_dump(manifest(name="a") | {"spec": None}), "has no spec"),
    ],
)
def test_a_text_that_is_no_run_is_refused_with_the_reason(text: str, words: str) -> None:
    with pytest.raises(BadManifest, match=words):
        read_manifest(text)


def test_the_namespace_is_the_manifests_unless_another_was_asked_for() -> None:
    assert in_namespace(manifest(name="a"), "default", None) == "default"
    assert in_namespace(manifest(name="a"), "other", "other") == "other"
    assert in_namespace(manifest(name="a", namespace="team"), "default", None) == "team"
    with pytest.raises(BadManifest, match="namespace team, but other"):
        in_namespace(manifest(name="a", namespace="team"), "other", "other")


def test_an_object_read_from_a_server_can_be_created_again() -> None:
    sent = to_create(dict(stored(SPEC).resource))
    assert sent["metadata"] == {"name": "churn", "namespace": "team"}
    assert "status" not in sent


@pytest.mark.parametrize(
    ("change", "differing"),
    [
        ({}, []),
        ({"cancel": True, "suspend": True, "ttlSecondsAfterFinished": 5, "deletionPolicy": "Orphan"}, []),
        ({"retry": {"limit": 7}}, []),
        ({"retry": {"limit": 7, "when": "Any"}}, ["retry"]),
        ({"model": None}, []),
        ({"params": {"trees": "101"}}, ["params"]),
        ({"experiment": "x", "compute": {"class": "big"}}, ["compute", "experiment"]),
        ({"databricks": {"tags": {"team": "wine"}, "timeout_seconds": None}}, ["databricks"]),
    ],
)
def test_two_specs_ask_for_the_same_run_unless_a_fixed_field_differs(change: Object, differing: list[str]) -> None:
    assert differing_fields(manifest(name="churn") | {"spec": SPEC | change}, stored(SPEC)) == differing


def test_a_copy_has_nothing_of_the_server_nor_of_who_tracks_the_old_one() -> None:
    ours = {"team": "wine", "example.com/cost-centre": "42"}
    theirs = {
        "argocd.argoproj.io/tracking-id": "x",
        "argocd.argoproj.io/instance": "x",
        "kustomize.toolkit.fluxcd.io/name": "x",
        "helm.toolkit.fluxcd.io/name": "x",
        "kubectl.kubernetes.io/last-applied-configuration": "x",
        "applyset.kubernetes.io/part-of": "x",
        "meta.helm.sh/release-name": "x",
        "app.kubernetes.io/managed-by": "Helm",
        "trainyard.dev/requested-by": "ada",
    }
    wishes = {"cancel": True, "suspend": True, "submissionKey": "nightly-1"}
    old = stored(SPEC | wishes, labels=ours | theirs, annotations=theirs, finalizers=["f"], ownerReferences=[{}])
    assert copied(old, "again") == {
        "apiVersion": "trainyard.dev/v1alpha1",
        "kind": "MLTrainingRun",
        "metadata": {"name": "again", "namespace": "team", "labels": ours},
        "spec": SPEC,
    }


def test_a_plan_starts_nothing_and_does_not_stay() -> None:
    given = manifest(name="x" * 80, annotations={"argocd.argoproj.io/tracking-id": "x"})
    made = planned(given | {"spec": SPEC | {"submissionKey": "nightly-1", "suspend": True}})
    assert made["spec"] == SPEC | {"planOnly": True, "ttlSecondsAfterFinished": 600}
    assert made["metadata"] == {"generateName": "x" * 52 + "-plan-"}
    assert planned(manifest(generateName="churn-"))["metadata"] == {"generateName": "churn-plan-"}


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("params.trees=200", ["params", "trees"], "200"),
        ("spec.params.trees=", ["params", "trees"], ""),
        (r"params.a\.b=true", ["params", "a.b"], "true"),
        ("params.new=a=b", ["params", "new"], "a=b"),
        ("compute.class=big", ["compute", "class"], "big"),
        ("timeoutSeconds=60", ["timeoutSeconds"], 60),
        ("suspend=true", ["suspend"], True),
        ("retry.limit=3", ["retry", "limit"], 3),
        ("model={name: churn, alias: best}", ["model"], {"name": "churn", "alias": "best"}),
        ("tasks[1].entrypoint.args[1]=2", ["tasks", 1, "entrypoint", "args", 1], "2"),
        ("tasks[fit].timeoutSeconds=9", ["tasks", 1, "timeoutSeconds"], 9),
        ("databricks.new_cluster.num_workers=2", ["databricks", "new_cluster", "num_workers"], 2),
        ("tasks[fit].databricks.max=1.5", ["tasks", 1, "databricks", "max"], 1.5),
        ("inputs.raw.uri=data://sales/2026", ["inputs", "raw", "uri"], "data://sales/2026"),
    ],
)
def test_a_value_gets_the_type_that_its_field_has(text: str, path: list[str | int], value: object) -> None:
    spec = read_manifest(manifest(name="churn"))["spec"]
    changed(spec, *parse_change(text))
    here: Any = spec
    for part in path:
        here = here[part]
    assert here == value
    assert type(here) is type(value)
    MLTrainingRunSpec.model_validate(spec)


def test_null_takes_a_field_away() -> None:
    spec = read_manifest(manifest(name="churn"))["spec"]
    for text in ("params=null", "model.alias=null", "tasks[prepare]=null", r"databricks.tags.team=null"):
        changed(spec, *parse_change(text))
    assert "params" not in spec
    assert [task["name"] for task in spec["tasks"]] == ["fit"]
    assert spec["databricks"] == {"tags": {}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("params.trees", "write PATH=VALUE"),
        ("=1", "write PATH=VALUE"),
        ("parms.trees=1", "there is no field parms; there are attemptTimeoutSeconds, "),
        ("compute.class.name=1", "there is no field name"),
        ("compute[0]=1", r"\[0\] is looked for in something that is no list"),
        ("tasks[7].name=x", r"no item \[7\]; the list has 2"),
        ("tasks[serve].name=x", r"no item \[serve\]"),
        ("[0]=1", "names no field"),
        ("params.=1", "ends with a dot"),
        ("tasks[=1", "is no path"),
        ("secrets.KEY={", "no YAML"),
    ],
)
def test_a_change_that_can_not_be_made_says_why(text: str, words: str) -> None:
    with pytest.raises(BadManifest, match=words):
        changed(read_manifest(manifest(name="churn"))["spec"], *parse_change(text))
