"""The verbs that look at runs and change one wish, against a real API server."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.controlplane.cli import SPEC, Cli, PlayedOperator, attempt, manifest, person, until
from trainyard.client import NotFound, Refused, RunFailed, Trainyard
from trainyard_localcluster import LocalCluster
from trainyard_localcluster.cluster import kubectl_program

CHECK = {
    "name": "CREATE MODEL on main.ml",
    "field": "spec.model",
    "outcome": "Missing",
    "message": "GRANT CREATE MODEL",
}


@pytest.fixture
def operator(api: LocalCluster, namespace: str) -> PlayedOperator:
    return PlayedOperator(api, namespace)


@pytest.fixture
def cli(api: LocalCluster, namespace: str, tmp_path: Path) -> Cli:
    return Cli(person(api, namespace, tmp_path / "person"))


def test_get_shows_runs_in_every_form(cli: Cli, operator: PlayedOperator) -> None:
    assert cli("get").stderr == f"no runs in namespace {operator.namespace}\n"
    operator.create(manifest("first", labels={"team": "wine"}))
    operator.create(manifest("second"))
    operator.write("first", "Running", attempt=1, remoteId="4711")
    assert [line.split()[0] for line in cli("get").stdout.splitlines()] == ["NAME", "first", "second"]
    assert "4711" in cli("get", "first", "-o", "wide").stdout
    assert cli("get", "-l", "team=wine", "-o", "name").stdout == "mltrainingrun.trainyard.dev/first\n"
    found = json.loads(cli("get", "-o", "json").stdout)
    assert [item["kind"] for item in found["items"]] == ["MLTrainingRun"] * 2
    assert yaml.safe_load(cli("get", "second", "-o", "yaml").stdout)["spec"] == SPEC
    assert cli("get", "third").returncode == 5
    assert cli("get", "first", "-A").returncode == 2


def test_get_reads_every_namespace_for_who_may(operator: PlayedOperator, api: LocalCluster) -> None:
    operator.create(manifest("mine"))
    lines = Cli(api.kubeconfig)("get", "--all-namespaces").stdout.splitlines()
    assert lines[0].split()[0] == "NAMESPACE"
    assert [operator.namespace, "mine"] in [line.split()[:2] for line in lines]


def test_describe_tells_what_happened(cli: Cli, operator: PlayedOperator) -> None:
    operator.create(manifest())
    operator.write("churn", "Failed", "CodeFailed", "ValueError", attempt=1, attempts=[attempt(reason="CodeFailed")])
    ran = cli("describe", "churn")
    assert ran.returncode == 0
    assert "Phase:        Failed (CodeFailed)" in ran.stdout
    assert "attempt 1 decided" in ran.stdout
    assert "\x1b" not in ran.stdout


def test_what_a_run_printed_can_not_drive_the_readers_terminal(cli: Cli, operator: PlayedOperator) -> None:
    operator.create(manifest())
    operator.write("churn", "Failed", "CodeFailed", "\x1b]0;owned\x07boom")
    assert "\x1b" not in cli("describe", "churn").stdout + cli("wait", "churn").stderr


def test_logs_print_each_task_under_its_name(cli: Cli, operator: PlayedOperator) -> None:
    operator.create(manifest())
    operator.write("churn", "Failed", attempt=2, attempts=[attempt(2, logsUri="s3://logs/2")])
    tasks = [
        {"name": "prepare", "text": "one\ntwo\n", "truncated": True},
        {"name": "fit", "text": "", "missing": "the cluster never started"},
    ]
    operator.log("churn", 2, tasks)
    operator.log("churn", 1, [{"name": "train", "text": "older\n"}])
    ran = cli("logs", "churn")
    assert ran.stdout == "==> prepare <==\none\ntwo\n==> fit <==\n"
    assert "the whole of it: s3://logs/2" in ran.stderr
    assert "no output of task fit: the cluster never started" in ran.stderr
    assert cli("logs", "churn", "--task", "prepare", "--tail", "1").stdout == "two\n"
    assert cli("logs", "churn", "--attempt", "1").stdout == "older\n"
    assert cli("logs", "churn", "--task", "nothing").returncode == 5


def test_logs_before_the_end_say_that_the_platform_gives_none_yet(cli: Cli, operator: PlayedOperator) -> None:
    operator.create(manifest())
    operator.write("churn", "Running", attempt=1, attempts=[attempt()])
    ran = cli("logs", "churn")
    assert ran.returncode == 5
    assert "The output is read from the platform when a task has ended (now Running); -f waits" in ran.stderr


def test_followed_logs_appear_attempt_by_attempt(cli: Cli, operator: PlayedOperator) -> None:
    operator.create(manifest())
    operator.write("churn", "Running", attempt=1, attempts=[attempt()])
    with cli.started("logs", "churn", "-f", input={}) as process:
        assert process.stdout is not None
        first = attempt(endedAt="2026-11-23T12:10:00Z")
        operator.log("churn", 1, [{"name": "train", "text": "first\n"}])
        operator.write("churn", "Pending", "RetryBackoff", attempt=1, attempts=[first])
        assert process.stdout.readline() == "first\n"
        operator.write("churn", "Running", attempt=2, attempts=[first, attempt(2)])
        operator.write("churn", "Succeeded", attempt=2, attempts=[first, attempt(2, endedAt="2026-11-23T12:20:00Z")])
        operator.log("churn", 2, [{"name": "train", "text": "second\n"}])  # a moment after the end
        out, err = process.communicate(timeout=60)
    assert out == "second\n"
    assert cli("logs", "churn", "-f").stdout == "second\n"
    assert process.returncode == 0
    assert err.count("read from the platform when a task has ended") == 1


def test_the_log_of_an_earlier_run_of_that_name_is_not_shown(cli: Cli, operator: PlayedOperator) -> None:
    operator.create(manifest())
    operator.log("churn", 1, [{"name": "train", "text": "old"}], runUid="another")
    operator.write("churn", "Succeeded", attempt=1, attempts=[attempt()])
    ran = cli("logs", "churn")
    assert (ran.returncode, ran.stdout) == (5, "")


def test_cancel_suspend_and_resume_write_one_wish_each(cli: Cli, operator: PlayedOperator) -> None:
    operator.create(manifest())
    assert cli("suspend", "churn").returncode == 0
    assert operator.get("churn")["spec"] == SPEC | {"suspend": True}
    assert cli("resume", "churn").returncode == 0
    assert operator.get("churn")["spec"] == SPEC | {"suspend": False}
    assert "is not suspended" in cli("resume", "churn").stderr
    assert cli("cancel", "churn", "-o", "name").stdout == "mltrainingrun.trainyard.dev/churn\n"
    assert operator.get("churn")["spec"] == SPEC | {"suspend": False, "cancel": True}


def test_a_run_that_has_ended_is_not_changed_any_more(cli: Cli, operator: PlayedOperator) -> None:
    operator.create(manifest())
    operator.write("churn", "Succeeded")
    assert cli("cancel", "churn").returncode == 0
    assert [cli(verb, "churn").returncode for verb in ("suspend", "resume")] == [2, 2]
    assert operator.get("churn")["spec"] == SPEC


def test_a_copy_is_a_new_run_with_the_changes(cli: Cli, operator: PlayedOperator) -> None:
    operator.create(manifest(spec=SPEC | {"cancel": True}, labels={"team": "wine"}))
    changes = ("--set", "params.trees=200", "--set", "retry.limit=5", "--workspace", "other")
    printed = yaml.safe_load(cli("copy", "churn", "again", *changes, "--print").stdout)
    assert operator.names() == ["churn"]
    assert cli("copy", "churn", "again", *changes).returncode == 0
    made = operator.get("again")
    assert made["spec"] == printed["spec"]
    assert made["spec"] == SPEC | {
        "params": {"trees": "200"},
        "retry": {"limit": 5},
        "workspaceRef": {"name": "other"},
    }
    assert made["metadata"]["labels"] == {"team": "wine"}
    assert cli("copy", "churn", "again").returncode == 2
    assert cli("copy", "churn", "more", "--set", "parms.trees=1").returncode == 2


@pytest.mark.parametrize(("phase", "outcome", "code"), [("Succeeded", "Passed", 0), ("Failed", "Missing", 1)])
def test_a_plan_is_shown_and_leaves_nothing(
    cli: Cli, operator: PlayedOperator, phase: str, outcome: str, code: int
) -> None:
    with cli.started("plan", "-f", "-", input=manifest()) as process:
        until(operator.names)
        [name] = operator.names()
        assert operator.get(name)["spec"] == SPEC | {"planOnly": True, "ttlSecondsAfterFinished": 600}
        plan = {"request": '{"run_name": "team/churn"}', "checks": [CHECK | {"outcome": outcome}]}
        operator.write(name, phase, "Planned" if code == 0 else "PermissionMissing", plan=plan)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert '"run_name": "team/churn"' in out
    assert "CREATE MODEL on main.ml" in out
    assert operator.names() == []


def test_a_plan_that_would_stall_says_so_and_one_may_be_kept(cli: Cli, operator: PlayedOperator) -> None:
    with cli.started("plan", "-f", "-", "--keep", input=manifest()) as process:
        until(operator.names)
        [name] = operator.names()
        operator.write(name, "Stalled", "ComputeClassUnknown", "there is no class small")
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "would not start: ComputeClassUnknown: there is no class small" in out
    assert operator.names() == [name]


def test_a_plan_that_takes_too_long_is_given_up_and_removed(cli: Cli, operator: PlayedOperator) -> None:
    assert cli("plan", "-f", "-", "--timeout", "0.5", input=manifest()).returncode == 3
    assert operator.names() == []


def test_kubectl_trainyard_is_the_same_command(api: LocalCluster, operator: PlayedOperator, tmp_path: Path) -> None:
    """As an installer writes it: a script of that name that calls the entry point."""
    operator.create(manifest())
    plugin = tmp_path / "kubectl-trainyard"
    plugin.write_text(f"#!{sys.executable}\nimport sys\nfrom trainyard.cli.main import main\nsys.exit(main())\n")
    plugin.chmod(0o755)
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "KUBECONFIG": str(api.kubeconfig)}
    command = [str(kubectl_program()), "trainyard", "get", "churn", "-n", operator.namespace, "-o", "name"]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert ran.stdout == "mltrainingrun.trainyard.dev/churn\n", ran.stderr
    assert (
        "Usage: kubectl trainyard"
        in subprocess.run([str(plugin), "--help"], env=env, capture_output=True, text=True, check=True).stdout
    )


def test_requests_are_shown_on_demand_and_without_the_credential(cli: Cli, tmp_path: Path) -> None:
    token = yaml.safe_load((tmp_path / "person").read_text())["users"][0]["user"]["token"]
    ran = cli("get", "-v")
    assert "GET /apis/trainyard.dev/v1alpha1/namespaces/" in ran.stderr
    assert token not in ran.stderr


def test_the_python_client_has_the_same_verbs(
    api: LocalCluster, cli: Cli, operator: PlayedOperator, tmp_path: Path
) -> None:
    yard = Trainyard(kubeconfig=tmp_path / "person")
    assert yard.namespace == operator.namespace  # the context's
    made = yard.run(manifest(), wait=False)
    with pytest.raises(Refused):
        yard.create(manifest())
    operator.write("churn", "Failed", "CodeFailed", "ValueError: x", attempt=1, attempts=[attempt()])
    seen: list[str | None] = []
    with pytest.raises(RunFailed, match="CodeFailed: ValueError: x") as caught:
        yard.wait(made, timeout=30, on_progress=lambda run: seen.append(run.phase))
    assert caught.value.run.failed
    assert caught.value.run.spec.params == {"trees": "100"}
    assert seen[-1] == "Failed"
    operator.log("churn", 1, [{"name": "train", "text": "x"}])
    assert yard.logs("churn").spec.tasks[0].text == "x"
    copied = yard.copy("churn", "again", {"params.trees": "7"})
    assert [run.name for run in yard.list()] == ["again", "churn"]
    assert yard.suspend(copied).spec.suspend is True
    assert yard.resume(copied).spec.suspend is False
    assert yard.cancel(copied).spec.cancel is True
    assert yard.events(copied) == ()
    yard.delete(copied)
    yard.delete(copied)  # gone already
    with pytest.raises(NotFound):
        yard.get("again")
