"""Deleting means stopping, and nothing hangs."""

from stand import wait_for
from tests.e2e.scene import Scene
from tests.platforms import on_every_platform

pytestmark = on_every_platform
OPERATOR_FLAGS = {"deletion_deadline_seconds": "6"}


def test_a_run_deleted_while_running_is_cancelled_and_gone(scene: Scene) -> None:
    scene.platform.pretend()
    run = scene.run(scene.team()).until("Running")
    run.delete()
    run.gone()
    assert run.only_remote().result == "cancelled"
    assert "RemoteRunLeft" not in run.events()


def test_a_finished_run_is_deleted_without_asking_the_platform(scene: Scene) -> None:
    run = scene.run(scene.team()).until("Succeeded")
    wait_for("its finalizer to go", lambda: not run.now()["metadata"].get("finalizers"))
    scene.control.clear_requests()
    run.delete()
    run.gone()
    assert scene.platform.requests("jobs") == []


def test_a_workspace_deleted_first_waits_for_its_run_and_both_go(scene: Scene) -> None:
    scene.platform.pretend()
    run = scene.run(scene.team()).until("Running")
    scene.cluster.kubectl("delete", "mlws", scene.platform.name, "-n", run.namespace, "--wait=false")

    def waiting() -> bool:
        status = scene.read("mlworkspaces", run.namespace, scene.platform.name).get("status", {})
        return bool(status.get("activeRuns") == 1)

    wait_for("the workspace to say that it waits", waiting)
    assert run.phase == "Running"
    run.delete()
    run.gone()
    wait_for("the workspace to be gone", lambda: not scene.read("mlworkspaces", run.namespace, scene.platform.name))
    assert run.only_remote().result == "cancelled"


def test_a_run_whose_workspace_was_torn_out_is_stopped_by_what_its_attempt_says(scene: Scene) -> None:
    scene.platform.pretend()
    run = scene.run(scene.team()).until("Running")
    name = scene.platform.name
    scene.cluster.kubectl("delete", "mlws", name, "-n", run.namespace, "--wait=false")
    scene.patch("mlworkspace", run.namespace, name, {"metadata": {"finalizers": None}})
    wait_for("the workspace to be gone", lambda: not scene.read("mlworkspaces", run.namespace, name))
    run.delete()
    run.gone()
    assert run.only_remote().result == "cancelled"


def test_a_namespace_deleted_with_a_live_run_stops_it_and_goes(scene: Scene) -> None:
    scene.platform.pretend()
    run = scene.run(scene.team()).until("Running")
    scene.cluster.call("DELETE", f"/api/v1/namespaces/{run.namespace}")
    wait_for("the namespace to be gone", lambda: not scene.fetch(f"/api/v1/namespaces/{run.namespace}"), 90)
    assert run.only_remote().result == "cancelled"


def test_a_platform_that_is_gone_does_not_keep_the_run(scene: Scene) -> None:
    scene.platform.pretend()
    run = scene.run(scene.team()).until("Running")
    scene.fault("reset", "any", times=0)
    run.delete()
    run.gone()
    assert run.events()[-1] == "RemoteRunLeft"
    assert run.only_remote().active


def test_a_platform_that_hangs_does_not_keep_the_run(scene: Scene) -> None:
    scene.platform.pretend()
    run = scene.run(scene.team()).until("Running")
    scene.fault("hang", "any", times=0)
    run.delete()
    run.gone()
    assert run.events()[-1] == "RemoteRunLeft"


def test_an_orphan_is_left_running(scene: Scene) -> None:
    scene.platform.pretend()
    run = scene.run(scene.team(), deletionPolicy="Orphan").until("Running")
    run.delete()
    run.gone()
    assert run.only_remote().active


def test_a_run_deleted_while_its_submission_hangs_leaves_nothing_running(scene: Scene) -> None:
    scene.platform.pretend()
    team = scene.team()
    scene.workspace(team.namespace, "IdentityWorks")
    fault = scene.fault("hang", "submit", after_effect=True)
    run = scene.run(team).until("Submitting")
    wait_for("the submission to hang", lambda: scene.hits(fault) == 1)
    run.delete()
    scene.control.release(fault)
    run.gone()
    assert run.only_remote().result == "cancelled"


def test_a_run_deleted_before_its_id_was_ever_learned_is_found_and_cancelled(scene: Scene) -> None:
    scene.platform.pretend()
    team = scene.team()
    scene.workspace(team.namespace, "IdentityWorks")
    fault = scene.fault("reset", "submit", after_effect=True, times=0)
    run = scene.run(team).until("Submitting")
    wait_for("the first answer to be lost", lambda: scene.hits(fault) >= 1)
    run.delete()
    run.gone()
    assert run.only_remote().result == "cancelled"
