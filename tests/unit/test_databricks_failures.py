"""Who has to act on a failure, read from what Databricks says of a task and of its cluster."""

import itertools

import pytest
from databricks.sdk.service.compute import TerminationReasonCode, TerminationReasonType

from trainyard.core.remote import End
from trainyard.platforms.databricks import cluster_reasons
from trainyard.platforms.databricks.failures import Evidence, judge, reason_in
from trainyard.platforms.failures import worst

CODES = sorted(code.value for code in TerminationReasonCode)


@pytest.mark.parametrize("code", CODES)
def test_every_termination_reason_of_the_sdk_is_known(code: str) -> None:
    assert code in cluster_reasons.REASON


def test_no_reason_stands_in_two_groups_and_none_is_made_up() -> None:
    groups = [
        cluster_reasons._INFRASTRUCTURE,
        cluster_reasons._QUOTA,
        cluster_reasons._CONFIGURATION,
        cluster_reasons._PERMISSION,
        cluster_reasons._BY_A_PERSON,
    ]
    words = [word for group in groups for word in group.split()] + ["DRIVER_OUT_OF_MEMORY"]
    assert sorted(words) == CODES


def test_every_type_of_reason_but_success_is_known() -> None:
    assert set(cluster_reasons.TYPE) == {kind.value for kind in TerminationReasonType} - {"SUCCESS"}


@pytest.mark.parametrize("end", list(End))
def test_no_reason_makes_a_failure_a_success_or_moves_what_is_said_exactly(end: End) -> None:
    for code, shared in itertools.product(CODES, (True, False)):
        found = judge(Evidence(end, reason=code, shared=shared)).end
        assert (found is End.SUCCEEDED) == (end is End.SUCCEEDED)
        if end in (End.SUCCEEDED, End.CANCELLED, End.TIMED_OUT, End.PERMISSION, End.QUOTA, End.CODE):
            assert found is end


REASONS = [
    ("AZURE_QUOTA_EXCEEDED_EXCEPTION", End.QUOTA),
    ("AWS_INSUFFICIENT_INSTANCE_CAPACITY_FAILURE", End.QUOTA),
    ("CLOUD_PROVIDER_RESOURCE_STOCKOUT", End.QUOTA),
    ("GCP_QUOTA_EXCEEDED", End.QUOTA),
    ("SPOT_INSTANCE_TERMINATION", End.INFRASTRUCTURE),
    ("NPIP_TUNNEL_SETUP_FAILURE", End.INFRASTRUCTURE),
    ("CLOUD_PROVIDER_LAUNCH_FAILURE", End.INFRASTRUCTURE),
    ("INVALID_ARGUMENT", End.CONFIGURATION),
    ("INIT_SCRIPT_FAILURE", End.CONFIGURATION),
    ("AWS_AUTHORIZATION_FAILURE", End.PERMISSION),
    ("SECRET_PERMISSION_DENIED", End.PERMISSION),
    ("DRIVER_OUT_OF_MEMORY", End.OUT_OF_MEMORY),
    ("USER_REQUEST", End.CANCELLED),
]


@pytest.mark.parametrize(("code", "end"), REASONS)
@pytest.mark.parametrize("told", ["by the cluster", "in the message"])
def test_a_cluster_that_failed_says_who_has_to_act(code: str, end: End, told: str) -> None:
    spoken = (
        f"Cluster 1102-x was terminated: Cluster 1102-x is in unexpected state Terminated: {code}(CLIENT_ERROR): x:y"
    )
    evidence = (
        Evidence(End.INFRASTRUCTURE, reason=code)
        if told == "by the cluster"
        else Evidence(End.INFRASTRUCTURE, message=spoken)
    )
    assert judge(evidence).end is end


def test_a_cluster_of_many_that_a_person_ended_is_no_cancel_of_this_run() -> None:
    own = judge(Evidence(End.INFRASTRUCTURE, reason="USER_REQUEST", ended_by="ada@example.com"))
    shared = judge(Evidence(End.INFRASTRUCTURE, reason="USER_REQUEST", ended_by="ada@example.com", shared=True))
    assert (own.end, shared.end) == (End.CANCELLED, End.INFRASTRUCTURE)
    assert "ada@example.com" in own.advice
    assert "ada@example.com" in shared.advice


def test_a_reason_of_tomorrow_is_judged_by_its_type() -> None:
    assert judge(Evidence(End.INFRASTRUCTURE, reason="GPU_MELTED", reason_type="CLIENT_ERROR")).end is End.CONFIGURATION
    assert (
        judge(Evidence(End.CONFIGURATION, reason="GPU_MELTED", reason_type="CLOUD_FAILURE")).end is End.INFRASTRUCTURE
    )
    spoken = "is in unexpected state Terminated: GPU_MELTED(SERVICE_FAULT): x"
    assert reason_in(spoken) == ("GPU_MELTED", "SERVICE_FAULT")


