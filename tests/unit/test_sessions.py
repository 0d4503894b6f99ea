"""Where an attempt goes and as whom, on each platform: pinned once, and never led elsewhere by what a resource says."""

import asyncio
import io
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, cast

import pytest

from trainyard.api.identity import FEDERATED, MANAGED_IDENTITY, Identity
from trainyard.api.training_run import Attempt
from trainyard.api.workspace import ClusterMLWorkspaceSpec, MLWorkspaceSpec
from trainyard.audit.log import AuditLog
from trainyard.controllers.sessions import Loads, Session, SessionKey, Sessions, lane_owner, target_of
from trainyard.controllers.workspaces import _host
from trainyard.core.errors import IdentityError, Throttled, TrainyardError, Unreachable
from trainyard.core.snapshot import Target
from trainyard.identity import clouds
from trainyard.identity.base import (
    AZURE_CLIENT_ID,
    AZURE_WORKLOAD_CLIENT_ID,
    DATABRICKS_CLIENT_ID,
    SYSTEM_ASSIGNED,
    ServiceAccountRef,
    Speaker,
    TokenSource,
)
from trainyard.identity.broker import Broker
from trainyard.identity.federated import Federated
from trainyard.identity.hosts import HostPolicy
from trainyard.platforms.base import Account, Connection, Platform, TokensFor
from trainyard.platforms.lane import Lane

SUBSCRIPTION = "3f2504e0-4f89-11d3-9a0c-0305e82c3301"
OTHER_SUBSCRIPTION = "3f2504e0-4f89-11d3-9a0c-0305e82c3302"
DATABRICKS = "https://adb-1.2.azuredatabricks.net"
BOTH = {DATABRICKS_CLIENT_ID: "dbx-app", AZURE_CLIENT_ID: "azure-app"}


def workspace_url(subscription: str = SUBSCRIPTION, name: str = "wine", origin: str = "management.azure.com") -> str:
    group = f"https://{origin}/subscriptions/{subscription}/resourceGroups/ml"
    return f"{group}/providers/Microsoft.MachineLearningServices/workspaces/{name}"


class Accounts:
    """ServiceAccounts with these annotations."""

    def __init__(self, noted: Mapping[str, str]) -> None:
        self.noted = noted
        self.asked = 0

    def annotations(self, _account: ServiceAccountRef) -> Mapping[str, str]:
        self.asked += 1
        return self.noted

    def request_token(self, _account: ServiceAccountRef, _audience: str, _seconds: int) -> str:
        raise AssertionError("nothing here mints a token")


def sessions(accounts: Accounts) -> Sessions:
    policy, log = HostPolicy(), AuditLog(io.StringIO())
    broker = Broker(policy, {FEDERATED: Federated(accounts, policy, "trainyard-databricks", log)})
    return Sessions(broker, log, 10)


def azure(**changes: str) -> MLWorkspaceSpec:
    where = {"subscriptionId": SUBSCRIPTION, "resourceGroup": "ml", "workspaceName": "wine", "tenantId": "contoso.com"}
    return spec(azureML={**where, **changes})


def spec(**platform: Any) -> MLWorkspaceSpec:
    return MLWorkspaceSpec.model_validate(
        {**platform, "identity": {"federated": {"serviceAccountName": "trainer"}}, "computeClasses": {}}
    )


def attempt(host: str, platform: str = "azureml", tenant: str | None = "contoso.com") -> Attempt:
    return Attempt(
        number=1,
        submission_token="ty-1",
        platform=platform,
        host=host,
        tenant=tenant,
        principal="azure-app",
        mode="federated",
        service_account="trainer",
        spec_digest="s",
        code_digest="c",
        intended_at="2026-11-01T12:00:00Z",
        tasks=[],
    )


@pytest.fixture(autouse=True)
def _built_in_afterwards() -> Iterator[None]:
    yield
    clouds.install(())


async def test_an_azure_workspace_is_pinned_by_its_url_its_tenant_and_its_own_annotation() -> None:
    target = await sessions(Accounts(BOTH)).target(azure(), "team")
    assert target == Target("azureml", workspace_url(), "azure-app", "federated", "trainer", "contoso.com")


