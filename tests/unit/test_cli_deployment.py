"""What `get`, `describe`, `wait` and `promote` tell of a deployment."""

from datetime import UTC, datetime

import pytest
import typer

from tests.unit.deployments import at, deployment, endpoint, revision, rolling, served, serving
from trainyard.cli.describe_deployment import BAR_WIDTH, bar, description
from trainyard.cli.options import Output, kind_and_name
from trainyard.cli.progress import DeploymentProgress
from trainyard.cli.tables import rendered
from trainyard.client import Deployment, NothingToPromote
from trainyard.client.promotion import told, wanted

NOW = datetime(2026, 11, 23, 13, 0, tzinfo=UTC)
FAILURE = {
    "revision": 4,
    "reason": "DeploymentFailed",
    "message": "the model can not be loaded",
    "at": at("50:00"),
    "served": "forest-bbbb",
    "log": "\n".join(f"line {number}" for number in range(100)),
}


def text(found: Deployment) -> str:
    return "\n".join(description(found, (), NOW))


def test_shares_are_shown_as_they_are_beside_as_they_shall_be() -> None:
    lines = text(rolling()).splitlines()
    (old,) = (line for line in lines if "main.ml.forest:3" in line)
    (new,) = (line for line in lines if "main.ml.forest:4" in line)
    assert "95 %" in old
    assert "wanted 90 %" in old
    assert new.count("█") == 1
    assert new.count("░") == 1
    assert "wanted 10 %" in new


@pytest.mark.parametrize("answers", range(101))
def test_a_bar_is_never_empty_for_a_share_and_never_full_for_less_than_all(answers: int) -> None:
    drawn = bar(answers, answers)
    assert len(drawn) == BAR_WIDTH
    assert ("█" in drawn) == (answers > 0)
    assert ("·" in drawn) == (answers < 100)


def test_a_rollout_is_told_with_its_checks_and_what_a_person_may_do() -> None:
    check = {"check": "Bounds", "served": "forest-bbbb", "outcome": "Waiting", "message": "3 of 100 requests so far"}
    shown = text(rolling("AwaitingPromotion", rollout={"checks": [check], "heldSince": at("59:00")}))
    assert "Stepping, step 1 of 2: what is new shall answer 10 % (for 2m)" in shown
    assert "Waiting   Bounds   forest-bbbb   3 of 100 requests so far" in shown
    assert "to go on: trainyard promote wine -n team" in shown
    assert "Revision:  4; the last that served all requests is 3" in shown


def test_why_it_went_back_is_told_with_the_end_of_the_log() -> None:
    shown = text(deployment("RolledBack", failure=FAILURE, revision=4, lastGoodRevision=3))
    assert "revision 4 (forest-bbbb), 10m ago: DeploymentFailed" in shown
    assert "the model can not be loaded" in shown
    assert "| line 99" in shown
    assert "| line 79" not in shown


def test_drift_and_rights_that_somebody_else_has_to_grant_are_told() -> None:
    grant = {"who": "group:analysts", "level": "CAN_QUERY", "granted": False, "command": "az role assignment create"}
    shown = text(deployment("Drifted", drift=["the traffic is 50/50, not 100/0"], permissions=[grant]))
    assert "the traffic is 50/50, not 100/0" in shown
    assert "who may grant it runs: az role assignment create" in shown


def test_a_status_of_an_older_spec_is_said_to_be_so() -> None:
    assert "of an older spec" in text(deployment("Ready", generation=2, observedGeneration=1))
    assert "of an older spec" not in text(deployment("Ready", generation=2))


def test_a_deployment_that_nobody_has_seen_yet_can_be_described() -> None:
    assert "not yet seen by the operator" in text(deployment(None))


def test_a_table_of_deployments_has_what_kubectl_shows_and_whether_it_answers() -> None:
    wide = rendered([rolling()], Output.wide, NOW)
    assert wide.splitlines()[0].split()[:5] == ["NAME", "PHASE", "ANSWERS", "TRAFFIC", "REVISION"]
    assert "forest:3=95/90, forest:4=5/10" in wide
    assert rendered([rolling()], Output.name, NOW) == "modeldeployment.trainyard.dev/wine"


