"""What a fetch may take: time, disk, memory, and requests to the host. And what is asked only once."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.wire.git.asking import FILES, MEBIBYTE, Clock, password, refusal, required, running, until
from tests.wire.git_server import Forge, Upstream, serve_git
from trainyard.sources.git import GitCredential, GitFetcher, GitLimits, GitSource


def test_a_small_pack_of_a_huge_file_is_refused_before_it_unfolds(
    forge: Forge, upstream: Upstream, fetching: Callable[..., GitFetcher]
) -> None:
    commit = upstream.commit({**FILES, "zeros": b"\0" * (24 * MEBIBYTE)})
    error = refusal(lambda: fetching(fetched_bytes=MEBIBYTE).files(GitSource(forge.url()), commit, None))
    assert error.reason == "GitTooLarge"
    assert f"holds {24 * MEBIBYTE + 27} bytes" in str(error)


def test_an_endless_repository_is_stopped_while_it_comes(
    forge: Forge, upstream: Upstream, fetching: Callable[..., GitFetcher], tmp_path: Path
) -> None:
    commit = upstream.commit(FILES)
    forge.endless = True
    error = refusal(lambda: fetching(fetched_bytes=MEBIBYTE).files(GitSource(forge.url()), commit, None))
    assert (error.reason, error.waiting) == ("GitTooLarge", False)
    assert "git.path" in str(error)
    assert not list((tmp_path / "work").iterdir())
    assert until(lambda: not running(tmp_path / "work"))


def test_a_host_that_says_nothing_is_given_up_in_time(
    forge: Forge, upstream: Upstream, fetching: Callable[..., GitFetcher], tmp_path: Path
) -> None:
    forge.silent = threading.Event()
    began = time.monotonic()
    error = refusal(lambda: fetching(seconds=1.0).resolve(GitSource(forge.url(), "main"), None))
    assert time.monotonic() - began < 10
    assert (error.reason, error.waiting) == ("GitTimeout", True)
    assert until(lambda: not running(tmp_path / "work"))
    forge.silent.set()


def test_a_host_that_hangs_holds_up_no_other_host(forge: Forge, upstream: Upstream, tmp_path: Path) -> None:
    commit = upstream.commit(FILES)
    (tmp_path / "other").mkdir()
    with serve_git(tmp_path / "other") as hanging, ThreadPoolExecutor(4) as threads:
        hanging.silent = threading.Event()
        hosts = [forge.host, hanging.host]
        both = tmp_path / "both.pem"
        both.write_bytes(forge.ca_file.read_bytes() + hanging.ca_file.read_bytes())
        fetcher = GitFetcher(GitLimits(seconds=20, per_host=1), hosts, tmp_path / "work", ca_file=both)
        stuck = [
            threads.submit(refusal, lambda ref=ref: fetcher.resolve(GitSource(hanging.url(), ref), None))  # type: ignore[misc]
            for ref in ("a", "b", "c")
        ]
        until(lambda: hanging.requests)
        assert fetcher.resolve(GitSource(forge.url(), "main"), None) == commit
        assert not any(each.done() for each in stuck)
        assert len(hanging.requests) == 1
        fetcher.close()
        reasons = {each.result().reason for each in stuck}
        hanging.silent.set()
        assert reasons == {"GitStopped"}


def test_too_many_or_too_large_files_are_told_with_their_measure(
    forge: Forge, upstream: Upstream, fetching: Callable[..., GitFetcher]
) -> None:
    commit = upstream.commit({**FILES, "other.py": b"x" * 5000})
    source = GitSource(forge.url())
    many = refusal(lambda: fetching(files=3).files(source, commit, None))
    assert many.reason == "GitTooLarge"
    assert "holds 4 files, more than the 3" in str(many)
    large = refusal(lambda: fetching(total_bytes=1000).files(source, commit, None))
    assert large.reason == "GitTooLarge"
    assert "holds 5027 bytes, more than the 1000" in str(large)


# What the operator's process had in memory at most (proc(5), VmHWM), before and after it asked for the commit.
PEAKS = """
import sys
from pathlib import Path
from trainyard.core.errors import SourceError
from trainyard.sources.git import GitFetcher, GitLimits, GitSource

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

url, host, ca_file, commit, folder = sys.argv[1:]
fetcher = GitFetcher(GitLimits(), [host], Path(folder), ca_file=Path(ca_file))
before = peak()
try:
    fetcher.files(GitSource(url, "main"), commit, None)
except SourceError as error:
    print(before, peak(), error.reason, error.waiting, error)
