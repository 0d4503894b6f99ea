"""What is wrong with an identity is told by the workspace, with what mends it, before anything is submitted."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from stand import wait_for
from tests.e2e.early_causes import CAUSES, CLOCK, Case, Cause
from tests.e2e.scene import Run, Scene
from tests.platforms import on_every_platform
from tests.platforms.base import FOREVER, Pretence

# What becomes of a workspace that was ready is seen when it is looked at again.
OPERATOR_FLAGS = {"workspace_recheck_seconds": "2"}
SKEWED = str(Path(__file__).parent / "skewed")
AT_ONCE = Pretence(stages=(("running", 0.05),))
# The scopes that tokens are asked for: Databricks' one, Azure Resource Manager and the workspace's own services.
SCOPES = {"databricks": 1, "azureml": 2}
RUNS = 100


@pytest.fixture
def case(scene: Scene) -> Iterator[Case]:
    """A namespace in which nothing is yet; what a cause did to the whole platform is undone."""
    made = Case(scene, scene.namespace())
    yield made
    scene.control.settings(clock_offset_seconds=0)
    scene.control.break_issuer(made.issuer)


def token_requests(case: Case) -> int:
    """How many tokens its principal has got."""
    asked = case.scene.platform.requests("token")
    return sum(1 for entry in asked if entry["principal"] == case.principal)


def assert_told_and_nothing_submitted(case: Case, reason: str, state: str, *said: str) -> None:
    """The workspace's conditions, and a run in it, while the cause lasts."""
    scene = case.scene
    ready = scene.workspace(case.namespace, reason)
    conditions = scene.read("mlworkspaces", case.namespace, scene.platform.name)["status"]["conditions"]
    assert [c["type"] for c in conditions if c["status"] == "True"] == [state]
    for part in said:
        assert part in ready["message"]
    assert reason in scene.events(case.namespace, scene.platform.name)
    run = scene.run(case.namespace).because("WorkspaceNotReady")
    assert f"({reason})" in run.message
    assert run.remote() == []
    assert scene.platform.requests("submit") == []
    assert scene.platform.requests("upload") == []


def assert_mended(case: Case) -> None:
    """The workspace becomes ready, and the run that waited for it is submitted and succeeds."""
    case.becomes_ready()
    Run(case.scene, case.namespace, "train").until("Succeeded", seconds=90)


@on_every_platform
@pytest.mark.parametrize("cause", CAUSES.values(), ids=CAUSES)
def test_each_cause_has_its_reason_and_its_fix_before_anything_is_submitted(case: Case, cause: Cause) -> None:
    cause.comes(case)
    case.scene.control.clear_requests()
    case.apply()
    assert_told_and_nothing_submitted(case, cause.reason, cause.state, cause.fix[case.scene.platform.name], cause.says)
    cause.mend(case)
    assert_mended(case)


@pytest.mark.parametrize(("platform_name", "minutes"), [("databricks", 20), ("azureml", -20)])
def test_an_operator_whose_own_clock_is_wrong_says_so_and_sends_nothing(case: Case, minutes: int) -> None:
    scene = case.scene
    case.make()
    case.trust()
    scene.operator.kill()
    env = {"PYTHONPATH": SKEWED, "CLOCK_AHEAD_MINUTES": str(minutes)}
    scene.operator = scene.stand.operator(f"{scene.name}-skewed", env=env, **scene.flags)
    scene.control.clear_requests()
    case.apply()
    way = "behind" if minutes > 0 else "ahead of"
    said = f"the API server's clock is about 20 minutes {way} the operator's"
    assert_told_and_nothing_submitted(case, "ClockSkew", "Stalled", said, CLOCK[scene.platform.name])
    assert scene.platform.requests("token") == []
    scene.restart(signal.SIGKILL)
    assert_mended(case)


@on_every_platform
def test_a_token_that_is_refused_in_mid_life_costs_one_mint_and_then_the_condition(case: Case) -> None:
    scene = case.scene
    case.make()
    case.trust()
    case.apply()
    scene.workspace(case.namespace, "IdentityWorks")
    got = token_requests(case)
    scene.fault("status", "whoami", status=401, times=0)
    scene.workspace(case.namespace, "Unauthenticated")
    # One for the check that told; a run, which only waits, asks for none.
    assert token_requests(case) == got + 1
    assert scene.run(case.namespace).because("WorkspaceNotReady").remote() == []
    scene.control.clear_faults()
    assert_mended(case)


@on_every_platform
def test_a_run_outlives_the_revocation_of_its_token_with_one_mint(case: Case) -> None:
    scene = case.scene
    scene.platform.pretend(FOREVER)
    case.make()
    case.trust()
    case.apply()
    run = scene.run(case.namespace).until("Running")
    before = token_requests(case)
    assert scene.platform.expire_tokens(case.principal) == before
    wait_for("a new token", lambda: token_requests(case) > before)
    scene.platform.end(run.only_remote().id)
    run.until("Succeeded")
    assert len(run.status["attempts"]) == 1
    assert token_requests(case) == before + SCOPES[scene.platform.name]


@on_every_platform
def test_many_runs_of_one_identity_get_one_token_for_each_scope(case: Case) -> None:
    scene = case.scene
    scene.platform.pretend(AT_ONCE)
    case.make()
    case.trust()
    case.apply()
    for number in range(RUNS):
        scene.run(case.namespace, f"run-{number}")

    def succeeded() -> bool:
        scene.operator.check()
        listed = scene.cluster.call("GET", f"/apis/trainyard.dev/v1alpha1/namespaces/{case.namespace}/mltrainingruns")
        phases = [each.get("status", {}).get("phase") for each in listed["items"]]
        assert set(phases) <= {None, "Pending", "Submitting", "Queued", "BuildingEnvironment", "Running", "Succeeded"}
        return phases.count("Succeeded") == RUNS

    wait_for(f"{RUNS} runs to succeed", succeeded, 300, pause=0.5)
    assert token_requests(case) == SCOPES[scene.platform.name]
