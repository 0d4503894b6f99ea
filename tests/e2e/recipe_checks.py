"""What a recipe of the cookbook has done, beside what its status says: on the platform, in files, in its request.

`LOOKED_AT` by the example's name. Read by test_cookbook.py only.
"""

import json
from collections.abc import Callable
from typing import Any

from databricks.sdk.service import compute

from tests.e2e.kitchen import MANAGED_IDENTITY, Kitchen
from tests.e2e.scene import Run


def task_of(place: Kitchen, run: Run) -> Any:
    """The first task of the newest attempt, as the platform has it."""
    tasks = place.client().jobs.get_run(int(run.status["remoteId"])).tasks
    assert tasks
    return tasks[0]


def only_what_failed_ran_again(place: Kitchen, run: Run) -> None:
    first, second = (place.client().jobs.get_run(int(each["remoteId"])) for each in run.status["attempts"])
    assert {task.task_key for task in first.tasks or []} == {"fetch", "train", "tell"}
    assert {task.task_key for task in second.tasks or []} == {"train", "tell"}


def the_job_got_its_parameters(place: Kitchen, run: Run) -> None:
    output = place.client().jobs.get_run_output(task_of(place, run).run_id)
    assert output.run_job_output
    assert output.run_job_output.run_id
    child = place.client().jobs.get_run(output.run_job_output.run_id)
    assert child.tasks
    printed = place.client().jobs.get_run_output(child.tasks[0].run_id or 0).logs
    assert printed == f"2026-11-23 {run.status['attempts'][0]['mlflowRunId']}\n"


def the_block_was_merged(place: Kitchen, run: Run) -> None:
    cluster = task_of(place, run).new_cluster
    assert (cluster.num_workers, cluster.autoscale.min_workers, cluster.autoscale.max_workers) == (None, 1, 2)
    assert cluster.node_type_id == "m5d.2xlarge"


def the_scores_are_there(place: Kitchen, run: Run) -> None:
    found = place.client().files.download(f"{run.status['outputs']['scores']['uri']}/scores.csv").contents
    assert found
    assert found.read() == b"a,0.9\nb,0.9\n"


def it_ran_on_that_cluster(place: Kitchen, run: Run) -> None:
    assert task_of(place, run).existing_cluster_id == place.instead["1123-120000-abcdefgh"]


def its_machines_came_from_the_pools(place: Kitchen, run: Run) -> None:
    cluster = task_of(place, run).new_cluster
    assert cluster.instance_pool_id == place.instead["1123-120000-pool-abcdefgh"]
    assert cluster.driver_instance_pool_id == place.instead["1123-120000-pool-ijklmnop"]


def it_kept_to_the_policy(place: Kitchen, run: Run) -> None:
    cluster = task_of(place, run).new_cluster
    assert (cluster.policy_id, cluster.apply_policy_default_values) == (place.instead["60646AB1C2D3E4F5"], True)


def its_machines_have_the_profile(place: Kitchen, run: Run) -> None:
    profile = task_of(place, run).new_cluster.aws_attributes.instance_profile_arn
    assert profile == "arn:aws:iam::123456789012:instance-profile/wine-raw-reader"


def it_asked_for_spot_machines(place: Kitchen, run: Run) -> None:
    cluster = task_of(place, run).new_cluster
    assert cluster.aws_attributes.availability is compute.AwsAvailability.SPOT_WITH_FALLBACK
    assert cluster.aws_attributes.first_on_demand == 1
    assert (cluster.autoscale.min_workers, cluster.autoscale.max_workers) == (1, 8)


def it_asked_for_a_gpu(place: Kitchen, run: Run) -> None:
    assert task_of(place, run).new_cluster.node_type_id == "g5.xlarge"


def the_whole_log_is_in_the_volume(place: Kitchen, run: Run) -> None:
    uri = run.status["attempts"][0]["logsUri"]
    assert uri.startswith("/Volumes/main/wine/logs/")
    found = place.client().files.download(uri).contents
    assert found
    assert found.read() == b"epoch 0\nepoch 1\nepoch 2\n"


def the_code_was_the_reader(place: Kitchen, run: Run) -> None:
    assert run.status["identity"]["submittedAs"] == place.trainer
    assert run.status["identity"]["ranAs"] == place.reader


def it_goes_on_once_the_right_is_there(place: Kitchen, run: Run) -> None:
    assert run.remote() == []
    assert "GRANT CREATE MODEL ON SCHEMA `main`.`finance`" in run.message
    place.stand.control.grant(place.trainer, "main.finance", "CREATE MODEL")
    run.wait("to go on", lambda obj: obj["status"]["phase"] != "Stalled", 90)


