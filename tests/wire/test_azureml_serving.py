"""Online endpoints of the sandbox's Azure ML workspace, reached, asked and removed by the operator's own connection."""

import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.sandbox.azure_fixtures import connect_here
from tests.sandbox.conftest import wait_until
from tests.wire.azureml import accounts, cloud, connect, connection, data_scientist, target, tokens_for
from tests.wire.conftest import Trail
from trainyard.api.deployment_status import Serving
from trainyard.api.model_deployment import RequestLogging
from trainyard.api.workspace import MLWorkspaceSpec
from trainyard.core.errors import Denied, Missing, Refused, Unreachable
from trainyard.core.serving.plan import EndpointPlan, Owner
from trainyard.core.serving.seen import Reached
from trainyard.platforms.azureml.connection import AzureMLConnection
from trainyard.platforms.azureml.platform import AzureML
from trainyard.platforms.azureml.serving import AzureMLEndpoints
from trainyard.platforms.limits import PlatformBusy
from trainyard.platforms.serving import EndpointRequest
from trainyard_sandbox.client import SandboxControl

__all__ = ["accounts", "cloud", "connect", "connect_here", "connection", "data_scientist", "target", "tokens_for"]

SIZE = "Standard_DS3_v2"
OLD, NEW = "m-aaaaaaaa", "m-bbbbbbbb"
# What MLflow writes beside a model (MLflow documentation, "MLflow model format").
SIGNED = b'flavors: {}\nsignature:\n  inputs: \'[{"type": "double", "name": "x"}]\'\n'
SERVER = b"dependencies:\n- pip:\n  - scikit-learn\n  - azureml-inference-server-http\n"
BARE = b"dependencies:\n- pip:\n  - scikit-learn\n"


class Deployed:
    """One endpoint of a test's own, by plans in a line."""

    def __init__(self, control: SandboxControl, endpoints: AzureMLEndpoints, workspace: MLWorkspaceSpec) -> None:
        self.control, self.endpoints, self._workspace = control, endpoints, workspace
        self.name = f"ep-{uuid.uuid4().hex[:10]}"
        self.uid = str(uuid.uuid4())
        self.model = f"wine-{uuid.uuid4().hex[:8]}"
        for version in ("1", "2"):
            self.register(version)

    def register(self, version: str, files: dict[str, bytes] | None = None, **properties: Any) -> None:
        folder = f"models/{self.model}/{version}"
        for path, content in (files or {"MLmodel": b"flavors: {}"}).items():
            self.control.put_azure_blob("workspaceblobstore", f"{folder}/{path}", content)
        uri = f"azureml://datastores/workspaceblobstore/paths/{folder}"
        described = {"modelUri": uri, "modelType": "mlflow_model", **properties}
        self.control.add_azure_asset("models", self.model, version, **described)

    def serving(self, served: str, version: str, **fields: Any) -> Serving:
        described = {
            "name": "m",
            "served": served,
            "model": self.model,
            "version": version,
            "computeClass": "small",
            "minReplicas": 1,
            "maxReplicas": 1,
            "traffic": 100,
        }
        return Serving.model_validate(described | fields)

    def request(self, shares: dict[str, int], **fields: Any) -> EndpointRequest:
        """A plan with these shares; the old serves version 1, all others version 2."""
        replicas = fields.pop("replicas", 1)
        scaled = {"minReplicas": replicas, "maxReplicas": replicas, "env": fields.pop("env", {})}
        served = tuple(self.serving(name, "1" if name == OLD else "2", **scaled) for name in shares)
        plan = EndpointPlan(self.name, Owner("team-a", "wine", self.uid, "here"), 1, served, shares, **fields)
        return AzureML().translate_endpoint(plan, self._workspace)

    def followed(self, request: EndpointRequest, seconds: float = 30) -> list[str]:
        """Reaches until the endpoint follows; what was asked for on the way."""
        sent: list[str] = []

        def look() -> bool:
            reached = self.endpoints.reach(request, change=True)
            sent.extend([reached.sent] if reached.sent is not None else [])
            return not reached.differences

        wait_until(look, seconds)
        return sent

    def seen(self, request: EndpointRequest, served: str, state: str) -> Reached:
        """The first look at which a deployment is in that state."""

        def look() -> Reached | None:
            reached = self.endpoints.reach(request, change=True)
            there = reached.endpoint.served if reached.endpoint is not None else ()
            return reached if (served, state) in {(each.served, each.state) for each in there} else None

        found: Reached = wait_until(look, 30)
        return found

    def traffic(self) -> dict[str, int]:
        return {key: share for key, share in self.control.azure_endpoint(self.name)["traffic"].items() if share}


