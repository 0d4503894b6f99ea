"""Endpoints get names that their platform takes, and two deployments never the same one by being cut."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.azureml_endpoints import plan
from tests.wire.jobs import workspace_spec
from trainyard.core.errors import Refused
from trainyard.platforms.databricks.platform import Databricks
from trainyard.platforms.serving_names import AZURE_ML_MOST, DATABRICKS_MOST, endpoint_name, refuse_adoption

TAKEN = re.compile(r"[A-Za-z][A-Za-z0-9-]*[A-Za-z0-9]")
BARE, PREFIXED = workspace_spec(), workspace_spec(endpointPrefix="acme")
NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?)?", fullmatch=True)


def test_a_name_of_ones_own_is_kept() -> None:
    assert endpoint_name("Wine-1", PREFIXED, "team-a", "wine", most=AZURE_ML_MOST) == "Wine-1"


@pytest.mark.parametrize(
    ("workspace", "name"), [(BARE, "team-a-wine"), (PREFIXED, "acme-team-a-wine")], ids=["bare", "prefixed"]
)
def test_a_short_name_is_made_of_prefix_namespace_and_name(workspace: object, name: str) -> None:
    assert Databricks().endpoint_name(None, workspace, "team-a", "wine") == name  # type: ignore[arg-type]


@pytest.mark.parametrize("most", [AZURE_ML_MOST, DATABRICKS_MOST])
@given(namespace=NAMES, name=NAMES)
def test_every_name_is_one_that_the_platform_takes(most: int, namespace: str, name: str) -> None:
    made = endpoint_name(None, PREFIXED, namespace, name, most=most)
    assert TAKEN.fullmatch(made)
    assert 3 <= len(made) <= most
    assert TAKEN.fullmatch(endpoint_name(None, BARE, namespace, name, most=most))


def test_names_that_are_cut_or_replaced_stay_apart() -> None:
    long = "a" * 60
    made = {
        endpoint_name(None, BARE, namespace, name, most=AZURE_ML_MOST)
        for namespace, name in ((long, "x"), (long, "y"), ("a.b", "c"), ("a-b", "c"), ("9a", "b"))
    }
    assert len(made) == 5


def test_nothing_is_adopted_of_another_namespace() -> None:
    """One identity of a ClusterMLWorkspace may work for both."""
    with pytest.raises(Refused) as raised:
        refuse_adoption(plan(adopt=True), {"trainyard_namespace": "team-b", "trainyard_uid": "x"})
    assert raised.value.reason == "EndpointNameTaken"
    refuse_adoption(plan(adopt=True), {"trainyard_namespace": "team-a", "trainyard_uid": "x"})
    refuse_adoption(plan(adopt=True), {"owner": "ada"})
    refuse_adoption(plan(), {"trainyard_namespace": "team-b"})
