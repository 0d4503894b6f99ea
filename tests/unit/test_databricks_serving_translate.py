"""A plan becomes what Databricks' own SDK would send, and what the platform lacks is refused by field."""

from collections.abc import Mapping
from typing import Any

import pytest
from databricks.sdk.service import serving as sdk

from tests.unit.databricks_endpoints import NEW, OLD, desired, plan, request, serving, workspace
from trainyard.core.errors import TranslationError
from trainyard.platforms.base import Need
from trainyard.platforms.databricks import needs
from trainyard.platforms.databricks.platform import Databricks
from trainyard.platforms.databricks.serving_translate import CONCURRENCY, OWN, translate

PERMISSIONS = [{"group": "analysts", "level": "CAN_QUERY"}, {"servicePrincipal": "app-2", "level": "CAN_MANAGE"}]


def refusal(*served: Any, spec: Mapping[str, Any] | None = None, **changes: Any) -> TranslationError:
    with pytest.raises(TranslationError) as raised:
        translate(plan(*served, **changes), workspace(**(spec or {})))
    return raised.value


def test_every_field_is_one_that_the_sdk_knows() -> None:
    full = serving(env={"A": "1"}, secrets={"KEY": {"store": "team", "key": "k"}}, scaleToZero=True)
    body = desired(
        full, serving(NEW, maxReplicas=3), tags={"team": "wine"}, permissions=PERMISSIONS, request_logging={}
    )
    config = sdk.EndpointCoreConfigInput.from_dict({"name": body["name"], **body["config"]})
    assert config.as_dict() == {"name": body["name"], **body["config"]}
    assert sdk.AiGatewayConfig.from_dict(body["ai_gateway"]).as_dict() == body["ai_gateway"]
    for entry in body["access_control_list"]:
        assert sdk.ServingEndpointAccessControlRequest.from_dict(entry).as_dict() == entry
    assert [sdk.EndpointTag.from_dict(tag).as_dict() for tag in body["tags"]] == body["tags"]


def test_a_served_model_names_its_version_its_machines_and_its_variables() -> None:
    body = desired(
        serving(computeClass="large", env={"A": "1"}, secrets={"KEY": {"store": "team", "key": "k"}}, scaleToZero=True)
    )
    assert body["config"]["served_entities"] == [
        {
            "name": OLD,
            "entity_name": "main.ml.wine",
            "entity_version": "3",
            "workload_type": "GPU_SMALL",
            "workload_size": "Large",
            "scale_to_zero_enabled": True,
            "environment_vars": {"A": "1", "KEY": "{{secrets/scope/k}}"},
        }
    ]


@pytest.mark.parametrize("size", CONCURRENCY)
def test_replicas_multiply_what_a_size_answers_at_a_time(size: str) -> None:
    fewest, most = CONCURRENCY[size]
    classes = {"small": {"modelServing": {"workloadSize": size}}}
    body = translate(plan(serving(minReplicas=2, maxReplicas=3)), workspace(computeClasses=classes)).body
    (entity,) = body["config"]["served_entities"]
    assert "workload_size" not in entity  # "Do not use if workload_size is specified"
    assert entity["min_provisioned_concurrency"] == 2 * fewest
    assert entity["max_provisioned_concurrency"] == 3 * most


def test_every_served_model_has_a_route_and_its_share() -> None:
    body = desired(serving(), serving(NEW), traffic={OLD: 75, NEW: 25})
    shares = {
        each["served_entity_name"]: each["traffic_percentage"] for each in body["config"]["traffic_config"]["routes"]
    }
    assert shares == {OLD: 75, NEW: 25}
    assert "traffic_config" not in desired(serving(), traffic={})["config"]


def test_the_tags_say_whose_it_is_beside_those_of_the_spec() -> None:
    tags = {tag["key"]: tag["value"] for tag in desired(serving(), tags={"team": "wine"})["tags"]}
    assert tags == {
        "team": "wine",
        "trainyard_cluster": "cluster-1",
        "trainyard_namespace": "team-a",
        "trainyard_name": "wine",
        "trainyard_uid": plan().owner.uid,
    }


def test_the_tag_of_grants_has_room_for_every_permission() -> None:
    many = [{"group": f"group-{index}", "level": "CAN_QUERY"} for index in range(32)]
    tags = {tag["key"]: tag["value"] for tag in desired(serving(), permissions=many)["tags"]}
    assert len(tags["trainyard_granted"]) == 32 * 7 <= 256


def test_requests_are_logged_into_a_table_of_the_endpoints_own_below_the_model_prefix() -> None:
    assert desired(serving(), request_logging={})["ai_gateway"] == {
        "inference_table_config": {
            "enabled": True,
            "catalog_name": "main",
            "schema_name": "ml",
            "table_name_prefix": "team_a_wine",
        }
    }
    assert "ai_gateway" not in desired(serving())


def test_nothing_served_is_no_configuration() -> None:
    assert "config" not in desired()


