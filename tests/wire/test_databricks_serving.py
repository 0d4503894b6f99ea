"""Endpoints of Databricks Model Serving through the operator's own connection, against a served sandbox."""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.sandbox.serving_models import DOUBLES, RAISES, TRIPLES, model_files, register
from tests.unit.databricks_endpoints import workspace
from tests.wire.conftest import Trail
from trainyard.api.deployment_status import Serving
from trainyard.api.model_deployment import EndpointPermission, RequestLogging
from trainyard.core.errors import Denied, Missing, Refused, Unreachable
from trainyard.core.serving.plan import EndpointPlan, Owner
from trainyard.core.serving.plans import plan_digest
from trainyard.core.serving.seen import Reached
from trainyard.platforms.databricks.connection import DatabricksConnection
from trainyard.platforms.databricks.platform import Databricks
from trainyard.platforms.databricks.serving import DatabricksEndpoints
from trainyard.platforms.limits import PlatformBusy
from trainyard.platforms.serving import EndpointRequest
from trainyard_sandbox.client import SandboxControl

ROWS: list[Mapping[str, Any]] = [{"x": 1.0}, {"x": 2.0}]


class Scene:
    """A schema of one's own with models in it, and the endpoints of its owner."""

    def __init__(self, connection: DatabricksConnection, control: SandboxControl, principal: str) -> None:
        self.connection, self.control, self.principal = connection, control, principal
        self.name = f"e{time.time_ns()}"
        self.schema = f"{self.name}.ml"
        self.model = f"{self.schema}.wine"
        self.uid = f"uid-{self.name}"
        endpoints = Databricks().endpoints(connection)
        assert isinstance(endpoints, DatabricksEndpoints)
        self.endpoints = endpoints
        control.change_owner(self.schema, principal)
        control.grant(principal, self.name, "USE_CATALOG")

    def publish(self, code: str = DOUBLES, **files: Any) -> str:
        """A new version of the model; its number."""
        ca_file = str(self.control.address.ca_file)
        return self.connection._client.call(
            lambda client: register(client, self.model, model_files(code, **files), ca_file)
        )

    def serving(self, version: str, **changes: Any) -> Serving:
        fields = {
            "name": "m",
            "served": f"m-{version}",
            "model": self.model,
            "version": version,
            "computeClass": "small",
            "minReplicas": 1,
            "maxReplicas": 1,
            "traffic": 100,
        }
        return Serving.model_validate({**fields, **changes})

    def request(self, *served: Serving, traffic: dict[str, int] | None = None, **changes: Any) -> EndpointRequest:
        plan = EndpointPlan(
            endpoint=self.name,
            owner=Owner("team-a", "wine", self.uid, "cluster-1"),
            revision=1,
            served=served,
            traffic={each.served: 100 if not at else 0 for at, each in enumerate(served)}
            if traffic is None
            else traffic,
            **changes,
        )
        return Databricks().translate_endpoint(plan, workspace(modelPrefix=self.schema))

    def look(self, request: EndpointRequest) -> Reached:
        return self.endpoints.reach(request, change=False)

    def follow(self, request: EndpointRequest, until: Callable[[Reached], bool] | None = None) -> list[Reached]:
        """Reaches for the plan until the endpoint follows it, or what is given holds."""
        looks = []
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline:
            looks.append(self.endpoints.reach(request, change=True))
            if until(looks[-1]) if until is not None else not looks[-1].differences:
                return looks
            time.sleep(0.1)
        raise AssertionError(looks[-1])


@pytest.fixture
def scene(connection: DatabricksConnection, control: SandboxControl, principal: str) -> Iterator[Scene]:
    scene = Scene(connection, control, principal)
    yield scene
    control.clear_serving_scripts()
    if any(each["name"] == scene.name for each in control.databricks_endpoints()):
        control.delete_databricks_endpoint(scene.name)


def sent(looks: list[Reached]) -> list[str]:
    return [look.sent for look in looks if look.sent is not None]


def shares(look: Reached) -> dict[str, tuple[str, int]]:
    assert look.endpoint is not None
    return {each.served: (each.state, each.traffic) for each in look.endpoint.served}


