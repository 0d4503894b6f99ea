"""`trainyard run` and `wait` against a real API server: what they leave there, what they say, how they exit."""

import signal
import subprocess
from pathlib import Path

import pytest

from tests.controlplane.cli import RIGHTS, SPEC, Cli, PlayedOperator, attempt, manifest, person, until
from trainyard_localcluster import LocalCluster

PAGE = "https://adb-1.azuredatabricks.net/jobs/runs/4711"


@pytest.fixture
def operator(api: LocalCluster, namespace: str) -> PlayedOperator:
    return PlayedOperator(api, namespace)


@pytest.fixture
def cli(api: LocalCluster, namespace: str, tmp_path: Path) -> Cli:
    return Cli(person(api, namespace, tmp_path / "person"))


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_run_shows_each_change_once_and_the_result_at_the_end(cli: Cli, operator: PlayedOperator) -> None:
    with cli.started("run", "-f", "-", input=manifest()) as process:
        until(lambda: "churn" in operator.names())
        operator.write("churn", "Running", message="the code runs", url=PAGE, attempt=1)
        operator.write("churn", "Running", message="the code runs", url=PAGE, attempt=1, metrics={"auc": "0.9"})
        operator.write("churn", "Succeeded", message="the code ended well", url=PAGE, duration="48s")
        code, out, err = ended(process)
    assert code == 0
    head, row = out.splitlines()
    assert head.split() == ["NAME", "PHASE", "WORKSPACE", "ATTEMPT", "DURATION", "AGE"]
    assert row.split()[:-1] == ["churn", "Succeeded", "databricks", "1", "48s"]
    lines = err.splitlines()
    assert lines[0] == "mltrainingrun.trainyard.dev/churn created"
    assert len([line for line in lines if PAGE in line]) == 1
    assert len([line for line in lines if "the code runs" in line]) <= 1
    assert "Succeeded" in lines[-1]
    assert "\x1b" not in out + err


@pytest.mark.parametrize(("phase", "code"), [("Failed", 1), ("TimedOut", 3), ("Cancelled", 4)])
def test_the_exit_code_is_the_outcome(cli: Cli, operator: PlayedOperator, phase: str, code: int) -> None:
    operator.create(manifest())
    operator.write("churn", phase, "SomeReason", "what to do about it")
    ran = cli.process("wait", "churn")
    assert ran.returncode == code
    assert "what to do about it" in ran.stderr


def test_a_manifest_that_was_sent_before_is_followed_and_not_run_again(cli: Cli, operator: PlayedOperator) -> None:
    made = operator.create(manifest())
    operator.write("churn", "Succeeded")
    changeable = SPEC | {"ttlSecondsAfterFinished": 60, "retry": {"limit": 5}}
    ran = cli("run", "-f", "-", input=manifest(spec=changeable))
    assert ran.returncode == 0
    assert "is there already with the same spec" in ran.stderr
    assert operator.get("churn")["metadata"]["uid"] == made["metadata"]["uid"]


def test_a_run_with_another_spec_is_refused_and_left_alone(cli: Cli, operator: PlayedOperator) -> None:
    operator.create(manifest())
    ran = cli("run", "-f", "-", input=manifest(spec=SPEC | {"params": {"trees": "200"}, "experiment": "x"}))
    assert ran.returncode == 2
    assert "another spec" in ran.stderr
    assert [line.split(":")[0].strip() for line in ran.stderr.splitlines()[1:]] == ["spec.experiment", "spec.params"]
    assert operator.get("churn")["spec"] == SPEC


def test_a_name_that_the_server_makes_up_is_told(cli: Cli, operator: PlayedOperator) -> None:
    ran = cli("run", "-f", "-", "--no-wait", "-o", "name", input=manifest(name=None, generateName="churn-"))
    assert ran.returncode == 0
    assert [ran.stdout.strip()] == [f"mltrainingrun.trainyard.dev/{name}" for name in operator.names()]


def test_what_the_server_refuses_is_told_by_field_and_without_a_trace(cli: Cli) -> None:
    ran = cli.process("run", "-f", "-", input=manifest(spec=SPEC | {"timeoutSeconds": 5, "attemptTimeoutSeconds": 10}))
    assert ran.returncode == 2
    assert "spec.attemptTimeoutSeconds: attemptTimeoutSeconds must not exceed timeoutSeconds" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_misspelt_field_is_refused_rather_than_dropped(cli: Cli, operator: PlayedOperator) -> None:
    ran = cli("run", "-f", "-", input=manifest(spec=SPEC | {"timeoutSecond": 5}))
    assert ran.returncode == 2
    assert "spec.timeoutSecond" in ran.stderr
    assert operator.names() == []


def test_waiting_ends_after_the_timeout_and_the_run_goes_on(cli: Cli, operator: PlayedOperator) -> None:
    ran = cli("run", "-f", "-", "--timeout", "1", input=manifest())
    assert ran.returncode == 3
    assert "not seen by the operator after 1 s" in ran.stderr
    assert operator.get("churn")["spec"] == SPEC