REFUSALS: list[tuple[dict[str, Any], str, str, str]] = [
    (
        {"computeClass": "huge"},
        "spec.models[old].compute.class",
        "ComputeClassUnknown",
        "which has azure, large, small",
    ),
    (
        {"computeClass": "azure"},
        "spec.models[old].compute.class",
        "UnsupportedOnPlatform",
        "name one with modelServing",
    ),
    ({"computeClass": "trains"}, "spec.models[old].compute.class", "UnsupportedOnPlatform", "modelServing"),
    (
        {"secrets": {"KEY": {"store": "no", "key": "k"}}},
        "spec.models[old].secrets[KEY].store",
        "SecretStoreUnknown",
        "which has team",
    ),
    (
        {"env": {"KEY": "1"}, "secrets": {"KEY": {"store": "team", "key": "k"}}},
        "spec.models[old].secrets[KEY]",
        "InvalidSpec",
        "in env as well",
    ),
    ({"env": {"KEY": "{{secrets/other/k}}"}}, "spec.models[old].env[KEY]", "InvalidSpec", "name the secret in secrets"),
]


@pytest.mark.parametrize(("changes", "field", "reason", "words"), REFUSALS)
def test_what_can_not_be_said_is_refused_naming_the_field(
    changes: dict[str, Any], field: str, reason: str, words: str
) -> None:
    error = refusal(serving(**changes))
    assert (error.field, error.reason) == (field, reason)
    assert words in error.message


PLANS: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    ({"auth": "Key"}, {}, "spec.auth", "UnsupportedOnPlatform"),
    ({"request_logging": {"samplingPercent": 10}}, {}, "spec.requestLogging.samplingPercent", "UnsupportedOnPlatform"),
    ({"request_logging": {}}, {"modelPrefix": None}, "spec.requestLogging", "ModelPrefixMissing"),
    ({"tags": {"trainyard_uid": "x"}}, {}, "spec.tags", "InvalidSpec"),
]


@pytest.mark.parametrize(("changes", "spec", "field", "reason"), PLANS)
def test_settings_that_the_platform_lacks_are_refused(
    changes: dict[str, Any], spec: dict[str, Any], field: str, reason: str
) -> None:
    error = refusal(serving(), spec=spec, **changes)
    assert (error.field, error.reason) == (field, reason)


def test_all_of_the_requests_may_be_asked_to_be_logged() -> None:
    assert desired(serving(), request_logging={"samplingPercent": 100}) == desired(serving(), request_logging={})


def test_no_more_are_served_at_a_time_than_the_platform_takes() -> None:
    ten = [serving(f"m-{index:08x}") for index in range(10)]
    assert len(desired(*ten)["config"]["served_entities"]) == 10
    error = refusal(*ten, serving())
    assert (error.field, error.reason) == ("spec.models", "TooManyServedModels")


@pytest.mark.parametrize(
    ("name", "prefix", "full"),
    [("wine", "main.ml", "main.ml.wine"), ("a.b.c", "main.ml", "a.b.c"), ("a.b.c", None, "a.b.c")],
)
def test_a_short_name_lies_below_the_workspaces_prefix(name: str, prefix: str | None, full: str) -> None:
    assert Databricks().model_name(name, workspace(modelPrefix=prefix)) == full


@pytest.mark.parametrize(
    ("name", "prefix", "reason"), [("a.b", "m.l", "InvalidSpec"), ("a", None, "ModelPrefixMissing")]
)
def test_a_name_that_stands_for_no_model_is_refused(name: str, prefix: str | None, reason: str) -> None:
    with pytest.raises(TranslationError) as raised:
        Databricks().model_name(name, workspace(modelPrefix=prefix))
    assert raised.value.reason == reason


def test_an_endpoint_needs_what_its_own_identity_and_its_readers_need() -> None:
    secrets = {"KEY": {"store": "team", "key": "k"}}
    asked = request(
        serving(secrets=secrets), serving(NEW), permissions=PERMISSIONS, request_logging={}, adopt=True
    ).needs
    model, logs = "spec.models[old].model", "spec.requestLogging"
    assert list(asked) == [
        Need(needs.CATALOG, "main", needs.USE_CATALOG, OWN, model),
        Need(needs.SCHEMA, "main.ml", needs.USE_SCHEMA, OWN, model),
        Need(needs.MODEL, "main.ml.wine", needs.EXECUTE, OWN, model),
        Need(needs.MODEL_VERSION, "main.ml.wine/3", needs.SIGNATURE, OWN, model),
        Need(needs.SECRET, "scope/k", needs.READ, OWN, "spec.models[old].secrets[KEY]"),
        Need(needs.TABLE, "main.ml.team_a_wine_payload", needs.WRITE, OWN, logs),
        Need(needs.GROUP, "analysts", needs.EXISTS, OWN, "spec.permissions[0]"),
        Need(needs.SERVICE_PRINCIPAL, "app-2", needs.EXISTS, OWN, "spec.permissions[1]"),
        Need(needs.ENDPOINT, "team-a-wine", needs.CAN_MANAGE, OWN, "spec.adopt"),
    ]
