"""Databricks Model Serving in the sandbox: models that are really loaded, behind endpoints, with the unmodified SDK."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import (
    BadRequest,
    InvalidParameterValue,
    PermissionDenied,
    ResourceAlreadyExists,
    ResourceConflict,
    ResourceDoesNotExist,
)
from databricks.sdk.service import compute, jobs
from databricks.sdk.service import serving as sdk

from trainyard_sandbox.client import SandboxControl

from .conftest import ended, wait_until
from .members import MemberFactory, member
from .serving_models import BROKEN, DOUBLES, RAISES, TRIPLES, model_files, register

__all__ = ["member"]  # the fixture

Updates, Ready, Deployed = sdk.EndpointStateConfigUpdate, sdk.EndpointStateReady, sdk.ServedModelStateDeployment


@pytest.fixture(autouse=True)
def unscripted(control: SandboxControl) -> Iterator[None]:
    """No script, no endpoint and the usual limits afterwards."""
    yield
    control.clear_serving_scripts()
    for endpoint in control.databricks_endpoints():
        control.delete_databricks_endpoint(endpoint["name"])
    control.databricks_serving_limits(endpoints=1000, concurrency=4096, update_seconds=0.05)


@pytest.fixture
def add_model(control: SandboxControl, workspace: WorkspaceClient, principal: str) -> Callable[..., str]:
    """Register a version of a model that the principal owns: `add_model(code, name)`; without a name, a new one."""
    control.grant(principal, "main", "USE_CATALOG")
    control.grant(principal, "main.serving", "USE_SCHEMA", "CREATE_MODEL")

    def add(code: str, name: str | None = None, **fields: Any) -> str:
        name = name or f"main.serving.m{uuid.uuid4().hex[:8]}"
        register(workspace, name, model_files(code, **fields), str(control.address.ca_file))
        return name

    return add


@pytest.fixture
def doubling(add_model: Callable[..., str]) -> str:
    """A model whose version 1 doubles and whose version 2 triples."""
    name = add_model(DOUBLES)
    return add_model(TRIPLES, name)


def entity(model: str, version: int = 1, name: str | None = None, **fields: Any) -> sdk.ServedEntityInput:
    fields = {"workload_size": "Small", "scale_to_zero_enabled": False, **fields}
    served = name or f"v{version}"
    return sdk.ServedEntityInput(entity_name=model, entity_version=str(version), name=served, **fields)


def shares(**percentages: int) -> sdk.TrafficConfig:
    return sdk.TrafficConfig([sdk.Route(share, served_entity_name=name) for name, share in percentages.items()])


def create(workspace: WorkspaceClient, *entities: sdk.ServedEntityInput, **fields: Any) -> str:
    """Create an endpoint and wait until its update is over; its name."""
    name = f"e{uuid.uuid4().hex[:8]}"
    traffic = fields.pop("traffic", None)
    config = sdk.EndpointCoreConfigInput(name, served_entities=list(entities), traffic_config=traffic)
    workspace.serving_endpoints.create(name, config=config, **fields)
    settled(workspace, name)
    return name


def settled(workspace: WorkspaceClient, name: str) -> sdk.ServingEndpointDetailed:
    """The endpoint once no update is in progress."""

    def look() -> sdk.ServingEndpointDetailed | None:
        found = workspace.serving_endpoints.get(name)
        assert found.state is not None
        return None if found.state.config_update is Updates.IN_PROGRESS else found

    answer: sdk.ServingEndpointDetailed = wait_until(look, 60)
    return answer


def states(config: Any) -> dict[str, str]:
    return {one.name: one.state.deployment.value for one in config.served_entities}


def predicted(workspace: WorkspaceClient, name: str, x: float = 1.0) -> tuple[str | None, Any]:
    answer = workspace.serving_endpoints.query(name, dataframe_records=[{"x": x}])
    return answer.served_model_name, (answer.predictions or [None])[0]


def test_an_endpoint_loads_the_model_and_answers_each_form_of_request(
    workspace: WorkspaceClient, principal: str, doubling: str
) -> None:
    name = create(workspace, entity(doubling), tags=[sdk.EndpointTag("team", "a")], description="d")
    found = workspace.serving_endpoints.get(name)
    assert found.state == sdk.EndpointState(Updates.NOT_UPDATING, Ready.READY)
    assert (found.creator, found.description, found.pending_config) == (principal, "d", None)
    assert found.config is not None
    assert (states(found.config), found.config.config_version) == ({"v1": "DEPLOYMENT_READY"}, 1)
    assert found.config.traffic_config is not None
    assert found.permission_level is sdk.ServingEndpointDetailedPermissionLevel.CAN_MANAGE
    query = workspace.serving_endpoints.query
    split = sdk.DataframeSplitInput(columns=["x"], data=[[1.5], [2]], index=[0, 1])
    assert query(name, dataframe_records=[{"x": 1.5}, {"x": 2}]).predictions == [3, 4]
    assert query(name, dataframe_split=split).predictions == [3, 4]
    assert query(name, instances=[{"x": 1.5}]).predictions == [3]
    assert query(name, inputs={"x": [1.5]}).predictions == [3]


TRAINING = """
import mlflow, pandas
from sklearn.linear_model import LinearRegression

