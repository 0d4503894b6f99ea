"""What somebody else does to an endpoint, and what every change of the spec does: there, back, and nothing left."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from tests.e2e.deployments import SERVING_FLAGS, Deployment, Setting, assert_never_failed, canary, setting
from tests.e2e.scene import Scene
from tests.platforms import on_every_platform
from trainyard.api.model_deployment import ModelDeploymentSpec, ServedModel

__all__ = ["setting"]  # the fixture

OPERATOR_FLAGS = SERVING_FLAGS
DRIFTED = {"Ready": "False", "Reconciling": "False", "Stalled": "True", "Available": "True"}


def two(setting: Setting, **spec: Any) -> tuple[Deployment, dict[str, int]]:
    """Two models with 60 and 40 percent; and those shares the other way round, as the platform names the models."""
    models = [
        setting.served(setting.publish(number), name, traffic=share)
        for number, name, share in ((1, "a", 60), (2, "b", 40))
    ]
    dep = setting.deploy(*models, **spec).until("Ready", revision=1)
    return dep, {name: 100 - each.traffic for name, each in dep.book().behind.items()}


@on_every_platform
class TestDrift:
    def test_shares_that_somebody_changed_are_reported_and_left(self, setting: Setting) -> None:
        dep, other = two(setting)
        setting.driver.edit_shares(dep.endpoint, other)
        dep.comes_to("Drifted")
        assert dep.conditions() == DRIFTED
        assert dep.status["drift"]
        assert dep.book().shares == {"1": 40, "2": 60}
        setting.driver.edit_shares(dep.endpoint, {name: 100 - share for name, share in other.items()})
        dep.comes_to("Ready")
        assert dep.events().count("EndpointDrifted") == 1

    def test_shares_that_somebody_changed_are_brought_back_where_the_spec_says_so(self, setting: Setting) -> None:
        dep, other = two(setting, driftPolicy="Revert")
        with dep.load(setting.allowed(dep)) as load:
            setting.driver.edit_shares(dep.endpoint, other)
            dep.wait("to revert", lambda _: "DriftReverted" in dep.events())
            dep.wait("to be as it was", lambda _: dep.book().shares == {"1": 60, "2": 40})
            dep.comes_to("Ready")
            load.wait(5)
        assert_never_failed(load.asked())
        assert dep.status["revision"] == 1

    def test_an_endpoint_that_somebody_deleted_is_told_and_made_again_where_the_spec_says_so(
        self, setting: Setting
    ) -> None:
        dep = setting.deploy(setting.served(setting.publish(1))).until("Ready")
        before = dep.book()
        setting.driver.remove(dep.endpoint)
        dep.comes_to("Drifted").because("EndpointMissing")
        assert dep.conditions()["Available"] == "False"
        assert setting.driver.book(dep.endpoint) is None
        dep.change(driftPolicy="Revert")
        dep.comes_to("Ready")
        assert dep.book() == before

    def test_an_endpoint_whose_tags_name_somebody_else_is_left_alone(self, setting: Setting) -> None:
        dep = setting.deploy(setting.served(setting.publish(1)), driftPolicy="Revert").until("Ready")
        setting.driver.edit_tag(dep.endpoint, "trainyard_uid", "somebody-elses")
        dep.because("EndpointNotOurs")
        name = dep.endpoint
        dep.delete()
        dep.gone()
        assert setting.driver.book(name) is not None


@on_every_platform
class TestForeign:
    def test_a_name_that_somebody_else_has_is_told_and_theirs_left_alone(self, setting: Setting) -> None:
        version = setting.publish(1)
        setting.driver.squat(setting.team, "wine-corner", setting.model, version)
        before = setting.driver.book("wine-corner")
        dep = setting.deploy(setting.served(setting.publish(2)), endpoint="wine-corner").until("Stalled")
        assert dep.reason in ("EndpointNameTaken", "EndpointNotOurs")
        assert "adopt" in dep.message
        dep.delete()
        dep.gone()
        assert setting.driver.book("wine-corner") == before

    def test_an_adopted_endpoint_answers_all_the_time_and_ends_with_what_the_spec_says(self, setting: Setting) -> None:
        version = setting.publish(1)
        setting.driver.squat(setting.team, "wine-adopted", setting.model, version)
        second = setting.publish(2)
        dep = setting.deploy(setting.served(second), endpoint="wine-adopted", adopt=True)
        dep.wait("to have an address", lambda now: now.get("status", {}).get("endpoint", {}).get("url"))
        with dep.load(setting.allowed(dep)) as load:
            dep.until("Ready")
            load.wait(5)
        assert_never_failed(load.asked())
        assert (dep.book().shares, dep.book().versions) == ({second: 100}, {second})


@dataclass(frozen=True)
class Change:
    """A change of one field of a deployment: of `spec`, or where `of_model`, of its first model.

    `seen`: the platform's books show it.
    """

    field: str
    there: Any
    of_model: bool = False
    seen: bool = True
    only: str = ""  # the platform that takes it

    def of(self, setting: Setting) -> Change:
        """The change with the name of that setting's model."""
        return replace(self, there={**self.there, "name": setting.model}) if self.field == "model" else self

    def spec(self, models: list[dict[str, Any]], back: bool) -> dict[str, Any]:
        """What to merge into the spec to get there, or back."""
        value = None if back else self.there
        if not self.of_model:
            return {self.field: value}
        first = dict(models[0]) if back else {**models[0], self.field: value}
        return {"models": [first, *models[1:]]}


