"""Finds the source that a run's spec names: inline, in a ConfigMap, in git, or already on the platform.

Called by readiness, on the event loop. What a git ref means is asked only while the run has no attempt; from then on
the attempt's commit is fetched. It must never read a Secret but the one that the spec names, in the run's namespace.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from trainyard.api.code import DEFAULT_FILE
from trainyard.api.training_run import Code, Entrypoint, GitCode, MLTrainingRunSpec
from trainyard.controllers.apiserver import ApiServer
from trainyard.controllers.flights import Flights
from trainyard.controllers.kube import ForbiddenError, KubeError, NotFoundError
from trainyard.core.errors import SourceError
from trainyard.core.snapshot import Blocked, RunSnapshot
from trainyard.core.tokens import code_digest
from trainyard.core.transition import newest
from trainyard.sources.git import GitCredential, GitSource, credential_of, host_of
from trainyard.telemetry.metrics import GIT_SECONDS

T = TypeVar("T")

# Fetches at once, each with a process of git, its memory and its folder; and of these, from one host, as the fetcher
# itself allows (sources.git.GitLimits.per_host): so nobody waits there with a thread, and it takes six hosts that hang,
# as many as the public forges have together, to hold up anybody else's source.
FETCHES = 12
FETCHES_PER_HOST = 2


@dataclass(frozen=True, slots=True)
class Source:
    """What an attempt is made from. `files` is empty where the source lies on the platform already."""

    files: Mapping[str, bytes]
    digest: str
    commit: str | None = None


class Repositories(Protocol):
    """What `sources.git.GitFetcher` does. Blocks; raises SourceError."""

    def resolve(self, source: GitSource, credential: GitCredential | None) -> str:
        """The commit that the ref names now."""

    def files(self, source: GitSource, commit: str, credential: GitCredential | None) -> dict[str, bytes]:
        """The files of that commit."""


_Flight = tuple[str, str, str | None]  # namespace, the source as JSON, the commit if it is known


class CodeFinder:
    """Finds sources. To be used from one event loop."""

    def __init__(self, api: ApiServer, repositories: Repositories) -> None:
        self._api = api
        self._repositories = repositories
        self._pool = ThreadPoolExecutor(FETCHES, thread_name_prefix="git")
        self._hosts: dict[str, tuple[asyncio.Semaphore, int]] = {}
        self._flights: Flights[_Flight, Source | Blocked] = Flights()

    async def of(self, run: RunSnapshot) -> Source | Blocked:
        """The run's source, or why it can not be had."""
        spec = run.spec
        assert spec is not None  # noqa: S101  (rules without a spec ask for nothing)
        if spec.code is None:
            return Source({}, code_digest({}))
        if spec.code.path is not None or spec.code.wheel is not None:
            return _named(spec.code)
        if spec.code.inline is not None:
            return _inline(spec, spec.code.inline)
        if spec.code.config_map is not None:
            found = await self._config_map(run.namespace, spec.code.config_map.name)
            where, waiting = f"ConfigMap {spec.code.config_map.name}", True
        elif spec.code.git is not None:
            found = await self._git(run, spec.code.git)
            where, waiting = f"git repository {spec.code.git.url}", False
        else:
            return Blocked("InvalidSpec", "this way to name code is not understood", waiting=False)
        return found if isinstance(found, Blocked) else _with_entries(spec, found, where, waiting=waiting)

    async def _config_map(self, namespace: str, name: str) -> Source | Blocked:
        try:
            files = await self._api.config_map(namespace, name)
        except NotFoundError:
            return Blocked("CodeNotFound", f"ConfigMap {name} does not exist in {namespace}; create it", waiting=True)
        except ForbiddenError:
            message = f"the operator may not read ConfigMap {namespace}/{name}; grant it 'get' there"
            return Blocked("OperatorForbidden", message, waiting=False)
        except KubeError as error:
            return Blocked(error.reason, error.message, waiting=True)
        return Source(files, code_digest(files))

    async def _git(self, run: RunSnapshot, code: GitCode) -> Source | Blocked:
        attempt = newest(run.status)
        commit = attempt.commit if attempt is not None else None
        key = (run.namespace, code.model_dump_json(), commit)
        return await self._flights.join(key, lambda: self._fetched(run.namespace, code, commit))

    async def _fetched(self, namespace: str, code: GitCode, commit: str | None) -> Source | Blocked:
        credential: GitCredential | None = None
        if code.secret_ref is not None:
            found = await self._credential(namespace, code.secret_ref.name)
            if isinstance(found, Blocked):
                return found
            credential = found
        source = GitSource(code.url, code.ref, code.path)
        began = time.monotonic()
        try:
            if commit is None:
                commit = await self._asked(code.url, self._repositories.resolve, source, credential)
            files = await self._asked(code.url, self._repositories.files, source, commit, credential)
        except SourceError as error:
            GIT_SECONDS.labels(error.reason).observe(time.monotonic() - began)
            return Blocked(error.reason, error.message, waiting=error.waiting)
        GIT_SECONDS.labels("ok").observe(time.monotonic() - began)
        return Source(files, code_digest(files), commit)

    async def _credential(self, namespace: str, name: str) -> GitCredential | Blocked:
        try:
            return credential_of(await self._api.secret(namespace, name))
        except SourceError as error:
            return Blocked(error.reason, error.message, waiting=error.waiting)
        except NotFoundError:
            message = f"spec.code.git.secretRef: Secret {name} does not exist in {namespace}; create it"
            return Blocked("GitSecretNotFound", message, waiting=True)
        except ForbiddenError:
            return Blocked("OperatorForbidden", await self._how_to_grant(namespace, name), waiting=False)
        except KubeError as error:
            return Blocked(error.reason, error.message, waiting=True)

    async def _how_to_grant(self, namespace: str, name: str) -> str:
        """A right to that one Secret: the operator is not given one to all of them."""
        operator = await self._api.own_name()
        role = f"trainyard-git-{name}"
        return (
            f"the operator may not read Secret {namespace}/{name}, which spec.code.git.secretRef names. Allow it: "
            f"kubectl create role {role} -n {namespace} --verb=get --resource=secrets --resource-name={name} && "
            f"kubectl create rolebinding {role} -n {namespace} --role={role} {_subject(operator)}"
        )

    async def _asked(self, url: str, fn: Callable[..., T], *args: object) -> T:
        async with self._turn(host_of(url)):
            return await asyncio.get_running_loop().run_in_executor(self._pool, fn, *args)

    @asynccontextmanager
    async def _turn(self, host: str) -> AsyncIterator[None]:
        """Waits until few enough fetches from that host are under way; holds no thread meanwhile."""
        slots, users = self._hosts.get(host, (asyncio.Semaphore(FETCHES_PER_HOST), 0))
        self._hosts[host] = (slots, users + 1)
        try:
            async with slots:
                yield
        finally:
            slots, users = self._hosts[host]
            if users > 1:
                self._hosts[host] = (slots, users - 1)
            else:
                del self._hosts[host]


