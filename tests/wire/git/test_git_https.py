"""Source code over HTTPS: the operator's own fetcher and the git program against a real smart server."""

import hashlib
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.wire.git.asking import FILES, MEBIBYTE, Clock, password, refusal, required, running, until
from tests.wire.git_server import Forge, Upstream, serve_git
from trainyard.sources.environment import environment
from trainyard.sources.git import GitFetcher, GitLimits, GitSource
from trainyard.sources.process import Bounds
from trainyard.sources.remote import Remote
from trainyard.sources.repository import Git


def test_the_files_of_a_branch_are_those_of_its_commit(forge: Forge, upstream: Upstream, fetcher: GitFetcher) -> None:
    commit = upstream.commit(FILES)
    source = GitSource(forge.url(), "main")
    assert fetcher.resolve(source, None) == commit
    assert fetcher.files(source, commit, None) == {path: text.encode() for path, text in FILES.items()}


def test_a_path_gives_only_its_folder_and_fetches_only_that(
    forge: Forge, upstream: Upstream, fetching: Callable[..., GitFetcher]
) -> None:
    noise = {f"data/{number}": hashlib.shake_128(bytes([number])).digest(5 * MEBIBYTE) for number in range(4)}
    commit = upstream.commit({**FILES, **noise})
    source = GitSource(forge.url(), "main", "src/team")
    # 20 MiB lie beside the folder; less than that may be written.
    found = fetching(fetched_bytes=MEBIBYTE).files(source, commit, None)
    assert found == {"__init__.py": b"", "model.py": b"WEIGHTS = 1\n"}


def test_a_host_without_partial_clones_serves_a_path_as_well(
    forge: Forge, upstream: Upstream, fetcher: GitFetcher
) -> None:
    upstream.config("uploadpack.allowFilter", "false")
    commit = upstream.commit(FILES)
    assert set(fetcher.files(GitSource(forge.url(), None, "src/team"), commit, None)) == {"__init__.py", "model.py"}


def test_each_kind_of_ref_is_resolved(forge: Forge, upstream: Upstream, fetcher: GitFetcher) -> None:
    first = upstream.commit(FILES)
    upstream.git("tag", "light")
    upstream.git("tag", "-a", "annotated", "-m", "release")
    upstream.git("tag", "-a", "twice", "-m", "tag of a tag", "annotated")
    upstream.git("push", "-q", "--tags", "origin")
    second = upstream.commit({"train.py": "print('more')\n"})
    upstream.git("push", "-q", "origin", "HEAD:refs/heads/feature/x", "HEAD:refs/pull/7/head")
    wanted = {
        None: second,
        "HEAD": second,
        "main": second,
        "refs/heads/main": second,
        "feature/x": second,
        "refs/pull/7/head": second,
        "light": first,
        "annotated": first,
        "twice": first,
        "refs/tags/annotated": first,
        first: first,
        first.upper(): first,
    }
    assert {ref: fetcher.resolve(GitSource(forge.url(), ref), None) for ref in wanted} == wanted


def test_a_ref_that_is_not_there_or_means_two_commits_is_told(
    forge: Forge, upstream: Upstream, fetcher: GitFetcher
) -> None:
    upstream.commit(FILES)
    upstream.git("tag", "v1")
    second = upstream.commit({"train.py": "2"}, branch="v1")
    upstream.git("push", "-q", "origin", "refs/tags/v1", "HEAD:refs/heads/prefix/gone")
    told = {
        ref: refusal(lambda ref=ref: fetcher.resolve(GitSource(forge.url(), ref), None))  # type: ignore[misc]
        for ref in ("v1", "gone", second[:12])
    }
    assert {ref: error.reason for ref, error in told.items()} == {
        "v1": "GitRefAmbiguous",
        "gone": "GitRefNotFound",
        second[:12]: "GitRefNotFound",
    }
    assert "write refs/heads/v1 or refs/tags/v1" in str(told["v1"])
    assert "full id" in str(told[second[:12]])
    assert not any(error.waiting for error in told.values())


def test_a_tag_of_something_else_than_a_commit_is_refused(
    forge: Forge, upstream: Upstream, fetcher: GitFetcher
) -> None:
    upstream.commit(FILES)
    upstream.git("tag", "-a", "odd", "-m", "a tree", "HEAD^{tree}")
    upstream.git("push", "-q", "--tags", "origin")
    source = GitSource(forge.url(), "odd")
    named = fetcher.resolve(source, None)
    assert refusal(lambda: fetcher.files(source, named, None)).reason == "GitRefNotFound"


def test_after_the_branch_has_moved_the_old_commit_is_still_what_was_resolved(
    forge: Forge, upstream: Upstream, fetcher: GitFetcher, clock: Clock
) -> None:
    old = upstream.commit(FILES)
    source = GitSource(forge.url(), "main")
    assert fetcher.resolve(source, None) == old
    new = upstream.commit({"train.py": "print('new')\n"})
    assert fetcher.resolve(source, None) == old  # what was asked a moment ago
    clock.now += 16
    assert fetcher.resolve(source, None) == new
    assert fetcher.files(source, old, None)["train.py"] == FILES["train.py"].encode()
    assert fetcher.files(source, new, None)["train.py"] == b"print('new')\n"


