"""Where a run's source is found, and what is said when it is not."""

import asyncio
import base64
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.unit.stage import Repositories, Scene
from trainyard.controllers.code import FETCHES_PER_HOST, CodeFinder, Source
from trainyard.controllers.snapshots import run_snapshot
from trainyard.core.errors import SourceError
from trainyard.core.snapshot import Blocked, RunSnapshot
from trainyard.sources.git import GIT_HOST, GitCredential, GitLimits, GitSource

OLD, NEW = "a" * 40, "b" * 40
GIT = {"git": {"url": "https://github.com/acme/churn", "ref": "main"}}


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    made.repositories.refs = {"main": NEW, None: NEW}
    made.repositories.commits = {OLD: {"main.py": b"old"}, NEW: {"main.py": b"new", "lib/a.py": b""}}
    yield made
    await made.stop()


def run(code: dict[str, Any] | None, *, commit: str | None = None, name: str = "iris", **spec: Any) -> RunSnapshot:
    full = {"workspaceRef": {"name": "dbx"}, "compute": {"class": "small"}, **spec}
    if code is not None:
        full["code"] = code
    attempt = {
        "number": 1,
        "submissionToken": "t",
        "platform": "databricks",
        "host": "h",
        "principal": "p",
        "mode": "federated",
        "serviceAccount": "trainer",
        "specDigest": "s",
        "codeDigest": "c",
        "intendedAt": "2026-11-01T12:00:00Z",
        "commit": commit,
    }
    status = {"attempts": [attempt]} if commit else {}
    return run_snapshot({"metadata": {"namespace": "team", "name": name, "uid": name}, "spec": full, "status": status})


async def found(scene: Scene, code: dict[str, Any] | None, **more: Any) -> Source:
    source = await scene.code.of(run(code, **more))
    assert isinstance(source, Source), source
    return source


async def blocked(scene: Scene, code: dict[str, Any] | None, **more: Any) -> Blocked:
    source = await scene.code.of(run(code, **more))
    assert isinstance(source, Blocked), source
    return source


@pytest.mark.parametrize(
    ("entrypoint", "name"),
    [
        (None, "main.py"),
        ({"pythonFile": "train.py"}, "train.py"),
        ({"notebook": "explore.ipynb"}, "explore.ipynb"),
        ({"module": "acme.train"}, "acme/train.py"),
    ],
)
async def test_inline_code_gets_the_name_that_it_is_started_by(
    scene: Scene, entrypoint: dict[str, str] | None, name: str
) -> None:
    more = {"entrypoint": entrypoint} if entrypoint else {}
    assert (await found(scene, {"inline": "x = 1"}, **more)).files == {name: b"x = 1"}


async def test_inline_code_of_several_tasks_is_one_file(scene: Scene) -> None:
    tasks = [{"name": name, "entrypoint": {"pythonFile": "steps.py", "args": [name]}} for name in ("a", "b")]
    assert (await found(scene, {"inline": "x"}, tasks=tasks)).files == {"steps.py": b"x"}
    tasks[1]["entrypoint"] = {"pythonFile": "other.py"}
    held = await blocked(scene, {"inline": "x"}, tasks=tasks)
    assert (held.reason, held.waiting) == ("InvalidSpec", False)
    assert "other.py, steps.py" in held.message


async def test_a_config_map_must_have_every_file_that_a_task_starts(scene: Scene) -> None:
    scene.api.maps["team", "code"] = {"a.py": b"a"}
    tasks = [{"name": "a", "entrypoint": {"pythonFile": "a.py"}}, {"name": "b", "entrypoint": {"notebook": "b.ipynb"}}]
    held = await blocked(scene, {"configMap": {"name": "code"}}, tasks=tasks)
    assert (held.reason, held.waiting) == ("CodeNotFound", True)
    assert held.message == "spec.tasks[b].entrypoint.notebook b.ipynb is not in ConfigMap code, which holds a.py"


async def test_source_on_the_platform_is_told_apart_by_its_name_and_uploads_nothing(scene: Scene) -> None:
    sources = [
        await found(scene, {"path": "/Volumes/main/code/v1"}),
        await found(scene, {"path": "/Volumes/main/code/v2"}),
        await found(scene, {"wheel": {"package": "acme==1"}}),
        await found(scene, None, jobRef={"id": "7"}),
    ]
    assert all(not source.files for source in sources)
    assert len({source.digest for source in sources}) == 4


async def test_a_ref_is_resolved_before_the_first_attempt_and_its_commit_is_told(scene: Scene) -> None:
    source = await found(scene, GIT)
    assert (source.commit, source.files) == (NEW, {"main.py": b"new", "lib/a.py": b""})
    assert scene.repositories.asked == ["resolve main", f"files {NEW}"]


async def test_a_later_attempt_runs_the_first_ones_commit_wherever_the_branch_is_now(scene: Scene) -> None:
    source = await found(scene, GIT, commit=OLD)
    assert (source.commit, source.files) == (OLD, {"main.py": b"old"})
    assert scene.repositories.asked == [f"files {OLD}"]


async def test_a_file_that_is_not_in_the_commit_is_missed_with_the_commit_named(scene: Scene) -> None:
    held = await blocked(scene, GIT, entrypoint={"pythonFile": "train.py"})
    assert (held.reason, held.waiting) == ("CodeNotFound", False)
    assert f"at commit {NEW}" in held.message
    assert "lib/a.py, main.py" in held.message


@pytest.mark.parametrize("waiting", [True, False])
async def test_what_git_says_is_said_and_waited_for_where_time_may_mend_it(scene: Scene, waiting: bool) -> None:
    scene.repositories.error = SourceError("the host is away", reason="GitUnreachable", waiting=waiting)
    assert await blocked(scene, GIT) == Blocked("GitUnreachable", "the host is away", waiting)