# (how states.py saw it, what the platform printed, what it is)
WORDS: list[tuple[End, str, End]] = [
    (End.CODE, "MemoryError", End.OUT_OF_MEMORY),
    (End.CODE, "numpy.core._exceptions._ArrayMemoryError: Unable to allocate 64 GiB", End.OUT_OF_MEMORY),
    (End.CODE, "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 64 GiB", End.OUT_OF_MEMORY),
    (End.CODE, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB", End.OUT_OF_MEMORY),
    (End.CODE, "RuntimeError: CUDA error: out of memory", End.OUT_OF_MEMORY),
    (End.CODE, "py4j.protocol.Py4JJavaError: java.lang.OutOfMemoryError: Java heap space", End.OUT_OF_MEMORY),
    (End.CODE, "The Python process exited with exit code 137 (SIGKILL: Killed).", End.OUT_OF_MEMORY),
    (End.CODE, "Process finished, exit code -9", End.OUT_OF_MEMORY),
    (End.CODE, "the process was killed by signal 9", End.OUT_OF_MEMORY),
    (End.INFRASTRUCTURE, "The spark driver has stopped unexpectedly and is restarting.", End.OUT_OF_MEMORY),
    (End.INFRASTRUCTURE, "The driver ran out of memory", End.OUT_OF_MEMORY),
    (End.CODE, "Fatal error: The Python kernel is unresponsive.", End.OUT_OF_MEMORY),
    (End.CODE, "ValueError: MemoryError is what I feared, exit code 1370", End.CODE),
    (End.CODE, "SystemExit: 13", End.CODE),
    (End.CODE, "KeyError: 'price'", End.CODE),
    (End.CODE, "ERROR: No matching distribution found for no-such-thing==9", End.PACKAGES),
    (
        End.CODE,
        "CalledProcessError: Command 'pip --disable-pip-version-check install x' returned non-zero exit status 1.",
        End.PACKAGES,
    ),
    (End.INFRASTRUCTURE, "Library installation failed for library due to user error", End.PACKAGES),
    (End.CONFIGURATION, "[ENVIRONMENT_SETUP_ERROR.PYTHON_NOTEBOOK_ENVIRONMENT] failed", End.PACKAGES),
    (End.CODE, "ModuleNotFoundError: No module named 'lightgbm'", End.CODE),
    (End.CODE, "mlflow.exceptions.RestException: PERMISSION_DENIED: no CREATE MODEL", End.PERMISSION),
    (End.CODE, "databricks.sdk.errors.platform.PermissionDenied: no", End.PERMISSION),
    (End.CODE, "PermissionError: [Errno 13] Permission denied: '/Volumes/main/a/b'", End.PERMISSION),
    (End.CODE, "PermissionError: [Errno 13] Permission denied: '/etc/shadow'", End.CODE),
    (
        End.INFRASTRUCTURE,
        "CLOUD_PROVIDER_LAUNCH_FAILURE(CLOUD_FAILURE): azure_error_code:OperationNotAllowed, azure_error_message: "
        "Operation could not be completed as it results in exceeding approved Total Regional Cores quota",
        End.QUOTA,
    ),
    (End.INFRASTRUCTURE, "Could not launch cluster: SkuNotAvailable", End.QUOTA),
    (End.CODE, "RuntimeError: our own service says QuotaExceeded", End.CODE),
    (End.INFRASTRUCTURE, "INTERNAL_ERROR", End.INFRASTRUCTURE),
    (End.INFRASTRUCTURE, "", End.INFRASTRUCTURE),
]


@pytest.mark.parametrize(("end", "words", "told"), WORDS)
def test_what_was_printed_says_more_than_the_platforms_word(end: End, words: str, told: End) -> None:
    assert judge(Evidence(end, error=words)).end is told
    assert judge(Evidence(end, message=words)).end is told
    assert judge(Evidence(end, trace=f"Traceback (most recent call last):\n  File x\n{words}")).end is told


@pytest.mark.parametrize("end", [End.SUCCEEDED, End.CANCELLED, End.TIMED_OUT])
def test_what_ended_otherwise_is_not_judged_by_its_words(end: End) -> None:
    assert judge(Evidence(end, trace="MemoryError\nNo matching distribution found for x")).end is end


def test_a_missing_module_stays_the_codes_failure_and_is_advised_on() -> None:
    verdict = judge(Evidence(End.CODE, error="ModuleNotFoundError: No module named 'lightgbm.sklearn'"))
    assert verdict.end is End.CODE
    assert "'lightgbm'" in verdict.advice
    assert "spec.environment.pip" in verdict.advice
    older = judge(Evidence(End.CODE, trace="ImportError: cannot import name 'Tool' from 'kit.sub' (/x.py)"))
    assert (older.end, "'kit'" in older.advice) == (End.CODE, True)


def test_of_several_failures_the_one_that_needs_a_person_counts() -> None:
    assert worst([End.INFRASTRUCTURE, End.CODE, End.QUOTA]) is End.CODE
    assert worst([End.INFRASTRUCTURE, End.QUOTA]) is End.QUOTA
    assert worst([]) is None
    for end in End:
        assert worst([end]) is end