async def test_one_service_account_may_speak_for_a_principal_of_each_platform() -> None:
    accounts = Accounts(BOTH)
    made = sessions(accounts)
    found = [await made.target(each, "team") for each in (azure(), spec(databricks={"host": DATABRICKS}), azure())]
    assert [(each.platform, each.principal, each.tenant) for each in found] == [
        ("azureml", "azure-app", "contoso.com"),
        ("databricks", "dbx-app", ""),
        ("azureml", "azure-app", "contoso.com"),
    ]
    assert accounts.asked == 2


@pytest.mark.parametrize(
    ("noted", "principal"),
    [
        ({AZURE_WORKLOAD_CLIENT_ID: "theirs"}, "theirs"),
        ({AZURE_CLIENT_ID: "ours", AZURE_WORKLOAD_CLIENT_ID: "theirs"}, "ours"),
        ({AZURE_CLIENT_ID: "", AZURE_WORKLOAD_CLIENT_ID: "theirs"}, None),
        ({DATABRICKS_CLIENT_ID: "dbx-app"}, None),
        ({}, None),
    ],
)
async def test_our_annotation_counts_before_azures_own(noted: Mapping[str, str], principal: str | None) -> None:
    made = sessions(Accounts(noted))
    if principal is not None:
        assert (await made.target(azure(), "team")).principal == principal
        return
    with pytest.raises(IdentityError) as raised:
        await made.target(azure(), "team")
    assert (raised.value.reason, raised.value.waiting) == ("ServiceAccountNotOptedIn", True)
    assert AZURE_CLIENT_ID in raised.value.message


@pytest.mark.parametrize("noted", ["a" * 256, "dbx app", "app\n", "\u0430pp", "\x1b[2J"])
async def test_an_annotation_that_no_platform_could_know_is_told_without_it(noted: str) -> None:
    """It would be pinned in a status, which could then not be written."""
    with pytest.raises(IdentityError, match="is no client id") as raised:
        await sessions(Accounts({DATABRICKS_CLIENT_ID: noted})).target(spec(databricks={"host": DATABRICKS}), "team")
    assert raised.value.reason == "ServiceAccountNotOptedIn"
    assert noted not in raised.value.message


async def test_a_workspace_of_a_cloud_that_the_operator_does_not_know_is_asked_nothing() -> None:
    accounts = Accounts(BOTH)
    with pytest.raises(IdentityError) as raised:
        await sessions(accounts).target(azure(cloud="Contoso"), "team")
    assert raised.value.reason == "HostNotAllowed"
    assert "--azure-cloud" in raised.value.message
    assert accounts.asked == 0


def test_an_attempt_remembers_its_tenant_when_its_workspace_has_gone() -> None:
    assert target_of(attempt(workspace_url())).tenant == "contoso.com"
    assert target_of(attempt(DATABRICKS, "databricks", None)).tenant == ""


HOSTILE = [
    workspace_url(origin="evil.example"),
    workspace_url(origin="management.azure.com@evil.example"),
    workspace_url(origin="management.azure.com.evil.example"),
    workspace_url().replace("https", "http"),
    workspace_url(name="wine/../../x"),
    DATABRICKS,
]


@pytest.mark.parametrize("host", HOSTILE)
def test_an_attempt_whose_cloud_is_not_known_gets_no_session(host: str) -> None:
    """A status may be written by hand, or an operator be started without a cloud that it had."""
    with pytest.raises(IdentityError) as raised:
        sessions(Accounts(BOTH)).pinned("team", attempt(host))
    assert raised.value.reason == "HostNotAllowed"


def test_a_hosts_policy_for_databricks_opens_nothing_of_azure_and_the_other_way_round() -> None:
    made = sessions(Accounts(BOTH))
    for platform, host in (("databricks", workspace_url()), ("azureml", DATABRICKS)):
        with pytest.raises(IdentityError, match="is"):
            made.pinned("team", attempt(host, platform))