"""


def test_a_few_kilobytes_that_list_ten_million_files_cost_the_operator_no_memory(
    forge: Forge, upstream: Upstream, tmp_path: Path
) -> None:
    commit = upstream.commit_of_ten_million_files()
    given = [forge.url(), forge.host, str(forge.ca_file), commit, str(tmp_path / "work")]
    began = time.monotonic()
    ran = subprocess.run([sys.executable, "-c", PEAKS, *given], capture_output=True, text=True, check=True)
    before, after, reason, waiting, told = ran.stdout.split(" ", 4)
    assert (reason, waiting) == ("GitTooLarge", "False")
    assert "holds more than the 500 files" in told
    assert int(after) - int(before) < 16 * 1024  # kilobytes; the whole listing has 1.6 GB
    assert time.monotonic() - began < 30


def test_a_listing_is_bounded_by_its_names_as_well(
    forge: Forge, upstream: Upstream, fetching: Callable[..., GitFetcher]
) -> None:
    commit = upstream.commit({f"{'a' * 200}/{'b' * 200}/{'c' * 200}/{number}": "" for number in range(30)})
    told = refusal(lambda: fetching(files=2).files(GitSource(forge.url()), commit, None))
    assert told.reason == "GitTooLarge"
    assert "more than the 2 files, or longer names, that the operator takes" in str(told)


def test_a_host_that_lists_refs_without_end_is_stopped(forge: Forge, upstream: Upstream, fetcher: GitFetcher) -> None:
    commit = upstream.commit(FILES)
    forge.protocol_2 = False  # which lists all refs
    made = "".join(f"create refs/heads/{number}/HEAD {commit}\n" for number in range(1500))
    upstream.git("update-ref", "--stdin", cwd=upstream.path, stdin=made)
    error = refusal(lambda: fetcher.resolve(GitSource(forge.url()), None))
    assert (error.reason, error.waiting) == ("GitTooLarge", False)
    assert "write the one that is meant in full" in str(error)
    assert fetcher.resolve(GitSource(forge.url(), "refs/heads/7/HEAD"), None) == commit


def test_a_host_that_lists_refs_without_end_gets_little_memory_of_the_operators_container(
    forge: Forge, upstream: Upstream, fetcher: GitFetcher, tmp_path: Path
) -> None:
    forge.endless_refs = True
    error = refusal(lambda: fetcher.resolve(GitSource(forge.url(), "main"), None))
    assert (error.reason, error.waiting) == ("GitTooLarge", False)
    assert forge.sent < 256 * MEBIBYTE
    assert until(lambda: not running(tmp_path / "work"))


def test_a_commit_is_fetched_once_however_many_runs_ask(forge: Forge, upstream: Upstream, fetcher: GitFetcher) -> None:
    commit = upstream.commit(FILES)
    source = GitSource(forge.url(), "main")
    with ThreadPoolExecutor(16) as threads:
        resolved = {each.result() for each in [threads.submit(fetcher.resolve, source, None) for _ in range(16)]}
        fetched = [each.result() for each in [threads.submit(fetcher.files, source, commit, None) for _ in range(16)]]
    asked = len(forge.requests)
    assert resolved == {commit}
    fetched[0].clear()  # each has its own
    assert fetcher.files(source, commit, None) == fetched[1]
    assert len(forge.requests) == asked
    # ls-remote: the server's abilities, the refs. fetch: its abilities, the pack.
    assert asked == 4


def test_what_is_refused_is_not_asked_again_for_a_while_whoever_asks(
    forge: Forge, upstream: Upstream, fetcher: GitFetcher, clock: Clock
) -> None:
    credential = password(forge)
    forge.password = required(credential)
    commit = upstream.commit({**FILES, "link": Path("/etc/passwd")})
    source = GitSource(forge.url(), "main")

    def asked(after: float, act: Callable[[], object]) -> tuple[str, int]:
        """The reason, and how many requests it took to be told."""
        clock.now += after
        before = len(forge.requests)
        return refusal(act).reason, len(forge.requests) - before

    def count(*steps: tuple[float, GitCredential]) -> list[int]:
        return [asked(after, lambda given=given: fetcher.files(source, commit, given))[1] for after, given in steps]  # type: ignore[misc]

    stranger = password(forge, "guessed")
    first, soon, later = (asked(after, lambda: fetcher.resolve(source, stranger)) for after in (0, 14, 2))
    assert first == later == ("GitAuthFailed", 1)
    assert soon == ("GitAuthFailed", 0)
    # Someone may grant the right meanwhile; the Secret of another run may have it already.
    assert count((0, stranger), (59, stranger), (2, stranger)) == [1, 0, 1]
    assert fetcher.resolve(source, credential) == commit
    # A commit will never hold anything else.
    assert count((0, credential), (599, credential), (2, credential)) == [2, 0, 2]


def test_a_ref_that_was_missing_is_found_soon_after_it_is_pushed(
    forge: Forge, upstream: Upstream, fetcher: GitFetcher, clock: Clock
) -> None:
    upstream.commit(FILES)
    source = GitSource(forge.url(), "later")
    assert refusal(lambda: fetcher.resolve(source, None)).reason == "GitRefNotFound"
    commit = upstream.commit({"train.py": "2"}, branch="later")
    clock.now += 16
    assert fetcher.resolve(source, None) == commit
