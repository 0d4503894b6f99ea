"""Clusters, pools and policies: what may be made, by whom, its states, and how runs show what goes wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import BadRequest, InvalidParameterValue, NotFound, PermissionDenied, ResourceDoesNotExist
from databricks.sdk.service import compute, jobs

from trainyard_sandbox.client import SandboxControl

from .conftest import ended, wait_until
from .members import Member, MemberFactory, member

__all__ = ["member"]

SUBMIT = "/api/2.2/jobs/runs/submit"
CREATE = "/api/2.1/clusters/create"
SPEC: dict[str, Any] = {"spark_version": "16.4.x-scala2.12", "node_type_id": "i3.xlarge", "num_workers": 0}
GPU = {"spark_version": "16.4.x-gpu-ml-scala2.12", "node_type_id": "g5.xlarge"}
Code = jobs.TerminationCodeCode


@pytest.fixture(autouse=True)
def clusters_start(control: SandboxControl) -> Iterator[None]:
    yield
    control.let_clusters_start()
    control.compute(cluster_start_seconds=0.05)


@pytest.fixture
def admin(control: SandboxControl, member: MemberFactory) -> Member:
    made = member("admin")
    control.change_principal(made.application_id, groups=["admins"])
    return made


def do(workspace: WorkspaceClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = workspace.api_client.do("POST", path, body=body)
    assert isinstance(answer, dict)
    return answer


def a_cluster(workspace: WorkspaceClient, **change: Any) -> str:
    cluster_id: str = do(workspace, CREATE, SPEC | change)["cluster_id"]
    return cluster_id


def submit(workspace: WorkspaceClient, path: str, **compute_fields: Any) -> int:
    task = {"task_key": "train", "spark_python_task": {"python_file": path}, **compute_fields}
    run_id: int = do(workspace, SUBMIT, {"run_name": compute_fields.pop("run_name", "cluster"), "tasks": [task]})[
        "run_id"
    ]
    return run_id


def details(run: jobs.Run) -> jobs.TerminationDetails:
    assert run.status is not None
    assert run.status.termination_details is not None
    return run.status.termination_details


def test_a_cluster_goes_through_its_states(workspace: WorkspaceClient, control: SandboxControl) -> None:
    control.compute(cluster_start_seconds=0.3)
    cluster_id = a_cluster(workspace, cluster_name="mine")
    assert workspace.clusters.get(cluster_id).state is compute.State.PENDING
    wait_until(lambda: workspace.clusters.get(cluster_id).state is compute.State.RUNNING)
    workspace.clusters.delete(cluster_id)
    wait_until(lambda: workspace.clusters.get(cluster_id).state is compute.State.TERMINATED)
    reason = workspace.clusters.get(cluster_id).termination_reason
    assert reason is not None
    assert reason.code is compute.TerminationReasonCode.USER_REQUEST
    workspace.clusters.start(cluster_id)
    wait_until(lambda: workspace.clusters.get(cluster_id).state is compute.State.RUNNING)
    assert [found.cluster_name for found in workspace.clusters.list() if found.cluster_id == cluster_id] == ["mine"]
    workspace.clusters.permanent_delete(cluster_id)
    with pytest.raises(ResourceDoesNotExist, match=f"Cluster {cluster_id} does not exist"):
        workspace.clusters.get(cluster_id)


def test_lists_of_what_there_is_hold_what_may_be_used(workspace: WorkspaceClient) -> None:
    nodes = {node.node_type_id: node for node in workspace.clusters.list_node_types().node_types or []}
    assert {"i3.xlarge", "m5d.large", "Standard_D4ds_v5", "g5.xlarge", "Standard_NC4as_T4_v3"} <= set(nodes)
    assert nodes["g5.xlarge"].num_gpus == 1
    versions = {version.key for version in workspace.clusters.spark_versions().versions or []}
    assert {"15.4.x-cpu-ml-scala2.12", "16.4.x-scala2.12", "16.4.x-scala2.13", "16.4.x-gpu-ml-scala2.12"} <= versions


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("an unknown node type", {"node_type_id": "n"}, "Node type n is not supported"),
    ("an unknown runtime", {"spark_version": "16"}, "Invalid spark version 16"),
    ("no node type", {"node_type_id": None}, "Missing required field 'node_type_id'"),
    ("two sizes", {"autoscale": {"min_workers": 1, "max_workers": 2}}, "num_workers or autoscale"),
    ("a GPU without its runtime", {"node_type_id": "g5.xlarge"}, "needs a GPU runtime"),
    ("a GPU runtime without GPU", {"spark_version": GPU["spark_version"]}, "needs node types with GPUs"),
    ("another cloud's attributes", {"azure_attributes": {"first_on_demand": 1}}, "cannot be used with the node type"),
    ("an unknown availability", {"aws_attributes": {"availability": "CHEAP"}}, "Invalid value 'CHEAP'"),
    ("an unknown attribute", {"aws_attributes": {"colour": 1}}, "unknown field 'aws_attributes.colour'"),
    ("a bid beyond the limit", {"aws_attributes": {"spot_bid_price_percent": 10001}}, "spot_bid_price_percent"),
    ("an unknown profile", {"aws_attributes": {"instance_profile_arn": "arn:x"}}, "has not been added"),
    ("an unknown pool", {"instance_pool_id": "p", "node_type_id": None}, "Instance pool p does not exist"),
    ("a pool and a node type", {"instance_pool_id": "p"}, "cannot be supplied when an instance pool"),
    ("a driver pool alone", {"driver_instance_pool_id": "p"}, "needs an instance_pool_id"),
    ("is_single_node without its kind", {"is_single_node": True}, "kind = CLASSIC_PREVIEW"),
    ("a termination too soon", {"autotermination_minutes": 5}, "between 10 and 10000"),
]


@pytest.mark.parametrize(("change", "said"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_a_cluster_that_the_platform_would_refuse_is_refused(
    workspace: WorkspaceClient, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidParameterValue, match=said):
        do(workspace, CREATE, {key: value for key, value in (SPEC | change).items() if value is not None})


def test_gpus_spot_machines_and_known_profiles_are_taken(workspace: WorkspaceClient, control: SandboxControl) -> None:
    a_cluster(workspace, **GPU)
    a_cluster(workspace, aws_attributes={"availability": "SPOT_WITH_FALLBACK", "first_on_demand": 1})
    azure = {"availability": "SPOT_WITH_FALLBACK_AZURE", "first_on_demand": 1, "spot_bid_max_price": -1}
    a_cluster(workspace, node_type_id="Standard_D4ds_v5", azure_attributes=azure)
    profile = "arn:aws:iam::1:instance-profile/trainer"
    control.compute(instance_profiles=[profile])
    a_cluster(workspace, aws_attributes={"instance_profile_arn": profile})


def test_a_task_runs_on_an_existing_cluster_which_is_started_for_it(
    workspace: WorkspaceClient, upload: Callable[..., str]
) -> None:
    cluster_id = a_cluster(workspace, spark_env_vars={"COLOUR": "blue"})
    workspace.clusters.delete(cluster_id)
    wait_until(lambda: workspace.clusters.get(cluster_id).state is compute.State.TERMINATED)
    run = ended(
        workspace, submit(workspace, upload("import os\nprint(os.environ['COLOUR'])\n"), existing_cluster_id=cluster_id)
    )
    [only] = run.tasks or []
    assert only.run_id is not None
    assert workspace.jobs.get_run_output(only.run_id).logs == "blue\n"
    assert only.cluster_instance is not None
    assert only.cluster_instance.cluster_id == cluster_id
    assert workspace.clusters.get(cluster_id).state is compute.State.RUNNING, "it goes on"


def test_a_jobs_own_cluster_ends_with_it(workspace: WorkspaceClient, upload: Callable[..., str]) -> None:
    run = ended(workspace, submit(workspace, upload("print(1)\n"), new_cluster=SPEC))
    [only] = run.tasks or []
    assert only.cluster_instance is not None
    cluster = workspace.clusters.get(str(only.cluster_instance.cluster_id))
    assert cluster.cluster_source is compute.ClusterSource.JOB
    assert cluster.termination_reason is not None
    assert cluster.termination_reason.code is compute.TerminationReasonCode.JOB_FINISHED
    with pytest.raises(InvalidParameterValue, match="only supports all-purpose"):
        submit(workspace, "/a.py", existing_cluster_id=cluster.cluster_id)
    for_notebooks = a_cluster(workspace, workload_type={"clients": {"jobs": False, "notebooks": True}})
    with pytest.raises(InvalidParameterValue, match="cannot be used for jobs"):
        submit(workspace, "/a.py", existing_cluster_id=for_notebooks)


def test_rights_on_a_cluster_decide_who_runs_on_it_and_starts_it(
    control: SandboxControl, workspace: WorkspaceClient, member: MemberFactory
) -> None:
    cluster_id = a_cluster(workspace)
    other = member("other")
    with pytest.raises(PermissionDenied, match="Attach"):
        submit(other.client, "/Shared/a.py", existing_cluster_id=cluster_id)
    with pytest.raises(InvalidParameterValue, match="Cluster absent does not exist"):
        submit(other.client, "/Shared/a.py", existing_cluster_id="absent")
    control.grant(other.application_id, f"clusters/{cluster_id}", "CAN_ATTACH_TO")
    with pytest.raises(PermissionDenied, match="Restart"):
        other.client.clusters.start(cluster_id)
    workspace.clusters.delete(cluster_id)
    run = ended(other.client, submit(other.client, "/Shared/a.py", existing_cluster_id=cluster_id))
    assert details(run).code is Code.UNAUTHORIZED_ERROR
    assert "Restart" in (details(run).message or "")


def test_a_cluster_in_error_and_one_that_is_terminated_fail_their_runs(
    control: SandboxControl, workspace: WorkspaceClient, upload: Callable[..., str]
) -> None:
    path = upload("import time\ntime.sleep(600)\n")
    cluster_id = a_cluster(workspace)
    run_id = submit(workspace, path, existing_cluster_id=cluster_id)
    wait_until(lambda: _running(workspace, run_id))
    workspace.clusters.delete(cluster_id)
    lost = ended(workspace, run_id)
    assert lost.state is not None
    assert lost.state.life_cycle_state is jobs.RunLifeCycleState.INTERNAL_ERROR
    raw = workspace.api_client.do("GET", "/api/2.2/jobs/runs/get", query={"run_id": run_id})
    assert isinstance(raw, dict)
    assert raw["status"]["termination_details"]["code"] == "CLUSTER_TERMINATED_BY_USER"
    broken = a_cluster(workspace)
    control.break_cluster(broken, "disk full")
    assert workspace.clusters.get(broken).state is compute.State.ERROR
    run = ended(workspace, submit(workspace, path, existing_cluster_id=broken))
    assert details(run).code is Code.CLUSTER_ERROR
    assert "unexpected state Error: disk full" in (details(run).message or "")


def _running(workspace: WorkspaceClient, run_id: int) -> bool:
    state = workspace.jobs.get_run(run_id).state
    return state is not None and state.life_cycle_state is jobs.RunLifeCycleState.RUNNING


FAILURES = [
    ("CLOUD_PROVIDER_LAUNCH_FAILURE", "CLOUD_FAILURE", Code.CLOUD_FAILURE, jobs.TerminationTypeType.CLOUD_FAILURE),
    ("AWS_INSUFFICIENT_INSTANCE_CAPACITY_FAILURE", "CLOUD_FAILURE", Code.CLOUD_FAILURE, None),
    ("SPOT_INSTANCE_TERMINATION", "CLOUD_FAILURE", Code.CLOUD_FAILURE, None),
    ("AZURE_QUOTA_EXCEEDED_EXCEPTION", "CLIENT_ERROR", Code.CLUSTER_ERROR, jobs.TerminationTypeType.CLIENT_ERROR),
    ("INVALID_ARGUMENT", "CLIENT_ERROR", Code.INVALID_CLUSTER_REQUEST, jobs.TerminationTypeType.CLIENT_ERROR),
    ("DRIVER_UNREACHABLE", "SERVICE_FAULT", Code.CLUSTER_ERROR, jobs.TerminationTypeType.INTERNAL_ERROR),
]


@pytest.mark.parametrize("pretended", [False, True], ids=["run", "pretend"])
@pytest.mark.parametrize(("reason", "kind", "code", "type_"), FAILURES)
def test_a_cluster_that_does_not_start_is_told_in_the_run(
    control: SandboxControl,
    workspace: WorkspaceClient,
    upload: Callable[..., str],
    reason: str,
    kind: str,
    code: Code,
    type_: jobs.TerminationTypeType | None,
    pretended: bool,
) -> None:
    if pretended:
        control.add_script(run_name="cluster", states=[("PENDING", 0), ("RUNNING", 600)])
    control.fail_cluster_starts(reason, parameters={"azure_error_message": "no more cores"})
    path = upload("print(1)\n")
    run = ended(workspace, submit(workspace, path, new_cluster=SPEC))
    assert run.state is not None
    assert run.state.life_cycle_state is jobs.RunLifeCycleState.INTERNAL_ERROR
    assert details(run).code is code
    assert type_ in (None, details(run).type)
    message = f"is in unexpected state Terminated: {reason}({kind}): azure_error_message:no more cores"
    assert message in (run.state.state_message or "")
    [only] = run.tasks or []
    assert only.cluster_instance is not None
    shown = workspace.clusters.get(str(only.cluster_instance.cluster_id)).termination_reason
    assert shown is not None
    assert shown.code is compute.TerminationReasonCode(reason)
    assert shown.parameters == {"azure_error_message": "no more cores"}


def test_only_pure_spot_clusters_fail_for_want_of_spot_machines(
    control: SandboxControl, workspace: WorkspaceClient, upload: Callable[..., str]
) -> None:
    control.fail_cluster_starts("SPOT_INSTANCE_TERMINATION", times=0, spot_only=True)
    path = upload("print(1)\n")
    results = []
    for availability in ("SPOT_WITH_FALLBACK", "SPOT"):
        spec = SPEC | {"aws_attributes": {"availability": availability}}
        run = ended(workspace, submit(workspace, path, new_cluster=spec))
        assert run.state is not None
        results.append(run.state.result_state)
    assert results == [jobs.RunResultState.SUCCESS, jobs.RunResultState.FAILED]


def test_a_pool_gives_its_nodes_to_those_who_may_attach(
    control: SandboxControl, workspace: WorkspaceClient, admin: Member, member: MemberFactory
) -> None:
    name = f"pool-{os.urandom(4).hex()}"
    body = {"instance_pool_name": name, "node_type_id": "i3.xlarge", "min_idle_instances": 1}
    path = "/api/2.0/instance-pools/create"
    with pytest.raises(PermissionDenied, match="not authorized to create instance pools"):
        do(workspace, path, body)
    pool_id = do(admin.client, path, body)["instance_pool_id"]
    assert pool_id in [pool.instance_pool_id for pool in admin.client.instance_pools.list()]
    assert admin.client.instance_pools.get(pool_id).node_type_id == "i3.xlarge"
    pooled = {key: value for key, value in SPEC.items() if key != "node_type_id"} | {"instance_pool_id": pool_id}
    with pytest.raises(PermissionDenied, match="Attach To"):
        do(workspace, CREATE, pooled)
    other = member("pooler")
    control.grant(other.application_id, f"instance-pools/{pool_id}", "CAN_ATTACH_TO")
    do(other.client, CREATE, pooled)
    with pytest.raises(InvalidParameterValue, match="Instance pool absent does not exist"):
        do(other.client, CREATE, pooled | {"driver_instance_pool_id": "absent"})
    admin.client.instance_pools.delete(pool_id)
    with pytest.raises(NotFound):
        admin.client.instance_pools.get(pool_id)


def test_a_policy_fills_in_and_limits_the_clusters_of_those_who_may_use_it(
    control: SandboxControl, workspace: WorkspaceClient, principal: str, admin: Member, upload: Callable[..., str]
) -> None:
    definition = {
        "node_type_id": {"type": "allowlist", "values": ["i3.xlarge", "m5d.large"], "defaultValue": "i3.xlarge"},
        "spark_version": {"type": "fixed", "value": "16.4.x-scala2.12"},
        "spark_env_vars.COLOUR": {"type": "fixed", "value": "blue"},
        "num_workers": {"type": "range", "maxValue": 2},
    }
    name = f"policy-{os.urandom(4).hex()}"
    with pytest.raises(PermissionDenied, match="Only workspace admins"):
        workspace.cluster_policies.create(name=name, definition=json.dumps(definition))
    policy_id = admin.client.cluster_policies.create(name=name, definition=json.dumps(definition)).policy_id
    assert policy_id is not None
    control.change_principal(principal, entitlements=["workspace-access"])
    asked: dict[str, Any] = {"policy_id": policy_id, "num_workers": 1, "apply_policy_default_values": True}
    path = upload("import os\nprint(os.environ['COLOUR'])\n")
    with pytest.raises(PermissionDenied, match="not authorized to use policy"):
        submit(workspace, path, new_cluster=asked)
    control.grant(principal, f"cluster-policies/{policy_id}", "CAN_USE")
    assert [policy.name for policy in workspace.cluster_policies.list()] == [name]
    run = ended(workspace, submit(workspace, path, new_cluster=asked))
    [only] = run.tasks or []
    assert only.run_id is not None
    assert workspace.jobs.get_run_output(only.run_id).logs == "blue\n"
    for change, said in (
        ({"num_workers": 3}, r"Validation failed for num_workers, the value must be at most 2 \(is \"3\"\)"),
        ({"node_type_id": "g5.xlarge"}, "must be one of i3.xlarge, m5d.large"),
        ({"spark_version": "15.4.x-scala2.12"}, "must be 16.4.x-scala2.12"),
        ({"apply_policy_default_values": False}, "Validation failed for node_type_id, the value must be present"),
    ):
        with pytest.raises(InvalidParameterValue, match=said):
            submit(workspace, path, new_cluster=asked | change)
    with pytest.raises(PermissionDenied, match="not authorized to create clusters"):
        submit(workspace, path, new_cluster=SPEC)
    with pytest.raises(BadRequest):
        admin.client.cluster_policies.create(name="bad", definition="[]")


def test_only_budget_policies_that_exist_are_taken(
    control: SandboxControl, workspace: WorkspaceClient, upload: Callable[..., str]
) -> None:
    control.add_script(run_name="budget", states=[("RUNNING", 0)])
    task = {"task_key": "a", "notebook_task": {"notebook_path": "/a"}}
    body = {"run_name": "budget", "tasks": [task], "budget_policy_id": "b-1"}
    with pytest.raises(InvalidParameterValue, match="budget policy b-1 does not exist"):
        do(workspace, SUBMIT, body)
    control.compute(budget_policies=["b-1"])
    ended(workspace, do(workspace, SUBMIT, body)["run_id"])
