"""What a team's Secret may be used for: which host, which repositories, which transport."""

import base64
from typing import Any

import pytest

from trainyard.core.errors import SourceError
from trainyard.sources.credential import GIT_HOST, checked_credential, credential_of
from trainyard.sources.git import DEFAULT_GIT_HOSTS, GitCredential
from trainyard.sources.remote import RemotePolicy

POLICY = RemotePolicy([*DEFAULT_GIT_HOSTS, "git.acme.example:8443"])


def error_of(act: Any, *arguments: Any) -> SourceError:
    with pytest.raises(SourceError) as raised:
        act(*arguments)
    return raised.value


def secret(kind: str, host: str | None = "github.com", **data: str) -> dict[str, Any]:
    encoded = {name.replace("_hosts", "-hosts").replace("_", "-"): value for name, value in data.items()}
    encoded = {("known_hosts" if name == "known-hosts" else name): value for name, value in encoded.items()}
    return {
        "metadata": {"namespace": "team-a", "name": "git", "annotations": {} if host is None else {GIT_HOST: host}},
        "type": kind,
        "data": {name: base64.b64encode(value.encode()).decode() for name, value in encoded.items()},
    }


SSH = {"ssh_privatekey": "-----BEGIN KEY-----\nsecretkey\n", "known_hosts": "github.com ssh-ed25519 AAAA\n"}
BASIC = {"username": "robot", "password": "s3cret\n"}


def test_a_secret_of_each_type_becomes_the_credential_of_its_host() -> None:
    ssh = credential_of(secret("kubernetes.io/ssh-auth", "GitHub.com:22", **SSH))
    assert (ssh.kind, ssh.host) == ("ssh", "github.com")
    assert ssh.known_hosts == "github.com ssh-ed25519 AAAA"
    https = credential_of(secret("kubernetes.io/basic-auth", "git.acme.example:8443", **BASIC))
    assert (https.kind, https.host, https.username) == ("https", "git.acme.example:8443", "robot")
    assert https.password == "s3cret"
    assert "secret" not in repr(ssh)
    assert "s3cret" not in repr(https)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (secret("kubernetes.io/basic-auth", None, **BASIC), "annotate it with trainyard.dev/git-host=HOST/PATH"),
        (secret("kubernetes.io/basic-auth", username="robot"), "lacks the key password"),
        (secret("kubernetes.io/basic-auth", username="a\nb", password="s3cret"), "more than one line"),
        (secret("kubernetes.io/ssh-auth", ssh_privatekey="secretkey"), "lacks the key known_hosts"),
        (secret("Opaque", **BASIC), "another type"),
        ({**secret("kubernetes.io/basic-auth", **BASIC), "data": {"username": "s3cret!"}}, "something else than text"),
    ],
)
def test_a_secret_that_lacks_something_says_what_and_shows_nothing(given: dict[str, Any], told: str) -> None:
    error = error_of(credential_of, given)
    assert error.reason == "GitSecretInvalid"
    assert "team-a/git" in str(error)
    assert told in str(error)
    assert "s3cret" not in str(error)
    assert "secretkey" not in str(error)


@pytest.mark.parametrize(
    ("credential", "url", "reason"),
    [
        (GitCredential("https", "gitlab.com"), "https://github.com/a/b", "GitCredentialMismatch"),
        (GitCredential("https", "github.com"), "git@github.com:a/b", "GitCredentialMismatch"),
        (GitCredential("ssh", "github.com"), "https://github.com/a/b", "GitCredentialMismatch"),
        (GitCredential("https", "git.acme.example"), "https://git.acme.example:8443/b", "GitCredentialMismatch"),
        (None, "git@github.com:a/b", "GitAuthFailed"),
    ],
)
def test_a_credential_is_used_for_its_own_host_and_transport_only(
    credential: GitCredential | None, url: str, reason: str
) -> None:
    assert error_of(checked_credential, credential, POLICY.remote(url)).reason == reason


PRIVATE = "https://github.com/acme/churn"
BELOW = [
    ("github.com", PRIVATE, True),
    ("github.com/acme", PRIVATE, True),
    ("github.com/acme/", PRIVATE, True),
    ("GitHub.com:443/acme/churn", PRIVATE, True),
    ("github.com/acme/churn", PRIVATE + ".git", True),
    ("github.com/acme/churn.git", PRIVATE, True),
    ("github.com/acme/churn", PRIVATE + ".git/", True),
    ("github.com/acme/churn", PRIVATE + "-secret", False),
    ("github.com/acme/churn", "https://github.com/acme/payroll", False),
    ("github.com/acm", PRIVATE, False),
    ("github.com/acme/churn/more", PRIVATE, False),
    ("github.com/Acme", PRIVATE, False),
    ("github.com/acme", "https://github.com/evil/../acme/../payroll", False),
    ("github.com/acme", "https://github.com/acme/../payroll/x", False),
    ("github.com/acme", "https://github.com/acme/%2e%2e/payroll/x", False),
    ("github.com/acme", "https://github.com/acme/%252e%252e/payroll/x", False),
    ("github.com/acme", "https://github.com/acme%2f..%2fpayroll/x", False),
    ("github.com/acme", "https://github.com/acme/..%5cpayroll", False),
    ("github.com/acme", "https://github.com/acme//payroll", False),
    ("github.com/acme", "https://github.com//acme/churn", False),
    ("github.com/acme", "https://github.com/payroll/acme/churn", False),
    ("github.com", "https://github.com/acme/../payroll/x", True),
    ("git.acme.example:8443/team/a", "https://git.acme.example:8443/team/a/b/c", True),
    ("dev.azure.com/acme/My%20Project", "https://dev.azure.com/acme/My%20Project/_git/churn", True),
    ("dev.azure.com/acme/Mine", "https://dev.azure.com/acme/My%20Project/_git/churn", False),
]


@pytest.mark.parametrize(("told", "url", "good"), BELOW)
def test_a_credential_is_used_below_its_annotations_path_only(told: str, url: str, good: bool) -> None:
    credential = credential_of(secret("kubernetes.io/basic-auth", told, **BASIC))
    remote = POLICY.remote(url)
    if good:
        assert checked_credential(credential, remote) is credential
        return
    error = error_of(checked_credential, credential, remote)
    assert (error.reason, error.waiting) == ("GitCredentialMismatch", False)
    assert "and what is below it only" in str(error)


@pytest.mark.parametrize("url", ["ssh://git@github.com/acme/churn.git", "git@github.com:acme/churn.git"])
def test_a_key_is_used_below_its_annotations_path_only(url: str) -> None:
    given = {
        place: secret("kubernetes.io/ssh-auth", f"github.com/{place}", **SSH) for place in ("acme/churn", "acme/x")
    }
    keys = {place: credential_of(each) for place, each in given.items()}
    assert checked_credential(keys["acme/churn"], POLICY.remote(url)) is keys["acme/churn"]
    assert error_of(checked_credential, keys["acme/x"], POLICY.remote(url)).reason == "GitCredentialMismatch"


@pytest.mark.parametrize(
    "told",
    [
        *("https://github.com/acme", "github.com/", "github.com//", "github.com/a//b", "github.com/../a", "/acme"),
        *("github.com/a/%2e%2e", "github.com,gitlab.com", "github.com acme", "git@github.com:acme", "github.com:x/a"),
    ],
)
def test_an_annotation_that_could_mean_more_than_it_says_is_refused(told: str) -> None:
    error = error_of(credential_of, secret("kubernetes.io/basic-auth", told, **BASIC))
    assert error.reason == "GitSecretInvalid"
    assert "can not be read" in str(error)
