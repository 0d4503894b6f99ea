"""Whether the platform tries a failed task again by itself. Pure.

run.py asks it. A client that must start nothing twice turns it all off: `max_retries: 0` and
`disable_auto_optimization: true`; whoever forgets one of them sees a second attempt here.

Read in: databricks-sdk `service/jobs.py` RunTask.max_retries (which results count, -1 for ever), retry_on_timeout;
Databricks documentation, "Configure serverless compute auto-optimization to disallow retries". The docstring of
JobsAPI.submit says that one-time runs are not retried, yet SubmitTask has the same fields; of the two we take what is
harder on a client. How often auto-optimization retries is not published; here it does once.
"""

from __future__ import annotations

from trainyard_sandbox.engine.runs import Outcome, TaskRun

AUTO_OPTIMIZATION_RETRIES = 1


def again(task: TaskRun, outcome: Outcome) -> bool:
    """Whether another attempt follows one that ended so."""
    timed_out = outcome.result_state == "TIMEDOUT"
    unsuccessful = outcome.result_state == "FAILED" or outcome.life_cycle_state == "INTERNAL_ERROR"
    if not unsuccessful and not (timed_out and task.spec.get("retry_on_timeout")):
        return False
    wanted = task.spec.get("max_retries", 0)
    if wanted == -1:
        return True
    if is_serverless(task) and not task.spec.get("disable_auto_optimization"):
        wanted = max(wanted, AUTO_OPTIMIZATION_RETRIES)
    return bool(task.attempt_number < wanted)


def is_serverless(task: TaskRun) -> bool:
    """Whether it runs on serverless compute: it names no cluster, and needs one."""
    return task.kind != "run_job_task" and not {"new_cluster", "existing_cluster_id"} & task.spec.keys()