rows = pandas.DataFrame({"x": [0.0, 1.0, 2.0]})
model = LinearRegression().fit(rows, [1.0, 3.0, 5.0])
mlflow.set_experiment("EXPERIMENT")
with mlflow.start_run():
    signature = mlflow.models.infer_signature(rows, model.predict(rows))
    libraries = ["scikit-learn"]  # left to itself, MLflow looks for them for half a minute
    mlflow.sklearn.log_model(
        model, "model", registered_model_name="MODEL", signature=signature, pip_requirements=libraries
    )
"""


def test_what_a_run_trained_and_registered_is_served_as_it_was_logged(
    control: SandboxControl, workspace: WorkspaceClient, principal: str, upload: Callable[..., str]
) -> None:
    control.grant(principal, "main", "USE_CATALOG")
    control.grant(principal, "main.serving", "USE_SCHEMA", "CREATE_MODEL")
    model = f"main.serving.trained-{uuid.uuid4().hex[:8]}"
    source = TRAINING.replace("EXPERIMENT", f"/Users/{principal}/line").replace("MODEL", model)
    task = jobs.SubmitTask(
        task_key="train", environment_key="default", spark_python_task=jobs.SparkPythonTask(upload(source))
    )
    environment = jobs.JobEnvironment("default", compute.Environment(environment_version="5"))
    submitted = workspace.jobs.submit(tasks=[task], environments=[environment])
    run = ended(workspace, submitted.response.run_id, timeout_seconds=240)
    assert run.state is not None
    assert run.state.result_state is jobs.RunResultState.SUCCESS
    name = create(workspace, entity(model))
    assert predicted(workspace, name, 3.0) == ("v1", pytest.approx(7.0))
    built = workspace.serving_endpoints.build_logs(name, "v1").logs
    assert "Requirement already satisfied: mlflow==" in built


def test_what_the_model_refuses_and_what_is_no_request_is_a_400(workspace: WorkspaceClient, doubling: str) -> None:
    name = create(workspace, entity(doubling))
    with pytest.raises(BadRequest, match="Model is missing inputs"):
        workspace.serving_endpoints.query(name, dataframe_records=[{"y": 1}])
    with pytest.raises(BadRequest, match="exactly one of the input fields"):
        workspace.serving_endpoints.query(name)
    with pytest.raises(BadRequest, match="unknown field: input_data"):
        workspace.api_client.do("POST", f"/serving-endpoints/{name}/invocations", body={"input_data": [[1]]})
    with pytest.raises(ResourceDoesNotExist, match="The given endpoint does not exist"):
        workspace.serving_endpoints.query("none", instances=[1])


def test_a_model_that_raises_answers_400_and_says_so_in_its_log(
    workspace: WorkspaceClient, add_model: Callable[..., str]
) -> None:
    name = create(workspace, entity(add_model(RAISES)))
    with pytest.raises(BadRequest, match="unexpected error while evaluating the model"):
        predicted(workspace, name)
    assert "no such leaf" in workspace.serving_endpoints.logs(name, "v1").logs
    assert "Requirement already satisfied: scikit-learn" in workspace.serving_endpoints.build_logs(name, "v1").logs


def test_traffic_is_split_by_share_and_one_model_can_be_asked_by_name(
    workspace: WorkspaceClient, doubling: str
) -> None:
    name = create(workspace, entity(doubling), entity(doubling, 2), traffic=shares(v1=75, v2=25))
    with ThreadPoolExecutor(8) as pool:
        answers = Counter(pool.map(lambda _: predicted(workspace, name), range(40)))
    assert answers == {("v1", 2): 30, ("v2", 3): 10}
    one = f"/serving-endpoints/{name}/served-models/v2/invocations"
    assert workspace.api_client.do("POST", one, body={"instances": [{"x": 1}]}) == {"predictions": [3]}


def test_the_old_configuration_serves_until_the_new_one_is_ready_and_no_request_fails(
    control: SandboxControl, workspace: WorkspaceClient, doubling: str
) -> None:
    name = create(workspace, entity(doubling))
    control.script_serving(endpoint=name, served="v2", provisioning_seconds=1.0)
    workspace.serving_endpoints.update_config(name, served_entities=[entity(doubling, 2)])
    under_way = workspace.serving_endpoints.get(name)
    assert under_way.state == sdk.EndpointState(Updates.IN_PROGRESS, Ready.READY)
    assert under_way.config is not None
    assert under_way.pending_config is not None
    assert (states(under_way.config), states(under_way.pending_config)) == (
        {"v1": "DEPLOYMENT_READY"},
        {"v2": "DEPLOYMENT_CREATING"},
    )
    with pytest.raises(ResourceConflict, match="currently updating"):
        workspace.serving_endpoints.update_config(name, served_entities=[entity(doubling, 2)])
    seen: list[tuple[str | None, Any]] = []
    while not seen or seen[-1] == ("v1", 2):
        seen.append(predicted(workspace, name))
    assert seen[-1] == ("v2", 3)
    after = settled(workspace, name)
    assert after.config is not None
    assert (states(after.config), after.config.config_version) == ({"v2": "DEPLOYMENT_READY"}, 2)
    assert after.pending_config is None


def test_no_request_fails_while_one_configuration_follows_another(workspace: WorkspaceClient, doubling: str) -> None:
    name, stop = create(workspace, entity(doubling)), threading.Event()
    answers: list[int] = []

    def ask() -> None:
        while not stop.is_set():
            answers.append(status_of(workspace, name))

    both = [entity(doubling), entity(doubling, 2)]
    steps = [(both, shares(v1=90, v2=10)), (both, shares(v1=0, v2=100)), (both[1:], None), (both[:1], None)]
    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask) for _ in range(3)]
        try:
            for entities, traffic in steps:
                workspace.serving_endpoints.update_config(name, served_entities=entities, traffic_config=traffic)
                settled(workspace, name)
                before = len(answers)
                wait_until(lambda before=before: len(answers) > before + 12)
        finally:
            stop.set()
        for one in asking:
            one.result()
    assert set(answers) == {200}


def test_a_failed_update_leaves_the_old_configuration_and_its_log_can_be_read(
    control: SandboxControl, workspace: WorkspaceClient, doubling: str, add_model: Callable[..., str]
) -> None:
    name = create(workspace, entity(doubling))
    broken = entity(add_model(BROKEN), name="broken")
    control.script_serving(endpoint=name, served="v2", provisioning_seconds=60)
    new = [entity(doubling), entity(doubling, 2), broken]
    workspace.serving_endpoints.update_config(name, served_entities=new, traffic_config=shares(v1=100, v2=0, broken=0))
    after = settled(workspace, name)
    assert after.state == sdk.EndpointState(Updates.UPDATE_FAILED, Ready.READY)
    assert after.pending_config is not None
    failed = next(one for one in after.pending_config.served_entities or [] if one.name == "broken")
    assert failed.state is not None
    assert failed.state.deployment_state_message == "FileNotFoundError: weights.bin"
    wait_until(lambda: states(workspace.serving_endpoints.get(name).pending_config)["v2"] == "DEPLOYMENT_ABORTED")
    assert "looking for the weights" in workspace.serving_endpoints.logs(name, "broken").logs
    assert predicted(workspace, name) == ("v1", 2)
    workspace.serving_endpoints.update_config(name, served_entities=[entity(doubling)])
    assert settled(workspace, name).pending_config is None
    served = [(one["served"], one["requests"]) for one in control.served_models("databricks", name)]
    assert served == [("v1", 1)]  # the same process served on


def test_a_first_configuration_that_fails_leaves_an_endpoint_that_serves_nothing(
    workspace: WorkspaceClient, add_model: Callable[..., str]
) -> None:
    name = create(workspace, entity(add_model(BROKEN)))
    found = workspace.serving_endpoints.get(name)
    assert found.state == sdk.EndpointState(Updates.UPDATE_FAILED, Ready.NOT_READY)
    assert found.config is None
    assert status_of(workspace, name) == 503


def test_a_model_that_asks_for_another_version_of_a_package_fails_to_build(
    workspace: WorkspaceClient, add_model: Callable[..., str]
) -> None:
    name = create(workspace, entity(add_model(DOUBLES, requirements="scikit-learn==0.1\nnever-heard-of-it\n")))
    assert "No matching distribution found for scikit-learn==0.1" in (
        workspace.serving_endpoints.build_logs(name, "v1").logs
    )


def test_secrets_reach_the_model_and_one_that_its_creator_cannot_read_fails_the_update(
    workspace: WorkspaceClient, doubling: str
) -> None:
    scope = f"s{uuid.uuid4().hex[:8]}"
    workspace.secrets.create_scope(scope)
    workspace.secrets.put_secret(scope, "factor", string_value="7")
    reference = f"{{{{secrets/{scope}/factor}}}}"
    name = create(workspace, entity(doubling, environment_vars={"FACTOR": reference}))
    assert predicted(workspace, name) == ("v1", 7)
    found = workspace.serving_endpoints.get(name).config
    assert found is not None
    assert (found.served_entities or [])[0].environment_vars == {"FACTOR": reference}
    gone = entity(doubling, environment_vars={"FACTOR": f"{{{{secrets/{scope}/gone}}}}"})
    workspace.serving_endpoints.update_config(name, served_entities=[gone])
    after = settled(workspace, name)
    assert after.state is not None
    assert after.state.config_update is Updates.UPDATE_FAILED
    assert predicted(workspace, name) == ("v1", 7)


def test_a_model_scales_to_zero_and_the_next_request_starts_it(
    control: SandboxControl, workspace: WorkspaceClient, doubling: str
) -> None:
    name = create(
        workspace, entity(doubling, scale_to_zero_enabled=True), entity(doubling, 2), traffic=shares(v1=100, v2=0)
    )
    control.script_serving(endpoint=name, idle_seconds=0.05, cold_start_seconds=0.3)
    wait_until(lambda: [one["state"] for one in control.served_models(endpoint=name)] == ["stopped", "ready"])
    config = workspace.serving_endpoints.get(name).config
    assert config is not None
    assert (config.served_entities or [])[0].state == sdk.ServedModelState(Deployed.DEPLOYMENT_READY, "Scaled to zero")
    control.clear_serving_scripts()
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: predicted(workspace, name), range(4))) == {("v1", 2)}
    assert [one["cold_starts"] for one in control.served_models(endpoint=name)] == [1, 0]


def test_a_model_whose_process_ends_is_started_again(
    control: SandboxControl, workspace: WorkspaceClient, doubling: str
) -> None:
    name = create(workspace, entity(doubling))
    control.crash_served_model(name)
    wait_until(lambda: status_of(workspace, name) == 200)
    assert predicted(workspace, name) == ("v1", 2)


def test_a_pretended_model_needs_no_files(
    control: SandboxControl, workspace: WorkspaceClient, add_model: Callable[..., str]
) -> None:
    control.script_serving(endpoint="pretended-.*", pretend=True)
    config = sdk.EndpointCoreConfigInput("", served_entities=[entity(add_model(""))])
    workspace.serving_endpoints.create("pretended-1", config=config)
    settled(workspace, "pretended-1")
    answer = workspace.serving_endpoints.query("pretended-1", dataframe_records=[{"x": 1}, {"x": 2}])
    assert answer.predictions == [0.0, 0.0]


def test_pretended_answers_errors_and_latencies_are_told_by_the_metrics(
    control: SandboxControl, workspace: WorkspaceClient, doubling: str
) -> None:
    name = create(workspace, entity(doubling))
    control.script_serving(endpoint=name, predictions=["yes"], latency_seconds=0.03, error_rate=0.25, error_status=500)
    answers = Counter(status_of(workspace, name) for _ in range(8))
    assert answers == {200: 6, 500: 2}
    control.script_serving(endpoint=name, error_rate=0.0, latency_seconds=0.0)
    assert predicted(workspace, name) == ("v1", "yes")
    text = workspace.serving_endpoints.export_metrics(name).contents
    assert text is not None
    lines = text.read().decode().splitlines()
    labels = 'served_model_name="v1"'
    values = {line.split("{")[0]: float(line.split()[-2]) for line in lines if labels in line and "_bucket" not in line}
    assert (values["request_count_total"], values["request_5xx_count_total"]) == (9, 2)
    assert values["request_latency_ms_count"] == 9
    assert values["provisioned_concurrent_requests_total"] == 4
    buckets = {line.split('le="')[1].split('"')[0]: float(line.split()[-2]) for line in lines if "_bucket{" in line}
    assert (buckets["20"], buckets["+Inf"]) == (1, 9)


def status_of(workspace: WorkspaceClient, name: str) -> int:
    """Status of one request, without the SDK's retries."""
    headers = workspace.config.authenticate()
    url = f"{workspace.config.host}/serving-endpoints/{name}/invocations"
    return requests.post(url, json={"instances": [{"x": 1}]}, headers=headers, timeout=30).status_code


