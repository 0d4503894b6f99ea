"""A git server of the test's own, and fetchers that may ask it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.wire.git.asking import Clock
from tests.wire.git_server import Forge, Upstream, serve_git
from trainyard.sources.git import GitFetcher, GitLimits


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[Forge]:
    (tmp_path / "forge" / "team").mkdir(parents=True)
    with serve_git(tmp_path / "forge") as forge:
        yield forge


@pytest.fixture
def upstream(forge: Forge) -> Upstream:
    return Upstream(forge.root / "team" / "code.git")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fetching(forge: Forge, tmp_path: Path, clock: Clock) -> Callable[..., GitFetcher]:
    """Makes a fetcher that may ask the forge, with the limits given."""

    def make(**limits: float) -> GitFetcher:
        given = GitLimits(**limits)  # type: ignore[arg-type]  # each test gives what the limit is declared as
        return GitFetcher(given, [forge.host], tmp_path / "work", ca_file=forge.ca_file, now=clock)

    return make


@pytest.fixture
def fetcher(fetching: Callable[..., GitFetcher]) -> GitFetcher:
    return fetching()
