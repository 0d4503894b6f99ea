"""What runs go through, from what they wait for to how they end, each paid for exactly once."""

from collections import Counter
from typing import Any

from stand import wait_for
from tests.e2e.scene import FINAL, Run, Scene
from tests.platforms import on_every_platform
from tests.platforms.base import End, Pretence

MOST_WRITES = 8
NODE_LOST = End("infrastructure", "node lost")
RETRY_SOON = {"limit": 2, "backoffSeconds": 1}


def conditions(run: Run) -> dict[str, str]:
    """The conditions by type."""
    return {c["type"]: c["status"] for c in run.status["conditions"]}


@on_every_platform
class TestWaiting:
    def test_a_run_waits_for_a_missing_workspace_and_starts_when_it_appears(self, scene: Scene) -> None:
        namespace = scene.namespace()
        scene.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        run = scene.run(namespace).because("WorkspaceNotFound")
        assert run.phase == "Pending"
        assert conditions(run) == {
            "Ready": "False",
            "Reconciling": "True",
            "Stalled": "False",
            "Complete": "False",
            "Failed": "False",
        }
        scene.platform.team(namespace)
        run.until("Succeeded")
        assert run.paid() == 1

    def test_a_run_waits_for_a_workspace_that_is_not_ready(self, scene: Scene) -> None:
        namespace = scene.namespace()
        scene.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
            scene.platform.workspace(namespace),
        )
        assert scene.workspace(namespace, "ServiceAccountNotFound")["status"] == "False"
        run = scene.run(namespace).because("WorkspaceNotReady")
        assert run.phase == "Pending"
        assert "ServiceAccount trainer does not exist" in run.message
        scene.platform.team(namespace)
        run.until("Succeeded")
        assert run.paid() == 1

    def test_an_unknown_compute_class_stalls_until_the_workspace_has_it(self, scene: Scene) -> None:
        run = scene.run(scene.team(), compute={"class": "huge"}).until("Stalled")
        assert run.reason == "ComputeClassUnknown"
        assert "small" in run.message
        assert conditions(run)["Stalled"] == "True"
        classes = {"huge": scene.platform.present_compute()}
        scene.patch("mlworkspace", run.namespace, scene.platform.name, {"spec": {"computeClasses": classes}})
        run.until("Succeeded")
        assert run.paid() == 1

    def test_a_missing_right_stalls_with_what_gives_it_and_recovers_with_it(self, scene: Scene) -> None:
        team = scene.team()
        scene.platform.take_right(team)
        name = scene.platform.model_name("forest")
        scene.platform.pretend(Pretence(model=name))
        run = scene.run(team, model={"name": "forest"}).until("Stalled")
        assert run.reason == "PermissionMissing"
        assert "PermissionMissing" in run.events()
        assert team.principal in run.message
        assert run.remote() == []
        scene.platform.give_right(team)
        run.until("Succeeded")
        assert run.status["model"]["name"] == name
        assert run.paid() == 1
        assert len(run.status["attempts"]) == 1


def test_a_refusal_of_databricks_stalls_with_the_reason_and_recovers_with_the_entitlement(scene: Scene) -> None:
    team = scene.team()
    scene.control.change_principal(team.principal, entitlements=["workspace-access"])
    run = scene.run(team, compute={"class": "cluster"}, environment={"runtime": "sklearn"}).until("Stalled")
    # Databricks shows the entitlements of groups to admins only, so that its own refusal is what tells.
    assert run.reason == "PermissionDenied"
    assert "PermissionDenied" in run.events()
    scene.control.change_principal(team.principal, entitlements=["workspace-access", "allow-cluster-create"])
    run.until("Succeeded")
    assert run.paid() == 1
    assert len(run.status["attempts"]) == 1


@on_every_platform
class TestStopping:
    def test_a_run_cancelled_before_its_start_never_reaches_the_platform(self, scene: Scene) -> None:
        namespace = scene.namespace()
        scene.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        run = scene.run(namespace).because("WorkspaceNotFound")
        run.change(cancel=True)
        run.until("Cancelled")
        assert run.status.get("attempts", []) == []
        assert run.remote() == []

    def test_a_run_cancelled_while_running_is_stopped_on_the_platform(self, scene: Scene) -> None:
        scene.platform.pretend()
        run = scene.run(scene.team()).until("Running")
        run.change(cancel=True)
        run.until("Cancelled")
        assert run.only_remote().result == "cancelled"
        assert run.reason == "Cancelled"
        assert conditions(run) == {
            "Ready": "False",
            "Reconciling": "False",
            "Stalled": "True",
            "Complete": "False",
            "Failed": "True",
        }

    def test_the_overall_timeout_stops_the_run(self, scene: Scene) -> None:
        scene.platform.pretend()
        run = scene.run(scene.team(), timeoutSeconds=4).until("TimedOut")
        assert run.reason == "TimedOut"
        assert not run.only_remote().active

    def test_the_attempt_timeout_is_the_platforms_own(self, scene: Scene) -> None:
        scene.platform.pretend()
        run = scene.run(scene.team(), attemptTimeoutSeconds=2).until("TimedOut")
        assert run.reason == "AttemptTimedOut"
        assert run.only_remote().result == "timed out"

    def test_the_queue_timeout_stops_what_never_started(self, scene: Scene) -> None:
        scene.platform.pretend(Pretence(stages=(("queued", 600),)))
        run = scene.run(scene.team(), queueTimeoutSeconds=2).until("TimedOut")
        assert run.reason == "QueueTimedOut"
        assert run.only_remote().result == "cancelled"