def test_only_who_may_query_asks_and_only_who_may_manage_changes(
    workspace: WorkspaceClient, doubling: str, member: MemberFactory
) -> None:
    name, other = create(workspace, entity(doubling)), member("analyst")
    with pytest.raises(PermissionDenied, match="permission to view"):
        other.client.serving_endpoints.get(name)
    assert list(other.client.serving_endpoints.list()) == []
    endpoint_id = workspace.serving_endpoints.get(name).id or ""
    request = sdk.ServingEndpointAccessControlRequest(
        service_principal_name=other.application_id, permission_level=sdk.ServingEndpointPermissionLevel.CAN_QUERY
    )
    shown = workspace.serving_endpoints.update_permissions(endpoint_id, access_control_list=[request])
    assert (shown.object_type, shown.object_id) == ("serving-endpoint", f"/serving-endpoints/{endpoint_id}")
    assert predicted(other.client, name) == ("v1", 2)
    assert [one.name for one in other.client.serving_endpoints.list()] == [name]
    seen = other.client.serving_endpoints.get(name)
    assert seen.permission_level is sdk.ServingEndpointDetailedPermissionLevel.CAN_QUERY
    attempts: list[Callable[[], Any]] = [
        lambda: other.client.serving_endpoints.update_config(name, served_entities=[entity(doubling)]),
        lambda: other.client.serving_endpoints.patch(name, delete_tags=["a"]),
        lambda: other.client.serving_endpoints.delete(name),
        lambda: other.client.serving_endpoints.get_permissions(endpoint_id),
    ]
    for attempt in attempts:
        with pytest.raises(PermissionDenied):
            attempt()


