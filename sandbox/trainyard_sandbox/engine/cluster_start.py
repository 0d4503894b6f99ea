"""A task's cluster: launched, or started if it is terminated, and how a run ends when that fails.

task_process.py and pretend.py call `request`. Nothing here waits: who asks looks at the cluster again when it is ready.

How a run shows a cluster that did not start: the sentence is the one in databricks-industry-solutions/pixels#24; the
termination codes are those whose docstrings fit (databricks-sdk `service/jobs.py` TerminationCodeCode: CLUSTER_ERROR,
CLOUD_FAILURE, INVALID_CLUSTER_REQUEST, BUDGET_POLICY_LIMIT_EXCEEDED), since which cluster termination reason gives
which is not published. Secrets: see secret_scopes.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from trainyard_sandbox.compute.cluster_spec import effective_spec
from trainyard_sandbox.compute.clusters import Cluster, Termination
from trainyard_sandbox.compute.rights import CLUSTER_RESTART
from trainyard_sandbox.engine.runs import Outcome, Run, TaskRun
from trainyard_sandbox.errors import ApiError
from trainyard_sandbox.secret_scopes import UnresolvedSecret
from trainyard_sandbox.state import SandboxState

JOB_FINISHED = Termination("JOB_FINISHED", "SUCCESS")


class ClusterNotThere(Exception):
    """The task has no cluster, and ends so."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome


@dataclass(frozen=True)
class TaskCluster:
    """A task's cluster, or none on serverless; `variables` are its spark_env_vars with secrets resolved."""

    cluster: Cluster | None = None
    variables: dict[str, str] = field(default_factory=dict)


def request(state: SandboxState, run: Run, task: TaskRun) -> TaskCluster:
    """Launch or start the cluster of a task.

    Raises:
        ClusterNotThere: it cannot be had; a start that fails later shows in the cluster's state.
    """
    if "new_cluster" in task.spec:
        cluster = _launched(state, run, task)
    elif "existing_cluster_id" in task.spec:
        cluster = _existing(state, run, task.spec["existing_cluster_id"])
    else:
        return TaskCluster()
    task.cluster_id = cluster.cluster_id
    return TaskCluster(cluster, _variables(state, cluster))


def _launched(state: SandboxState, run: Run, task: TaskRun) -> Cluster:
    try:
        creator = state.directory.acting(run.creator)
        spec = effective_spec(state.compute, creator, task.spec["new_cluster"], "job")
    except ApiError as error:
        code = "UNAUTHORIZED_ERROR" if error.status == 403 else "INVALID_CLUSTER_REQUEST"
        raise ClusterNotThere(_client_error(code, error.message)) from error
    # ClusterSpec.cluster_name: "For job clusters, the cluster name is automatically set based on the job and run IDs".
    spec = spec | {"cluster_name": f"job-{run.job_id}-run-{task.run_id}-{task.task_key}"}
    return state.compute.clusters.launch(spec, run.run_as, "JOB", run.name)


def _existing(state: SandboxState, run: Run, cluster_id: str) -> Cluster:
    clusters = state.compute.clusters
    try:
        principal = state.directory.acting(run.run_as)
        cluster = clusters.attachable(cluster_id, principal)
        if clusters.state(cluster) in ("TERMINATING", "TERMINATED"):
            clusters.require(principal, cluster, CLUSTER_RESTART, "Restart")
            cluster.gone_at = 0.0  # a start waits for the termination to end; here it just ends
            clusters.start(cluster, run.name)
    except ApiError as error:
        code = "UNAUTHORIZED_ERROR" if error.status == 403 else "RESOURCE_NOT_FOUND"
        raise ClusterNotThere(_client_error(code, error.message)) from error
    if cluster.error is not None:
        message = f"Cluster {cluster_id} is in unexpected state Error: {cluster.error}"
        raise ClusterNotThere(Outcome("INTERNAL_ERROR", "FAILED", message, "CLUSTER_ERROR", "INTERNAL_ERROR"))
    return cluster


def _variables(state: SandboxState, cluster: Cluster) -> dict[str, str]:
    """The cluster's variables; its owner must be able to read each secret that they or its Spark conf name."""
    given = cluster.spec.get("spark_env_vars", {})
    conf = cluster.spec.get("spark_conf", {})
    if not any("{{" in value for value in (*given.values(), *conf.values())):
        return dict(given)
    owner = state.directory.acting(cluster.creator)
    try:
        state.secret_scopes.resolved(conf, owner)
        return state.secret_scopes.resolved(given, owner)
    except UnresolvedSecret as error:
        said = f"Failed to fetch secrets referred to in Spark Conf: {error.message}"
        reason = Termination.of(error.code, None, {"databricks_error_message": said})
        state.compute.clusters.terminate(cluster, reason)
        raise ClusterNotThere(outcome_of_start(cluster, reason)) from error


def outcome_of_start(cluster: Cluster, reason: Termination) -> Outcome:
    """How a run ends whose cluster did not start for this reason."""
    name = cluster.cluster_id
    message = (
        f"Cluster {name} was terminated while waiting on it to be ready: "
        f"Cluster {name} is in unexpected state Terminated: {reason.sentence}"
    )
    if reason.code == "BUDGET_POLICY_LIMIT_ENFORCEMENT_ACTIVATED":
        return _client_error("BUDGET_POLICY_LIMIT_EXCEEDED", message)
    if reason.code == "INVALID_ARGUMENT":
        return _client_error("INVALID_CLUSTER_REQUEST", message)
    if reason.type == "CLOUD_FAILURE":
        return Outcome("INTERNAL_ERROR", "FAILED", message, "CLOUD_FAILURE", "CLOUD_FAILURE")
    kind = "CLIENT_ERROR" if reason.type == "CLIENT_ERROR" else "INTERNAL_ERROR"
    return Outcome("INTERNAL_ERROR", "FAILED", message, "CLUSTER_ERROR", kind)


def outcome_of_loss(cluster: Cluster, reason: Termination) -> Outcome:
    """How a run ends whose cluster went away under it.

    CLUSTER_TERMINATED_BY_USER is named in the docstring of TerminationCodeCode though not in the enum.
    """
    message = f"Cluster {cluster.cluster_id} was terminated. Reason: {reason.code} ({reason.type})."
    if reason.code == "USER_REQUEST":
        return _client_error("CLUSTER_TERMINATED_BY_USER", message)
    kind = "CLOUD_FAILURE" if reason.type == "CLOUD_FAILURE" else "INTERNAL_ERROR"
    code = "CLOUD_FAILURE" if reason.type == "CLOUD_FAILURE" else "CLUSTER_ERROR"
    return Outcome("INTERNAL_ERROR", "FAILED", message, code, kind)


def release(state: SandboxState, task: TaskRun, cluster: Cluster) -> None:
    """The task is done with its cluster: a job's own is terminated, another goes on."""
    cluster.tenants.pop(task.run_id, None)
    if cluster.source == "JOB":
        state.compute.clusters.terminate(cluster, cluster.doom or JOB_FINISHED)


def _client_error(code: str, message: str) -> Outcome:
    return Outcome("INTERNAL_ERROR", "FAILED", message, code, "CLIENT_ERROR")