def test_progress_says_each_change_once(capsys: pytest.CaptureFixture[str]) -> None:
    progress = DeploymentProgress()
    for _ in range(2):
        progress(rolling())
    progress(rolling(servedModels=[served("4", "forest-bbbb", 0, 10, state="Failed", message="out of memory")]))
    said = capsys.readouterr().err.splitlines()
    assert len([line for line in said if "RollingOut" in line]) == 1
    assert any("forest-bbbb: Failed: out of memory" in line for line in said)


@pytest.mark.parametrize("phase", ["Ready", "RolledBack", "Drifted", "Expired"])
def test_what_stays_until_somebody_acts_has_settled(phase: str) -> None:
    assert deployment(phase).settled
    assert deployment(phase).ready == (phase == "Ready")
    assert deployment(phase).failed == (phase != "Ready")


@pytest.mark.parametrize("phase", ["Pending", "Stalled", "Deploying", "RollingOut", "AwaitingPromotion", "RollingBack"])
def test_what_may_go_on_has_not_settled(phase: str) -> None:
    assert not deployment(phase).settled


def test_what_an_older_spec_came_to_is_not_what_is_waited_for() -> None:
    assert not deployment("Ready", generation=2, observedGeneration=1).settled
    assert not deployment("RolledBack", generation=2, observedGeneration=1).failed


def test_a_first_revision_that_failed_has_settled_and_one_that_waits_for_a_person_has_not() -> None:
    assert deployment("Stalled", revision=4, failure=FAILURE).failed
    assert not deployment("Stalled", revision=5, failure=FAILURE).settled


def test_of_two_with_one_name_the_newest_revisions_is_meant() -> None:
    found = rolling().served("forest")
    assert found is not None
    assert found.served == "forest-bbbb"
    by_its_own = rolling().served("forest-aaaa")
    assert by_its_own is not None
    assert by_its_own.version == "3"
    assert rolling().served("tree") is None


# --- promotion


@pytest.mark.parametrize("found", [rolling(), rolling(stage="Preparing"), rolling("AwaitingPromotion", "Promoting")])
def test_a_rollout_that_is_not_yet_at_all_requests_can_be_promoted(found: Deployment) -> None:
    assert wanted(found, None) == wanted(found, 4) == 4
    assert told(found) == ["forest main.ml.forest version 4"]


@pytest.mark.parametrize(
    ("found", "revision_named", "words"),
    [
        (deployment("Ready", revision=4), None, "nothing of deployment team/wine waits"),
        (rolling(stage="CleaningUp"), None, "nothing of deployment team/wine waits"),
        (rolling("RollingBack", "RollingBack"), None, "nothing of deployment team/wine waits"),
        (rolling(lastGood=None), None, "nothing of deployment team/wine waits"),
        (rolling(), 3, "the newest revision of deployment team/wine is 4, and 3 was named"),
        (deployment("Pending"), None, "no revision yet"),
        (rolling(observedGeneration=0), None, "has not looked at the newest change"),
    ],
)
def test_a_promotion_of_nothing_is_refused_with_the_reason(
    found: Deployment, revision_named: int | None, words: str
) -> None:
    with pytest.raises(NothingToPromote, match=words):
        wanted(found, revision_named)


# --- names


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("churn", ("run", "churn")),
        ("deployment/churn", ("deployment", "churn")),
        ("mldep/churn", ("deployment", "churn")),
        ("modeldeployment.trainyard.dev/churn", ("deployment", "churn")),
        ("mltrainingrun.trainyard.dev/churn", ("run", "churn")),
        ("run/churn", ("run", "churn")),
    ],
)
def test_a_name_says_its_kind_as_kubectl_does(given: str, meant: tuple[str, str]) -> None:
    assert kind_and_name(given, "run") == meant


@pytest.mark.parametrize("given", ["pod/churn", "deployment/", "deployment/a/b", "/churn"])
def test_a_name_of_another_kind_is_refused(given: str) -> None:
    with pytest.raises(typer.BadParameter, match="neither run/NAME nor deployment/NAME"):
        kind_and_name(given, "run")


def test_what_a_newer_version_wrote_can_still_be_listed() -> None:
    newer = deployment("Levitating", endpoint=endpoint() | {"orbit": "low"}, target=revision(1, serving("1", "x")))
    assert "Levitating" in rendered([newer], Output.wide, NOW)
    assert not newer.settled