def test_the_creator_needs_the_models_rights_at_creation_and_at_each_update(
    control: SandboxControl, workspace: WorkspaceClient, doubling: str, member: MemberFactory
) -> None:
    other = member("deployer", {"main": ["USE_CATALOG"], "main.serving": ["USE_SCHEMA"]})
    with pytest.raises(PermissionDenied, match=f"does not have EXECUTE on Routine or Model '{doubling}'"):
        create(other.client, entity(doubling))
    control.grant(other.application_id, doubling, "EXECUTE")
    name = create(other.client, entity(doubling))
    control.revoke(other.application_id, "main.serving", "USE_SCHEMA")
    with pytest.raises(PermissionDenied, match="USE SCHEMA"):
        other.client.serving_endpoints.update_config(name, served_entities=[entity(doubling, 2)])
    control.remove_principal(other.application_id)
    admin = member("admin")
    control.change_principal(admin.application_id, groups=["admins"])
    with pytest.raises(PermissionDenied, match="is no member of this workspace"):
        admin.client.serving_endpoints.update_config(name, served_entities=[entity(doubling, 2)])
    admin.client.serving_endpoints.delete(name)
    with pytest.raises(ResourceDoesNotExist):
        admin.client.serving_endpoints.get(name)


def test_a_request_log_needs_a_table_that_the_creator_may_make_and_moves_only_when_disabled(
    control: SandboxControl, workspace: WorkspaceClient, principal: str, doubling: str
) -> None:
    def gateway(prefix: str, *, enabled: bool = True) -> sdk.AiGatewayInferenceTableConfig:
        return sdk.AiGatewayInferenceTableConfig("main", enabled, "serving", prefix)

    with pytest.raises(PermissionDenied, match="CREATE TABLE"):
        create(workspace, entity(doubling), ai_gateway=sdk.AiGatewayConfig(inference_table_config=gateway("a")))
    control.grant(principal, "main.serving", "CREATE_TABLE")
    prefix = f"t{uuid.uuid4().hex[:8]}"
    name = create(workspace, entity(doubling), ai_gateway=sdk.AiGatewayConfig(inference_table_config=gateway(prefix)))
    assert workspace.tables.get(f"main.serving.{prefix}_payload").owner == principal
    with pytest.raises(InvalidParameterValue, match="Disable the inference table first"):
        workspace.serving_endpoints.put_ai_gateway(name, inference_table_config=gateway("other"))
    workspace.serving_endpoints.put_ai_gateway(name, inference_table_config=gateway(prefix, enabled=False))
    found = workspace.serving_endpoints.get(name).ai_gateway
    assert found is not None
    assert found.inference_table_config == gateway(prefix, enabled=False)