PRIVATE = {"git": {"url": "https://github.com/acme/churn", "ref": "main", "secretRef": {"name": "forge"}}}


def secret() -> dict[str, Any]:
    data = {key: base64.b64encode(key.encode()).decode() for key in ("username", "password")}
    metadata = {"namespace": "team", "name": "forge", "annotations": {GIT_HOST: "github.com"}}
    return {"metadata": metadata, "type": "kubernetes.io/basic-auth", "data": data}


async def test_a_private_repository_is_read_with_the_one_secret_that_the_run_names(scene: Scene) -> None:
    scene.api.secrets["team", "forge"] = secret()
    await found(scene, PRIVATE)
    assert scene.repositories.credentials == [GitCredential("https", "github.com", "username", "password")]
    assert scene.api.asked == ["get secrets"]


async def test_a_secret_that_is_not_there_is_waited_for(scene: Scene) -> None:
    held = await blocked(scene, PRIVATE)
    assert (held.reason, held.waiting) == ("GitSecretNotFound", True)
    assert scene.repositories.asked == []


async def test_a_secret_that_may_not_be_read_is_told_with_the_commands_that_allow_it(scene: Scene) -> None:
    scene.api.forbidden.add("secrets")
    held = await blocked(scene, PRIVATE)
    assert (held.reason, held.waiting) == ("OperatorForbidden", False)
    assert (
        "kubectl create role trainyard-git-forge -n team --verb=get --resource=secrets --resource-name=forge && "
        "kubectl create rolebinding trainyard-git-forge -n team --role=trainyard-git-forge "
        "--serviceaccount=trainyard-system:trainyard"
    ) in held.message


async def test_a_secret_of_another_kind_says_what_it_lacks_and_not_what_it_holds(scene: Scene) -> None:
    scene.api.secrets["team", "forge"] = {**secret(), "type": "Opaque"}
    held = await blocked(scene, PRIVATE)
    assert held.reason == "GitSecretInvalid"
    assert "password" not in held.message


class Hanging(Repositories):
    """Hosts that do not answer until they are let go; counts how many are asked at once."""

    def __init__(self) -> None:
        super().__init__({"main": NEW}, {NEW: {"main.py": b""}})
        self.let_go = threading.Event()
        self.asking: list[str] = []

    def resolve(self, source: GitSource, credential: GitCredential | None) -> str:
        self.asking.append(source.url)
        if "slow.example" in source.url:
            self.let_go.wait(20)
        return NEW


async def test_a_host_that_hangs_holds_up_no_other_hosts_source(scene: Scene) -> None:
    hanging = Hanging()
    finder = CodeFinder(scene.code._api, hanging)
    urls = [f"https://slow.example/{n}" for n in range(8)]
    slow = [
        asyncio.create_task(finder.of(run({"git": {"url": url, "ref": "main"}}, name=f"r{n}")))
        for n, url in enumerate(urls)
    ]
    await asyncio.sleep(0)
    quick = await finder.of(run(GIT))
    assert isinstance(quick, Source)
    assert sum("slow.example" in url for url in hanging.asking) <= FETCHES_PER_HOST
    hanging.let_go.set()
    assert all(isinstance(source, Source) for source in await asyncio.gather(*slow))
    assert (len(finder._hosts), len(finder._flights)) == (0, 0)


@pytest.mark.parametrize(
    "url", ["https://slow.example/o/r@{n}.git", "git@slow.example:o/{n}", "ssh://git@slow.example/o/{n}@x"]
)
async def test_no_way_of_writing_a_url_gets_a_host_more_turns(scene: Scene, url: str) -> None:
    hanging = Hanging()
    finder = CodeFinder(scene.code._api, hanging)
    specs = [{"git": {"url": url.format(n=n), "ref": "main"}} for n in range(6)]
    slow = [asyncio.create_task(finder.of(run(spec, name=f"r{n}"))) for n, spec in enumerate(specs)]
    await finder.of(run(GIT))
    assert list(finder._hosts) == ["slow.example"]
    assert sum("slow.example" in asked for asked in hanging.asking) <= FETCHES_PER_HOST
    hanging.let_go.set()
    await asyncio.gather(*slow)


async def test_as_many_hosts_may_hang_as_there_are_public_forges(scene: Scene) -> None:
    hanging = Hanging()
    finder = CodeFinder(scene.code._api, hanging)
    hosts = [f"https://{forge}.slow.example/{n}" for forge in range(5) for n in range(4)]
    slow = [
        asyncio.create_task(finder.of(run({"git": {"url": url, "ref": "main"}}, name=f"r{n}")))
        for n, url in enumerate(hosts)
    ]
    async with asyncio.timeout(10):
        assert isinstance(await finder.of(run(GIT)), Source)
    hanging.let_go.set()
    await asyncio.gather(*slow)


async def test_a_url_that_is_none_is_told(scene: Scene) -> None:
    held = await blocked(scene, {"git": {"url": "https://127.0.0.1/o/r"}})
    assert (held.reason, held.waiting) == ("GitHostNotAllowed", False)
    assert scene.repositories.asked == []


def test_a_host_gets_no_more_turns_than_the_fetcher_gives_it() -> None:
    """Or a thread would wait for its turn there, and be missing to others."""
    assert GitLimits().per_host >= FETCHES_PER_HOST


async def test_runs_of_one_push_fetch_once(scene: Scene) -> None:
    sources = await asyncio.gather(*(scene.code.of(run(GIT, name=f"r{n}")) for n in range(10)))
    assert all(isinstance(source, Source) and source.commit == NEW for source in sources)
    assert scene.repositories.asked == ["resolve main", f"files {NEW}"]