def test_a_plan_becomes_an_endpoint_that_answers_and_goes_again(scene: Scene, audit: Trail) -> None:
    request = scene.request(scene.serving(scene.publish()), tags={"team": "wine"})
    assert scene.look(request).endpoint is None
    looks = scene.follow(request)
    assert sent(looks) == [f"creates the endpoint with m-1 ({scene.model} 1, 100 %)"]
    endpoint = looks[-1].endpoint
    assert endpoint is not None
    assert (endpoint.ours, endpoint.busy, endpoint.creator) == (True, False, scene.principal)
    assert endpoint.url == f"{scene.control.address.host}/serving-endpoints/{scene.name}/invocations"
    assert looks[-1].plan == plan_digest(request.plan)
    for served in (None, "m-1"):
        scored = scene.endpoints.score(scene.name, served, ROWS, seconds=30)
        assert (scored.status, scored.predictions) == (200, [2.0, 4.0])
    assert scene.endpoints.exists(scene.name, scene.uid)
    assert not scene.endpoints.exists(scene.name, "another")
    assert scene.endpoints.exists(scene.name, None)
    assert not scene.endpoints.delete(scene.name, "another")
    assert scene.endpoints.delete(scene.name, scene.uid)
    assert not scene.endpoints.exists(scene.name, scene.uid)
    assert not scene.endpoints.exists(scene.name, None)
    assert not scene.endpoints.delete(scene.name, scene.uid)
    asked = {record.get("remote_id") for record in audit.records() if record["event"] == "response"}
    assert scene.name in asked, "every request about the endpoint is found by its name"
    assert any(record.get("path", "").endswith("/invocations") for record in audit.records())


def test_a_new_version_is_made_ready_beside_the_old_one_gets_its_share_and_then_all(scene: Scene) -> None:
    old, new = scene.serving(scene.publish()), scene.serving(scene.publish(TRIPLES))
    scene.follow(scene.request(old))
    scene.control.script_serving(served="m-2", provisioning_seconds=0.5)
    looks = scene.follow(scene.request(old, new))
    assert len(sent(looks)) == 1
    assert {shares(look)["m-1"] for look in looks} == {("Ready", 100)}, "the old one answers all the time"
    assert ("Creating", 0) in {shares(look).get("m-2") for look in looks}
    assert scene.endpoints.score(scene.name, "m-2", ROWS, seconds=30).predictions == [3.0, 6.0]
    scene.follow(scene.request(old, new, traffic={"m-1": 75, "m-2": 25}))
    answers = [scene.endpoints.score(scene.name, None, ROWS, seconds=30).predictions for _ in range(8)]
    assert (answers.count([2.0, 4.0]), answers.count([3.0, 6.0])) == (6, 2)
    (last,) = scene.follow(scene.request(new))[-1:]
    assert shares(last) == {"m-2": ("Ready", 100)}


def test_a_version_that_fails_leaves_the_old_one_and_its_log_until_it_is_cleared_away(scene: Scene) -> None:
    old, bad = scene.serving(scene.publish()), scene.serving(scene.publish())
    scene.follow(scene.request(old))
    scene.control.script_serving(served="m-2", provisioning_error="no machines of that kind")
    request = scene.request(old, bad)
    looks = scene.follow(request, until=lambda look: look.endpoint is not None and bool(look.endpoint.failed))
    endpoint = looks[-1].endpoint
    assert endpoint is not None
    assert "no machines of that kind" in endpoint.failed
    assert shares(looks[-1]) == {"m-1": ("Ready", 100), "m-2": ("Failed", 0)}
    again = scene.endpoints.reach(request, change=True)
    assert again.sent is None, "what failed is not paid for again"
    before = scene.look(scene.request(old))
    assert before.endpoint is not None
    assert before.endpoint.failed == "", "a failure of before says nothing of another plan"
    scene.follow(scene.request(old))
    assert shares(scene.look(scene.request(old))) == {"m-1": ("Ready", 100)}


def test_what_a_server_printed_is_told_with_its_tokens_blanked_out(scene: Scene) -> None:
    leaky = 'print("TOKEN=abc123")\n' + RAISES
    scene.follow(scene.request(scene.serving(scene.publish(leaky))))
    assert scene.endpoints.score(scene.name, None, ROWS, seconds=30).status == 400
    text = scene.endpoints.logs(scene.name, "m-1")
    assert "no such leaf" in text
    assert "abc123" not in text
    assert scene.endpoints.logs(scene.name, "nobody") == ""


def test_an_edit_by_hand_is_seen_and_taken_back(scene: Scene) -> None:
    old, new = scene.serving(scene.publish()), scene.serving(scene.publish(TRIPLES))
    request = scene.request(old, new)
    scene.follow(request)
    scene.control.edit_databricks_endpoint(scene.name, traffic={"m-1": 10, "m-2": 90})
    seen = scene.look(request)
    assert seen.sent is None
    assert seen.differences == (
        "m-1 answers 10 % of the requests, and was to answer 100 %",
        "m-2 answers 90 % of the requests, and was to answer 0 %",
    )
    assert scene.follow(request)[-1].differences == ()
    scene.control.delete_databricks_endpoint(scene.name)
    assert scene.look(request).differences == ("there is no endpoint of that name",)
    assert scene.follow(request)[-1].differences == ()


