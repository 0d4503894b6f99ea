"""A model that is served: from a registered version to answers, and everything that can be said about it meanwhile."""

from typing import Any

from tests.e2e.deployments import SERVING_FLAGS, Setting, assert_never_failed, setting
from tests.platforms import on_every_platform
from tests.platforms.base import Pretence
from tests.platforms.manifests import served_from

__all__ = ["setting"]  # the fixture

OPERATOR_FLAGS = SERVING_FLAGS
READY = {"Ready": "True", "Reconciling": "False", "Stalled": "False", "Available": "True"}
NOT_YET = {"Ready": "False", "Reconciling": "True", "Stalled": "False", "Available": "False"}


@on_every_platform
class TestServed:
    def test_a_version_is_served_and_the_status_says_what_is_there(self, setting: Setting) -> None:
        version = setting.publish(1)
        dep = setting.deploy(setting.served(version)).until("Ready", revision=1)
        assert dep.conditions() == READY
        status = dep.status
        (model,) = status["servedModels"]
        assert (model["name"], model["version"], model["state"]) == ("champion", version, "Ready")
        assert (model["desiredTraffic"], model["servedTraffic"]) == (100, 100)
        assert status["traffic"] == f"champion:{version}=100/100"
        assert status["lastGoodRevision"] == status["revision"] == 1
        assert [each["outcome"] for each in status["revisions"]] == ["Served"]
        book = dep.book()
        assert book.shares == {version: 100}
        assert book.creator
        assert book.tags["trainyard_namespace"] == dep.namespace
        assert book.tags["trainyard_uid"] == dep.now()["metadata"]["uid"]
        assert {"RevisionCreated", "EndpointReady"} <= set(dep.events())

    def test_whoever_may_ask_gets_the_models_answer_and_nobody_else_does(self, setting: Setting) -> None:
        asker, stranger = setting.asker(), setting.asker()
        permissions = [{"servicePrincipal": asker, "level": "CAN_QUERY"}]
        dep = setting.deploy(setting.served(setting.publish(7)), permissions=permissions).until("Ready")
        (permission,) = dep.status["permissions"]
        assert permission["granted"] is setting.driver.grants
        if not setting.driver.grants:
            assert asker in permission["command"]
            setting.driver.allow(asker, dep.endpoint)
        answer = dep.asked(asker)
        assert (answer.status, answer.by) == (200, "7"), answer
        assert dep.asked(stranger).status == 403

    def test_a_deleted_deployment_takes_its_endpoint_with_it(self, setting: Setting) -> None:
        dep = setting.deploy(setting.served(setting.publish(1))).until("Ready")
        name = dep.endpoint
        dep.delete()
        dep.gone()
        assert setting.driver.book(name) is None

    def test_an_orphaned_endpoint_goes_on_answering(self, setting: Setting) -> None:
        dep = setting.deploy(setting.served(setting.publish(1)), deletionPolicy="Orphan").until("Ready")
        load = dep.load(setting.allowed(dep))
        name = dep.endpoint
        with load:
            load.wait(5)
            dep.delete()
            dep.gone()
            load.wait(5)
        assert_never_failed(load.asked())
        assert setting.driver.book(name) is not None

    def test_an_endpoint_that_expires_is_deleted_and_its_resource_stays(self, setting: Setting) -> None:
        dep = setting.deploy(setting.served(setting.publish(1))).until("Ready")
        name = dep.endpoint
        dep.change(expiresAfterSeconds=1)
        dep.until("Expired")
        assert setting.driver.book(name) is None
        assert dep.conditions() == {"Ready": "False", "Reconciling": "False", "Stalled": "False", "Available": "False"}

    def test_it_waits_for_a_run_and_serves_its_model_after_the_run_is_deleted(self, setting: Setting) -> None:
        scene, team = setting.scene, setting.team
        setting.driver.script(pretend=True)  # a pretended run logs no files
        dep = setting.deploy(served_from({"fromRun": {"name": "train"}})).because("RunNotFound")
        assert dep.conditions() == NOT_YET
        scene.platform.pretend(Pretence(run=f"{team.namespace}/train", model=scene.platform.model_name(setting.model)))
        run = scene.run(team, model={"name": setting.model}).until("Succeeded")
        version = run.status["model"]["version"]
        dep.until("Ready")
        assert dep.book().versions == {version}
        run.delete()
        run.gone()
        dep.change(tags={"after": "the run"})
        dep.until("Ready")
        (model,) = dep.status["servedModels"]
        assert model["origin"]["run"] == "train"

    def test_a_version_that_is_not_there_is_waited_for_and_told(self, setting: Setting) -> None:
        setting.publish(1)
        dep = setting.deploy(setting.served("2")).because("ModelNotRegistered")
        assert dep.conditions() == NOT_YET
        setting.publish(2)
        dep.until("Ready")
        assert dep.book().versions == {"2"}


@on_every_platform
def test_an_alias_that_is_followed_brings_the_version_that_it_moves_to(setting: Setting) -> None:
    first = setting.publish(1)
    setting.alias("champion", first)
    model: dict[str, Any] = {"name": setting.model, "alias": "champion", "followAlias": True}
    dep = setting.deploy(served_from(model)).until("Ready", revision=1)
    second = setting.publish(2)
    setting.alias("champion", second)
    dep.until("Ready", revision=2)
    assert dep.book().shares == {second: 100}


def test_a_model_scaled_to_zero_starts_for_the_next_request(setting: Setting) -> None:
    dep = setting.deploy(setting.served(setting.publish(3), scaleToZero=True)).until("Ready")
    asker = setting.allowed(dep)
    setting.scene.control.scale_to_zero(dep.endpoint)
    assert [each["state"] for each in setting.scene.control.served_models(endpoint=dep.endpoint)] == ["stopped"]
    answer = dep.asked(asker)
    assert (answer.status, answer.by) == (200, "3")
    dep.until("Ready")
