"""The one next change of an online endpoint, over every state, and what is said to be lacking."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.azureml_endpoints import UID, WORKSPACE, WS, desired, logging, plan, seen, serving
from trainyard.api.deployment_status import Serving
from trainyard.api.workspace import MLWorkspaceSpec
from trainyard.core.errors import TranslationError
from trainyard.platforms.azureml.serving_kept import as_seen
from trainyard.platforms.azureml.serving_steps import (
    Change,
    Desired,
    Memory,
    Seen,
    differences,
    is_busy,
    letting_go,
    next_request,
)
from trainyard.platforms.azureml.serving_translate import translate_endpoint
from trainyard.platforms.serving import EndpointRequest

OLD, NEW = serving("champion-aaaaaaaa"), serving("champion-bbbbbbbb", "2")
A, B = OLD.served, NEW.served
ONE = desired(OLD)
BOTH = desired(OLD, NEW, traffic={A: 90, B: 10})
FOLLOWED = seen(ONE, {A: "Succeeded"}, {A: 100})
MOVING = ("Creating", "Updating", "Scaling", "Deleting", "Hibernating", "")


def asked(
    there: Seen, wanted: Desired, told: frozenset[str] = frozenset(), lost: frozenset[str] = frozenset()
) -> tuple[str, str] | None:
    change = next_request(there, wanted, Memory(told, lost))
    return (change.method, change.path) if change is not None else None


def sent(there: Seen, wanted: Desired) -> dict[str, Any]:
    change = next_request(there, wanted)
    assert change is not None
    assert change.body is not None
    return dict(change.body)


def with_endpoint(there: Seen, **fields: Any) -> Seen:
    assert there.endpoint is not None
    return Seen({**there.endpoint, **fields}, there.deployments)


def changed(there: Seen, name: str, **fields: Any) -> Seen:
    """One deployment with other fields; those of properties below `properties`."""
    before = there.deployments[name]
    properties = {**before["properties"], **fields.pop("properties", {})}
    return Seen(there.endpoint, {**there.deployments, name: {**before, **fields, "properties": properties}})


def test_first_the_endpoint_is_made_then_each_deployment_then_shares_are_given() -> None:
    assert asked(Seen(None), ONE) == ("PUT", "")
    assert asked(seen(ONE), ONE) == ("PUT", f"/deployments/{A}")
    waiting = seen(ONE, {A: "Succeeded"})
    assert asked(waiting, ONE) == ("PUT", "")
    assert sent(waiting, ONE)["properties"]["traffic"] == {A: 100}
    assert asked(FOLLOWED, ONE) is None
    assert differences(FOLLOWED, ONE) == ()


def test_an_endpoint_is_made_without_shares_of_what_is_not_there() -> None:
    assert "traffic" not in sent(Seen(None), ONE)["properties"]


def test_a_deployment_names_the_model_by_its_whole_id() -> None:
    assert sent(seen(ONE), ONE)["properties"]["model"] == f"{WS}/models/wine/versions/1"


@pytest.mark.parametrize("state", MOVING)
def test_nothing_is_asked_for_while_the_endpoint_is_busy(state: str) -> None:
    there = seen(ONE, {}, state=state)
    assert is_busy(there)
    assert asked(there, ONE) is None
    assert differences(there, ONE)


@pytest.mark.parametrize("state", MOVING)
def test_nothing_is_asked_for_while_a_deployment_is_busy(state: str) -> None:
    there = seen(BOTH, {A: "Succeeded", B: state}, {A: 100})
    assert asked(there, BOTH) is None
    assert asked(there, ONE) is None
    assert any(B in line for line in differences(there, BOTH))


@pytest.mark.parametrize("state", [*MOVING, "Failed", "Canceled"])
def test_what_is_not_ready_gets_no_share(state: str) -> None:
    there = seen(BOTH, {A: "Succeeded", B: state}, {A: 100})
    for told in (frozenset[str](), frozenset({B})):
        change = next_request(there, BOTH, Memory(told))
        assert change is None or change.path != ""


def test_a_missing_deployment_is_made_while_the_old_shares_stay() -> None:
    there = seen(BOTH, {A: "Succeeded"}, {A: 100})
    assert asked(there, BOTH) == ("PUT", f"/deployments/{B}")


def test_shares_go_back_before_anything_is_deleted() -> None:
    there = seen(BOTH, {A: "Succeeded", B: "Succeeded"}, {A: 90, B: 10})
    assert asked(there, ONE) == ("PUT", "")
    assert sent(there, ONE)["properties"]["traffic"] == {A: 100, B: 0}
    back = seen(BOTH, {A: "Succeeded", B: "Succeeded"}, {A: 100})
    assert asked(back, ONE) == ("DELETE", f"/deployments/{B}")


def test_what_failed_is_left_for_its_logs_until_the_plan_leaves_it_out() -> None:
    there = seen(BOTH, {A: "Succeeded", B: "Failed"}, {A: 100})
    assert asked(there, BOTH) is None
    rolling_back = desired(OLD, NEW, traffic={A: 100, B: 0})
    assert asked(there, rolling_back, frozenset({B})) is None
    assert asked(there, ONE) == ("DELETE", f"/deployments/{B}")


def test_what_failed_and_is_still_wanted_once_that_was_told_is_made_anew() -> None:
    there = seen(ONE, {A: "Failed"})
    assert asked(there, ONE) is None
    assert asked(there, ONE, frozenset({A})) == ("DELETE", f"/deployments/{A}")


def test_what_answers_is_never_deleted_to_mend_it() -> None:
    there = seen(ONE, {A: "Failed"}, {A: 100})
    assert asked(there, ONE, frozenset({A})) == ("PUT", f"/deployments/{A}")


def test_what_is_lost_gives_its_share_to_the_others_and_is_made_anew() -> None:
    third = serving("champion-cccccccc", "3")
    shares = {A: 34, B: 44, third.served: 22}
    all_three = desired(OLD, NEW, third, traffic=shares)
    states = {A: "Failed", B: "Succeeded", third.served: "Succeeded"}
    there = seen(all_three, states, shares)
    change = next_request(there, all_three, Memory(frozenset({A}), frozenset({A})))
    assert change is not None
    assert change.body is not None
    assert change.body["properties"]["traffic"] == {A: 0, B: 67, third.served: 33}
    alone = seen(ONE, {A: "Failed"}, {A: 100})
    change = next_request(alone, ONE, Memory(frozenset({A}), frozenset({A})))
    assert change is not None
    assert change.body is not None
    assert change.body["properties"]["traffic"] == {A: 0}
    idle = seen(ONE, {A: "Failed"})
    assert asked(idle, ONE, frozenset({A}), frozenset({A})) == ("DELETE", f"/deployments/{A}")


def test_shares_go_back_to_what_answers_though_its_last_change_failed() -> None:
    there = seen(BOTH, {A: "Failed", B: "Succeeded"}, {A: 90, B: 10})
    lowered = desired(OLD, NEW, traffic={A: 50, B: 50})
    assert sent(there, lowered)["properties"]["traffic"] == {A: 50, B: 50}


def test_more_machines_come_before_the_share_and_fewer_after_it() -> None:
    wide = serving(A, minReplicas=3, maxReplicas=3)
    shared = desired(wide, NEW, traffic={A: 100, B: 0})
    there = seen(BOTH, {A: "Succeeded", B: "Succeeded"}, {A: 50, B: 50})
    assert asked(there, shared) == ("PUT", f"/deployments/{A}")
    assert sent(there, shared)["sku"] == {"name": "Default", "capacity": 3}
    narrow = seen(shared, {A: "Succeeded", B: "Succeeded"}, {A: 50, B: 50})
    less = desired(OLD, NEW, traffic={A: 90, B: 10})
    assert asked(narrow, less) == ("PUT", "")


HAND_EDITS: list[tuple[str, Seen, str]] = [
    ("shares", seen(ONE, {A: "Succeeded"}, {}), "answers 0% in place of 100%"),
    ("auth", seen(ONE, {A: "Succeeded"}, {A: 100}, authMode="Key"), "auth is Key in place of AADToken"),
    ("mirror", seen(ONE, {A: "Succeeded"}, {A: 100}, mirrorTraffic={A: 10}), "mirrored"),
    ("machines", changed(FOLLOWED, A, sku={"name": "Default", "capacity": 2}), "2 machines in place of 1"),
    ("variable", changed(FOLLOWED, A, properties={"environmentVariables": {"X": "1"}}), "variable X"),
    (
        "logging",
        changed(FOLLOWED, A, properties={"dataCollector": {"collections": {"c": {"dataCollectionMode": "Enabled"}}}}),
        "logging of requests",
    ),
    ("model", changed(FOLLOWED, A, properties={"model": f"{WS}/models/wine/versions/2"}), "another model"),
    ("gone", seen(ONE), f"{A} is not there"),
]


@pytest.mark.parametrize(("there", "said"), [case[1:] for case in HAND_EDITS], ids=[case[0] for case in HAND_EDITS])
def test_a_hand_edit_is_told_and_undone(there: Seen, said: str) -> None:
    told = differences(there, ONE)
    assert len(told) >= 1
    assert any(said in line for line in told)
    change = next_request(there, ONE)
    assert change is not None
    assert change.method == "PUT"


def test_values_of_variables_are_not_told() -> None:
    secret = serving(A, env={"API": "hush-hush"})
    told = differences(FOLLOWED, desired(secret))
    assert told
    assert "hush-hush" not in " ".join(told)


def test_what_the_platform_adds_by_itself_is_no_difference() -> None:
    there = changed(
        FOLLOWED,
        A,
        properties={
            "environmentVariables": {"AML_APP_ROOT": "/var/mlflow", "AZUREML_ENTRY_SCRIPT": "score.py"},
            "model": FOLLOWED.deployments[A]["properties"]["model"].upper().replace("/MODELS/", "/models/"),
            "livenessProbe": {"period": "PT10S"},
            "dataCollector": None,
        },
    )
    there = with_endpoint(there, tags={**FOLLOWED.endpoint["tags"], "costs": "by-policy"})  # type: ignore[index]
    assert differences(there, ONE) == ()
    assert asked(there, ONE) is None


def test_a_tag_that_is_no_longer_planned_is_taken_away() -> None:
    tagged, bare = desired(OLD, tags={"team": "wine"}), desired(OLD)
    there = seen(tagged, {A: "Succeeded"}, {A: 100})
    assert differences(there, tagged) == ()
    assert differences(there, bare)
    assert "team" not in sent(there, bare)["tags"]


def test_another_deployment_on_it_is_told_and_goes() -> None:
    there = seen(ONE, {A: "Succeeded", "byhand": "Succeeded"}, {A: 100})
    assert differences(there, ONE) == ("deployment byhand is not planned",)
    assert asked(there, ONE) == ("DELETE", "/deployments/byhand")


def test_anothers_endpoint_is_left_alone() -> None:
    theirs = with_endpoint(FOLLOWED, tags={"trainyard_uid": "another"})
    assert asked(theirs, ONE) is None
    assert len(differences(theirs, ONE)) == 1


def theirs() -> Seen:
    """Somebody else's, which answers with a deployment of its own."""
    there = seen(ONE, {"blue": "Succeeded"}, {"blue": 100}, description="by hand", publicNetworkAccess="Disabled")
    own = {"type": "UserAssigned", "userAssignedIdentities": {"/id": {"clientId": "x"}}}
    bare = {name: {**each, "tags": {}} for name, each in there.deployments.items()}
    return replace(with_endpoint(there, tags={"owner": "ada"}, identity=own), deployments=bare)