def test_a_commit_that_was_forced_away_is_told(forge: Forge, upstream: Upstream, fetcher: GitFetcher) -> None:
    forge.protocol_2 = False  # upload-pack of protocol 2 gives any object that it has
    upstream.config("uploadpack.allowReachableSHA1InWant", "true")
    old = upstream.commit(FILES)
    assert fetcher.files(GitSource(forge.url(), "main"), old, None)
    upstream.drop_history()
    upstream.commit({"other.py": "1"})
    error = refusal(lambda: fetcher.files(GitSource(forge.url(), "main", "src"), old, None))
    assert (error.reason, error.waiting) == ("GitRefNotFound", False)
    assert "force-pushed" in str(error)


@pytest.mark.parametrize("ref", ["release", None, "refs/heads/release"])
def test_a_host_that_gives_no_commits_by_id_is_asked_for_the_refs_history(
    forge: Forge, upstream: Upstream, fetcher: GitFetcher, ref: str | None
) -> None:
    forge.protocol_2 = False
    old = upstream.commit(FILES, branch="release")
    upstream.commit({"train.py": "print('new')\n"}, branch="release")
    upstream.drop_history("release")
    upstream.commit({"other.py": "1"})  # the default branch
    source = GitSource(forge.url(), ref, "src/team")
    assert fetcher.files(source, old, None) == {"__init__.py": b"", "model.py": b"WEIGHTS = 1\n"}
    missing = "0123456789abcdef0123456789abcdef01234567"
    assert refusal(lambda: fetcher.files(source, missing, None)).reason == "GitRefNotFound"