BODIES: list[tuple[dict[str, Any], str]] = [
    ({"colour": "red"}, "unknown field 'colour'"),
    ({"name": "a.b"}, "Invalid endpoint name 'a.b'"),
    ({"route_optimized": True}, "route_optimized is not offered"),
    ({"tags": [{"key": "a"}, {"key": "a"}]}, "Tag keys must be unique"),
    ({"config": {"served_entities": []}}, "at least one served entity"),
    ({"config": {"served_models": []}}, "served_models is deprecated"),
]


@pytest.mark.parametrize(("changed", "said"), BODIES)
def test_a_creation_that_makes_no_sense_is_refused(
    workspace: WorkspaceClient, doubling: str, changed: dict[str, Any], said: str
) -> None:
    body = {"name": "strict", "config": {"served_entities": [entity(doubling).as_dict()]}} | changed
    with pytest.raises(InvalidParameterValue, match=said):
        workspace.api_client.do("POST", "/api/2.0/serving-endpoints", body=body)


ENTITIES: list[tuple[dict[str, Any], str]] = [
    ({"colour": "red"}, "unknown field 'config.served_entities"),
    ({"entity_version": "latest"}, "it is a number"),
    ({"workload_size": "Tiny"}, "Valid values: Small, Medium, Large"),
    ({"workload_size": None}, "needs workload_size, or"),
    ({"max_provisioned_concurrency": 8}, "do not use workload_size with"),
    ({"workload_size": None, "min_provisioned_concurrency": 2, "max_provisioned_concurrency": 8}, "multiples of 4"),
    (
        {"workload_size": None, "min_provisioned_concurrency": 0, "max_provisioned_concurrency": 8},
        "needs scale_to_zero",
    ),
    ({"workload_type": "TPU"}, "Invalid value 'TPU'"),
    ({"environment_vars": {"A B": "1"}}, "Invalid name 'A B'"),
    ({"environment_vars": {f"V{i}": "1" for i in range(31)}}, "at most 30 entries"),
    ({"external_model": {}}, "not offered by this sandbox"),
    ({"instance_profile_arn": "arn:none"}, "has not been added to this workspace"),
]