CHANGES = (
    Change("tags", {"team": "wine"}),
    Change("auth", "Key", only="azureml"),
    Change("requestLogging", {"samplingPercent": 100}),
    Change("permissions", [{"group": "users", "level": "CAN_QUERY"}], only="databricks"),
    Change("rollout", canary(50), seen=False),
    Change("driftPolicy", "Revert", seen=False),
    Change("deletionPolicy", "Orphan", seen=False),
    Change("expiresAfterSeconds", 86_400, seen=False),
    Change("adopt", True, seen=False),
    Change("recreateForCreator", True, seen=False),
    Change("promote", 1, seen=False),
    Change("replicas", {"min": 2}, of_model=True),
    Change("env", {"LOG_LEVEL": "debug"}, of_model=True),
    Change("compute", {"class": "another"}, of_model=True),
    Change("model", {"version": "2"}, of_model=True),
    Change("scaleToZero", True, of_model=True, only="databricks"),
)
# Not among them: what can not be changed, what is changed together with other fields, and secrets, which need a store.
ELSEWHERE = {"workspaceRef", "endpoint", "models"}
ELSEWHERE_OF_MODEL = {"name", "traffic", "secrets"}


@on_every_platform
def test_every_field_that_may_change_goes_there_and_back_and_leaves_no_trace(setting: Setting) -> None:
    """All at once, each on a deployment of its own."""
    name = setting.scene.platform.name
    setting.classes(another=setting.driver.another_size)
    setting.driver.logs(setting.team.principal)
    versions = [setting.publish(number) for number in (1, 2)]
    assert versions == ["1", "2"]
    model = setting.served("1")
    changes = [each.of(setting) for each in CHANGES if each.only in ("", name)]
    made = {each.field: setting.deploy(model, name=f"f-{each.field.lower()}") for each in changes}
    pair = setting.deploy(setting.served("1", "a", traffic=70), setting.served("2", "b", traffic=30), name="f-traffic")
    before = {field: dep.until("Ready").book() for field, dep in made.items()}
    pair_before = pair.until("Ready").book()
    for each in changes:
        made[each.field].change(**each.spec([model], back=False))
    pair.serve(setting.served("1", "a", traffic=10), setting.served("2", "b", traffic=90))
    for each in changes:
        now = made[each.field].until("Ready").book()
        assert (now != before[each.field]) is each.seen, f"{each.field}: {before[each.field]} and then {now}"
    assert pair.until("Ready").book().shares == {"1": 10, "2": 90}
    assert_as_if_made_so(setting, model, [each for each in changes if each.seen], made)
    for each in changes:
        made[each.field].change(**each.spec([model], back=True))
    pair.serve(setting.served("1", "a", traffic=70), setting.served("2", "b", traffic=30))
    for each in changes:
        dep = made[each.field].until("Ready")
        assert dep.book() == before[each.field], f"{each.field} left {dep.book()} of {before[each.field]}"
    assert pair.until("Ready").book() == pair_before


def assert_as_if_made_so(
    setting: Setting, model: dict[str, Any], changes: list[Change], made: dict[str, Deployment]
) -> None:
    """What a change comes to is what there is of a deployment that was created with it."""
    born = {}
    for each in changes:
        spec = each.spec([model], back=False)
        born[each.field] = setting.deploy(*spec.pop("models", [model]), name=f"b-{each.field.lower()}", **spec)
    for field, dep in born.items():
        assert in_general(made[field]) == in_general(dep.until("Ready")), field
    for dep in born.values():
        dep.delete()
    for dep in born.values():
        dep.gone()


def in_general(dep: Deployment) -> str:
    """What the platform's books have of it, without whose it is."""
    book, uid = dep.book(), dep.now()["metadata"]["uid"]
    said = json.dumps([book.tags, {name: asdict(each) for name, each in book.behind.items()}, book.settings], indent=1)
    for own in (book.name, book.name.replace("-", "_"), uid, dep.name):
        said = said.replace(own, "...")
    return said


def test_the_list_above_has_every_field_that_may_change() -> None:
    of_spec = {each.field for each in CHANGES if not each.of_model} | ELSEWHERE
    of_model = {each.field for each in CHANGES if each.of_model} | ELSEWHERE_OF_MODEL
    assert of_spec == {field.alias for field in ModelDeploymentSpec.model_fields.values()}
    assert of_model == {field.alias for field in ServedModel.model_fields.values()}


@on_every_platform
def test_two_deployments_of_one_name_never_share_an_endpoint(setting: Setting, real: Scene) -> None:
    other = Setting(real, real.team())
    real.workspace(other.team.namespace, "IdentityWorks")
    first = setting.deploy(setting.served(setting.publish(1)))
    second = other.deploy(other.served(other.publish(2)))
    assert first.until("Ready").endpoint != second.until("Ready").endpoint
    assert first.asked(setting.allowed(first)).by == "1"
    assert second.asked(other.allowed(second)).by == "2"