@pytest.fixture
def deployed(control: SandboxControl, connection: AzureMLConnection) -> Iterator[Deployed]:
    control.azure_serving_settings(endpoint_seconds=0.2, delete_seconds=0.1, metric_delay_seconds=0)
    control.script_serving(platform="azure", pretend=True, predictions=["old"], provisioning_seconds=0.2)
    control.script_serving(platform="azure", served=NEW, predictions=["new"])
    azure = control.address.azure
    workspace = MLWorkspaceSpec.model_validate(
        {
            "azureML": {
                "subscriptionId": azure.subscription_id,
                "resourceGroup": azure.resource_group,
                "workspaceName": azure.workspace_name,
                "tenantId": azure.tenant_id,
                "cloud": "Sandbox",
            },
            "identity": {"federated": {"serviceAccountName": "trainer"}},
            "computeClasses": {"small": {"onlineEndpoint": {"instanceType": SIZE}}},
        }
    )
    yield Deployed(control, connection.endpoints, workspace)
    control.clear_serving_scripts()
    control.azure_serving_settings()
    control.azure_compute_settings(family_cores={})
    for endpoint in control.azure_endpoints():
        control.delete_azure_endpoint(endpoint["name"])


def test_a_first_plan_is_reached_in_steps_and_answers(deployed: Deployed) -> None:
    request = deployed.request({OLD: 100})
    first = deployed.endpoints.reach(request, change=True)
    assert (first.endpoint, first.sent) == (None, "make the endpoint")
    assert deployed.followed(request) == [f"make deployment {OLD}", f'give shares: {{"{OLD}": 100}}']
    last = deployed.endpoints.reach(request, change=True)
    assert (last.differences, last.sent) == ((), None)
    there = last.endpoint
    assert there is not None
    (served,) = there.served
    assert (there.ours, there.busy, there.failed) == (True, False, "")
    assert (served.state, served.traffic, served.version, served.replicas) == ("Ready", 100, "1", 1)
    assert there.url is not None
    assert there.page is not None
    scored = deployed.endpoints.score(deployed.name, None, [{"x": 1}, {"x": 2}], seconds=10)
    assert (scored.status, scored.predictions) == (200, ["old", "old"])


def test_a_look_changes_nothing(deployed: Deployed) -> None:
    deployed.control.clear_requests()
    reached = deployed.endpoints.reach(deployed.request({OLD: 100}), change=False)
    assert (reached.endpoint, reached.sent) == (None, None)
    assert reached.differences
    assert {row["method"] for row in deployed.control.requests(path="/subscriptions/.*")} == {"GET"}


def test_a_canary_gets_its_share_when_it_is_ready_and_the_old_one_goes_last(deployed: Deployed) -> None:
    deployed.followed(deployed.request({OLD: 100}))
    deployed.followed(deployed.request({OLD: 100, NEW: 0}))
    assert deployed.traffic() == {OLD: 100}
    picked = deployed.endpoints.score(deployed.name, NEW, [{"x": 1}], seconds=10)
    assert picked.predictions == ["new"]
    deployed.followed(deployed.request({OLD: 90, NEW: 10}))
    assert deployed.traffic() == {OLD: 90, NEW: 10}
    deployed.followed(deployed.request({OLD: 0, NEW: 100}))
    assert deployed.followed(deployed.request({NEW: 100})) == [f"delete deployment {OLD}"]
    assert deployed.endpoints.score(deployed.name, None, [{"x": 1}], seconds=10).predictions == ["new"]


