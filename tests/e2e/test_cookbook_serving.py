"""docs/cookbook.md, serving: each recipe applied to the real API server, served to its documented end, asked, traced.

The models are those of the recipes "Register a model" and "A model with alias and tags", really trained here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import yaml

from stand import StandError, wait_for
from tests.e2e.kitchen import Kitchen, kitchen
from tests.e2e.recipes import NAMESPACE, Recipe, differences, recipes
from tests.e2e.test_cookbook import ends_as_shown, recipe_of, started
from trainyard.client import Trainyard
from trainyard_localcluster import LocalCluster

SERVING = [recipe for recipe in recipes() if recipe.is_deployment]
WINE = yaml.safe_load((SERVING[1].file).read_text())["spec"]["rollout"]["checks"]["smoke"]["rows"]


@dataclass
class Served:
    """The team with its models trained and every recipe of serving applied."""

    place: Kitchen
    yard: Trainyard


@pytest.fixture(scope="module")
def team(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with (
        kitchen(cluster, tmp_path_factory.mktemp("serving"), "cookbook-serving") as place,
        Trainyard(place.namespace, kubeconfig=cluster.kubeconfig) as yard,
    ):
        trained = [(name, started(place, recipe_of(name))) for name in ("33-model", "49-azureml-model")]
        for recipe in SERVING:
            text = place.text(recipe.file)
            cluster.kubectl("apply", "--server-side", "-f", "-", input=text)
        for name, run in trained:
            ends_as_shown(run, recipe_of(name), 240)
        yield Served(place, yard)
        for deployment in yard.deployments():
            yard.delete_deployment(deployment)
        wait_for("the endpoints to go", lambda: not yard.deployments(), 90)


def name_of(recipe: Recipe) -> str:
    return str(yaml.safe_load(recipe.quoted)["metadata"]["name"])


@pytest.mark.parametrize("recipe", SERVING, ids=str)
def test_a_recipe_of_serving_ends_as_the_page_shows(team: Served, recipe: Recipe) -> None:
    shown = yaml.safe_load(yaml.safe_dump(recipe.status).replace(NAMESPACE, team.place.namespace))
    wrong: list[str] = []

    def looked() -> bool:
        now = team.yard.deployment(name_of(recipe))
        wrong[:] = [*differences(shown, now.resource.get("status", {})), f"{now.phase}: {now.reason}: {now.message}"]
        return len(wrong) == 1

    try:
        wait_for(f"{recipe} to look as in the cookbook", looked, 120)
    except StandError as error:
        raise AssertionError(f"{wrong}\n{team.place.scene.log_tail()}") from error


def test_what_the_recipes_serve_is_asked_as_the_caller_and_traced_to_its_run_after_that_is_deleted(
    team: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, control = team.place.stand.address, team.place.stand.control
    monkeypatch.setenv("DATABRICKS_HOST", address.host)
    monkeypatch.setenv("DATABRICKS_TOKEN", control.add_personal_access_token(team.place.trainer).value)
    monkeypatch.setenv("AZURE_TENANT_ID", address.azure.tenant_id)
    monkeypatch.setenv("AZURE_CLIENT_ID", team.place.azure_trainer)
    monkeypatch.setenv("AZURE_CLIENT_SECRET", control.add_client_secret(team.place.azure_trainer))
    for name in ("serve", "azureml-serve"):
        ready = team.yard.wait_deployed(name, timeout=120)
        scores = team.yard.score(
            ready,
            WINE,
            allowed_hosts=[address.host.removeprefix("https://")],
            azure_clouds=[team.place.stand.azure_cloud()],
        )
        assert scores.predictions == [0]
    team.yard.delete("model")
    wait_for("the run to go", lambda: "model" not in [run.name for run in team.yard.list()], 60)
    (served,) = team.yard.lineage("serve")
    assert (served.made.run, served.made.there, served.served_traffic) == ("model", False, 100)
    assert served.made.code_digest
    assert {each.deployment.name for each in team.yard.lineage_of_run("model").served_by} >= {"serve"}