def test_an_adopted_endpoint_becomes_ours_first_and_goes_on_answering() -> None:
    wanted = desired(OLD, adopt=True)
    body = sent(theirs(), wanted)
    assert body["properties"]["traffic"] == {"blue": 100}
    assert body["tags"]["trainyard_uid"] == UID
    # What the plan says nothing of stays: a PUT without it would open a closed network.
    assert body["properties"]["publicNetworkAccess"] == "Disabled"
    assert body["properties"]["description"] == "by hand"
    assert body["identity"] == {"type": "UserAssigned", "userAssignedIdentities": {"/id": {}}}


def test_an_adopted_endpoint_becomes_ours_before_anything_on_it_is_changed() -> None:
    wide = desired(serving(A, minReplicas=3, maxReplicas=3), adopt=True)
    there = with_endpoint(seen(ONE, {A: "Succeeded"}, {A: 100}), tags={})
    change = next_request(there, wide)
    assert change is not None
    assert (change.path, change.said) == ("", "take over the endpoint")


def test_what_somebody_else_keeps_idle_stays_until_the_plan_is_served() -> None:
    wanted = desired(OLD, adopt=True)
    ours = with_endpoint(theirs(), tags=dict(wanted.endpoint["tags"]))
    idle = replace(ours, deployments={**ours.deployments, "green": ours.deployments["blue"]})
    assert asked(idle, wanted) == ("PUT", f"/deployments/{A}")