def test_what_failed_says_why_keeps_its_log_and_goes_with_the_plan(deployed: Deployed) -> None:
    deployed.followed(deployed.request({OLD: 100}))
    deployed.control.script_serving(
        platform="azure", served=NEW, provisioning_seconds=0.1, provisioning_error="no machines left"
    )
    both = deployed.request({OLD: 100, NEW: 0})
    reached = deployed.seen(both, NEW, "Failed")
    assert reached.sent is None
    assert reached.endpoint is not None
    said = {each.served: each.message for each in reached.endpoint.served}[NEW]
    assert "no machines left" in said
    assert "no machines left" in deployed.endpoints.logs(deployed.name, NEW)
    for _ in range(3):
        assert deployed.endpoints.reach(both, change=True).sent is None
    assert deployed.traffic() == {OLD: 100}
    assert deployed.followed(deployed.request({OLD: 100})) == [f"delete deployment {NEW}"]
    assert deployed.endpoints.logs(deployed.name, NEW) == ""


def test_a_first_deployment_that_failed_goes_and_leaves_an_empty_endpoint(deployed: Deployed) -> None:
    deployed.control.script_serving(
        platform="azure", served=OLD, provisioning_seconds=0.1, provisioning_error="no machines left"
    )
    deployed.seen(deployed.request({OLD: 100}), OLD, "Failed")
    assert deployed.followed(deployed.request({})) == [f"delete deployment {OLD}"]
    assert deployed.control.azure_endpoint(deployed.name)["deployments"] == []


def test_replicas_tags_and_logging_are_changed_in_place(deployed: Deployed) -> None:
    deployed.followed(deployed.request({OLD: 100}))
    logging = RequestLogging.model_validate({"samplingPercent": 50})
    changed = deployed.request({OLD: 100}, replicas=2, tags={"team": "wine"}, request_logging=logging)
    assert len(deployed.followed(changed)) == 2
    there = deployed.control.azure_deployment(deployed.name, OLD)
    assert (there["capacity"], deployed.control.azure_endpoint(deployed.name)["tags"]["team"]) == (2, "wine")
    deployed.followed(deployed.request({OLD: 100}))
    assert "team" not in deployed.control.azure_endpoint(deployed.name)["tags"]
    assert deployed.control.azure_deployment(deployed.name, OLD)["capacity"] == 1


def test_a_hand_edit_is_seen_and_brought_back(deployed: Deployed) -> None:
    request = deployed.request({OLD: 100})
    deployed.followed(request)
    deployed.control.edit_azure_deployment(deployed.name, OLD, environment={"DEBUG": "1"})
    wait_until(lambda: not busy(deployed), 10)
    seen = deployed.endpoints.reach(request, change=False)
    assert seen.differences == (f"deployment {OLD}: the environment variable DEBUG is not as planned",)
    assert deployed.followed(request) == [f"change deployment {OLD}"]
    deployed.control.edit_azure_endpoint(deployed.name, traffic={})
    assert deployed.endpoints.reach(request, change=False).differences
    deployed.followed(request)
    assert deployed.traffic() == {OLD: 100}


def busy(deployed: Deployed) -> bool:
    return bool(deployed.control.azure_endpoint(deployed.name)["state"] not in ("Succeeded", "Failed"))


@pytest.mark.parametrize("status", [409, 400])
def test_a_busy_endpoint_takes_nothing_and_says_so(deployed: Deployed, status: int) -> None:
    deployed.followed(deployed.request({OLD: 100}))
    deployed.control.azure_serving_settings(
        endpoint_seconds=30, delete_seconds=0.1, metric_delay_seconds=0, busy_status=status
    )
    tagged = deployed.request({OLD: 100}, tags={"team": "wine"})
    assert deployed.endpoints.reach(tagged, change=True).sent is not None
    reached = deployed.endpoints.reach(deployed.request({OLD: 100}), change=True)
    assert reached.sent is None
    assert reached.endpoint is not None
    assert reached.endpoint.busy
    with pytest.raises(PlatformBusy) as raised:
        deployed.endpoints.delete(deployed.name, deployed.uid)
    assert raised.value.reason == "PlatformBusy"