def test_a_stalled_run_is_waited_for_unless_told_otherwise(cli: Cli, operator: PlayedOperator) -> None:
    operator.create(manifest())
    operator.write("churn", "Stalled", "PermissionMissing", "GRANT CREATE MODEL")
    ran = cli("wait", "churn", "--fail-when-stalled")
    assert ran.returncode == 1
    assert "PermissionMissing: GRANT CREATE MODEL" in ran.stderr
    assert cli("wait", "churn", "--timeout", "0.5").returncode == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_cancels_the_run_when_asked_to(cli: Cli, operator: PlayedOperator, number: signal.Signals) -> None:
    with cli.started("run", "-f", "-", "--cancel-on-exit", input=manifest()) as process:
        until(lambda: "churn" in operator.names())
        process.send_signal(number)
        until(lambda: operator.get("churn")["spec"].get("cancel"))
        operator.write("churn", "Cancelled", message="stopped as asked")
        code, out, err = ended(process)
    assert code == 4
    assert "Cancelled" in out
    assert f"{number.name}: cancelling run churn" in err


def test_the_end_of_a_cancelled_run_is_waited_for_in_bounds(cli: Cli, operator: PlayedOperator) -> None:
    options = ("--cancel-on-exit", "--cancel-seconds", "1")
    with cli.started("run", "-f", "-", *options, input=manifest()) as process:
        until(lambda: "churn" in operator.names())
        operator.write("churn", "Running")
        process.send_signal(signal.SIGTERM)
        code, _, err = ended(process)
    assert code == 4
    assert "Running still" in err
    assert operator.get("churn")["spec"]["cancel"] is True


def test_a_signal_leaves_the_run_alone_unless_asked(cli: Cli, operator: PlayedOperator) -> None:
    with cli.started("run", "-f", "-", input=manifest()) as process:
        assert process.stderr is not None
        assert "created" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        code, _, err = ended(process)
    assert code == 130
    assert "trainyard wait churn" in err
    assert operator.get("churn")["spec"] == SPEC


def test_a_timeout_cancels_as_well_when_asked_to(cli: Cli, operator: PlayedOperator) -> None:
    options = ("--cancel-on-exit", "--cancel-seconds", "0", "--timeout", "1")
    ran = cli("run", "-f", "-", *options, input=manifest())
    assert ran.returncode == 3
    assert operator.get("churn")["spec"]["cancel"] is True


def test_a_run_that_is_deleted_meanwhile_is_not_found(cli: Cli, operator: PlayedOperator) -> None:
    with cli.started("run", "-f", "-", input=manifest()) as process:
        until(lambda: "churn" in operator.names())
        operator.delete("churn")
        operator.create(manifest())  # another one of that name is not what was waited for
        code, _, err = ended(process)
    assert code == 5
    assert "was deleted" in err


def test_without_the_right_to_watch_the_run_is_asked_for(
    api: LocalCluster, operator: PlayedOperator, namespace: str, tmp_path: Path
) -> None:
    [runs] = [rule for rule in RIGHTS if rule["resources"] == ["mltrainingruns"]]
    modest = Cli(person(api, namespace, tmp_path / "modest", [runs | {"verbs": ["get", "create"]}]))
    with modest.started("run", "-f", "-", input=manifest()) as process:
        until(lambda: "churn" in operator.names())
        operator.write("churn", "Running")
        operator.write("churn", "Succeeded")
        code, out, _ = ended(process)
    assert code == 0
    assert "Succeeded" in out


def test_what_is_not_there_and_what_is_not_allowed_have_codes_of_their_own(
    cli: Cli, api: LocalCluster, tmp_path: Path
) -> None:
    assert cli.process("wait", "nothing").returncode == 5
    assert cli.process("get", "-A").returncode == 6
    away = tmp_path / "away"
    away.write_text((tmp_path / "person").read_text().replace(api.url, "https://127.0.0.1:9"))
    gone = cli("get", "--kubeconfig", str(away))
    assert gone.returncode == 6
    assert "can not be reached" in gone.stderr
    assert "Traceback" not in gone.stderr


def test_wrong_usage_has_a_code_of_its_own(cli: Cli, tmp_path: Path) -> None:
    assert cli("get", "--no-such-flag").returncode == 2
    assert cli("run", "-f", str(tmp_path / "missing.yaml")).returncode == 2
    assert cli("run", "-f", "-", input="kind: ConfigMap").returncode == 2


def test_an_attempts_tasks_are_told_as_they_change(cli: Cli, operator: PlayedOperator) -> None:
    operator.create(manifest())
    tasks = [{"name": "fit", "state": "Failed", "message": "out of memory"}]
    operator.write("churn", "Failed", attempt=1, attempts=[attempt(tasks=tasks)])
    assert "task fit: Failed: out of memory" in cli("wait", "churn").stderr
