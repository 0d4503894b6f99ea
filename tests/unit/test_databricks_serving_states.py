"""What Databricks shows of an endpoint, in words that hold for every platform; nothing unknown is ever Ready."""

from typing import Any, get_args

import pytest
from databricks.sdk.service.serving import EndpointStateConfigUpdate, ServedModelStateDeployment

from tests.unit.databricks_endpoints import NEW, OLD, UID, desired, serving, shown
from trainyard.core.serving.seen import RemoteServed, ServedState
from trainyard.platforms.databricks.serving_states import endpoint_of

BOTH = desired(serving(), serving(NEW), traffic={OLD: 60, NEW: 40})
ALONE = desired(serving())


def states(look: dict[str, Any]) -> dict[str, tuple[str, int]]:
    return {each.served: (each.state, each.traffic) for each in endpoint_of(look, UID).served}


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("READY", "Ready"),
        ("CREATING", "Creating"),
        ("RECOVERING", "Updating"),
        ("FAILED", "Failed"),
        ("ABORTED", "Failed"),
        ("LEVITATING", "Unknown"),
    ],
)
def test_a_state_means_what_the_platform_says(word: str, state: str) -> None:
    look = shown(ALONE, states={OLD: word})
    assert states(look) == {OLD: (state, 100)}
    assert state in get_args(ServedState)


def test_every_state_that_the_sdk_knows_is_known() -> None:
    for each in ServedModelStateDeployment:
        assert states(shown(ALONE, states={OLD: each.value.removeprefix("DEPLOYMENT_")}))[OLD][0] != "Unknown"


def test_a_served_model_without_a_state_is_not_ready() -> None:
    look = shown(ALONE)
    del look["config"]["served_entities"][0]["state"]
    assert states(look) == {OLD: ("Unknown", 100)}


@pytest.mark.parametrize(
    ("update", "busy"),
    [*((each.value, each.value == "IN_PROGRESS") for each in EndpointStateConfigUpdate), ("LEVITATING", True)],
)
def test_an_endpoint_is_busy_while_it_is_updated_or_does_what_nobody_knows(update: str, busy: bool) -> None:
    assert endpoint_of(shown(ALONE, update=update), UID).busy is busy


def test_what_is_on_its_way_has_no_traffic_and_can_not_be_asked_yet() -> None:
    look = shown(ALONE, update="IN_PROGRESS", pending=BOTH["config"], states={NEW: "READY"})
    assert states(look) == {OLD: ("Ready", 100), NEW: ("Creating", 0)}


def test_the_first_configuration_is_on_its_way_before_anything_is_served() -> None:
    look = shown({**ALONE, "config": None}, update="IN_PROGRESS", pending=ALONE["config"])
    assert states(look) == {OLD: ("Creating", 0)}


def test_what_changes_while_it_serves_is_updating_and_what_stays_is_ready() -> None:
    pending = desired(serving(maxReplicas=2), serving(NEW), traffic={OLD: 60, NEW: 40})["config"]
    look = shown(BOTH, update="IN_PROGRESS", pending=pending)
    assert states(look) == {OLD: ("Updating", 60), NEW: ("Ready", 40)}


def test_an_update_that_failed_leaves_what_serves_and_tells_why() -> None:
    look = shown(ALONE, update="UPDATE_FAILED", pending=BOTH["config"], states={NEW: "FAILED"})
    assert states(look) == {OLD: ("Ready", 100), NEW: ("Failed", 0)}
    assert endpoint_of(look, UID).failed == f"{NEW}: it FAILED"


def test_what_was_ready_in_an_update_that_failed_never_serves() -> None:
    look = shown(ALONE, update="UPDATE_FAILED", pending=BOTH["config"], states={NEW: "READY"})
    assert states(look)[NEW] == ("Failed", 0)
    assert "failed" in endpoint_of(look, UID).failed


def test_an_update_that_a_person_cancelled_came_to_nothing() -> None:
    assert "cancelled" in endpoint_of(shown(ALONE, update="UPDATE_CANCELED", pending=BOTH["config"]), UID).failed


def test_an_endpoint_tells_where_it_is_asked_who_made_it_and_whose_it_is() -> None:
    endpoint = endpoint_of(shown(ALONE), UID, "https://dbc.cloud.databricks.com/")
    assert endpoint.url == "https://dbc.cloud.databricks.com/serving-endpoints/team-a-wine/invocations"
    assert endpoint.page == "https://dbc.cloud.databricks.com/ml/endpoints/team-a-wine"
    assert (endpoint.creator, endpoint.ours, endpoint.failed) == ("app-id", True, "")
    assert not endpoint_of(shown(ALONE), "another").ours
    assert not endpoint_of(shown(ALONE, tags=[]), UID).ours


def test_an_endpoint_of_old_is_read_by_its_served_models() -> None:
    look = {
        "name": "old",
        "config": {
            "served_models": [
                {"name": "m-1", "model_name": "m", "model_version": "1", "state": {"deployment": "DEPLOYMENT_READY"}}
            ],
            "traffic_config": {"routes": [{"served_model_name": "m-1", "traffic_percentage": 100}]},
        },
    }
    assert endpoint_of(look, UID).served == (RemoteServed("m-1", "Ready", 100, "m", "1"),)


def test_the_only_one_has_all_requests_where_nothing_is_said_of_routes() -> None:
    assert states(shown(desired(serving(), traffic={}))) == {OLD: ("Ready", 100)}
    assert states(shown(desired(serving(), serving(NEW), traffic={}))) == {OLD: ("Ready", 0), NEW: ("Ready", 0)}


def test_a_long_message_is_cut() -> None:
    look = shown(ALONE, states={OLD: "FAILED"})
    look["config"]["served_entities"][0]["state"]["deployment_state_message"] = "x\n" * 5000
    (served,) = endpoint_of(look, UID).served
    assert len(served.message) == 512
    assert "\n" not in served.message