def test_properties_that_others_put_on_an_endpoint_stay() -> None:
    named = {"enforce_access": "enabled", "AzureAsyncOperationUri": "https://x", "azureml.onlineendpointid": "y"}
    there = seen(ONE, {A: "Succeeded"}, {}, properties=named, mirrorTraffic={A: 5})
    sent_properties = sent(there, ONE)["properties"]
    assert sent_properties["properties"] == {"enforce_access": "enabled"}
    assert sent_properties["mirrorTraffic"] == {}
    assert "mirrorTraffic" not in sent(seen(ONE, {A: "Succeeded"}), ONE)["properties"]


def test_shares_are_given_back_before_what_is_idle_goes() -> None:
    there = seen(BOTH, {A: "Succeeded", B: "Succeeded", "idle": "Succeeded"}, {A: 90, B: 10})
    assert asked(there, ONE) == ("PUT", "")


def test_what_failed_is_not_changed_before_that_was_told() -> None:
    there = changed(seen(ONE, {A: "Failed"}, {A: 100}), A, sku={"name": "Default", "capacity": 2})
    assert asked(there, ONE) is None


def test_what_answered_before_an_adoption_goes_when_the_new_answers() -> None:
    wanted = desired(OLD, adopt=True)
    ours = with_endpoint(theirs(), tags=dict(wanted.endpoint["tags"]))
    assert asked(ours, wanted) == ("PUT", f"/deployments/{A}")
    fresh = seen(wanted, {A: "Succeeded"}).deployments[A]
    ready = replace(ours, deployments={**ours.deployments, A: fresh})
    assert sent(ready, wanted)["properties"]["traffic"] == {"blue": 0, A: 100}