def test_a_foreign_endpoint_is_left_alone_unless_it_is_taken_over(scene: Scene) -> None:
    scene.follow(scene.request(scene.serving(scene.publish())))
    scene.control.edit_databricks_endpoint(scene.name, tags={"owner": "bob"})
    new = scene.serving(scene.publish(TRIPLES))
    refused = scene.endpoints.reach(scene.request(new), change=True)
    assert refused.sent is None
    assert refused.endpoint is not None
    assert not refused.endpoint.ours
    assert "somebody else's" in refused.differences[0]
    looks = scene.follow(scene.request(new, adopt=True))
    assert sent(looks)[0].startswith("sets tags"), "it is ours before it changes"
    assert all(look.endpoint is not None and any(t for _, t in shares(look).values()) for look in looks)
    assert shares(looks[-1]) == {"m-2": ("Ready", 100)}


def test_an_endpoint_that_may_not_be_seen_is_a_name_that_is_taken(scene: Scene, control: SandboxControl) -> None:
    """Where the platform hides it: a look finds nothing, and creating it says that it is there."""
    request = scene.request(scene.serving(scene.publish()))
    scene.follow(request)
    do, hidden = scene.connection._client.do, f"/api/2.0/serving-endpoints/{scene.name}"

    def blind(method: str, path: str, **kwargs: Any) -> Any:
        if (method, path) == ("GET", hidden):
            raise Missing("not for you")
        return do(method, path, **kwargs)

    scene.connection._client.do = blind  # type: ignore[method-assign]
    with pytest.raises(Refused) as raised:
        scene.endpoints.reach(request, change=True)
    assert raised.value.reason == "EndpointNameTaken"


def test_another_change_under_way_is_waited_for(scene: Scene, control: SandboxControl) -> None:
    old, new = scene.serving(scene.publish()), scene.serving(scene.publish(TRIPLES))
    scene.follow(scene.request(old))
    control.script_serving(served="m-2", provisioning_seconds=30)
    scene.endpoints.reach(scene.request(old, new), change=True)
    busy = scene.endpoints.reach(scene.request(old, tags={"team": "wine"}), change=True)
    assert busy.sent is None
    assert busy.endpoint is not None
    assert busy.endpoint.busy
    # The same told by the platform itself, as of an update that begins between the look and the request.
    path = f"/api/2.0/serving-endpoints/{scene.name}/config"
    with pytest.raises(PlatformBusy) as raised:
        scene.connection._client.do("PUT", path, body=scene.request(old).body["config"])
    assert raised.value.reason == "PlatformBusy"
    assert isinstance(raised.value, Unreachable)


def test_rights_are_granted_and_taken_away_and_others_stay(scene: Scene, control: SandboxControl) -> None:
    served = scene.serving(scene.publish())
    reader, other = control.add_principal("reader"), control.add_principal("other")
    granted = scene.request(
        served, permissions=(EndpointPermission.model_validate({"servicePrincipal": reader, "level": "CAN_QUERY"}),)
    )
    last = scene.follow(granted)[-1]
    assert last.endpoint is not None
    (told,) = last.endpoint.permissions
    assert (told.who, told.level, told.granted, told.command) == (f"servicePrincipal:{reader}", "CAN_QUERY", True, None)
    (endpoint_id,) = [each["id"] for each in control.databricks_endpoints() if each["name"] == scene.name]
    control.grant(other, f"serving-endpoints/{endpoint_id}", "CAN_VIEW")
    scene.follow(scene.request(served))
    path = f"/api/2.0/permissions/serving-endpoints/{endpoint_id}"
    rows = scene.connection._client.do("GET", path)["access_control_list"]
    names = {row.get("service_principal_name") for row in rows}
    assert other in names
    assert reader not in names


def test_requests_are_logged_into_a_table_and_not_any_more(scene: Scene) -> None:
    served = scene.serving(scene.publish())
    logged = scene.request(served, request_logging=RequestLogging())
    found = scene.endpoints.preflight(logged)
    assert {each.outcome for each in found} <= {"Passed", "Unknown"}, found
    scene.follow(scene.request(served))
    assert sent(scene.follow(logged)) == ["logs requests"]
    assert sent(scene.follow(scene.request(served))) == ["stops logging requests"]