def test_a_name_that_another_workspace_has_is_refused_by_name(deployed: Deployed) -> None:
    deployed.control.azure_serving_settings(taken_names=[deployed.name])
    with pytest.raises(Refused) as raised:
        deployed.endpoints.reach(deployed.request({OLD: 100}), change=True)
    assert raised.value.reason == "EndpointNameTaken"
    assert "endpointPrefix" in raised.value.message


def test_anothers_endpoint_is_left_alone_unless_it_is_adopted(deployed: Deployed) -> None:
    mine, deployed.uid = deployed.uid, "another"
    deployed.followed(deployed.request({OLD: 100}))
    deployed.uid = mine
    theirs = deployed.control.azure_endpoint(deployed.name)
    reached = deployed.endpoints.reach(deployed.request({NEW: 100}), change=True)
    assert reached.sent is None
    assert reached.endpoint is not None
    assert not reached.endpoint.ours
    assert not deployed.endpoints.exists(deployed.name, mine)
    assert deployed.endpoints.exists(deployed.name, None)
    assert not deployed.endpoints.delete(deployed.name, mine)
    assert deployed.control.azure_endpoint(deployed.name) == theirs
    adopting = deployed.request({NEW: 100}, adopt=True)
    stranger = replace(adopting.plan, owner=replace(adopting.plan.owner, namespace="team-b"))
    with pytest.raises(Refused) as raised:
        deployed.endpoints.reach(replace(adopting, plan=stranger), change=True)
    assert raised.value.reason == "EndpointNameTaken"
    assert deployed.control.azure_endpoint(deployed.name) == theirs
    assert deployed.followed(adopting)[0] == "take over the endpoint"
    assert deployed.traffic() == {NEW: 100}
    assert [each["name"] for each in deployed.control.azure_endpoint(deployed.name)["deployments"]] == [NEW]


def test_a_deleted_endpoint_is_gone_with_all_that_cost(deployed: Deployed) -> None:
    deployed.followed(deployed.request({OLD: 100}))
    assert deployed.endpoints.exists(deployed.name, deployed.uid)
    assert deployed.endpoints.delete(deployed.name, deployed.uid)
    wait_until(lambda: not deployed.endpoints.exists(deployed.name, deployed.uid), 10)
    assert not deployed.endpoints.delete(deployed.name, deployed.uid)
    assert deployed.control.azure_endpoints() == []


def test_a_key_is_used_once_and_shown_nowhere(deployed: Deployed, audit: Trail) -> None:
    deployed.followed(deployed.request({OLD: 100}, auth="Key"))
    scored = deployed.endpoints.score(deployed.name, None, [{"x": 1}], seconds=10)
    assert scored.predictions == ["old"]
    keys = [row for row in audit.records() if str(row.get("path", "")).endswith("/listKeys")]
    asked = [row for row in audit.records() if str(row.get("path", "")).endswith("/score")]
    assert len(keys) == len(asked) == 1
    told = next(row for row in audit.records() if row["id"] == asked[0]["id"] and row["event"] == "response")
    assert (told["status"], told["remote_id"]) == (200, deployed.name)
    answer = deployed.endpoints._client.do("POST", f"/onlineEndpoints/{deployed.name}/listKeys", "2024-04-01")
    assert len(answer["primaryKey"]) > 16
    assert answer["primaryKey"] not in audit.stream.getvalue()
    assert answer["primaryKey"] not in repr(scored)


def test_whatever_a_model_answers_is_an_answer(deployed: Deployed) -> None:
    deployed.followed(deployed.request({OLD: 100}))
    deployed.control.script_serving(platform="azure", served=OLD, error_rate=1.0, error_status=500)
    broken = deployed.endpoints.score(deployed.name, None, [{"x": 1}], seconds=10)
    assert (broken.status, broken.predictions) == (424, None)
    nobody = deployed.endpoints.score(deployed.name, "no-such", [{"x": 1}], seconds=10)
    assert nobody.status == 404


