"""Who has to act on a job of Azure ML that did not end well."""

from typing import Any

import pytest

from trainyard.core.remote import End
from trainyard.platforms.azureml.failures import Evidence, evidence_of, judge

CODE = "Execution failed. User process 'python' exited with status code {}. Please check log file 'std_log.txt'."
PULL = "AzureMLCompute job failed.\nAggregatedUnauthorizedAccessError: Failed to pull Docker image x.azurecr.io/a."
QUOTA = (
    "The specified subscription has a Standard DSv2 family vCPU quota of 2 and is less than the requested job node "
    "count of 2 which maps to 4 vCPUs."
)
CONTAINER = (
    "AzureMLCompute job failed.\nOrchestrateJobError: Failed to execute command group with error Got "
    "CommonRuntimeJobError from executing command"
)
CASES: list[tuple[tuple[str, ...], str, str, End]] = [
    (("UserError", "ExecutionFailed"), CODE.format(1), "ValueError: nan", End.CODE),
    (("UserError", "ExecutionFailed"), CODE.format(137), "epoch 3", End.OUT_OF_MEMORY),
    (("UserError", "ExecutionFailed"), CODE.format(-9), "epoch 3", End.OUT_OF_MEMORY),
    (("UserError", "ExecutionFailed"), CODE.format(1), "MemoryError", End.OUT_OF_MEMORY),
    (
        ("UserError", "ExecutionFailed"),
        CODE.format(1),
        "torch.cuda.OutOfMemoryError: CUDA out of memory",
        End.OUT_OF_MEMORY,
    ),
    (("UserError", "ExecutionFailed"), CODE.format(1), "ERROR: No matching distribution found for x", End.PACKAGES),
    (("UserError", "ExecutionFailed"), CODE.format(1), "ErrorCode:AuthorizationPermissionMismatch", End.PERMISSION),
    (("UserError", "ExecutionFailed"), CODE.format(1), "403 from an API of its own: access denied", End.CODE),
    (
        ("UserError", "ImageBuildFailure"),
        "Image build failed. See azureml-logs/20_image_build_log.txt",
        "",
        End.PACKAGES,
    ),
    (("UserError",), "Image build failed.", "manifest unknown: not found", End.CONFIGURATION),
    (
        ("UserError",),
        "AzureMLCompute job failed. PreemptionError: Nodes of this job got pre-empted.",
        "",
        End.INFRASTRUCTURE,
    ),
    (("UserError", "JobNodeCountExceedsCoreQuota"), QUOTA, "", End.QUOTA),
    (("ServiceError",), "AllocationFailed: no capacity in the region", "", End.QUOTA),
    (("UserError",), PULL, "", End.PERMISSION),
    (("UserError",), "Failed to pull Docker image nowhere/x: manifest unknown", "", End.CONFIGURATION),
    (("ServiceError",), CONTAINER, "", End.INFRASTRUCTURE),
    (("ServiceError",), CONTAINER, "Killed by signal 9", End.OUT_OF_MEMORY),
    (("SystemError",), "InternalServerError", "", End.INFRASTRUCTURE),
    (("UserError", "ScriptExecution.StreamAccess.Authentication"), "data can not be mounted", "", End.PERMISSION),
    (
        ("UserError", "ScriptExecution.StreamAccess.NotFound"),
        "the specified path does not exist",
        "",
        End.CONFIGURATION,
    ),
    (("UserError", "NotFound", "ComputeNotFound"), "compute gone", "", End.CONFIGURATION),
    ((), "", "", End.CODE),
    ((), "", "ModuleNotFoundError: No module named 'torch'", End.CODE),
]


@pytest.mark.parametrize(("codes", "message", "printed", "end"), CASES)
def test_each_failure_is_told_by_who_has_to_act(codes: tuple[str, ...], message: str, printed: str, end: End) -> None:
    assert judge(Evidence(End.CODE, codes, message, printed)).end is end


QUOTED = [
    "RuntimeError: the job got preempted by the optimizer",
    "ValueError: QuotaExceeded while calling the API of the shop",
    "OSError: disk quota exceeded",
    "RuntimeError: AllocationFailed",
    "RuntimeError: image build failed in step 3",
]


@pytest.mark.parametrize("words", QUOTED)
@pytest.mark.parametrize("codes", [("UserError", "ExecutionFailed"), ("UserError",), ("ServiceError",)])
def test_what_the_code_says_of_itself_never_has_it_started_again(codes: tuple[str, ...], words: str) -> None:
    message = f"{CODE.format(1)} Error: {words}"
    if codes == ("ServiceError",):
        message = f"AzureMLCompute job failed. {message}"
    assert judge(Evidence(End.CODE, codes, message, words)).end is End.CODE


def test_a_missing_module_is_told_with_where_to_add_it() -> None:
    printed = "Traceback (most recent call last):\nModuleNotFoundError: No module named 'torch.nn'"
    verdict = judge(Evidence(End.CODE, ("UserError", "ExecutionFailed"), CODE.format(1), printed))
    assert "package that holds module 'torch'" in verdict.advice


CANCELLED = [
    (Evidence(End.CANCELLED), End.CANCELLED),
    (Evidence(End.CANCELLED, overran=True), End.TIMED_OUT),
    (Evidence(End.CANCELLED, ("UserError", "JobTimeout")), End.TIMED_OUT),
    (Evidence(End.CANCELLED, ("UserError",), "The job timed out after 600 seconds"), End.TIMED_OUT),
    # What the code had printed by then says nothing about who stopped it.
    (Evidence(End.CANCELLED, printed="requests timed out, MemoryError"), End.CANCELLED),
]


@pytest.mark.parametrize(("evidence", "end"), CANCELLED)
def test_what_ran_out_of_time_is_told_from_what_somebody_stopped(evidence: Evidence, end: End) -> None:
    assert judge(evidence).end is end


def test_a_success_stays_one() -> None:
    assert judge(Evidence(End.SUCCEEDED, ("ServiceError",), QUOTA, "MemoryError")).end is End.SUCCEEDED


def test_run_historys_error_is_read_to_its_innermost_code_and_without_tokens() -> None:
    nested = {"code": "ExecutionFailed", "innerError": {"code": "Deep", "innerError": None}}
    root: dict[str, Any] = {
        "code": "UserError",
        "message": "Bearer abc.def failed",
        "innerError": nested,
        "details": [],
    }
    evidence = evidence_of(End.CODE, {"error": {"error": root}}, "log", overran=False)
    assert evidence.codes == ("UserError", "ExecutionFailed", "Deep")
    assert evidence.message == "Bearer [token] failed"


@pytest.mark.parametrize("details", [{}, {"error": None}, {"error": {"error": None}}, {"error": "text"}])
def test_an_error_that_is_not_there_is_no_evidence(details: dict[str, Any]) -> None:
    assert evidence_of(End.CODE, details, "", overran=False) == Evidence(End.CODE)