def test_what_was_measured_is_told_of_each_served_model(scene: Scene, control: SandboxControl) -> None:
    old, new = scene.serving(scene.publish()), scene.serving(scene.publish(TRIPLES))
    scene.follow(scene.request(old, new, traffic={"m-1": 50, "m-2": 50}))
    since = datetime.now(UTC) - timedelta(seconds=1)
    control.script_serving(endpoint=scene.name, served="m-2", error_rate=0.5, latency_seconds=0.03)
    statuses = [scene.endpoints.score(scene.name, None, ROWS, seconds=30).status for _ in range(8)]
    assert statuses.count(500) == 2, "any answer is an answer"
    good, bad = (scene.endpoints.measured(scene.name, served, since, 95) for served in ("m-1", "m-2"))
    assert (good.requests, good.errors, bad.requests, bad.errors) == (4, 0, 4, 2)
    assert good.latency_milliseconds is not None
    assert bad.latency_milliseconds is not None
    assert bad.latency_milliseconds >= 20, "of the bucket that 30 ms and more are in"
    assert scene.endpoints.measured(scene.name, "nobody", since, 95).requests is None
    assert scene.endpoints.measured(f"{scene.name}x", "m-1", since, 95).requests is None


def test_an_answer_that_takes_too_long_is_none(scene: Scene, control: SandboxControl) -> None:
    scene.follow(scene.request(scene.serving(scene.publish())))
    control.script_serving(endpoint=scene.name, latency_seconds=5)
    with pytest.raises(Unreachable, match="did not answer within"):
        scene.endpoints.score(scene.name, None, ROWS, seconds=0.5)


def test_a_token_that_is_refused_is_replaced_before_the_model_is_judged(scene: Scene, monkeypatch: Any) -> None:
    scene.follow(scene.request(scene.serving(scene.publish())))
    real, calls = scene.connection._client._headers, []

    def once_bad() -> dict[str, str]:
        calls.append(1)
        return real() if len(calls) > 1 else {"Authorization": "Bearer refused"}

    monkeypatch.setattr(scene.connection._client, "_headers", once_bad)
    assert scene.endpoints.score(scene.name, None, ROWS, seconds=30).predictions == [2.0, 4.0]


def test_a_version_is_found_by_its_number_and_its_alias_with_what_made_it(scene: Scene) -> None:
    version = scene.publish()
    client, registry = scene.connection._client, "/api/2.0/mlflow/unity-catalog"
    alias = {"name": scene.model, "alias": "champion", "version": version}
    client.do("POST", f"{registry}/registered-models/alias", body=alias)
    for key, value in (("trainyard_name", "iris"), ("trainyard_uid", "u1"), ("trainyard_commit", "abc")):
        tag = {"name": scene.model, "version": version, "key": key, "value": value}
        client.do("POST", f"{registry}/model-versions/set-tag", body=tag)
    by_number = scene.endpoints.resolve(scene.model, version=version)
    assert by_number == scene.endpoints.resolve(scene.model, alias="champion")
    assert (by_number.model, by_number.version) == (scene.model, version)
    assert by_number.origin is not None
    assert (by_number.origin.run, by_number.origin.uid, by_number.origin.commit) == ("iris", "u1", "abc")
    for wanted in ({"version": "9"}, {"version": "latest"}, {"alias": "nobody"}):
        with pytest.raises(Missing):
            scene.endpoints.resolve(scene.model, **wanted)
    with pytest.raises(Missing):
        scene.endpoints.resolve(f"{scene.schema}.nothing", version="1")


def test_each_right_that_is_missing_is_told_before_and_meant_by_the_platform(
    scene: Scene, control: SandboxControl
) -> None:
    version = scene.publish()
    control.change_owner(scene.schema, "admins")
    control.change_owner(scene.model, "admins")
    request = scene.request(scene.serving(version))
    found = {each.name: each for each in scene.endpoints.preflight(request)}
    assert found[f"EXECUTE on model {scene.model}"].outcome == "Missing"
    assert f"TO `{scene.principal}`" in found[f"EXECUTE on model {scene.model}"].message
    with pytest.raises(Denied):
        scene.endpoints.reach(request, change=True)
    control.grant(scene.principal, scene.schema, "USE_SCHEMA")
    control.grant(scene.principal, scene.model, "EXECUTE")
    outcomes = {each.outcome for each in scene.endpoints.preflight(request)}
    assert outcomes <= {"Passed", "Unknown"}
    scene.follow(request)


def test_a_version_that_is_not_there_is_refused_and_not_taken_for_an_endpoint_that_is_gone(scene: Scene) -> None:
    scene.publish()
    with pytest.raises(Refused):
        scene.endpoints.reach(scene.request(scene.serving("7")), change=True)
