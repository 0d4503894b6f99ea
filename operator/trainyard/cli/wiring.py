"""Builds an operator from its settings and runs it. The one place where every layer is put together."""

import asyncio
import os
import shutil
import signal
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog
from kubernetes import client, config
from prometheus_client import start_http_server

from trainyard.api.base import GROUP, VERSION
from trainyard.audit.log import AuditLog
from trainyard.cli.environment import drop_foreign_credentials
from trainyard.controllers.destinations import Destinations
from trainyard.controllers.kube import KINDS, ForbiddenError, Kube, KubeError, NotFoundError
from trainyard.controllers.operator import Operator
from trainyard.controllers.sessions import Sessions
from trainyard.controllers.settings import OperatorSettings
from trainyard.identity import clouds
from trainyard.identity.azure_workload import captured
from trainyard.identity.broker import Broker
from trainyard.identity.hosts import DEFAULT_ALLOWED, DEFAULT_TOKEN_HOSTS, HostPolicy
from trainyard.identity.modes import modes
from trainyard.sources.git import DEFAULT_GIT_HOSTS, GitFetcher
from trainyard.telemetry import logs
from trainyard.telemetry.metrics import REGISTRY

log = structlog.get_logger(__name__)

OK, FAILED, USAGE = 0, 1, 2


def run_operator(settings: OperatorSettings) -> int:
    """Runs the operator until SIGTERM or SIGINT. Returns the exit code: 0 stopped, 1 failed, 2 can not start."""
    logs.configure(settings.log_format)
    settings = _with_workload_identity(settings)
    drop_foreign_credentials()
    with ExitStack() as stack:
        try:
            operator = _built(settings, stack)
        except (ValueError, OSError, KubeError, config.ConfigException) as error:
            log.error("can not start", error=str(error))  # noqa: TRY400 - the message is for an administrator
            return USAGE
        if settings.metrics_port is not None:
            start_http_server(settings.metrics_port, registry=REGISTRY)
        try:
            asyncio.run(_until_told(operator))
        except Exception:
            log.exception("the operator failed")
            return FAILED
    return OK


def _built(settings: OperatorSettings, stack: ExitStack) -> Operator:
    """The operator. What it leaves on this machine goes with the stack."""
    policy = HostPolicy(
        [*DEFAULT_ALLOWED, *settings.allowed_hosts], [*DEFAULT_TOKEN_HOSTS, *settings.allowed_token_hosts]
    )
    clouds.install(clouds.read(path) for path in settings.azure_clouds)
    kube = Kube(_api_client(settings))
    kube.require_kinds(GROUP, VERSION, [kind.plural for kind in KINDS.values()])
    audit = AuditLog(sys.stdout) if settings.audit_file == "-" else AuditLog.to_file(_path(settings.audit_file))
    broker = Broker(policy, modes(kube, policy, audit, settings.identity))
    sessions = Sessions(broker, audit, settings.poll_seconds)
    destinations = Destinations(kube, audit, settings.storage)
    repositories = _repositories(settings, stack)
    return Operator(settings, kube, sessions, repositories, destinations, _cluster_name(settings, kube))


def _repositories(settings: OperatorSettings, stack: ExitStack) -> GitFetcher:
    if settings.git_ca_file is not None and not settings.git_ca_file.is_file():
        raise ValueError(f"--git-ca-file {settings.git_ca_file} is not a file")
    if shutil.which("git") is None:
        log.warning("git is not installed; runs with spec.code.git will not start")
    work_dir = settings.git_work_dir or Path(stack.enter_context(TemporaryDirectory(prefix="trainyard-git-")))
    hosts = [*DEFAULT_GIT_HOSTS, *settings.allowed_git_hosts]
    fetcher = GitFetcher(settings.git_limits, hosts, work_dir, ca_file=settings.git_ca_file)
    stack.callback(fetcher.close)
    return fetcher


def _cluster_name(settings: OperatorSettings, kube: Kube) -> str:
    """What this cluster is called on platforms."""
    if settings.cluster_name is not None:
        return settings.cluster_name
    try:
        return kube.namespace_uid("kube-system")
    except (ForbiddenError, NotFoundError) as error:
        # Runs must not wait for it. But another address of the same API server would be another name.
        log.warning("the cluster has no name of its own; give --cluster-name", error=error.message, instead=kube.host)
        return kube.host


async def _until_told(operator: Operator) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await operator.run(stop)


def _api_client(settings: OperatorSettings) -> client.ApiClient:
    """A client with the operator's credential; kopf is pointed at the same one."""
    found = client.Configuration()
    if settings.kubeconfig is not None:
        if not settings.kubeconfig.is_file():
            raise ValueError(f"--kubeconfig {settings.kubeconfig} is not a file")
        os.environ["KUBECONFIG"] = str(settings.kubeconfig)
        config.load_kube_config(config_file=str(settings.kubeconfig), client_configuration=found)  # type: ignore[no-untyped-call]
    else:
        os.environ.pop("KUBECONFIG", None)
        try:
            config.load_incluster_config(client_configuration=found)  # type: ignore[no-untyped-call]
        except config.ConfigException as error:
            raise ValueError(f"not in a pod of a cluster ({error}); give --kubeconfig FILE") from error
    return client.ApiClient(found)


def _with_workload_identity(settings: OperatorSettings) -> OperatorSettings:
    """What Azure's webhook says in variables, which are then dropped: only the mode that is for it may use it."""
    return replace(settings, identity=replace(settings.identity, workload=captured(os.environ)))


def _path(text: str) -> Path:
    return Path(text).expanduser()