def the_last_lines_are_told(place: Kitchen, run: Run) -> None:
    assert run.message.endswith("ValueError: no rows left after the filter")


def nothing_was_started(place: Kitchen, run: Run) -> None:
    assert run.remote() == []
    assert json.loads(run.status["plan"]["request"])["body"]["tasks"]


# --- Azure ML


def job_of(place: Kitchen, run: Run) -> dict[str, Any]:
    """The job of the newest attempt, as its workspace has it."""
    return place.stand.control.azure_job(run.status["remoteId"])


def blob_of(place: Kitchen, run: Run, output: str, file: str) -> bytes:
    """A file in an output of the run, which is told where its status says."""
    _, _, path = run.status["outputs"][output]["uri"].partition("azureml://datastores/lake/paths/")
    return place.stand.control.azure_blob("lake", f"{path}/{file}")


def labels_are_beside_the_wines(place: Kitchen, run: Run) -> None:
    assert blob_of(place, run, "scores", "scores.csv") == b"a,red\nb,white\n"


def it_ran_on_two_machines_of_the_cluster(place: Kitchen, run: Run) -> None:
    definition = job_of(place, run)["definition"]
    assert definition["computeId"].endswith("/computes/cpu-cluster")
    assert definition["resources"] == {"instanceCount": 2, "shmSize": "4g"}
    assert definition["environmentId"].endswith("/environments/wine-tools/versions/3")


def the_wheel_was_read_where_it_lies(place: Kitchen, run: Run) -> None:
    (mounted,) = job_of(place, run)["definition"]["inputs"].values()
    assert mounted["uri"] == "azureml://datastores/lake/paths/code/wheels"


def the_code_was_the_managed_identity(place: Kitchen, run: Run) -> None:
    assert run.status["identity"]["submittedAs"] == place.azure_trainer
    assert run.status["identity"]["ranAs"] == MANAGED_IDENTITY
    assert job_of(place, run)["definition"]["identity"] == {"identityType": "Managed", "clientId": MANAGED_IDENTITY}


def the_old_job_is_as_it_was(place: Kitchen, run: Run) -> None:
    assert run.status["remoteId"] != "wine-monthly"
    old = place.stand.control.azure_job("wine-monthly")["definition"]
    assert old["inputs"]["month"]["value"] == "2026-10"


def the_best_of_three_trials_counts(place: Kitchen, run: Run) -> None:
    best = job_of(place, run)["properties"]
    assert (best["best_child_run_id"], best["score"]) == (f"{run.status['remoteId']}_1", "0.9")


def its_steps_passed_on_what_they_made(place: Kitchen, run: Run) -> None:
    assert blob_of(place, run, "scores", "scores.csv") == b"a,6\nb,6\n"
    steps = job_of(place, run)["definition"]["jobs"].values()
    assert {step["computeId"].rpartition("/")[2] for step in steps} == {"cpu-cluster"}


def its_tags_and_alias_are_on_the_version(place: Kitchen, run: Run) -> None:
    (version,) = (each for each in place.stand.control.azure_assets("models") if each["name"] == "wine-kinds")
    tags = version["properties"]["tags"]
    assert (tags["data"], tags["alias"], tags["trainyard_name"]) == ("sklearn-wine", "challenger", run.name)


LOOKED_AT: dict[str, Callable[[Kitchen, Run], None]] = {
    "12-tasks": only_what_failed_ran_again,
    "13-job-by-id": the_job_got_its_parameters,
    "15-databricks-block": the_block_was_merged,
    "16-data": the_scores_are_there,
    "20-existing-cluster": it_ran_on_that_cluster,
    "21-pool": its_machines_came_from_the_pools,
    "22-policy": it_kept_to_the_policy,
    "24-instance-profile": its_machines_have_the_profile,
    "25-spot-autoscale": it_asked_for_spot_machines,
    "26-gpu": it_asked_for_a_gpu,
    "34-logs": the_whole_log_is_in_the_volume,
    "35-run-as": the_code_was_the_reader,
    "36-preflight": it_goes_on_once_the_right_is_there,
    "37-plan-only": nothing_was_started,
    "39-failure": the_last_lines_are_told,
    "41-azureml-data": labels_are_beside_the_wines,
    "43-azureml-cluster": it_ran_on_two_machines_of_the_cluster,
    "44-azureml-wheel": the_wheel_was_read_where_it_lies,
    "45-azureml-run-as": the_code_was_the_managed_identity,
    "46-azureml-job-ref": the_old_job_is_as_it_was,
    "47-azureml-sweep": the_best_of_three_trials_counts,
    "48-azureml-pipeline": its_steps_passed_on_what_they_made,
    "49-azureml-model": its_tags_and_alias_are_on_the_version,
}
