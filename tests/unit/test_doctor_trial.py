"""Which compute classes the doctor tries a run with."""

from typing import Any, cast

from trainyard.api.workspace import MLWorkspaceSpec
from trainyard.client.doctor.case import Case, Subject
from trainyard.client.doctor.reaching import Reached
from trainyard.client.doctor.results import not_applicable
from trainyard.client.doctor.trial import trials
from trainyard.core.snapshot import Target

SERVES = {"modelServing": {"workloadSize": "Small"}}
RUNS = {"serverless": {"environmentVersion": "5"}}


def case(**classes: Any) -> Case:
    spec = {
        "databricks": {"host": "https://dbc.cloud.databricks.com"},
        "identity": {"federated": {"serviceAccountName": "trainer"}},
        "computeClasses": classes,
    }
    target = Target("databricks", "https://dbc.cloud.databricks.com", "principal", "federated", "trainer")
    found = Case(Subject("MLWorkspace", "databricks", "team-a"), cast(Any, None))
    found.found_workspace, found.found_target = MLWorkspaceSpec.model_validate(spec), target
    return found


def test_a_class_that_only_serves_models_is_no_broken_class_for_runs() -> None:
    tried = list(trials(case(small=RUNS, serving=SERVES, both={**RUNS, **SERVES})))
    assert [(each.compute_class, each.error) for each in tried] == [("both", None), ("small", None)]


def test_a_workspace_that_only_serves_models_needs_no_compute_for_runs() -> None:
    result = Reached().compute(case(serving=SERVES))
    assert result == not_applicable("every compute class is for served models alone, so that no run can start here")
