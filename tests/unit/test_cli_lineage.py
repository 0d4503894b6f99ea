"""Where a served model came from, and where a run's model is served; also when the run has gone."""

from collections.abc import Callable

import pytest

from tests.unit.deployments import DATABRICKS, ORIGIN, deployment, endpoint, rolling, served, training
from trainyard.cli.lineage import deployment_document, deployment_node, drawn, run_document, run_node
from trainyard.client import NotAllowed, NotFound, Run
from trainyard.client.lineage import Runs, of_deployment, of_run

SERVED = served("3", "forest-aaaa", 100, 100, origin=ORIGIN)
FOREST = deployment("Ready", endpoint=endpoint(), servedModels=[SERVED])


def finding(run: Run | None) -> Callable[[str, str], Run | None]:
    return lambda _namespace, name: run if run is not None and run.name == name else None


def test_a_served_version_leads_to_run_code_data_person_and_workspace() -> None:
    (found,) = of_deployment(FOREST, finding(training()))
    made = found.made
    assert (found.model, found.version, found.served_traffic) == ("main.ml.forest", "3", 100)
    assert (made.run, made.there, made.phase) == ("forest-3", True, "Succeeded")
    assert (made.source, made.commit, made.code_digest) == (
        "https://git.example/wine.git main",
        "4f1c2a9",
        "sha256:c0de",
    )
    assert [(each.name, each.place) for each in made.data] == [("wines", "main.lake.wines")]
    assert (made.requested_by, made.submitted_as) == ("ada@example.com", "sp-trainer")
    assert made.workspace == "MLWorkspace/databricks"


def test_what_the_status_remembers_is_told_when_the_run_is_deleted() -> None:
    (found,) = of_deployment(FOREST, finding(None))
    assert (found.made.run, found.made.there, found.made.commit) == ("forest-3", False, "4f1c2a9")
    assert found.made.submitted_as == "sp-trainer"
    assert found.made.data == ()
    assert "run        forest-3 (deleted)" in "\n".join(drawn(deployment_node(FOREST, [found])))


def test_another_run_of_that_name_is_not_taken_for_it() -> None:
    (found,) = of_deployment(FOREST, finding(training(uid="another")))
    assert not found.made.there
    assert found.made.data == ()


def test_what_the_endpoint_does_not_tell_is_taken_from_the_revision_that_it_is_of() -> None:
    old, new = of_deployment(rolling(), finding(None))
    assert (old.made.run, new.made.run) == ("forest-3", None)
    tree = "\n".join(drawn(deployment_node(rolling(), [old, new])))
    assert "95 % of 90 %" in tree
    assert "not known: the version was not registered by a run of Trainyard" in tree


def test_a_run_leads_to_every_deployment_that_serves_its_model() -> None:
    other = deployment("Ready", name="other", endpoint=endpoint(), servedModels=[served("9", "forest-9", 100, 100)])
    found = of_run("forest-3", "team", training(), [FOREST, rolling(), other])
    assert [(each.deployment.name, each.version, each.served_traffic) for each in found.served_by] == [
        ("wine", "3", 100),
        ("wine", "3", 95),
    ]
    assert (found.model, found.version) == ("main.ml.forest", "3")


def test_the_version_that_it_registered_there_is_its_own_also_where_nobody_noted_the_run() -> None:
    attempt = {
        "number": 1,
        "submissionToken": "t",
        "platform": "databricks",
        "host": DATABRICKS,
        "principal": "sp-1",
        "mode": "federated",
        "specDigest": "d",
        "codeDigest": "d",
        "intendedAt": "2026-11-23T12:00:00Z",
    }
    by_version = deployment("Ready", endpoint=endpoint(), servedModels=[served("3", "forest-aaaa", 100, 100)])
    elsewhere = deployment(
        "Ready",
        endpoint=endpoint(host="https://adb-2.2.azuredatabricks.net"),
        servedModels=[served("3", "x", 100, 100)],
    )
    assert len(of_run("forest-3", "team", training(attempts=[attempt]), [by_version, elsewhere]).served_by) == 1


def test_a_deleted_run_still_leads_to_what_serves_its_model() -> None:
    found = of_run("forest-3", "team", None, [FOREST])
    assert (found.made.there, found.model, len(found.served_by)) == (False, "main.ml.forest", 1)
    assert "run/forest-3  team  deleted" in "\n".join(drawn(run_node(found)))
    with pytest.raises(NotFound, match="no run team/forest-4"):
        of_run("forest-4", "team", None, [FOREST])


def test_a_deleted_run_is_not_taken_for_another_namespaces_of_that_name() -> None:
    theirs = served("7", "forest-7", 100, 100, origin=ORIGIN | {"uid": "their-uid"})
    elsewhere = deployment("Ready", name="theirs", namespace="b", endpoint=endpoint(), servedModels=[theirs])
    shared = deployment("Ready", name="shared", namespace="b", endpoint=endpoint(), servedModels=[SERVED])
    assert [
        each.deployment.name for each in of_run("forest-3", "team", None, [FOREST, elsewhere, shared]).served_by
    ] == [
        "wine",
        "shared",
    ]
    assert [each.deployment.name for each in of_run("forest-3", "team", None, [elsewhere]).served_by] == ["theirs"]


def test_a_run_of_that_name_in_another_namespace_is_not_it() -> None:
    elsewhere = deployment("Ready", namespace="b", endpoint=endpoint(), servedModels=[SERVED])
    assert of_run("forest-3", "team", training(uid="another"), [elsewhere]).served_by == ()


def test_the_tree_is_drawn_with_its_branches() -> None:
    assert list(drawn(("a", [("b", [("c", [])]), ("d", [("e", [])])]))) == [
        "a",
        "├─ b",
        "│  └─ c",
        "└─ d",
        "   └─ e",
    ]


def test_documents_hold_what_the_tree_shows() -> None:
    (found,) = traced = of_deployment(FOREST, finding(training()))
    document = deployment_document(FOREST, traced)
    assert document["workspace"] == {
        "kind": "MLWorkspace",
        "name": "databricks",
        "platform": "databricks",
        "host": DATABRICKS,
    }
    assert document["served"][0]["made"]["code"]["commit"] == "4f1c2a9"
    assert document["served"][0]["made"]["data"] == [{"name": "wines", "place": "main.lake.wines"}]
    forward = run_document(of_run("forest-3", "team", training(), [FOREST]))
    assert forward["servedBy"][0]["deployment"] == "wine"
    assert forward["servedBy"][0]["servedTraffic"] == 100
    assert found.made.uid == forward["made"]["uid"] == "run-uid"


def test_each_run_is_read_once_and_one_that_may_not_be_read_is_unknown() -> None:
    asked: list[str] = []

    def read(_namespace: str, name: str) -> Run:
        asked.append(name)
        if name == "secret":
            raise NotAllowed("no")
        return training(name)

    runs = Runs(read)
    assert [runs("team", name) is None for name in ("forest-3", "forest-3", "secret", "secret")] == [
        False,
        False,
        True,
        True,
    ]
    assert asked == ["forest-3", "secret"]