def test_an_operator_without_git_says_so(
    forge: Forge, fetcher: GitFetcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refusal(lambda: fetcher.resolve(GitSource(forge.url()), None)).reason == "GitMissing"


def test_a_repository_of_sha256_is_read(forge: Forge, fetcher: GitFetcher) -> None:
    upstream = Upstream(forge.root / "team" / "new.git", object_format="sha256")
    commit = upstream.commit(FILES)
    source = GitSource(forge.url("team/new.git"), "main")
    assert len(commit) == 64
    assert fetcher.resolve(source, None) == commit
    assert set(fetcher.files(source, commit, None)) == set(FILES)


def test_a_private_repository_is_read_with_its_password(forge: Forge, upstream: Upstream, fetcher: GitFetcher) -> None:
    commit = upstream.commit(FILES)
    credential = password(forge)
    forge.password = required(credential)
    source = GitSource(forge.url(), "main", "src")
    assert fetcher.resolve(source, credential) == commit
    assert set(fetcher.files(source, commit, credential)) == {"team/__init__.py", "team/model.py"}


def test_what_one_password_fetched_is_not_given_to_who_has_none(
    forge: Forge, upstream: Upstream, fetcher: GitFetcher
) -> None:
    commit = upstream.commit(FILES)
    credential = password(forge)
    forge.password = required(credential)
    source = GitSource(forge.url(), "main")
    assert fetcher.resolve(source, credential) == commit
    assert fetcher.files(source, commit, credential)
    for other in (None, password(forge, "guessed")):
        assert refusal(lambda other=other: fetcher.resolve(source, other)).reason == "GitAuthFailed"  # type: ignore[misc]
        assert refusal(lambda other=other: fetcher.files(source, commit, other)).reason == "GitAuthFailed"  # type: ignore[misc]


def test_no_message_has_the_password_that_the_host_echoes(
    forge: Forge, upstream: Upstream, fetcher: GitFetcher
) -> None:
    forge.password = "another"
    credential = password(forge)
    error = refusal(lambda: fetcher.resolve(GitSource(forge.url(), "main"), credential))
    assert error.reason == "GitAuthFailed"
    for secret in (credential.password, required(credential).removeprefix("Basic ")):
        assert secret not in str(error)
        assert secret not in repr(credential)


def test_no_command_line_has_a_secret(forge: Forge, fetcher: GitFetcher, tmp_path: Path) -> None:
    forge.silent = threading.Event()
    credential = password(forge)
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(refusal, lambda: fetcher.resolve(GitSource(forge.url(), "main"), credential))
        until(lambda: forge.requests)
        seen = until(lambda: [p.cmdline() for p in running(tmp_path / "work")])
        fetcher.close()
        assert asked.result().reason == "GitStopped"
        forge.silent.set()
    assert not any("s3cret" in word or "Basic" in word for line in seen for word in line)


def test_a_redirect_is_refused_and_gets_no_password(forge: Forge, upstream: Upstream, fetcher: GitFetcher) -> None:
    forge.redirect = f"https://127.0.0.1:{forge.port}"
    error = refusal(lambda: fetcher.resolve(GitSource(forge.url(), "main"), password(forge)))
    assert (error.reason, error.waiting) == ("GitRedirectRefused", False)
    assert len(forge.requests) == 1


def test_a_host_that_is_down_is_waited_for(forge: Forge, fetcher: GitFetcher, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with serve_git(tmp_path / "other") as gone:
        pass
    limits = GitLimits(resolve_seconds=0)
    elsewhere = GitFetcher(limits, [gone.host], tmp_path / "work2", ca_file=gone.ca_file)
    errors = [refusal(lambda: elsewhere.resolve(GitSource(gone.url()), None)) for _ in range(5)]
    assert {(error.reason, error.waiting) for error in errors} == {("GitUnreachable", True)}
    assert len({str(error) for error in errors}) == 1  # though git tells the milliseconds


def test_no_transport_but_the_urls_is_ever_used(upstream: Upstream, tmp_path: Path) -> None:
    """Whatever came past the checks of the URL: git itself refuses it."""
    upstream.commit(FILES)
    for url in (
        f"file://{upstream.path}",
        f"ext::git-upload-pack {upstream.path}",
        str(upstream.path),
        "http://localhost:1/x",
        "git://localhost:1/x",
    ):
        remote = Remote(url, "https", "github.com")
        given = environment(remote, None, tmp_path, ca_file=None, ssh=["ssh"])
        bounds = Bounds(tmp_path, time.monotonic() + 30, 1000 * MEBIBYTE, 1000 * MEBIBYTE, threading.Event())
        git = Git(remote, given, bounds, 30, [])
        assert "not allowed" in str(refusal(lambda git=git: git.resolve("main")))  # type: ignore[misc]


def test_a_certificate_of_an_unknown_authority_is_refused(forge: Forge, upstream: Upstream, tmp_path: Path) -> None:
    without = GitFetcher(GitLimits(), [forge.host], tmp_path / "work2")
    error = refusal(lambda: without.resolve(GitSource(forge.url()), password(forge)))
    assert (error.reason, error.waiting) == ("GitCertificateUntrusted", False)
    assert forge.authorizations == []


def test_a_repository_that_is_not_there_is_told(forge: Forge, fetcher: GitFetcher) -> None:
    error = refusal(lambda: fetcher.resolve(GitSource(forge.url("team/nothing.git")), None))
    assert (error.reason, error.waiting) == ("GitRepositoryNotFound", False)


@pytest.mark.parametrize("path", ["nowhere", "train.py", "src/team/model.py", "src/gone"])
def test_a_path_that_is_no_folder_is_told(forge: Forge, upstream: Upstream, fetcher: GitFetcher, path: str) -> None:
    commit = upstream.commit(FILES)
    error = refusal(lambda: fetcher.files(GitSource(forge.url(), None, path), commit, None))
    assert error.reason == "GitPathNotFound"
    assert path in str(error)


def test_what_is_no_plain_file_is_refused_in_the_folder_and_ignored_beside_it(
    forge: Forge, upstream: Upstream, fetcher: GitFetcher
) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    other = Upstream(forge.root / "team" / "other.git")
    other.commit(FILES)
    upstream.commit({**FILES, "link/passwd": Path("/etc/passwd"), "lfs/weights.bin": pointer})
    upstream.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(other.path), "modules/other")
    commit = upstream.commit({"train.py": "2"})
    for path in ("link", "lfs", "modules"):
        error = refusal(lambda path=path: fetcher.files(GitSource(forge.url(), None, path), commit, None))  # type: ignore[misc]
        assert error.reason == "GitEntryRefused", path
    assert set(fetcher.files(GitSource(forge.url(), None, "src"), commit, None)) == {
        "team/__init__.py",
        "team/model.py",
    }


def test_nothing_of_a_fetch_stays_on_disk_and_what_a_killed_one_left_goes(
    forge: Forge, upstream: Upstream, fetching: Callable[..., GitFetcher], tmp_path: Path
) -> None:
    commit = upstream.commit(FILES)
    left = tmp_path / "work" / "fetch-left"
    left.mkdir(parents=True)
    (left / "ssh-key").write_text("key")
    fetching().files(GitSource(forge.url()), commit, None)
    assert not list((tmp_path / "work").iterdir())


def test_hooks_and_configuration_of_this_machine_have_no_effect(
    forge: Forge, upstream: Upstream, fetcher: GitFetcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = upstream.commit(FILES)
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(f'[url "https://evil.example/"]\n\tinsteadOf = https://{forge.host}/\n')
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(home / ".gitconfig"))
    monkeypatch.setenv("GIT_SSL_NO_VERIFY", "1")
    monkeypatch.setenv("GIT_DIR", str(upstream.path))
    assert fetcher.resolve(GitSource(forge.url(), "main"), None) == commit


def test_the_test_needs_a_git_with_its_http_backend() -> None:
    path = subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True).stdout.strip()
    assert (Path(path) / "git-http-backend").exists()