def test_an_endpoint_that_still_answers_as_before_it_was_taken_over_is_given_back() -> None:
    wanted = desired(OLD, adopt=True)
    body = sent(theirs(), wanted)
    taken = with_endpoint(theirs(), tags=body["tags"])
    coming = seen(wanted, {A: "Succeeded"}).deployments[A]
    both = replace(taken, deployments={**taken.deployments, A: coming})
    first, last = letting_go(both, UID), letting_go(taken, UID)
    assert first is not None
    assert (first.method, first.path) == ("DELETE", f"/deployments/{A}")
    assert last is not None
    assert last.body is not None
    assert (last.method, last.path, last.body["tags"]) == ("PUT", "", {})
    assert last.body["properties"]["traffic"] == {"blue": 100}
    assert last.body["identity"]["type"] == "UserAssigned"


def test_an_endpoint_of_ours_is_deleted_whatever_somebody_put_there() -> None:
    body = sent(with_endpoint(theirs(), tags={}), desired(OLD, adopt=True))
    assert letting_go(seen(ONE, {"blue": "Succeeded", A: "Succeeded"}, {"blue": 100}), UID) is None
    done = with_endpoint(seen(ONE, {A: "Succeeded"}, {A: 100}), tags=body["tags"])
    assert letting_go(done, UID) is None
    assert "trainyard_adopted" not in sent(changed(done, A), desired(OLD, tags={"team": "wine"}))["tags"]


def test_a_failed_adoption_leaves_what_answered_before() -> None:
    nothing = desired(adopt=True)
    ours = with_endpoint(theirs(), tags=dict(nothing.endpoint["tags"]))
    failed = seen(ONE, {A: "Failed"}).deployments[A]
    there = replace(ours, deployments={**ours.deployments, A: failed})
    assert asked(there, nothing) == ("DELETE", f"/deployments/{A}")
    assert asked(ours, nothing) is None
    assert differences(ours, nothing) == ()


