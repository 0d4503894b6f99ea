"""Which store a workspace's log destination gets, and that its credentials are not thrown away between two logs."""

import io
from typing import Any

import pytest

from trainyard.api.workspace import LogDestination
from trainyard.audit.log import AuditLog
from trainyard.core.errors import IdentityError
from trainyard.identity.base import ServiceAccountRef
from trainyard.identity.hosts import HostPolicy
from trainyard.keeping.adls import AdlsLogStore
from trainyard.keeping.s3 import S3LogStore
from trainyard.keeping.stores import DEFAULT_STORE_HOSTS, LogStores, session_name
from trainyard.keeping.volume import VolumeLogStore

S3 = {"s3": {"bucket": "logs", "region": "eu-west-1", "roleArn": "arn:aws:iam::123456789012:role/logs"}}
ADLS = {"adls": {"account": "teamlogs", "container": "logs", "tenantId": "acme.example", "clientId": "1-2"}}
VOLUME = {"volume": "/Volumes/main/ml/logs"}
TRAINER, OTHER = ServiceAccountRef("team-a", "trainer"), ServiceAccountRef("team-b", "trainer")


class NoFiles:
    """Files of a workspace that this test does not touch."""

    def put(self, path: str, data: bytes) -> None:
        raise AssertionError

    def get(self, path: str) -> bytes | None:
        raise AssertionError

    def delete(self, path: str) -> None:
        raise AssertionError


class Minted(Exception):
    """The store went as far as asking for an assertion."""


def mint(account: ServiceAccountRef, audience: str) -> str:
    raise Minted(account, audience)


def stores(*hosts: str, bound: int = 500) -> LogStores:
    return LogStores(mint, HostPolicy(hosts or DEFAULT_STORE_HOSTS, ()).check, AuditLog(io.StringIO()), bound=bound)


def to(given: dict[str, Any]) -> LogDestination:
    return LogDestination.model_validate(given)


def test_each_kind_of_destination_has_its_store() -> None:
    made = [stores().store(to(given), TRAINER, NoFiles()) for given in (S3, ADLS, VOLUME)]
    assert [type(store) for store in made] == [S3LogStore, AdlsLogStore, VolumeLogStore]


def test_a_store_is_kept_per_destination_and_serviceaccount() -> None:
    all_stores = stores(bound=2)
    first = all_stores.store(to(S3), TRAINER, NoFiles())
    assert all_stores.store(to(S3), TRAINER, NoFiles()) is first
    assert all_stores.store(to(S3), OTHER, NoFiles()) is not first
    assert all_stores.store(to(S3), TRAINER, NoFiles()) is first
    all_stores.store(to(ADLS), TRAINER, NoFiles())
    all_stores.store(to(ADLS), OTHER, NoFiles())
    assert all_stores.store(to(S3), TRAINER, NoFiles()) is not first


@pytest.mark.parametrize(
    ("given", "audience"), [(S3, "sts.amazonaws.com"), (ADLS, "api://AzureADTokenExchange")], ids=["s3", "adls"]
)
def test_the_public_clouds_are_allowed_and_asked_with_the_accounts_assertion(
    given: dict[str, Any], audience: str
) -> None:
    with pytest.raises(Minted) as raised:
        stores().store(to(given), TRAINER, NoFiles()).get("a")
    assert raised.value.args == (TRAINER, audience)


@pytest.mark.parametrize("given", [S3, ADLS], ids=["s3", "adls"])
def test_no_assertion_is_minted_when_the_operator_allows_no_such_cloud(given: dict[str, Any]) -> None:
    with pytest.raises(IdentityError, match="allow-list"):
        stores("logs.acme.example").store(to(given), TRAINER, NoFiles()).get("a")


def test_a_sessions_name_is_one_that_sts_takes() -> None:
    assert session_name(TRAINER) == "team-a.trainer"
    assert len(session_name(ServiceAccountRef("n" * 63, "s" * 253))) == 64
