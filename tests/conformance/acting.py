"""Plays one case on one platform, in a namespace of its own; several at once on the same stand."""

from dataclasses import replace

from stand import Process, Stand
from tests.conformance.case import NAME, Act, Case
from tests.conformance.history import History
from tests.conformance.observing import Observed, observe
from tests.e2e.scene import Run, Scene

# Seconds that a step may take on a machine that is busy with other things.
LONGEST = 150


def play(case: Case, platform: str, stand: Stand, operator: Process, history: History) -> Observed:
    """The case from an empty namespace to its end.

    Raises:
        AssertionError: it did not get there; with the last status and the operator's last words.
    """
    scene = Scene(stand, operator, f"conformance-{platform}").on(platform)
    driver = scene.platform
    namespace = scene.namespace()
    for pretence in case.pretences:
        model = driver.model_name(case.spec["model"]["name"]) if case.model else None
        driver.pretend(replace(pretence, run=f"{namespace}/{NAME}", model=model))
    team = driver.team(namespace, **case.workspace, **case.offers(driver))
    scene.workspace(namespace, "IdentityWorks", seconds=LONGEST)
    act = Act(scene, driver, team, Run(scene, namespace, NAME))
    if case.first is not None:
        case.first(act)
    scene.run(team, NAME, code=case.code, **case.spec, **case.asks(driver))
    if case.then is not None:
        case.then(act)
    if case.left:
        act.run.until(*case.rests_in, seconds=LONGEST)
    else:
        act.run.gone(LONGEST)
    if act.run.phase not in ("Stalled", "Pending"):
        act.run.wait("to be let go", lambda now: not now.get("metadata", {}).get("finalizers"))
    if case.check is not None:
        case.check(act)
    seen = observe(scene, act.run, history)
    if case.left:
        act.run.delete()
    return seen