def test_an_empty_plan_takes_the_shares_and_deletes_what_costs() -> None:
    nothing = desired()
    assert asked(FOLLOWED, nothing) == ("PUT", "")
    assert sent(FOLLOWED, nothing)["properties"]["traffic"] == {A: 0}
    idle = seen(ONE, {A: "Failed"})
    assert asked(idle, nothing) == ("DELETE", f"/deployments/{A}")
    assert asked(Seen(None), nothing) is None
    assert differences(Seen(None), nothing) == ()


def test_an_endpoint_that_failed_is_asked_for_again_once_that_was_told() -> None:
    there = seen(ONE, state="Failed")
    assert asked(there, ONE) is None
    assert asked(there, ONE, frozenset({""})) == ("PUT", "")


def test_logging_is_switched_on_and_off() -> None:
    logged = desired(OLD, request_logging=logging(25))
    body = sent(FOLLOWED, logged)
    collected = {"dataCollectionMode": "Enabled", "samplingRate": 0.25}
    assert body["properties"]["dataCollector"]["collections"] == {
        "model_inputs": collected,
        "model_outputs": collected,
    }
    there = seen(logged, {A: "Succeeded"}, {A: 100})
    assert differences(there, logged) == ()
    assert "dataCollector" not in sent(there, ONE)["properties"]


class Service:
    """Does what it is asked for, one change at a time, and checks what the real one would refuse."""

    def __init__(self, uid: str) -> None:
        self.uid = uid
        self.seen = Seen(None)
        self.fails: frozenset[str] = frozenset()

    def ask(self, change: Change) -> None:
        assert not is_busy(self.seen), "a change of what is busy"
        name = change.path.removeprefix("/deployments/")
        if change.path == "":
            assert change.body is not None
            traffic = {key: share for key, share in change.body["properties"].get("traffic", {}).items() if share}
            now = dict((self.seen.endpoint or {}).get("properties", {}).get("traffic", {}))
            assert sum(traffic.values()) in (0, 100)
            for key, share in traffic.items():
                state = self.seen.deployments[key]["properties"]["provisioningState"]
                assert state == "Succeeded" or now.get(key, 0) >= share, "a share for what is not ready"
            properties = {**change.body["properties"], "traffic": traffic, "provisioningState": "Updating"}
            self.seen = Seen({**change.body, "properties": properties}, self.seen.deployments)
        elif change.method == "DELETE":
            assert self.seen.endpoint is not None
            assert not self.seen.endpoint["properties"].get("traffic", {}).get(name), "what answers was deleted"
            self.seen = Seen(self.seen.endpoint, {k: v for k, v in self.seen.deployments.items() if k != name})
        else:
            assert change.body is not None
            made = {**change.body, "properties": {**change.body["properties"], "provisioningState": "Creating"}}
            self.seen = Seen(self.seen.endpoint, {**self.seen.deployments, name: made})

    def settle(self) -> None:
        def settled(name: str, each: Mapping[str, Any]) -> Mapping[str, Any]:
            state = each["properties"]["provisioningState"]
            done = ("Failed" if name in self.fails else "Succeeded") if state in ("Creating", "Updating") else state
            return {**each, "properties": {**each["properties"], "provisioningState": done}}

        endpoint = settled("", self.seen.endpoint) if self.seen.endpoint is not None else None
        self.seen = Seen(endpoint, {name: settled(name, each) for name, each in self.seen.deployments.items()})


POOL = [serving(f"m-{index:08d}", str(index)) for index in range(4)]


@st.composite
def plans(draw: st.DrawFn) -> Desired:
    chosen = draw(st.lists(st.sampled_from(POOL), min_size=0, max_size=3, unique_by=lambda each: each.served))
    served = [
        each.model_copy(update={"min_replicas": (count := draw(st.integers(1, 3))), "max_replicas": count})
        for each in chosen
    ]
    if not served:
        return desired()
    cut = draw(st.integers(0, 100))
    shares = {each.served: 0 for each in served}
    shares[served[0].served] = cut
    shares[served[-1].served] += 100 - cut
    return desired(*served, traffic=shares, tags=draw(st.dictionaries(st.sampled_from("ab"), st.just("x"))))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(plans(), st.integers(0, 4)), min_size=1, max_size=4), st.booleans())
