"""Which hosts may get an assertion: every trick that a resource's author might try, and what is allowed."""

import pytest

from trainyard.core.errors import IdentityError
from trainyard.identity.audience import DEFAULT_AUDIENCE, checked_audience
from trainyard.identity.hosts import HostPolicy

ALLOWED = [
    ("https://adb-1234567890123456.7.azuredatabricks.net", "https://adb-1234567890123456.7.azuredatabricks.net"),
    ("https://dbc-a1b2c3d4-e5f6.cloud.databricks.com", "https://dbc-a1b2c3d4-e5f6.cloud.databricks.com"),
    ("https://1234567890123456.7.gcp.databricks.com", "https://1234567890123456.7.gcp.databricks.com"),
    ("https://DBC.cloud.databricks.com", "https://dbc.cloud.databricks.com"),
    ("https://dbc.cloud.databricks.com:443", "https://dbc.cloud.databricks.com"),
    ("https://127.0.0.1:4443", "https://127.0.0.1:4443"),
]

REFUSED = [
    "https://azuredatabricks.net",
    "https://.azuredatabricks.net",
    "https://evil-azuredatabricks.net",
    "https://azuredatabricks.net.evil.example",
    "https://adb-1.azuredatabricks.net.evil.example",
    "https://evil.example",
    "http://adb-1.azuredatabricks.net",
    "//adb-1.azuredatabricks.net",
    "adb-1.azuredatabricks.net",
    "https://adb-1.azuredatabricks.net:8443",
    "https://adb-1.azuredatabricks.net:0",
    "https://adb-1.azuredatabricks.net:99999",
    "https://evil.example@adb-1.azuredatabricks.net",
    "https://adb-1.azuredatabricks.net@evil.example",
    "https://adb-1.azuredatabricks.net:pass@evil.example",
    "https://evil.example#.azuredatabricks.net",
    "https://evil.example/.azuredatabricks.net",
    "https://evil.example?.azuredatabricks.net",
    "https://evil.example\\.azuredatabricks.net",
    "https://evil.example\t.azuredatabricks.net",
    "https://evil%2eexample%23.azuredatabricks.net",
    "https://аdb-1.azuredatabricks.net",
    "https://adb-1。azuredatabricks.net",
    "https://xn--db-1-6cd.azuredatabricks.net",
    "https://adb-1..azuredatabricks.net",
    "https://adb-1.azuredatabricks.net.",
    "https://-adb.azuredatabricks.net",
    "https://127.0.0.1",
    "https://127.0.0.1:4444",
    "https://[::1]:4443",
    "https://",
    "",
]

POLICY = HostPolicy(["*.azuredatabricks.net", "*.cloud.databricks.com", "*.gcp.databricks.com", "127.0.0.1:4443"])


@pytest.mark.parametrize(("url", "origin"), ALLOWED)
def test_a_listed_host_is_allowed(url: str, origin: str) -> None:
    assert POLICY.check(url) == origin


@pytest.mark.parametrize("url", REFUSED)
def test_anything_else_is_refused_with_advice(url: str) -> None:
    with pytest.raises(IdentityError) as raised:
        POLICY.check(url)
    assert raised.value.reason == "HostNotAllowed"
    assert not raised.value.waiting


def test_the_public_clouds_are_allowed_unless_configured_otherwise() -> None:
    assert HostPolicy().check("https://adb-1.2.azuredatabricks.net")
    with pytest.raises(IdentityError):
        HostPolicy([]).check("https://adb-1.2.azuredatabricks.net")


@pytest.mark.parametrize("pattern", ["*", "*.net", "https://x.example", "a b", "*.*.example.com", "x.example/path", ""])
def test_a_pattern_that_says_too_much_or_nothing_is_refused_at_start(pattern: str) -> None:
    with pytest.raises(ValueError, match="HOST"):
        HostPolicy([pattern])


WORKSPACE = "https://adb-1.7.azuredatabricks.net"
ENDPOINTS = [
    (f"{WORKSPACE}/oidc/v1/token", True),
    (f"{WORKSPACE}:443/oidc/v1/token", True),
    ("https://accounts.azuredatabricks.net/oidc/accounts/1/v1/token", True),
    ("https://accounts.cloud.databricks.com/oidc/accounts/1/v1/token", True),
    (f"{WORKSPACE}:8443/oidc/v1/token", False),
    ("https://adb-2.7.azuredatabricks.net/oidc/v1/token", False),
    ("https://login.microsoftonline.com/t/oauth2/v2.0/token", False),
    ("https://accounts.azuredatabricks.net.evil.example/token", False),
    ("http://adb-1.7.azuredatabricks.net/oidc/v1/token", False),
    ("https://user@adb-1.7.azuredatabricks.net/oidc/v1/token", False),
]


@pytest.mark.parametrize(("endpoint", "allowed"), ENDPOINTS)
def test_a_token_endpoint_is_the_workspaces_own_or_an_accounts(endpoint: str, allowed: bool) -> None:
    if allowed:
        assert POLICY.check_token_endpoint(WORKSPACE, endpoint) == endpoint
        return
    with pytest.raises(IdentityError) as raised:
        POLICY.check_token_endpoint(WORKSPACE, endpoint)
    assert raised.value.reason == "TokenEndpointNotAllowed"


@pytest.mark.parametrize(
    "audience",
    ["", " ", "kubernetes", "API", "kubernetes.default.svc", "https://kubernetes.default.svc.cluster.local", "x "],
)
def test_an_api_servers_own_audience_is_refused_at_start(audience: str) -> None:
    with pytest.raises(ValueError, match="audience"):
        checked_audience(audience)


def test_other_audiences_are_taken_as_they_are() -> None:
    assert checked_audience(DEFAULT_AUDIENCE) == DEFAULT_AUDIENCE
    assert checked_audience("https://example.com/Databricks") == "https://example.com/Databricks"
