"""How often and how long token endpoints are asked: once a life per identity, bounded, and nobody waits for another."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from tests.sandbox.conftest import AUDIENCE
from tests.sandbox.issuer import TestIssuer
from tests.wire.azureml import cloud
from tests.wire.conftest import Clock, Trail
from trainyard.api.identity import FEDERATED
from trainyard.api.training_run import Attempt
from trainyard.api.workspace import MLWorkspaceSpec
from trainyard.audit.transport import Bounds
from trainyard.controllers.sessions import Sessions, target_of
from trainyard.core.errors import Throttled, TrainyardError, Unreachable
from trainyard.core.snapshot import Target
from trainyard.core.tokens import submission_token
from trainyard.identity.base import AZURE_CLIENT_ID, DATABRICKS_CLIENT_ID, ServiceAccountRef, TokenSource
from trainyard.identity.broker import Broker
from trainyard.identity.clouds import Cloud
from trainyard.identity.federated import Federated
from trainyard.identity.hosts import HostPolicy
from trainyard.identity.signing_in import scopes
from trainyard_sandbox.client import SandboxControl

__all__ = ["cloud"]

# Long enough for somebody else to be served on a slow machine meanwhile.
BOUNDS = Bounds(connect=2.0, read=3.0, total=4.0)
EXCHANGE, SIGN_IN = "/oidc/v1/token", "/[^/]+/oauth2/v2.0/token"
PLATFORMS = ["databricks", "azureml"]
on_each_platform = pytest.mark.parametrize("platform", PLATFORMS)
SCOPES = {"databricks": 1, "azureml": 2}
# Of a token's life on each; none is renewed before 0.7 of it, each is after 0.8.
LIFE = {"databricks": timedelta(seconds=600), "azureml": timedelta(seconds=3599)}


class Teams:
    """A ServiceAccount `trainer` for each namespace, which a principal of its own trusts on both platforms."""

    def __init__(self, control: SandboxControl, issuer: TestIssuer) -> None:
        self._control = control
        self._issuer = issuer
        self._noted: dict[str, Mapping[str, str]] = {}
        self.minted: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, namespace: str) -> None:
        """Makes the principals."""
        subject = f"system:serviceaccount:{namespace}:trainer"
        principal = self._control.add_principal(namespace, entitlements=["workspace-access"])
        self._control.add_policy(principal, self._issuer.url, subject, [AUDIENCE])
        application = self._control.add_application(namespace, roles={"workspace": ["AzureML Data Scientist"]})
        self._control.add_federated_credential(application, self._issuer.url, subject)
        self._noted[namespace] = {DATABRICKS_CLIENT_ID: principal, AZURE_CLIENT_ID: application}

    def annotations(self, account: ServiceAccountRef) -> Mapping[str, str]:
        return self._noted[account.namespace]

    def request_token(self, account: ServiceAccountRef, audience: str, seconds: int) -> str:
        with self._lock:
            self.minted[account.namespace] += 1
        return self._issuer.assertion(f"system:serviceaccount:{account.namespace}:{account.name}", audience, seconds)


@pytest.fixture
def teams(control: SandboxControl, issuer: TestIssuer) -> Teams:
    return Teams(control, issuer)


@pytest.fixture
def broker(control: SandboxControl, cloud: Cloud, teams: Teams, audit: Trail, clock: Clock) -> Broker:
    hosts = HostPolicy([control.address.host.removeprefix("https://")])
    return Broker(hosts, {FEDERATED: Federated(teams, hosts, AUDIENCE, audit.log, clock, BOUNDS)})


@pytest.fixture
def sessions(broker: Broker, audit: Trail) -> Sessions:
    return Sessions(broker, audit.log, 3600)


@pytest.fixture
def target_in(control: SandboxControl, broker: Broker, teams: Teams) -> Callable[[str, str], Target]:
    """Where an attempt of a namespace goes on a platform; makes the namespace's principals."""
    azure = control.address.azure
    where: dict[str, dict[str, Any]] = {
        "databricks": {"databricks": {"host": control.address.host}},
        "azureml": {
            "azureML": {
                "cloud": "Sandbox",
                "tenantId": azure.tenant_id,
                "subscriptionId": azure.subscription_id,
                "resourceGroup": azure.resource_group,
                "workspaceName": azure.workspace_name,
            }
        },
    }

    def target(platform: str, namespace: str) -> Target:
        teams.add(namespace)
        identity = {"federated": {"serviceAccountName": "trainer"}}
        spec = {**where[platform], "identity": identity, "computeClasses": {}}
        return broker.target(MLWorkspaceSpec.model_validate(spec), namespace)

    return target