@on_every_platform
class TestRetries:
    def test_an_infrastructure_failure_is_retried_with_another_token(self, scene: Scene) -> None:
        scene.platform.pretend(Pretence(end=NODE_LOST, times=1))
        run = scene.run(scene.team(), retry=RETRY_SOON).until("Succeeded")
        first, second = run.status["attempts"]
        assert (first["reason"], second["reason"]) == ("InfrastructureFailed", "Succeeded")
        assert first["submissionToken"] != second["submissionToken"]
        assert run.paid() == 2
        assert run.events() == ["Submitted", "InfrastructureFailed", "Submitted", "Succeeded"]

    def test_retries_end_at_the_limit(self, scene: Scene) -> None:
        scene.platform.pretend(Pretence(end=NODE_LOST))
        run = scene.run(scene.team(), retry={"limit": 1, "backoffSeconds": 1}).until("Failed")
        assert run.reason == "InfrastructureFailed"
        assert run.paid() == 2

    def test_failed_code_is_not_retried_and_its_last_lines_are_told(self, scene: Scene) -> None:
        trace = "Traceback (most recent call last):\n  line 7, in load\nValueError: no rows left"
        scene.platform.pretend(Pretence(end=End("code", "ValueError: no rows left", trace)))
        run = scene.run(scene.team()).until("Failed")
        assert run.reason == "CodeFailed"
        assert "line 7, in load\nValueError: no rows left" in run.message
        assert run.paid() == 1

    def test_failed_code_is_retried_where_any_failure_is(self, scene: Scene) -> None:
        scene.platform.pretend(Pretence(end=End("code"), times=1))
        run = scene.run(scene.team(), retry={**RETRY_SOON, "when": "Any"}).until("Succeeded")
        assert [a["reason"] for a in run.status["attempts"]] == ["CodeFailed", "Succeeded"]

    def test_a_package_that_can_not_be_installed_has_its_own_reason(self, scene: Scene) -> None:
        scene.platform.pretend(Pretence(end=End("packages", "no such package: nope")))
        run = scene.run(scene.team(), environment={"pip": ["nope==1"]}).until("Failed")
        assert run.reason == "PackageInstallFailed"
        assert "no such package: nope" in run.message

    def test_a_config_map_that_changes_between_attempts_stalls_the_run(self, scene: Scene) -> None:
        team = scene.team()
        scene.config_map(team.namespace, "code", {"main.py": "print(1)"})
        scene.platform.pretend(Pretence(end=NODE_LOST, times=1))
        code = {"configMap": {"name": "code"}}
        run = scene.run(team, code=code, retry={"limit": 1, "backoffSeconds": 4}).because("RetryBackoff")
        scene.config_map(team.namespace, "code", {"main.py": "print(2)"})
        run.until("Stalled")
        assert run.reason == "SpecChanged"
        assert run.paid() == 1


@on_every_platform
class TestManyAndAgain:
    def test_a_life_cycle_costs_few_writes(self, scene: Scene) -> None:
        scene.platform.pretend(Pretence(stages=(("queued", 0.6), ("starting", 0.6), ("running", 0.6))))
        team = scene.team()
        scene.workspace(team.namespace, "IdentityWorks")
        run = scene.run(team).until("Succeeded")
        wait_for("its finalizer to go", lambda: not run.now()["metadata"].get("finalizers"))
        writes = Counter(
            f"{record['verb']} {record['objectRef'].get('subresource', 'metadata')}"
            for record in scene.api_requests(run.namespace)
            if record["objectRef"]["resource"] == "mltrainingruns"
        )
        assert 5 <= writes.total() <= MOST_WRITES, writes

    def test_runs_in_two_namespaces_are_each_their_own_principals(self, scene: Scene) -> None:
        first, second = scene.team(), scene.team()
        runs = [scene.run(first), scene.run(second)]
        for run, team in zip(runs, (first, second), strict=True):
            run.until("Succeeded")
            assert run.only_remote().creator == team.principal
            assert run.status["identity"]["submittedAs"] == team.principal
            assert run.status["identity"]["serviceAccount"] == f"{team.namespace}/trainer"

    def test_an_operator_that_is_stopped_and_started_again_loses_nothing(self, scene: Scene) -> None:
        scene.platform.pretend()
        run = scene.run(scene.team()).until("Running")
        before = run.status["attempts"]
        assert scene.restart() == 0
        scene.platform.end(run.only_remote().id)
        run.until("Succeeded")
        assert run.status["attempts"][0]["submissionToken"] == before[0]["submissionToken"]
        assert run.paid() == 1

    def test_two_hundred_runs_at_once_all_succeed_and_are_paid_once(self, scene: Scene) -> None:
        team = scene.team()
        names = [f"train-{number}" for number in range(200)]
        for name in names:
            scene.run(team, name)

        def ended() -> list[dict[str, Any]] | None:
            path = f"/apis/trainyard.dev/v1alpha1/namespaces/{team.namespace}/mltrainingruns"
            items: list[dict[str, Any]] = scene.cluster.call("GET", path)["items"]
            return items if all(i.get("status", {}).get("phase") in FINAL for i in items) else None

        items = wait_for("all runs to end", ended, 200, pause=1)
        assert Counter(item["status"]["phase"] for item in items) == {"Succeeded": len(names)}
        tokens = [attempt["submissionToken"] for item in items for attempt in item["status"]["attempts"]]
        assert len(tokens) == len(names)
        remote = [run for run in scene.platform.runs() if run.creator == team.principal]
        assert Counter(run.token for run in remote if run.paid) == dict.fromkeys(tokens, 1)
