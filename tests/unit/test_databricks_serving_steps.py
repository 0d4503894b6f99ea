"""One request at a time, in an order in which requests are always answered, until nothing of the plan is lacking."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.unit.databricks_endpoints import CLASSES, NEW, OLD, UID, desired, plan, serving, shown, workspace
from tests.unit.databricks_serving_world import ACL, CREATOR, Platform
from trainyard.core.errors import TranslationError
from trainyard.platforms.databricks.serving_states import endpoint_of, shares_of
from trainyard.platforms.databricks.serving_steps import (
    GONE,
    Seen,
    Step,
    as_seen,
    differences,
    failed_with_plan,
    letting_go,
    needs_permissions,
    next_request,
    removable,
)
from trainyard.platforms.databricks.serving_translate import translate
from trainyard.platforms.limits import PlatformBusy
from trainyard.platforms.serving import EndpointRequest

PATH = "/api/2.0/serving-endpoints/team-a-wine"
ALONE = desired(serving())
BOTH = desired(serving(), serving(NEW))
ANALYSTS = {"group": "analysts", "level": "CAN_QUERY"}


def asked(steps: list[Step]) -> list[tuple[str, str]]:
    return [(step.method, step.path.removeprefix(PATH)) for step in steps]


def test_a_new_endpoint_is_made_by_one_request() -> None:
    body = desired(serving(), tags={"team": "wine"}, request_logging={})
    platform = Platform()
    (step,) = platform.settle(body)
    assert (step.method, step.path) == ("POST", "/api/2.0/serving-endpoints")
    assert step.body == {key: body[key] for key in ("name", "tags", "config", "ai_gateway")}
    assert differences(platform.seen(body), body) == ()


def test_an_endpoint_that_follows_the_plan_is_left_alone() -> None:
    for body in (ALONE, BOTH, desired(serving(), request_logging={})):
        look = Seen(shown(body))
        assert next_request(look, body) is None
        assert differences(look, body) == ()


def test_nothing_is_asked_for_while_an_update_is_in_progress() -> None:
    for update in ("IN_PROGRESS", "LEVITATING"):
        look = Seen(shown(ALONE, update=update, pending=BOTH["config"]))
        assert next_request(look, desired(serving(NEW), tags={"team": "wine"})) is None
        assert f"an update is under way ({update})" in differences(look, ALONE)


def test_a_share_changes_by_one_request_that_names_everything() -> None:
    wanted = desired(serving(), serving(NEW), traffic={OLD: 75, NEW: 25})
    look = Seen(shown(BOTH))
    step = next_request(look, wanted)
    assert step is not None
    assert (step.method, step.path, step.body) == ("PUT", f"{PATH}/config", wanted["config"])
    assert differences(look, wanted) == (
        f"{OLD} answers 100 % of the requests, and was to answer 75 %",
        f"{NEW} answers 0 % of the requests, and was to answer 25 %",
    )


BY_CLASS = ", as computeClasses.small of the workspace says"
HAND_EDITS: list[tuple[str, dict[str, Any], str]] = [
    ("workload_size", {"workload_size": "Large"}, f"workload_size is 'Large', and was to be 'Small'{BY_CLASS}"),
    ("workload_type", {"workload_type": "GPU_SMALL"}, f"workload_type is 'GPU_SMALL', and was to be 'CPU'{BY_CLASS}"),
    ("version", {"entity_version": "9"}, "entity_version is '9', and was to be '3'"),
    ("scale", {"scale_to_zero_enabled": True}, "scale_to_zero_enabled is True, and was to be False"),
    ("profile", {"instance_profile_arn": "arn:x"}, "instance_profile_arn is 'arn:x', and was to be None"),
    ("env", {"environment_vars": {"A": "s3cret"}}, "environment_vars is set to A, and was to be set to nothing"),
]


@pytest.mark.parametrize(("_name", "edit", "sentence"), HAND_EDITS)
def test_an_edit_by_hand_is_seen_and_taken_back(_name: str, edit: dict[str, Any], sentence: str) -> None:
    platform = Platform(shown(ALONE))
    assert platform.look is not None
    platform.look["config"]["served_entities"][0].update(edit)
    assert differences(platform.seen(ALONE), ALONE) == (f"{OLD}: {sentence}",)
    assert asked(platform.settle(ALONE)) == [("PUT", "/config")]
    assert differences(platform.seen(ALONE), ALONE) == ()


def test_a_size_that_is_told_in_both_ways_is_the_one_that_was_asked_for() -> None:
    look = shown(ALONE)
    look["config"]["served_entities"][0].update(min_provisioned_concurrency=4, max_provisioned_concurrency=4)
    assert differences(Seen(look), ALONE) == ()


def test_the_value_of_a_variable_is_never_told() -> None:
    look = shown(ALONE)
    look["config"]["served_entities"][0]["environment_vars"] = {"A": "s3cret"}
    assert "s3cret" not in str(differences(Seen(look), ALONE))


def test_what_somebody_added_is_there_and_was_not_to_be() -> None:
    look = Seen(shown(BOTH))
    assert differences(look, ALONE) == (f"{NEW} is there, and was not to be",)
    assert next_request(look, ALONE) is not None


def test_an_endpoint_that_went_is_made_again() -> None:
    assert differences(Seen(None), ALONE) == (GONE,)
    step = next_request(Seen(None), ALONE)
    assert step is not None
    assert step.method == "POST"


def test_what_is_not_ready_is_a_difference_and_no_request() -> None:
    for word, state in (("RECOVERING", "Updating"), ("FAILED", "Failed"), ("LEVITATING", "Unknown")):
        look = Seen(shown(ALONE, states={OLD: word}))
        assert differences(look, ALONE) == (f"{OLD} is {state}",)
        assert next_request(look, ALONE) is None


def test_an_update_that_failed_is_not_asked_for_again() -> None:
    look = Seen(shown(ALONE, update="UPDATE_FAILED", pending=BOTH["config"], states={NEW: "FAILED"}))
    assert failed_with_plan(look, BOTH)
    assert next_request(look, BOTH) is None
    assert f"{NEW} is Failed" in differences(look, BOTH)


def test_an_update_that_failed_before_says_nothing_of_this_plan() -> None:
    look = Seen(shown(ALONE, update="UPDATE_FAILED", pending=BOTH["config"], states={NEW: "FAILED"}))
    other = desired(serving(), serving("other-00000003"))
    assert not failed_with_plan(look, other)
    step = next_request(look, other)
    assert step is not None
    assert step.path == f"{PATH}/config"


def test_a_failure_that_the_platform_shows_no_configuration_of_is_told_by_who_asked_for_it() -> None:
    look = shown(ALONE, update="UPDATE_FAILED")
    assert failed_with_plan(Seen(look, tried=True), BOTH)
    assert next_request(Seen(look, tried=True), BOTH) is None
    assert not failed_with_plan(Seen(look), BOTH)
    assert not failed_with_plan(Seen(look, tried=True), ALONE)


def test_what_an_update_left_when_it_failed_is_cleared_away() -> None:
    platform = Platform(shown(ALONE, update="UPDATE_FAILED", pending=BOTH["config"], states={NEW: "FAILED"}))
    assert differences(platform.seen(ALONE), ALONE) == (f"{NEW} is there, and was not to be",)
    assert asked(platform.settle(ALONE)) == [("PUT", "/config")]
    assert platform.look is not None
    assert "pending_config" not in platform.look


def test_what_a_failed_update_left_and_the_platform_keeps_is_asked_away_once() -> None:
    look = shown(ALONE, update="UPDATE_FAILED", pending=BOTH["config"], states={NEW: "FAILED"})
    assert next_request(Seen(look, tried=True), ALONE) is None
    assert differences(Seen(look, tried=True), ALONE) == ()
    stale = Seen(shown(ALONE, pending=BOTH["config"]))
    assert next_request(stale, ALONE) is None
    assert differences(stale, ALONE) == (), "nothing is on its way while nothing is being updated"


def test_what_fails_while_it_serves_loses_its_share_even_if_it_can_not_be_kept() -> None:
    """A rollback keeps what failed for its logs, with no share; where that fails, the share matters more."""
    half = desired(serving(), serving(NEW), traffic={OLD: 50, NEW: 50})
    look = shown(half, update="UPDATE_FAILED", pending=BOTH["config"], states={NEW: "FAILED"})
    step = next_request(Seen(look), BOTH)
    assert step is not None
    assert step.body == {
        "served_entities": ALONE["config"]["served_entities"],
        "traffic_config": {"routes": [{"served_entity_name": OLD, "traffic_percentage": 100}]},
    }


def test_nothing_served_deletes_the_endpoint() -> None:
    none = desired()
    platform = Platform(shown(ALONE))
    assert differences(platform.seen(none), none) == ("the endpoint is still there",)
    assert asked(platform.settle(none)) == [("DELETE", "")]
    assert differences(platform.seen(none), none) == ()


def test_a_foreign_endpoint_becomes_ours_before_it_changes_and_serves_on_until_ours_is_ready() -> None:
    theirs = {**desired(serving("theirs-9")), "tags": [{"key": "owner", "value": "bob"}]}
    platform = Platform(shown(theirs))
    assert asked(platform.settle(ALONE)) == [("PATCH", "/tags"), ("PUT", "/config"), ("PATCH", "/tags")]
    assert endpoint_of(platform.look or {}, UID).ours
    assert differences(platform.seen(ALONE), ALONE) == ()


def test_an_endpoint_taken_over_that_never_served_ours_is_left_to_what_it_served() -> None:
    theirs = {**desired(serving("theirs-9")), "tags": [{"key": "owner", "value": "bob"}]}
    platform = Platform(shown(theirs))
    for _ in range(2):
        step = next_request(platform.seen(ALONE), ALONE)
        assert step is not None
        platform.send(step)
    platform.finish(good=False)
    none = desired()
    assert next_request(platform.seen(none), none) is None
    assert differences(platform.seen(none), none) == ()
    assert platform.look is not None
    assert not removable(platform.look, UID)
    platform.send(letting_go(platform.look))
    assert platform.look["tags"] == [{"key": "owner", "value": "bob"}]


@pytest.mark.parametrize("good", [True, False])
def test_an_endpoint_taken_over_is_ours_to_delete_as_soon_as_it_serves_ours_alone(*, good: bool) -> None:
    platform = Platform(shown({**desired(serving("theirs-9")), "tags": [{"key": "owner", "value": "bob"}]}))
    for _ in range(2):
        step = next_request(platform.seen(ALONE), ALONE)
        assert step is not None
        platform.send(step)
    assert platform.look is not None
    assert not removable(platform.look, UID)
    with pytest.raises(PlatformBusy):
        letting_go(platform.look)
    platform.finish(good=good)
    assert removable(platform.look, UID) == good


def test_a_size_that_the_compute_class_says_otherwise_is_told_as_the_class_word() -> None:
    there, wanted = Platform(shown(ALONE)), desired(serving(computeClass="large"))
    assert differences(there.seen(wanted), wanted) == tuple(
        f"{OLD}: {field} is {was!r}, and was to be {now!r}, as computeClasses.large of the workspace says"
        for field, was, now in (("workload_type", "CPU", "GPU_SMALL"), ("workload_size", "Small", "Large"))
    )
    other = desired(serving(version="9"))
    assert differences(there.seen(other), other) == (f"{OLD}: entity_version is '3', and was to be '9'",)


def test_tags_come_and_go() -> None:
    platform = Platform(shown(desired(serving(), tags={"team": "wine", "cost": "7"})))
    wanted = desired(serving(), tags={"team": "beer", "mail": "ada"})
    assert differences(platform.seen(wanted), wanted) == (
        "tag cost is '7', and was to be absent",
        "tag mail is absent, and was to be 'ada'",
        "tag team is 'wine', and was to be 'beer'",
    )
    assert {path for _, path in asked(platform.settle(wanted))} == {"/tags"}
    assert differences(platform.seen(wanted), wanted) == ()


def test_logging_comes_and_goes_and_leaves_the_rest_of_the_gateway() -> None:
    logged = desired(serving(), request_logging={})
    limits = {"rate_limits": [{"calls": 10, "renewal_period": "minute"}]}
    platform = Platform(shown(ALONE, ai_gateway=limits))
    assert differences(platform.seen(logged), logged) == ("requests are not logged where they were to be",)
    assert asked(platform.settle(logged)) == [("PUT", "/ai-gateway")]
    assert differences(platform.seen(ALONE), ALONE) == ("requests are logged, and were not to be",)
    assert asked(platform.settle(ALONE)) == [("PUT", "/ai-gateway")]
    assert platform.look is not None
    assert platform.look["ai_gateway"]["rate_limits"] == limits["rate_limits"]


def test_logging_into_another_table_stops_before_it_starts_there() -> None:
    logged = desired(serving(), request_logging={})
    table = {**logged["ai_gateway"]["inference_table_config"], "schema_name": "elsewhere"}
    platform = Platform(shown(ALONE, ai_gateway={"inference_table_config": table}))
    first, second = platform.settle(logged)
    assert first.body == {"inference_table_config": {**table, "enabled": False}}
    assert second.body == logged["ai_gateway"]


def test_a_right_is_granted_and_only_what_we_granted_is_taken_away() -> None:
    theirs = {"user_name": "bob@example.com", "permission_level": "CAN_QUERY"}
    granted = desired(serving(), permissions=[ANALYSTS])
    platform = Platform(shown(ALONE), [CREATOR, theirs])
    assert "group:analysts does not have CAN_QUERY" in differences(platform.seen(granted), granted)
    first, second = platform.settle(granted)
    assert first.path == f"{PATH}/tags", "whom something is granted is written down before"
    assert (second.method, second.path) == ("PATCH", ACL)
    assert second.body == {"access_control_list": [{"group_name": "analysts", "permission_level": "CAN_QUERY"}]}
    assert "group:analysts still has CAN_QUERY" in differences(platform.seen(ALONE), ALONE)
    first, second = platform.settle(ALONE)
    assert (first.method, first.path, second.path) == ("PUT", ACL, f"{PATH}/tags")
    assert platform.acl == [CREATOR, theirs]
    assert not needs_permissions(platform.look, ALONE)


def test_a_lower_right_replaces_a_higher_one() -> None:
    platform = Platform(shown(ALONE), [{"group_name": "analysts", "permission_level": "CAN_MANAGE"}])
    granted = desired(serving(), permissions=[ANALYSTS])
    assert [step.method for step in platform.settle(granted)] == ["PATCH", "PUT"]
    assert platform.acl == [{"group_name": "analysts", "permission_level": "CAN_QUERY"}]


def test_a_right_that_is_inherited_is_not_taken_for_one_that_was_granted() -> None:
    admins = desired(serving(), permissions=[{"group": "admins", "level": "CAN_MANAGE"}])
    platform = Platform(shown(admins))
    assert "group:admins does not have CAN_MANAGE" in differences(platform.seen(admins), admins)


def test_sentences_are_few_enough_and_short_enough_for_a_status() -> None:
    look = shown(ALONE, tags=[{"key": f"k{index}", "value": "v" * 5000} for index in range(40)])
    found = differences(Seen(look), ALONE)
    assert len(found) == 16
    assert max(map(len, found)) == 512


names = st.sampled_from([OLD, NEW, "third-00000003"])
settings_of_plan = st.fixed_dictionaries(
    {
        "tags": st.dictionaries(st.sampled_from(["team", "cost"]), st.sampled_from(["a", "b"])),
        "permissions": st.lists(
            st.sampled_from([ANALYSTS, {"user": "ada@example.com", "level": "CAN_MANAGE"}]), unique_by=str
        ),
        "request_logging": st.sampled_from([None, {}]),
    }
)


@st.composite
def plans(draw: st.DrawFn) -> dict[str, Any]:
    """Any plan, the empty one too."""
    served = draw(st.lists(names, unique=True, max_size=3))
    models = [serving(name, maxReplicas=draw(st.integers(1, 2))) for name in served]
    cut = draw(st.integers(0, 100))
    shares = dict.fromkeys(served, 0)
    if served:
        shares[served[0]] = cut
        shares[served[-1]] += 100 - cut
    return desired(*models, traffic=shares, **draw(settings_of_plan))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(plans(), st.integers(0, 6), st.booleans()), min_size=1, max_size=4), plans())
def test_any_plan_may_replace_another_at_any_moment_and_ends_as_if_it_had_been_the_first(
    before: list[tuple[dict[str, Any], int, bool]], last: dict[str, Any]
) -> None:
    platform = Platform()
    for body, steps, good in before:
        for _ in range(steps):
            step = next_request(platform.seen(body), body)
            if step is not None:
                platform.send(step)
            elif platform.look is not None:
                platform.finish(good=good)
            if platform.look is not None and "config" in platform.look:
                assert sum(shares_of(platform.look).values()) == 100
    if platform.look is not None:
        platform.finish()
    assume(not failed_with_plan(platform.seen(last), last))  # which is the rules' to go back from
    platform.settle(last, most=20)
    assert differences(platform.seen(last), last) == ()
    fresh = Platform()
    fresh.settle(last, most=20)
    for key in ("config", "pending_config"):
        assert (platform.look or {}).get(key) == (fresh.look or {}).get(key)
    by_key = [sorted((each or {}).get("tags", ()), key=str) for each in (platform.look, fresh.look)]
    assert by_key[0] == by_key[1]
    if platform.look is not None:
        assert sorted(platform.acl, key=str) == sorted(fresh.acl, key=str)


def test_a_plan_of_nothing_never_touches_what_is_not_ours() -> None:
    look = shown(ALONE, tags=[{"key": "trainyard_uid", "value": "another"}])
    assert next_request(Seen(look), desired()) is None
    assert plan().owner.uid == UID


def kept(*served: Any, traffic: dict[str, int], workspace_is_gone: bool = False) -> EndpointRequest:
    """A plan whose old model is of a compute class that the workspace no longer has."""
    wanted = plan(*served, traffic=traffic, request_logging={})
    where = None if workspace_is_gone else workspace(computeClasses={"large": CLASSES["large"]})
    return replace(translate(wanted, where, frozenset({OLD})), why=TranslationError("spec.models", "no such class"))


@pytest.mark.parametrize("workspace_is_gone", [True, False])
def test_what_the_workspace_no_longer_knows_answers_again_as_it_is(*, workspace_is_gone: bool) -> None:
    platform = Platform()
    large = serving(computeClass="large", minReplicas=2, maxReplicas=3, env={"A": "b"})
    both = desired(large, serving(NEW, computeClass="large"), traffic={OLD: 10, NEW: 90}, request_logging={})
    platform.settle(both)
    assert platform.look is not None
    before = dict(platform.look["config"]["served_entities"][0])
    request = kept(serving(computeClass="gone"), traffic={OLD: 100}, workspace_is_gone=workspace_is_gone)
    wanted = dict(as_seen(platform.look, request))
    steps = platform.settle(wanted)
    assert [step.method for step in steps] == ["PUT"]
    assert shares_of(platform.look) == {OLD: 100}
    after = platform.look["config"]["served_entities"][0]
    sizes = ("workload_type", "min_provisioned_concurrency", "max_provisioned_concurrency", "environment_vars")
    assert [after[size] for size in sizes] == [before[size] for size in sizes] == ["GPU_SMALL", 32, 192, {"A": "b"}]
    assert platform.look["ai_gateway"]["inference_table_config"]["enabled"]
    assert differences(platform.seen(wanted), wanted) == ()


def test_what_is_kept_and_is_not_there_can_not_answer_and_is_no_matter_without_a_share() -> None:
    there = shown(desired(serving(NEW)))
    with pytest.raises(TranslationError, match="no such class"):
        as_seen(there, kept(serving(), traffic={OLD: 100}))
    with pytest.raises(TranslationError, match="no such class"):
        as_seen(None, kept(serving(), traffic={OLD: 100}))
    body = as_seen(there, kept(serving(), serving(NEW, computeClass="large"), traffic={NEW: 100}))
    assert [row["name"] for row in body["config"]["served_entities"]] == [NEW]
    assert [row["served_entity_name"] for row in body["config"]["traffic_config"]["routes"]] == [NEW]


def test_a_size_is_asked_for_as_it_is_there_and_only_in_one_way() -> None:
    size = {"workload_size": "Small", "min_provisioned_concurrency": 4, "max_provisioned_concurrency": 4}
    there = shown(desired(serving()))
    there["config"]["served_entities"][0] |= size | {"environment_vars": {}, "scale_to_zero_enabled": False}
    (row,) = as_seen(there, kept(serving(), traffic={OLD: 100}))["config"]["served_entities"]
    assert not {"workload_size", "state", "creator", "environment_vars"} & set(row)
    assert row["scale_to_zero_enabled"] is False
    assert (row["min_provisioned_concurrency"], row["max_provisioned_concurrency"]) == (4, 4)


def test_a_plan_without_models_needs_no_workspace() -> None:
    body = as_seen(shown(desired(serving())), translate(plan(), None))
    assert "config" not in body
