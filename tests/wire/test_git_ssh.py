"""Source code over SSH: what the ssh program is told, and that what it brings is what the commit holds."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.wire.git_server import Upstream
from trainyard.core.errors import SourceError
from trainyard.sources.environment import environment
from trainyard.sources.git import GitCredential, GitFetcher, GitLimits, GitSource
from trainyard.sources.remote import Remote

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----"
KNOWN = "github.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
CREDENTIAL = GitCredential("ssh", "github.com", private_key=KEY, known_hosts=KNOWN)


class Told:
    """What the test's ssh was told, call by call."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def calls(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.read_text().splitlines()]


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path / "calls")


@pytest.fixture
def fetcher(tmp_path: Path, told: Told) -> GitFetcher:
    ssh = [sys.executable, str(Path(__file__).with_name("git_ssh.py")), str(told.file)]
    return GitFetcher(GitLimits(), ["github.com"], tmp_path / "work", ssh=ssh)


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    return Upstream(tmp_path / "code.git")


def test_a_commit_is_read_with_the_secrets_key_and_no_other(
    upstream: Upstream, fetcher: GitFetcher, told: Told, tmp_path: Path
) -> None:
    commit = upstream.commit({"train.py": "1", "src/model.py": "2"})
    source = GitSource(f"ssh://git@github.com{upstream.path}", "main", "src")
    assert fetcher.resolve(source, CREDENTIAL) == commit
    assert fetcher.files(source, commit, CREDENTIAL) == {"model.py": b"2"}
    for call in told.calls():
        assert call["target"] == "git@github.com"
        assert call["command"].startswith("git-upload-pack ")
        assert (call["key"], call["key_mode"]) == (KEY + "\n", "0o600")
        assert call["known_hosts"] == KNOWN + "\n"
        assert call["options"]["IdentitiesOnly"] == "yes"
        assert call["options"]["IdentityAgent"] == "none"
        assert call["options"]["StrictHostKeyChecking"] == "yes"
        assert call["options"]["GlobalKnownHostsFile"] == "/dev/null"
        assert call["options"]["BatchMode"] == "yes"
        assert call["options"]["-F"] == "none"
        assert "SSH_AUTH_SOCK" not in call["environment"]
    assert not list((tmp_path / "work").iterdir())


def test_the_form_that_forges_show_is_read_as_well(upstream: Upstream, fetcher: GitFetcher) -> None:
    commit = upstream.commit({"train.py": "1"})
    assert fetcher.resolve(GitSource(f"git@github.com:{upstream.path}", "main"), CREDENTIAL) == commit


def test_the_key_is_never_used_for_another_host(upstream: Upstream, fetcher: GitFetcher, told: Told) -> None:
    elsewhere = GitCredential("ssh", "gitlab.com", private_key=KEY, known_hosts=KNOWN)
    with pytest.raises(SourceError) as raised:
        fetcher.resolve(GitSource(f"ssh://git@github.com{upstream.path}"), elsewhere)
    assert raised.value.reason == "GitCredentialMismatch"
    assert not told.file.exists()


@pytest.mark.skipif(shutil.which("ssh") is None, reason="no ssh program on this machine")
def test_the_real_ssh_takes_every_option_as_it_is_meant(tmp_path: Path) -> None:
    remote = Remote("git@github.com:acme/churn", "ssh", "github.com")
    given = environment(remote, CREDENTIAL, tmp_path, ca_file=None, ssh=["ssh"])
    command = [*shlex.split(given["GIT_SSH_COMMAND"]), "-G", "git@github.com"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    settings = dict(line.split(" ", 1) for line in ran.stdout.splitlines() if " " in line)
    assert settings["identitiesonly"] == "yes"
    assert settings["identityagent"] == "none"
    assert settings["identityfile"] == str(tmp_path / "ssh-key")
    assert settings["userknownhostsfile"] == str(tmp_path / "known-hosts")
    assert settings["globalknownhostsfile"] == "/dev/null"
    assert settings["stricthostkeychecking"] in ("true", "yes")
    assert settings["batchmode"] == "yes"
    assert settings["forwardagent"] == "no"
    assert settings["clearallforwardings"] == "yes"
    assert settings["preferredauthentications"] == "publickey"
    assert "proxycommand" not in settings