def test_workspaces_of_one_subscription_share_their_rate_and_no_lane() -> None:
    made = sessions(Accounts(BOTH))
    one = made.pinned("team", attempt(workspace_url(name="one")))
    two = made.pinned("other-team", attempt(workspace_url(name="two")))
    elsewhere = made.pinned("team", attempt(workspace_url(OTHER_SUBSCRIPTION)))
    assert len({id(each.lane) for each in (one, two, elsewhere)}) == 3
    assert one.lane._bucket is two.lane._bucket
    assert elsewhere.lane._bucket is not one.lane._bucket


def test_two_workspaces_of_databricks_share_nothing() -> None:
    made = sessions(Accounts(BOTH))
    hosts = [f"https://adb-{number}.2.azuredatabricks.net" for number in (1, 2)]
    first, second = (made.pinned("team", attempt(host, "databricks")).lane for host in hosts)
    assert first is not second
    assert first._bucket is not second._bucket


async def test_who_only_names_another_namespaces_principal_does_not_make_its_calls_wait() -> None:
    """Anybody can annotate a ServiceAccount with any principal; what then fails has to hold up nobody else."""
    made = sessions(Accounts(BOTH))
    theirs, mine = (made.pinned(each, attempt(DATABRICKS, "databricks")).lane for each in ("hostile", "team"))

    def throttled() -> None:
        raise Throttled("slow down", retry_after=3600)

    with pytest.raises(Throttled):
        await theirs.call(throttled, deadline=5)
    assert await mine.call(lambda: "asked", deadline=5) == "asked"


def test_namespaces_that_are_lent_one_identity_share_its_lane() -> None:
    lent_to = [SessionKey(Target("azureml", workspace_url(), "app", MANAGED_IDENTITY, ""), each) for each in "ab"]
    assert len({lane_owner(key) for key in lent_to}) == 1