@pytest.mark.parametrize(("changed", "said"), ENTITIES)
def test_a_served_entity_that_makes_no_sense_is_refused(
    workspace: WorkspaceClient, doubling: str, changed: dict[str, Any], said: str
) -> None:
    config = {"served_entities": [entity(doubling).as_dict() | changed]}
    with pytest.raises(InvalidParameterValue, match=said):
        workspace.api_client.do("POST", "/api/2.0/serving-endpoints", body={"name": "strict", "config": config})


ROUTES: list[tuple[list[tuple[str, int]] | None, str]] = [
    (None, "needs a traffic_config"),
    ([("v1", 60), ("v2", 30)], "must be 100, got 90"),
    ([("v1", 100)], "has no route for the served entity 'v2'"),
    ([("v1", 100), ("v2", 0), ("v3", 0)], "names 'v3', which is no served entity"),
    ([("v1", 50), ("v1", 50), ("v2", 0)], "more than one route for 'v1'"),
    ([("v1", 101), ("v2", 0)], "between 0 and 100"),
]


@pytest.mark.parametrize(("routes", "said"), ROUTES)
def test_shares_that_make_no_sense_are_refused(
    workspace: WorkspaceClient, doubling: str, routes: list[tuple[str, int]] | None, said: str
) -> None:
    config: dict[str, Any] = {"served_entities": [entity(doubling).as_dict(), entity(doubling, 2).as_dict()]}
    if routes is not None:
        given = [{"served_entity_name": name, "traffic_percentage": share} for name, share in routes]
        config["traffic_config"] = {"routes": given}
    with pytest.raises(InvalidParameterValue, match=said):
        workspace.api_client.do("POST", "/api/2.0/serving-endpoints", body={"name": "strict", "config": config})