def test_requests_and_errors_are_measured_of_one_deployment(
    deployed: Deployed, control: SandboxControl, data_scientist: str
) -> None:
    since = datetime.now(UTC) - timedelta(seconds=1)
    deployed.followed(deployed.request({OLD: 100}))
    with pytest.raises(Denied, match="Monitoring Reader"):
        deployed.endpoints.measured(deployed.name, OLD, since, 95)
    control.assign_role(data_scientist, "Monitoring Reader")
    assert deployed.endpoints.measured(deployed.name, OLD, since, 95).requests is None
    for _ in range(3):
        deployed.endpoints.score(deployed.name, None, [{"x": 1}], seconds=10)
    deployed.control.script_serving(platform="azure", served=OLD, error_rate=1.0, error_status=500)
    deployed.endpoints.score(deployed.name, None, [{"x": 1}], seconds=10)
    found = deployed.endpoints.measured(deployed.name, OLD, since, 95)
    assert (found.requests, found.errors) == (4, 1)
    assert found.latency_milliseconds is not None
    assert found.latency_milliseconds > 0


def test_a_version_is_found_by_number_and_by_alias_with_its_run(deployed: Deployed) -> None:
    tags = {"trainyard_name": "wine", "trainyard_uid": "u-1", "trainyard_commit": "abc", "alias": "champion"}
    deployed.register("7", tags=tags)
    found = deployed.endpoints.resolve(deployed.model, alias="champion")
    assert (found.model, found.version) == (deployed.model, "7")
    assert found.origin is not None
    assert (found.origin.run, found.origin.uid, found.origin.commit) == ("wine", "u-1", "abc")
    assert deployed.endpoints.resolve(deployed.model, version="1").version == "1"
    for asked in ({"version": "9"}, {"alias": "nobody"}):
        with pytest.raises(Missing):
            deployed.endpoints.resolve(deployed.model, **asked)
    with pytest.raises(Missing):
        deployed.endpoints.resolve("no-such-model", alias="champion")


@pytest.mark.usefixtures("connect_here")
def test_what_serving_needs_is_looked_at_before(
    deployed: Deployed, control: SandboxControl, data_scientist: str
) -> None:
    control.assign_role(data_scientist, "Reader", "subscription")
    deployed.register("1", {"MLmodel": SIGNED, "conda.yaml": SERVER})
    request = deployed.request({OLD: 100})
    control.clear_requests()
    found = deployed.endpoints.preflight(request)
    assert [(each.name, each.message) for each in found if each.outcome != "Passed"] == []
    assert len(found) == len(request.needs) >= 7
    asked = {(row["method"], row["path"].rpartition("/")[2]) for row in control.requests(path="/subscriptions/.*")}
    assert {name for method, name in asked if method != "GET"} == {"listSecrets"}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"MLmodel": b"flavors: {}", "conda.yaml": SERVER}, "it has no signature"),
        ({"MLmodel": SIGNED, "conda.yaml": BARE}, "lacks azureml-inference-server-http"),
    ],
    ids=["unsigned", "bare"],
)
@pytest.mark.usefixtures("connect_here")
def test_a_model_that_could_not_be_served_is_missing_with_what_to_do(
    deployed: Deployed, files: dict[str, bytes], said: str
) -> None:
    deployed.register("1", files)
    findings = deployed.endpoints.preflight(deployed.request({OLD: 100}))
    (found,) = [each for each in findings if each.field.endswith(".model")]
    assert (found.outcome, said in found.message) == ("Missing", True)
    assert "extra_pip_requirements" in found.message


@pytest.mark.parametrize("fault", ["forbidden", "unreachable"])
def test_a_model_that_can_not_be_looked_at_is_unknown(deployed: Deployed, control: SandboxControl, fault: str) -> None:
    if fault == "forbidden":
        control.add_fault("status", ".*/listSecrets.*", status=403)
    # Without connect_here, the storage account has no name that resolves, as behind a private endpoint.
    findings = deployed.endpoints.preflight(deployed.request({OLD: 100}))
    (found,) = [each for each in findings if each.field.endswith(".model")]
    assert found.outcome == "Unknown"
    assert "can not be looked at" in found.message or "can not be found out" in found.message