def attempt(target: Target, namespace: str, number: int) -> Attempt:
    """The attempt as a run's status has it: made anew from JSON, as after a restart."""
    made = Attempt(
        number=1,
        submission_token=submission_token(namespace, f"run-{number}", str(number), None, 1),
        platform=target.platform,
        host=target.host,
        tenant=target.tenant or None,
        principal=target.principal,
        mode=target.mode,
        service_account=target.service_account,
        spec_digest=f"spec-{number}",
        code_digest="code",
        intended_at="2026-11-01T12:00:00Z",
        tasks=[],
    )
    return Attempt.model_validate(made.model_dump(by_alias=True))


def asked(control: SandboxControl, platform: str) -> int:
    """How often the platform's token endpoint was asked."""
    return len(control.requests(path=EXCHANGE if platform == "databricks" else SIGN_IN))


def hits(control: SandboxControl, fault: int) -> int:
    """How many requests the fault has hit."""
    return next(int(each["hits"]) for each in control.faults() if each["fault_id"] == fault)


def until_hit(control: SandboxControl, fault: int) -> None:
    """Waits until the fault has hit."""
    deadline = time.monotonic() + 20
    while not hits(control, fault):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@on_each_platform
def test_a_thousand_runs_make_one_exchange_in_a_tokens_life(
    control: SandboxControl,
    broker: Broker,
    sessions: Sessions,
    target_in: Callable[[str, str], Target],
    clock: Clock,
    platform: str,
) -> None:
    """One for each scope, of which Azure has two; and one more each when that life is over."""
    target = target_in(platform, "many")
    attempts = [attempt(target, "many", number) for number in range(1000)]
    assert len({id(sessions.pinned("many", each)) for each in attempts}) == 1

    def token(each: Attempt) -> tuple[str, ...]:
        at = target_of(each)
        return tuple(broker.source(at, "many", scope).token().value for scope in scopes(at))

    control.clear_requests()
    seen: set[tuple[str, ...]] = set()
    with ThreadPoolExecutor(32) as pool:
        for life, ahead in enumerate((0.0, 0.3, 0.65, 0.85), start=1):
            clock.ahead = LIFE[platform] * ahead
            seen.update(pool.map(token, attempts))
            assert asked(control, platform) == SCOPES[platform] * (1 if life < 4 else 2)
    assert all(len(values) == SCOPES[platform] for values in seen)
    assert len({value for values in seen for value in values}) == SCOPES[platform] * 2


@on_each_platform
def test_as_many_exchanges_are_made_as_there_are_identities(
    control: SandboxControl, broker: Broker, teams: Teams, target_in: Callable[[str, str], Target], platform: str
) -> None:
    names = [f"of-{number}" for number in range(8)]
    targets = {namespace: target_in(platform, namespace) for namespace in names}
    control.clear_requests()
    with ThreadPoolExecutor(32) as pool:
        for namespace, target in targets.items():
            source = broker.source(target, namespace, scopes(target)[0])
            for _ in range(25):
                pool.submit(source.token)
    assert asked(control, platform) == len(names)
    assert teams.minted == dict.fromkeys(names, 1)