def test_a_name_is_taken_once_and_a_model_must_be_there_with_a_signature(
    workspace: WorkspaceClient, doubling: str, add_model: Callable[..., str]
) -> None:
    name = create(workspace, entity(doubling))
    config = sdk.EndpointCoreConfigInput(name, served_entities=[entity(doubling)])
    with pytest.raises(ResourceAlreadyExists, match="already exists"):
        workspace.serving_endpoints.create(name, config=config)
    with pytest.raises(ResourceDoesNotExist, match="version=9"):
        create(workspace, entity(doubling, 9))
    with pytest.raises(InvalidParameterValue, match="has no signature"):
        create(workspace, entity(add_model(DOUBLES, signed=False)))


def test_the_workspaces_limits_are_kept(control: SandboxControl, workspace: WorkspaceClient, doubling: str) -> None:
    name = create(workspace, entity(doubling))
    control.databricks_serving_limits(endpoints=1)
    with pytest.raises(BadRequest, match="1 serving endpoints, the most"):
        create(workspace, entity(doubling))
    control.databricks_serving_limits(endpoints=1000, concurrency=20)
    with pytest.raises(BadRequest, match="4 of the workspace's 20 are in use"):
        create(workspace, entity(doubling, workload_size="Large"))
    control.databricks_serving_limits(concurrency=16)  # an endpoint's own old share does not count against it
    workspace.serving_endpoints.update_config(name, served_entities=[entity(doubling, workload_size="Medium")])
    settled(workspace, name)
    with pytest.raises(BadRequest, match="16 of the workspace's 16 are in use"):
        create(workspace, entity(doubling))