def test_a_connection_is_given_tokens_of_its_own_cloud_tenant_and_service_account(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[TokensFor] = []
    asked: list[tuple[Any, ...]] = []

    def connect(_self: object, _target: Target, tokens_for: TokensFor, _log: AuditLog) -> object:
        given.append(tokens_for)
        return object()

    def source(_self: Federated, *key: Any) -> TokenSource | None:
        asked.append(key)
        return None

    monkeypatch.setattr("trainyard.platforms.azureml.platform.AzureML.connect", connect)
    monkeypatch.setattr(Federated, "source", source)
    sessions(Accounts(BOTH)).pinned("team", attempt(workspace_url(origin="management.usgovcloudapi.net")))
    cloud = clouds.AZURE_US_GOVERNMENT
    target = target_of(attempt(workspace_url(origin="management.usgovcloudapi.net")))
    for scope in (cloud.arm_scope, cloud.ml_scope):
        given[0](scope)
    assert asked == [
        (target, "team", cloud.arm_scope),
        (target, "team", cloud.ml_scope),
    ]


def test_a_workspaces_status_shows_what_its_attempts_are_pinned_to() -> None:
    assert _host({"databricks": {"host": DATABRICKS}}) == DATABRICKS
    where = {"subscriptionId": SUBSCRIPTION, "resourceGroup": "ml", "workspaceName": "wine", "tenantId": "t"}
    assert _host({"azureML": where}) == workspace_url()
    assert _host({"azureML": {**where, "cloud": "Contoso"}}) is None
    assert _host({"azureML": {}}) is None
    assert _host({}) is None


class Slow:
    """A platform whose packages take until `there` to be imported."""

    name = "slow"

    def __init__(self) -> None:
        self.there = threading.Event()
        self.loads = 0

    def load(self) -> None:
        self.loads += 1
        assert self.there.wait(10)


async def test_the_time_that_an_import_takes_is_not_the_platforms() -> None:
    slow, loads = Slow(), Loads()
    lane = Lane("host", "principal")
    session = Session(cast(Platform, slow), cast(Connection, None), lane, loads)
    calls = [asyncio.create_task(session.call("whoami", lambda: "me", deadline=0.5)) for _ in range(3)]
    await asyncio.sleep(0.6)  # longer than the deadline of each
    assert not any(call.done() for call in calls)
    slow.there.set()
    assert await asyncio.gather(*calls) == ["me"] * 3
    assert slow.loads == 1


async def test_a_caller_who_gives_up_does_not_end_the_import_for_the_others() -> None:
    slow, loads = Slow(), Loads()
    first = asyncio.create_task(loads.loaded(cast(Platform, slow)))
    await asyncio.sleep(0)
    first.cancel()
    slow.there.set()
    await loads.loaded(cast(Platform, slow))
    assert slow.loads == 1


class Standing:
    """A mode whose principal only the platform can name."""

    def speaker(self, _identity: Identity, _namespace: str, _platform: str) -> Speaker:
        return Speaker(SYSTEM_ASSIGNED)

    def source(self, _target: Target, _namespace: str, _scope: str) -> TokenSource:
        raise AssertionError("the connection here asks for no tokens")


class Telling:
    """Databricks, which says who we are: somebody else each time, after a moment in which others may ask."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[Target] = []
        self.error: TrainyardError | None = None
        self._target: Target | None = None
        monkeypatch.setattr("trainyard.platforms.databricks.platform.Databricks.load", lambda _: None)
        monkeypatch.setattr("trainyard.platforms.databricks.platform.Databricks.connect", self.connect)

    def connect(self, target: Target, _tokens: TokensFor, _log: AuditLog) -> Connection:
        self._target = target
        return cast(Connection, self)

    def whoami(self) -> Account:
        assert self._target is not None
        self.asked.append(self._target)
        time.sleep(0.05)
        if self.error is not None:
            raise self.error
        return Account(f"app-{len(self.asked)}", "1")


def lent(platform: Mapping[str, Any]) -> ClusterMLWorkspaceSpec:
    entra = {"entra": {"tenantId": "contoso.com"}} if "databricks" in platform else {}
    return ClusterMLWorkspaceSpec.model_validate(
        {**platform, "identity": {MANAGED_IDENTITY: entra}, "computeClasses": {}, "allowedNamespaces": ["team", "two"]}
    )


def standing() -> Sessions:
    log = AuditLog(io.StringIO())
    return Sessions(Broker(HostPolicy(), {MANAGED_IDENTITY: Standing()}), log, 10)


async def test_databricks_is_asked_who_a_stand_in_is_once_for_all_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders are named after the principal, and a lost run is found by who made it."""
    telling, made = Telling(monkeypatch), standing()
    spec = lent({"databricks": {"host": DATABRICKS}})
    found = await asyncio.gather(*(made.target(spec, "team") for _ in range(50)))
    assert {each.principal for each in found} == {"app-1"}
    assert [each.principal for each in telling.asked] == [SYSTEM_ASSIGNED]
    assert (await made.target(spec, "team")).identity == spec.identity


async def test_what_databricks_says_of_a_stand_in_is_asked_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    telling, made = Telling(monkeypatch), standing()
    spec = lent({"databricks": {"host": DATABRICKS}})
    assert (await made.target(spec, "team")).principal == "app-1"
    assert (await made.target(spec, "two")).principal == "app-2"
    monkeypatch.setattr("trainyard.controllers.sessions.NAME_HOLDS", -1.0)
    assert (await standing().target(spec, "team")).principal == "app-3"
    late = standing()
    assert [(await late.target(spec, "team")).principal for _ in range(2)] == ["app-4", "app-5"]
    assert len(telling.asked) == 5


async def test_a_run_waits_while_databricks_does_not_say_who_a_stand_in_is(monkeypatch: pytest.MonkeyPatch) -> None:
    telling, made = Telling(monkeypatch), standing()
    telling.error = Unreachable("no answer")
    with pytest.raises(Unreachable):
        await made.target(lent({"databricks": {"host": DATABRICKS}}), "team")
    telling.error = None
    assert (await made.target(lent({"databricks": {"host": DATABRICKS}}), "team")).principal == "app-2"


async def test_azure_ml_is_not_asked_who_a_stand_in_is() -> None:
    where = {"subscriptionId": SUBSCRIPTION, "resourceGroup": "ml", "workspaceName": "wine", "tenantId": "contoso.com"}
    assert (await standing().target(lent({"azureML": where}), "team")).principal == SYSTEM_ASSIGNED