def _named(code: Code) -> Source:
    """Source that lies on the platform, or that it installs: nothing is uploaded, so the digest is of its name."""
    named = code.model_dump(include={"path", "wheel"}, exclude_none=True)
    return Source({}, code_digest({"": json.dumps(named, sort_keys=True).encode()}))


def _inline(spec: MLTrainingRunSpec, text: str) -> Source | Blocked:
    """The one file that inline code is, under the name that the entrypoints give it."""
    named = sorted({_file_of(entrypoint) for entrypoint in _entrypoints(spec)} or {DEFAULT_FILE})
    if len(named) > 1:
        message = (
            f"spec.code.inline is one file, and the tasks name several ({', '.join(named)}): give them one "
            "entrypoint, told apart by args, or put the files into a ConfigMap"
        )
        return Blocked("InvalidSpec", message, waiting=False)
    files = {named[0]: text.encode()}
    return Source(files, code_digest(files))


def _with_entries(spec: MLTrainingRunSpec, source: Source, where: str, *, waiting: bool) -> Source | Blocked:
    """The source, if it has every file that an entrypoint names."""
    for field, entrypoint in _named_entrypoints(spec):
        file = entrypoint.file
        if file is None or file in source.files:
            continue
        kind = "notebook" if entrypoint.notebook is not None else "pythonFile"
        at = f" at commit {source.commit}" if source.commit else ""
        message = f"{field}.{kind} {file} is not in {where}{at}, which holds {_listed(source.files)}"
        return Blocked("CodeNotFound", message, waiting=waiting)
    return source


def _entrypoints(spec: MLTrainingRunSpec) -> Iterable[Entrypoint]:
    return [entrypoint for _, entrypoint in _named_entrypoints(spec)]


def _named_entrypoints(spec: MLTrainingRunSpec) -> list[tuple[str, Entrypoint]]:
    """Every entrypoint with its field. A run of one without an entrypoint starts main.py."""
    if spec.tasks:
        named = [(f"spec.tasks[{task.name}].entrypoint", task.entrypoint) for task in spec.tasks]
        return [(field, entrypoint) for field, entrypoint in named if entrypoint is not None]
    return [("spec.entrypoint", spec.entrypoint or Entrypoint())]


def _file_of(entrypoint: Entrypoint) -> str:
    """What inline code is called, so that it is found: a module is looked for by its path."""
    if entrypoint.module is not None:
        return entrypoint.module.replace(".", "/") + ".py"
    return entrypoint.file or DEFAULT_FILE


def _listed(files: Iterable[str], most: int = 20) -> str:
    names = sorted(files)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "nothing") + more


def _subject(operator: str | None) -> str:
    """The operator as `kubectl create rolebinding` is told it."""
    if operator is None:
        return "--serviceaccount=NAMESPACE:NAME (of the operator)"
    prefix = "system:serviceaccount:"
    if operator.startswith(prefix):
        return f"--serviceaccount={operator.removeprefix(prefix)}"
    return f"--user={operator}"