def test_tags_are_added_and_deleted_in_one_call(workspace: WorkspaceClient, doubling: str) -> None:
    name = create(workspace, entity(doubling), tags=[sdk.EndpointTag("a", "1"), sdk.EndpointTag("b", "2")])
    added = [sdk.EndpointTag("a", "3"), sdk.EndpointTag("c")]
    changed = workspace.serving_endpoints.patch(name, add_tags=added, delete_tags=["b"])
    assert changed.tags == added
    assert workspace.serving_endpoints.get(name).tags == added


def test_an_endpoint_can_be_edited_and_deleted_behind_our_back(
    control: SandboxControl, workspace: WorkspaceClient, doubling: str
) -> None:
    name = create(workspace, entity(doubling), entity(doubling, 2), traffic=shares(v1=100, v2=0))
    control.edit_databricks_endpoint(name, traffic={"v2": 100}, tags={"by": "hand"}, creator="somebody")
    assert predicted(workspace, name) == ("v2", 3)
    (shown,) = control.databricks_endpoints()
    assert (shown["traffic"], shown["creator"], shown["tags"]) == ({"v1": 0, "v2": 100}, "somebody", {"by": "hand"})
    control.delete_databricks_endpoint(name)
    with pytest.raises(ResourceDoesNotExist):
        workspace.serving_endpoints.get(name)
    wait_until(lambda: control.served_models(endpoint=name) == [])


def test_an_update_that_the_platform_gives_up_leaves_what_serves(
    control: SandboxControl, workspace: WorkspaceClient, doubling: str
) -> None:
    name = create(workspace, entity(doubling))
    control.script_serving(served="v2", provisioning_seconds=600)
    workspace.serving_endpoints.update_config(name, served_entities=[entity(doubling, 2)])
    control.cancel_databricks_update(name)
    state = workspace.serving_endpoints.get(name).state
    assert state == sdk.EndpointState(Updates.UPDATE_CANCELED, Ready.READY)
    assert predicted(workspace, name) == ("v1", 2)
    workspace.serving_endpoints.update_config(name, served_entities=[entity(doubling)])
    assert settled(workspace, name).pending_config is None


def test_an_endpoint_that_is_deleted_while_it_updates_leaves_nothing(
    control: SandboxControl, workspace: WorkspaceClient, doubling: str
) -> None:
    control.script_serving(provisioning_seconds=600)
    config = sdk.EndpointCoreConfigInput("short", served_entities=[entity(doubling)])
    workspace.serving_endpoints.create("short", config=config)
    workspace.serving_endpoints.delete("short")
    wait_until(lambda: control.served_models(endpoint="short") == [])
    control.clear_serving_scripts()
    assert predicted(workspace, create(workspace, entity(doubling))) == ("v1", 2)