def test_any_plan_after_any_other_is_reached_and_requests_are_answered_all_the_while(
    wanted: list[tuple[Desired, int]], slow: bool
) -> None:
    service = Service(UID)
    served = False
    for index, (each, patience) in enumerate(wanted):
        last = index == len(wanted) - 1
        for _ in range(60 if last else patience):
            change = next_request(service.seen, each)
            if change is not None:
                service.ask(change)
            elif not differences(service.seen, each):
                break
            if change is None or not slow:
                service.settle()
            now = dict((service.seen.endpoint or {}).get("properties", {}).get("traffic", {}))
            assert not (served and each.traffic and not now), "nobody answers any more"
            served = bool(now)
    service.settle()
    assert differences(service.seen, wanted[-1][0]) == ()
    assert next_request(service.seen, wanted[-1][0]) is None


def kept(*served: Serving, traffic: Mapping[str, int], workspace: MLWorkspaceSpec | None = None) -> EndpointRequest:
    """A plan of which the first is of a compute class that the workspace no longer has."""
    request = translate_endpoint(plan(*served, traffic=traffic), workspace, frozenset({served[0].served}))
    return replace(request, why=TranslationError("spec.models", "no such class"))


@pytest.mark.parametrize("workspace", [None, WORKSPACE])
def test_what_the_workspace_no_longer_knows_answers_again_as_it_is(workspace: MLWorkspaceSpec | None) -> None:
    there = seen(BOTH, {A: "Succeeded", B: "Succeeded"}, {A: 10, B: 90})
    there = changed(
        there, A, properties={"instanceType": "Standard_F64", "requestSettings": {"requestTimeout": "PT9S"}}
    )
    request = kept(serving(A, computeClass="gone"), traffic={A: 100}, workspace=workspace)
    wanted = replace(ONE, deployments=as_seen(there, request), traffic={A: 100})
    assert sent(there, wanted)["properties"]["traffic"] == {A: 100, B: 0}
    after = seen(wanted, {A: "Succeeded"}, {A: 100})
    assert differences(after, wanted) == ()
    assert after.deployments[A]["properties"]["requestSettings"] == {"requestTimeout": "PT9S"}


def test_what_is_kept_and_is_not_there_can_not_answer_and_is_no_matter_without_a_share() -> None:
    there = seen(desired(NEW), {B: "Succeeded"}, {B: 100})
    with pytest.raises(TranslationError, match="no such class"):
        as_seen(there, kept(OLD, traffic={A: 100}))
    found = as_seen(there, kept(OLD, NEW, traffic={B: 100}, workspace=WORKSPACE))
    assert list(found) == [B]


def test_a_size_that_the_compute_class_says_otherwise_is_told_as_the_class_word() -> None:
    there = changed(FOLLOWED, A, properties={"instanceType": "Standard_F2"})
    there = changed(there, A, properties={"requestSettings": {"maxConcurrentRequestsPerInstance": 9}})
    assert differences(there, replace(ONE, classes={A: "small"})) == (
        f"deployment {A} has machines of Standard_F2 in place of Standard_DS3_v2, which computeClasses.small of the "
        "workspace says",
        f"deployment {A} answers 9 requests at a time in place of 1, which computeClasses.small of the workspace says",
    )


@pytest.mark.parametrize("shown", [{}, {"requestTimeout": "PT5S", "maxConcurrentRequestsPerInstance": 1}])
def test_a_class_that_names_no_number_takes_one_request_at_a_time(shown: dict[str, Any]) -> None:
    there = changed(FOLLOWED, A, properties={"requestSettings": shown})
    assert differences(there, ONE) == ()


def test_another_number_of_requests_at_a_time_is_asked_for() -> None:
    more = translate_endpoint(plan(serving(A, computeClass="many")), WORKSPACE).body["deployments"]
    wanted = replace(ONE, deployments=more)
    assert differences(FOLLOWED, wanted) == (f"deployment {A} answers 1 requests at a time in place of 4",)
    assert asked(FOLLOWED, wanted) == ("PUT", f"/deployments/{A}")
    settings = sent(FOLLOWED, wanted)["properties"]["requestSettings"]
    assert settings == {"requestTimeout": "PT2M", "maxConcurrentRequestsPerInstance": 4}
    assert differences(seen(wanted, {A: "Succeeded"}, {A: 100}), wanted) == ()
