"""What is wrong with an assertion is known before it is sent, as far as it can be known here."""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from trainyard.core.errors import IdentityError
from trainyard.identity.assertion import LONGEST_LIFE, Assertion, mint
from trainyard.identity.base import ServiceAccountRef
from trainyard.identity.clocks import TOLERATED

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ISSUER = "https://issuer.example"
TEAM = ServiceAccountRef("team", "trainer")


class Server:
    """An API server whose clock is `ahead` of ours."""

    def __init__(self, ahead: timedelta = timedelta(), life: float = 600, **claims: Any) -> None:
        issued = int((NOW + ahead).timestamp())
        times = {"iat": issued, "nbf": issued, "exp": issued + int(life)}
        self.claims = {"iss": ISSUER, "sub": "system:serviceaccount:team:trainer", "aud": ["x"], **times, **claims}

    def annotations(self, account: ServiceAccountRef) -> Mapping[str, str]:
        raise AssertionError(account)

    def request_token(self, account: ServiceAccountRef, audience: str, seconds: int) -> str:
        assert (account, audience, seconds) == (TEAM, "x", 600)
        parts = ({"alg": "RS256", "kid": "key-1"}, {k: v for k, v in self.claims.items() if v is not None})
        coded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
        return ".".join([*coded, "signature"])


def minted(server: Server) -> Assertion:
    return mint(server, TEAM, "x", lambda: NOW)


def refused(server: Server) -> IdentityError:
    with pytest.raises(IdentityError) as raised:
        minted(server)
    return raised.value


def test_a_good_one_is_told_with_its_key_and_times() -> None:
    made = minted(Server())
    assert (made.issuer, made.key_id) == (ISSUER, "key-1")
    assert (made.issued_at, made.expires_at) == (NOW, NOW + timedelta(minutes=10))


@pytest.mark.parametrize("ahead", [TOLERATED, -TOLERATED])
def test_clocks_may_differ_by_what_is_tolerated(ahead: timedelta) -> None:
    assert minted(Server(ahead)).issued_at == NOW + ahead


SKEWS = [
    (TOLERATED + timedelta(seconds=1), "the API server's clock is about 5 minutes ahead of the operator's"),
    (-TOLERATED - timedelta(seconds=1), "the API server's clock is about 5 minutes behind the operator's"),
    (timedelta(minutes=90), "the API server's clock is about 90 minutes ahead of the operator's"),
    (-timedelta(days=2), "the API server's clock is about 48 hours behind the operator's"),
]


@pytest.mark.parametrize(("ahead", "told"), SKEWS)
def test_clocks_that_differ_by_more_are_told_and_nothing_is_sent(ahead: timedelta, told: str) -> None:
    error = refused(Server(ahead))
    assert (error.reason, error.waiting) == ("ClockSkew", False)
    assert error.message.startswith(told)
    assert "5 minutes are tolerated" in error.message
    assert "chronyc" in error.message


def test_one_that_begins_later_than_it_was_issued_is_judged_by_when_it_begins() -> None:
    later = int((NOW + timedelta(minutes=6)).timestamp())
    assert refused(Server(nbf=later)).reason == "ClockSkew"


def test_one_that_is_over_by_our_clock_is_not_sent_though_it_was_issued_within_what_is_tolerated() -> None:
    assert refused(Server(-timedelta(minutes=4), life=200)).reason == "ClockSkew"


def test_one_that_lives_for_long_is_not_sent() -> None:
    assert minted(Server(life=LONGEST_LIFE.total_seconds())).expires_at == NOW + LONGEST_LIFE
    error = refused(Server(life=LONGEST_LIFE.total_seconds() + 1))
    assert error.reason == "AssertionUnusable"
    assert "3601 s where 600" in error.message


@pytest.mark.parametrize(
    "claims", [{"iat": None, "nbf": None}, {"exp": None}, {"exp": True}, {"exp": 1e300}, {"iat": "x"}]
)
def test_times_that_are_not_told_are_not_judged(claims: dict[str, Any]) -> None:
    assert minted(Server(**claims)).issuer == ISSUER


@pytest.mark.parametrize("issuer", ["http://issuer.example", "kubernetes/serviceaccount", "", "HTTPS", None])
def test_an_issuer_that_no_platform_trusts_is_told(issuer: str | None) -> None:
    error = refused(Server(iss=issuer))
    assert (error.reason, error.waiting) == ("IssuerUnusable", False)
    assert "--service-account-issuer=https://" in error.message


@pytest.mark.parametrize("audience", ["y", ["x", "y"], [], ["https://kubernetes.default.svc"], None])
def test_another_audience_is_told(audience: Any) -> None:
    assert refused(Server(aud=audience)).reason == "AssertionUnusable"
