"""Stands on the session's control plane: one that pretends to train, one that really does; an operator per module."""

from collections.abc import Iterator

import pytest

from stand import Stand, stand
from tests.e2e.scene import Scene
from trainyard_localcluster import LocalCluster

# Short, so that what the operator waits for comes soon; a module that tests a limit sets its own in OPERATOR_FLAGS.
FLAGS = {"poll_seconds": "0.3", "settle_seconds": "2", "recheck_seconds": "2", "deletion_deadline_seconds": "120"}


@pytest.fixture(scope="session")
def pretending(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A sandbox whose runs only go through their states."""
    with stand(tmp_path_factory.mktemp("pretend"), "pretend", cluster) as made:
        yield made


@pytest.fixture(scope="session")
def training(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A sandbox that really runs the code."""
    with stand(tmp_path_factory.mktemp("training"), "run", cluster) as made:
        yield made


def set_up(of: Stand, request: pytest.FixtureRequest) -> Iterator[Scene]:
    """The module's operator on that stand. A module may set OPERATOR_FLAGS, and `operator_env` of the stand."""
    name = request.module.__name__.rpartition("test_")[2].replace("_", "-")
    flags = {**FLAGS, **getattr(request.module, "OPERATOR_FLAGS", {})}
    env = request.module.operator_env(of) if hasattr(request.module, "operator_env") else {}
    scene = Scene(of, of.operator(name, env=env, **flags), name, flags, env=env)
    try:
        yield scene
        scene.operator.check()
    finally:
        scene.operator.stop()


@pytest.fixture
def platform_name() -> str:
    """The platform that a test is run on; `on_every_platform` of tests/platforms says otherwise."""
    return "databricks"


@pytest.fixture(scope="module")
def _pretending_scene(pretending: Stand, request: pytest.FixtureRequest) -> Iterator[Scene]:
    yield from set_up(pretending, request)


@pytest.fixture
def scene(_pretending_scene: Scene, platform_name: str) -> Iterator[Scene]:
    """The pretending stand with the module's operator; faults, scripts and namespaces go after each test."""
    _pretending_scene.operator.check()
    yield _pretending_scene.on(platform_name)
    _pretending_scene.clean()


@pytest.fixture(scope="module")
def _training_scene(training: Stand, request: pytest.FixtureRequest) -> Iterator[Scene]:
    yield from set_up(training, request)


@pytest.fixture
def real(_training_scene: Scene, platform_name: str) -> Iterator[Scene]:
    """The stand that really trains with the module's operator."""
    _training_scene.operator.check()
    yield _training_scene.on(platform_name)
    _training_scene.clean()