HANGS = [
    ("databricks", "/.well-known/databricks-config"),
    ("databricks", "/oidc/.well-known/oauth-authorization-server"),
    ("databricks", EXCHANGE),
    ("azureml", SIGN_IN),
]


@pytest.mark.parametrize(("platform", "path"), HANGS)
async def test_a_hang_is_bounded_and_holds_up_nobody_else(
    control: SandboxControl,
    sessions: Sessions,
    target_in: Callable[[str, str], Target],
    platform: str,
    path: str,
) -> None:
    """The first identity's question hangs, with every thread of its lane behind it; the second one's does not."""
    first, second = (
        sessions.at(target_in(platform, namespace), namespace)
        for namespace in (f"slow-{id(path)}", f"swift-{id(path)}")
    )
    await asyncio.to_thread(first.platform.load)
    fault = control.add_fault("hang", path)
    began = time.monotonic()
    hanging = [asyncio.ensure_future(first.call("whoami", first.connection.whoami, deadline=30)) for _ in range(6)]
    await asyncio.to_thread(until_hit, control, fault)
    await second.call("whoami", second.connection.whoami, deadline=30)
    assert not any(each.done() for each in hanging)
    ended = await asyncio.gather(*hanging, return_exceptions=True)
    assert time.monotonic() - began < BOUNDS.total + 3
    assert {type(each) for each in ended} == {Unreachable}
    control.clear_faults()


@on_each_platform
def test_what_lives_is_used_on_while_its_renewal_hangs(
    control: SandboxControl, broker: Broker, target_in: Callable[[str, str], Target], clock: Clock, platform: str
) -> None:
    target = target_in(platform, "alive")
    source = broker.source(target, "alive", scopes(target)[0])
    first = source.token()
    clock.ahead = LIFE[platform] * 0.85
    fault = control.add_fault("hang", EXCHANGE if platform == "databricks" else SIGN_IN)
    renewing = threading.Thread(target=source.token)
    renewing.start()
    until_hit(control, fault)
    began = time.monotonic()
    assert source.token() == first
    assert time.monotonic() - began < 0.5
    renewing.join()
    assert source.token() == first
    control.clear_faults()


def failure(source: TokenSource) -> TrainyardError:
    with pytest.raises(TrainyardError) as raised:
        source.token()
    return raised.value


@on_each_platform
@pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "date"])
def test_a_pause_that_the_token_endpoint_asks_for_is_kept(
    control: SandboxControl,
    broker: Broker,
    target_in: Callable[[str, str], Target],
    clock: Clock,
    platform: str,
    as_date: bool,
) -> None:
    target = target_in(platform, "eager")
    source = broker.source(target, "eager", scopes(target)[0])
    path = EXCHANGE if platform == "databricks" else SIGN_IN
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    fault = control.add_fault("status", path, status=429, times=0, retry_after=until if as_date else "90")
    control.clear_requests()
    for ahead in (0, 30, 80):
        clock.ahead = timedelta(seconds=ahead)
        error = failure(source)
        assert isinstance(error, Throttled)
        assert error.retry_after == pytest.approx(90 - ahead, abs=5)
    assert hits(control, fault) == 1
    assert asked(control, platform) == 1
    control.clear_faults()
    clock.ahead = timedelta(seconds=91)
    assert source.token().value


@on_each_platform
def test_a_pause_is_kept_by_one_identity_and_not_by_another(
    control: SandboxControl, broker: Broker, target_in: Callable[[str, str], Target], platform: str
) -> None:
    sources = [
        broker.source(at, namespace, scopes(at)[0])
        for namespace in ("paused", "unpaused")
        for at in [target_in(platform, namespace)]
    ]
    path = EXCHANGE if platform == "databricks" else SIGN_IN
    control.add_fault("status", path, status=429, retry_after="60")
    assert isinstance(failure(sources[0]), Throttled)
    assert sources[1].token().value
    assert isinstance(failure(sources[0]), Throttled)
