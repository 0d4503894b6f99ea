"""What a platform lacks to serve models is refused by field, and a class of served models alone takes no run."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.azureml_jobs import CLASSES as AZURE_CLASSES
from tests.unit.azureml_jobs import attempt
from tests.unit.databricks_endpoints import plan, serving, workspace
from tests.wire.jobs import job
from trainyard.core.errors import TranslationError
from trainyard.core.serving.plan import EndpointPlan
from trainyard.platforms.azureml import translate as azureml
from trainyard.platforms.databricks import translate as databricks
from trainyard.platforms.lacking import REASON, SERVING_LACKING, refuse_endpoint

SECRETS = {"KEY": {"store": "team", "key": "k"}}
# By platform and what it says is lacking: a plan that asks for it, and the field that is named.
ASKED: dict[str, dict[str, tuple[EndpointPlan, str]]] = {
    "databricks": {
        "keys of endpoints": (plan(serving(), auth="Key"), "spec.auth"),
        "a share of the requests to log": (
            plan(serving(), request_logging={"samplingPercent": 50}),
            "spec.requestLogging.samplingPercent",
        ),
        "machines of Azure ML to serve on": (plan(serving(computeClass="azure")), "spec.models[old].compute.class"),
    },
    "azureml": {
        "endpoints that scale to zero": (
            plan(serving(computeClass="azure", scaleToZero=True)),
            "spec.models[old].scaleToZero",
        ),
        "replicas added under load": (
            plan(serving(computeClass="azure", maxReplicas=2)),
            "spec.models[old].replicas.max",
        ),
        "a secret store that fills variables of served models": (
            plan(serving(computeClass="azure", secrets=SECRETS)),
            "spec.models[old].secrets",
        ),
        "machines of Databricks to serve on": (plan(serving()), "spec.models[old].compute.class"),
    },
}


def test_every_entry_of_the_tables_is_tried_below() -> None:
    assert {platform: {lack.what for lack in lacks} for platform, lacks in SERVING_LACKING.items()} == {
        platform: set(asked) for platform, asked in ASKED.items()
    }


@pytest.mark.parametrize(
    ("platform", "what"), [(platform, what) for platform, asked in ASKED.items() for what in asked]
)
def test_what_a_platform_lacks_is_refused_naming_the_field(platform: str, what: str) -> None:
    wanted, field = ASKED[platform][what]
    with pytest.raises(TranslationError) as raised:
        refuse_endpoint(platform, wanted, workspace())
    assert (raised.value.field, raised.value.reason) == (field, REASON)
    sentence = next(lack.sentence for lack in SERVING_LACKING[platform] if lack.what == what)
    assert raised.value.message == f"{field}: {sentence}"


def test_what_the_platform_has_is_not_refused() -> None:
    refuse_endpoint("databricks", plan(serving(scaleToZero=True, maxReplicas=2, secrets=SECRETS)), workspace())
    azure = plan(serving(computeClass="azure"), auth="Key", request_logging={"samplingPercent": 50})
    refuse_endpoint("azureml", azure, workspace())


def _on_databricks() -> Any:
    return databricks.translate(job(workspace={"computeClasses": {"small": {"modelServing": {}}}}))


def _on_azure_ml() -> Any:
    classes = {**AZURE_CLASSES, "serves": {"onlineEndpoint": {"instanceType": "Standard_DS3_v2"}}}
    return azureml.translate(attempt(compute={"class": "serves"}, workspace={"computeClasses": classes}))


@pytest.mark.parametrize("translate", [_on_databricks, _on_azure_ml])
def test_a_run_on_a_class_for_served_models_alone_is_told_so(translate: Callable[[], Any]) -> None:
    with pytest.raises(TranslationError, match="is a compute class for served models alone") as raised:
        translate()
    assert (raised.value.field, raised.value.reason) == ("spec.compute.class", "ComputeClassInvalid")