def test_the_quota_has_to_have_room_for_both_sides_of_a_canary(
    deployed: Deployed, control: SandboxControl, data_scientist: str
) -> None:
    control.assign_role(data_scientist, "Reader", "subscription")
    (family,) = {row["family"] for row in sizes(deployed) if row["name"] == SIZE}
    # 4 vCPUs, of which ceil(1.2 * 1) machines take 8: room for one, not for two at a time.
    control.azure_compute_settings(family_cores={family: 12})

    def quota(shares: dict[str, int]) -> tuple[str, str]:
        findings = deployed.endpoints.preflight(deployed.request(shares))
        (found,) = [each for each in findings if "QUOTA" in each.name]
        return found.outcome, found.message

    assert quota({OLD: 100})[0] == "Passed"
    deployed.followed(deployed.request({OLD: 100}))
    # What serves already is counted once.
    assert quota({OLD: 100})[0] == "Passed"
    outcome, message = quota({OLD: 100, NEW: 0})
    assert outcome == "Missing"
    assert "12 vCPUs" in message
    assert "takes 16" in message
    control.azure_compute_settings(family_cores={family: 16})
    assert quota({OLD: 100, NEW: 0})[0] == "Passed"


def sizes(deployed: Deployed) -> list[dict[str, Any]]:
    return deployed.endpoints._client.typed(lambda ml: [vars(each) for each in ml.compute.list_sizes()])


def test_a_score_is_over_in_its_time(deployed: Deployed) -> None:
    deployed.followed(deployed.request({OLD: 100}))
    deployed.control.script_serving(platform="azure", served=OLD, latency_seconds=5)
    began = time.monotonic()
    with pytest.raises(Unreachable):
        deployed.endpoints.score(deployed.name, None, [{"x": 1}], seconds=0.5)
    assert time.monotonic() - began < 4


def test_a_silent_rollback_of_the_platforms_is_seen_and_brought_back(deployed: Deployed) -> None:
    deployed.followed(deployed.request({OLD: 100}))
    both = deployed.request({OLD: 50, NEW: 50})
    deployed.followed(both)
    deployed.control.roll_back_azure_endpoint(deployed.name)
    wait_until(lambda: not busy(deployed), 10)
    assert deployed.endpoints.reach(both, change=False).differences
    deployed.followed(both)
    assert deployed.traffic() == {OLD: 50, NEW: 50}


def test_an_endpoint_that_vanished_is_made_again(deployed: Deployed) -> None:
    request = deployed.request({OLD: 100})
    deployed.followed(request)
    deployed.control.delete_azure_endpoint(deployed.name)
    wait_until(lambda: deployed.control.azure_endpoints() == [], 10)
    seen = deployed.endpoints.reach(request, change=False)
    assert (seen.endpoint, seen.differences) == (None, ("the endpoint is not there",))
    assert deployed.followed(request)[0] == "make the endpoint"


def test_what_lost_its_machines_is_told_with_the_reason(deployed: Deployed) -> None:
    request = deployed.request({OLD: 100})
    deployed.followed(request)
    deployed.control.fail_azure_deployment(deployed.name, OLD, code="Lost", message="the rack burned")
    seen = deployed.endpoints.reach(request, change=True)
    assert seen.sent is None
    assert seen.endpoint is not None
    (served,) = seen.endpoint.served
    assert (served.state, served.message) == ("Failed", "its provisioning failed: Lost: the rack burned")
    assert deployed.followed(request)
    assert deployed.endpoints.score(deployed.name, None, [{"x": 1}], seconds=10).predictions == ["old"]


def test_a_failed_update_of_what_answers_is_asked_for_again(deployed: Deployed) -> None:
    deployed.followed(deployed.request({OLD: 100}))
    deployed.control.script_serving(
        platform="azure", served=OLD, times=1, provisioning_seconds=0.1, provisioning_error="no machines left"
    )
    moved = deployed.request({OLD: 100}, replicas=2, env={"MODE": "fast"})
    deployed.seen(moved, OLD, "Failed")
    assert deployed.endpoints.score(deployed.name, None, [{"x": 1}], seconds=10).predictions == ["old"]
    deployed.control.clear_serving_scripts()
    deployed.control.script_serving(platform="azure", pretend=True, predictions=["old"], provisioning_seconds=0.1)
    deployed.followed(moved)
    assert deployed.control.azure_deployment(deployed.name, OLD)["capacity"] == 2
