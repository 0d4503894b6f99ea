"""What stands between a deployment and its newest revision, and how often the platform is asked about it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.unit.serving_stage import MODEL, ServingScene, served
from trainyard.api.deployment_status import Origin, Revision
from trainyard.controllers.kube import CLUSTER_WORKSPACE
from trainyard.controllers.serving_snapshots import deployment_snapshot
from trainyard.controllers.store import Key
from trainyard.core.errors import Denied, Unreachable
from trainyard.core.remote import Finding
from trainyard.core.serving.plans import revision_digest
from trainyard.core.serving.revisions import resolved
from trainyard.core.serving.seen import ResolvedModel
from trainyard.core.serving.snapshot import ServingReady
from trainyard.core.snapshot import Blocked
from trainyard.platforms.base import Need

NEED = Need("model", MODEL, "EXECUTE", "app-id", "spec.models")
PASSED = Finding("EXECUTE on main.ml.wine", "spec.models", "Passed", "granted")
MISSING = Finding("EXECUTE on main.ml.wine", "spec.models", "Missing", "GRANT EXECUTE ON FUNCTION main.ml.wine TO x")
REGISTERED = {"name": MODEL, "version": "2", "uri": "models:/main.ml.wine/2"}
ATTEMPT = {
    "number": 1,
    "submissionToken": "t",
    "platform": "databricks",
    "host": "https://dbc-1.cloud.databricks.com",
    "principal": "app-id",
    "mode": "federated",
    "specDigest": "sha256:s",
    "codeDigest": "sha256:c",
    "commit": "a" * 40,
    "intendedAt": "2026-11-01T11:00:00Z",
    "mlflowRunId": "m1",
}
FROM_RUN = [{"name": "champion", "model": {"fromRun": {"name": "iris"}}, "compute": {"class": "small"}}]
BY_ALIAS = {"name": "champion", "compute": {"class": "small"}}


def alias(*, follow: bool | None = None) -> list[dict[str, Any]]:
    return [{**BY_ALIAS, "model": {"name": "wine", "alias": "best", **({"followAlias": follow} if follow else {})}}]


@pytest.fixture
async def scene() -> AsyncIterator[ServingScene]:
    made = ServingScene()
    yield made
    await made.stop()


async def ready(scene: ServingScene, key: Key) -> ServingReady | Blocked:
    obj = scene.store.get(key)
    assert obj is not None
    return await scene.readiness.of(deployment_snapshot(obj))


async def blocked(scene: ServingScene, key: Key) -> tuple[str, bool]:
    found = await ready(scene, key)
    assert isinstance(found, Blocked), found
    return found.reason, found.waiting


def settled(scene: ServingScene, key: Key, version: str) -> None:
    """The deployment serves that version already, as its newest revision."""
    obj = scene.api.objects[key.kind, key.namespace, key.name]
    deployment = deployment_snapshot(obj)
    assert deployment.spec is not None
    models = resolved(deployment.spec, deployment.status, {"champion": ResolvedModel(MODEL, version)})
    assert models is not None
    digest = revision_digest(models)
    target = Revision(number=1, digest=digest, created_at="2026-11-01T12:00:00Z", models=models)
    scene.store.put(key, scene.api.seed(key.kind, {**obj, "status": {"target": target.wire()}}))


async def test_a_version_that_is_there_is_ready_with_where_it_goes(scene: ServingScene) -> None:
    found = await ready(scene, scene.put("1"))
    assert isinstance(found, ServingReady)
    assert (found.target.platform, found.target.principal, found.endpoint) == ("databricks", "app-id", "team-wine")
    assert found.models == {"champion": ResolvedModel(MODEL, "1", None)}
    assert found.cluster == "cluster"


async def test_a_workspace_that_is_not_there_deleted_or_not_ready_is_waited_for(scene: ServingScene) -> None:
    key = scene.put("1", workspaceRef={"name": "other"})
    assert await blocked(scene, key) == ("WorkspaceNotFound", True)
    scene.edit(key, workspaceRef={"name": "dbx"})
    scene.put_workspace(ready="False")
    assert await blocked(scene, key) == ("WorkspaceNotReady", True)
    scene.put_workspace(meta={"deletionTimestamp": "2026-11-01T12:00:00Z"})
    assert await blocked(scene, key) == ("WorkspaceDeleting", True)
    assert scene.platform.calls == []


async def test_a_shared_workspace_serves_only_the_namespaces_that_it_names(scene: ServingScene) -> None:
    obj = scene.store.get(Key("MLWorkspace", "team", "dbx"))
    assert obj is not None
    shared = {**obj, "spec": {**obj["spec"], "allowedNamespaces": ["others"]}}
    scene.store.put(Key(CLUSTER_WORKSPACE.name, "", "shared"), shared)
    key = scene.put("1", workspaceRef={"kind": CLUSTER_WORKSPACE.name, "name": "shared"})
    assert await blocked(scene, key) == ("NamespaceNotAllowed", False)


async def test_a_version_or_alias_that_is_not_there_may_yet_appear(scene: ServingScene) -> None:
    key = scene.put("9")
    assert await blocked(scene, key) == ("ModelNotRegistered", True)
    scene.edit(key, models=alias())
    assert await blocked(scene, key) == ("AliasNotFound", True)
    scene.platform.aliases[MODEL, "best"] = "2"
    found = await ready(scene, key)
    assert isinstance(found, ServingReady)
    assert found.models["champion"].version == "2"


async def test_a_run_is_waited_for_until_it_has_registered_its_model(scene: ServingScene) -> None:
    key = scene.put(None, models=FROM_RUN)
    assert await blocked(scene, key) == ("RunNotFound", True)
    scene.put_run(phase="Running")
    assert await blocked(scene, key) == ("RunNotFinished", True)
    scene.put_run(phase="Succeeded", model=REGISTERED, attempts=[ATTEMPT])
    found = await ready(scene, key)
    assert isinstance(found, ServingReady)
    assert (found.models["champion"].model, found.models["champion"].version) == (MODEL, "2")


async def test_where_a_runs_model_came_from_is_told_by_the_run(scene: ServingScene) -> None:
    scene.put_run(phase="Succeeded", model=REGISTERED, attempts=[ATTEMPT])
    scene.platform.versions[MODEL, "2"] = Origin(run="iris", uid="uid-iris", mlflow_run_id="m1", requested_by="ada")
    found = await ready(scene, scene.put(None, models=FROM_RUN))
    assert isinstance(found, ServingReady)
    assert found.models["champion"].origin == Origin(
        run="iris",
        uid="uid-iris",
        mlflow_run_id="m1",
        commit="a" * 40,
        code_digest="sha256:c",
        requested_by="ada",
        submitted_as="app-id",
    )


async def test_a_run_of_another_life_says_nothing_about_a_version(scene: ServingScene) -> None:
    scene.put_run(uid="later", phase="Succeeded", model=REGISTERED, attempts=[ATTEMPT])
    scene.platform.versions[MODEL, "1"] = Origin(run="iris", uid="earlier")
    found = await ready(scene, scene.put("1"))
    assert isinstance(found, ServingReady)
    assert found.models["champion"].origin == Origin(run="iris", uid="earlier")


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({"phase": "Failed"}, "RunFailed"),
        ({"phase": "Cancelled"}, "RunFailed"),
        ({"phase": "Succeeded"}, "RunHasNoModel"),
        ({"phase": "Running", "attempts": [{**ATTEMPT, "platform": "azureml"}]}, "RunElsewhere"),
    ],
)
async def test_a_run_that_will_never_register_here_needs_a_person(
    scene: ServingScene, status: dict[str, Any], reason: str
) -> None:
    scene.put_run(**status)
    assert await blocked(scene, scene.put(None, models=FROM_RUN)) == (reason, False)


async def test_a_class_that_the_workspace_does_not_have_needs_a_person(scene: ServingScene) -> None:
    assert await blocked(scene, scene.put(models=[served("1", compute={"class": "huge"})])) == ("InvalidSpec", False)


async def test_a_missing_right_is_told_before_anything_costs_and_asked_for_again_after_a_while(
    scene: ServingScene,
) -> None:
    scene.platform.needs, scene.platform.findings = (NEED,), (PASSED, MISSING)
    key = scene.put("1")
    found = await ready(scene, key)
    assert isinstance(found, Blocked)
    assert (found.reason, found.waiting) == ("PermissionMissing", False)
    assert "GRANT EXECUTE" in found.message
    scene.platform.findings = (PASSED,)
    assert await blocked(scene, key) == ("PermissionMissing", False)
    scene.now = scene.now.replace(minute=2)
    assert isinstance(await ready(scene, key), ServingReady)
    assert scene.platform.calls.count("preflight") == 2


async def test_rights_are_not_asked_for_again_once_a_revision_has_begun(scene: ServingScene) -> None:
    scene.platform.needs, scene.platform.findings = (NEED,), (MISSING,)
    key = scene.put("1")
    settled(scene, key, "1")
    assert isinstance(await ready(scene, key), ServingReady)
    assert scene.platform.calls == []


async def test_an_alias_that_is_followed_is_looked_up_again_only_after_a_while(scene: ServingScene) -> None:
    scene.platform.aliases[MODEL, "best"] = "1"
    key = scene.put(None, models=alias(follow=True))
    settled(scene, key, "1")
    for _ in range(3):
        assert isinstance(await ready(scene, key), ServingReady)
    assert scene.platform.calls == ["resolve"]
    scene.platform.aliases[MODEL, "best"] = "2"
    scene.now = scene.now.replace(minute=1)
    found = await ready(scene, key)
    assert isinstance(found, ServingReady)
    assert found.models["champion"].version == "2"


async def test_an_alias_that_is_not_followed_is_looked_up_once(scene: ServingScene) -> None:
    key = scene.put(None, models=alias())
    settled(scene, key, "1")
    found = await ready(scene, key)
    assert isinstance(found, ServingReady)
    assert (found.models, scene.platform.calls) == ({}, [])


async def test_a_platform_that_is_silent_takes_nothing_from_what_is_served(scene: ServingScene) -> None:
    scene.platform.errors["resolve"] = Unreachable("no answer")
    key = scene.put(None, models=alias(follow=True))
    assert await blocked(scene, key) == ("PlatformUnreachable", True)
    settled(scene, key, "1")
    found = await ready(scene, key)
    assert isinstance(found, ServingReady)
    assert found.models == {}


async def test_a_model_that_may_not_be_seen_needs_a_person(scene: ServingScene) -> None:
    scene.platform.errors["resolve"] = Denied("no EXECUTE on main.ml.wine")
    assert await blocked(scene, scene.put("1")) == ("PermissionDenied", False)


async def test_a_quota_that_sufficed_for_one_deployment_is_asked_about_again_for_the_next(scene: ServingScene) -> None:
    scene.platform.needs, scene.platform.findings = (NEED,), (PASSED,)
    key = scene.put("1")
    assert isinstance(await ready(scene, key), ServingReady)
    scene.platform.findings = (MISSING,)
    assert await blocked(scene, key) == ("PermissionMissing", False)
    scene.edit(key, endpoint="another")
    scene.platform.findings = (PASSED,)
    assert isinstance(await ready(scene, key), ServingReady)
