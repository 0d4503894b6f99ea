"""What the fetcher takes from a run and a Secret, and what it makes of git's words: rules, as tables."""

from typing import Any

import pytest

from trainyard.core.errors import SourceError
from trainyard.sources.answers import refusal
from trainyard.sources.git import DEFAULT_GIT_HOSTS
from trainyard.sources.refs import checked_ref
from trainyard.sources.remote import Remote, RemotePolicy, host_of
from trainyard.sources.tree import Selection, blobs_of

GITHUB = Remote("https://github.com/acme/churn", "https", "github.com")

URLS = [
    ("https://github.com/acme/churn.git", "https", "github.com"),
    ("https://github.com:443/acme/churn", "https", "github.com"),
    ("https://dev.azure.com/acme/My%20Project/_git/churn", "https", "dev.azure.com"),
    ("https://GitHub.com/acme/churn", "https", "github.com"),
    ("ssh://git@github.com/acme/churn.git", "ssh", "github.com"),
    ("ssh://git@github.com:22/acme/churn.git", "ssh", "github.com"),
    ("git@github.com:acme/churn.git", "ssh", "github.com"),
    ("git@ssh.dev.azure.com:v3/acme/project/churn", "ssh", "ssh.dev.azure.com"),
    ("https://git.acme.example:8443/churn", "https", "git.acme.example:8443"),
    ("ssh://git@git.acme.example:8443/churn", "ssh", "git.acme.example:8443"),
    ("https://deep.forge.example/churn", "https", "deep.forge.example"),
]
REFUSED = [
    ("http://github.com/acme/churn", "GitUrlInvalid"),
    ("git://github.com/acme/churn", "GitUrlInvalid"),
    ("file:///etc", "GitUrlInvalid"),
    ("ext::sh -c id", "GitUrlInvalid"),
    ("/etc/passwd", "GitUrlInvalid"),
    ("https://user:password@github.com/acme/churn", "GitUrlInvalid"),
    ("https://user@github.com/acme/churn", "GitUrlInvalid"),
    ("ssh://git:password@github.com/acme/churn", "GitUrlInvalid"),
    ("ssh://github.com/acme/churn", "GitUrlInvalid"),
    ("ssh://-oProxyCommand=id@github.com/acme/churn", "GitUrlInvalid"),
    ("ssh://git@-oProxyCommand=id/acme", "GitUrlInvalid"),
    ("git@github.com:-oProxyCommand=id", "GitUrlInvalid"),
    ("--upload-pack=id", "GitUrlInvalid"),
    ("https://github.com/acme/churn?x=1", "GitUrlInvalid"),
    ("https://github.com/acme/churn#x", "GitUrlInvalid"),
    ("https://github.com/acme/churn\n", "GitUrlInvalid"),
    ("https://github.com\\@evil.example/churn", "GitUrlInvalid"),
    ("https://github.com", "GitUrlInvalid"),
    ("https://127.0.0.1/churn", "GitHostNotAllowed"),
    ("https://2130706433/churn", "GitHostNotAllowed"),
    ("https://0x7f.0x1/churn", "GitHostNotAllowed"),
    ("https://[::1]/churn", "GitUrlInvalid"),
    ("https://github.com:8443/acme/churn", "GitHostNotAllowed"),
    ("https://github.com.evil.example/acme/churn", "GitHostNotAllowed"),
    ("https://evilgithub.com/acme/churn", "GitHostNotAllowed"),
    ("https://forge.example/churn", "GitHostNotAllowed"),
    ("https://xn--gthub-cta.com/acme", "GitHostNotAllowed"),
]
POLICY = RemotePolicy([*DEFAULT_GIT_HOSTS, "git.acme.example:8443", "*.forge.example"])


def error_of(act: Any, *arguments: Any) -> SourceError:
    with pytest.raises(SourceError) as raised:
        act(*arguments)
    return raised.value


@pytest.mark.parametrize(("url", "scheme", "host"), URLS)
def test_a_plain_url_of_an_allowed_host_is_asked(url: str, scheme: str, host: str) -> None:
    remote = POLICY.remote(url)
    assert (remote.url, remote.scheme, remote.host) == (url, scheme, host)
    assert host_of(url) == host


def test_turns_are_taken_by_the_host_that_git_asks_whatever_else_the_url_holds() -> None:
    assert host_of("https://github.com/o/r@1.git") == "github.com"
    assert host_of("git@github.com:o/r@1.git") == "github.com"
    assert error_of(host_of, "https://u@github.com/o/r").reason == "GitUrlInvalid"


@pytest.mark.parametrize(("url", "reason"), REFUSED)
def test_every_other_url_is_refused_without_being_repeated(url: str, reason: str) -> None:
    error = error_of(POLICY.remote, url)
    assert (error.reason, error.waiting) == (reason, False)
    assert "password@" not in str(error)


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f.0x1"])
def test_an_address_is_refused_even_where_it_is_allowed(host: str) -> None:
    assert error_of(RemotePolicy([host]).remote, f"https://{host}/churn").reason == "GitHostNotAllowed"


@pytest.mark.parametrize(
    "ref", ["main", "feature/x", "v1.0", "refs/pull/1/head", "a@b", "0123abc", "0" * 40, "release-1", "ünïcode"]
)
def test_what_git_takes_for_a_ref_is_taken(ref: str) -> None:
    assert checked_ref(ref) == ref


@pytest.mark.parametrize(
    "ref",
    [
        *(
            "",
            "-x",
            "--upload-pack=id",
            "a..b",
            "a b",
            "a~1",
            "a^",
            "a:b",
            "a?",
            "a*",
            "a[",
            "a\\b",
            "@",
            "a@{1}",
            "/a",
        ),
        *("a/", "a//b", ".a", "a/.b", "a.lock", "a.lock/b", "a.", "a\nb", "a\x7f", "x" * 256, "a\u202eb"),
    ],
)
def test_what_git_would_read_as_something_else_is_refused(ref: str) -> None:
    assert error_of(checked_ref, ref).reason == "GitRefInvalid"


@pytest.mark.parametrize("path", ["../x", "a/../b", "a//b", ".", "/a", "a/.git/hooks", "a\\b", "a\nb"])
def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    assert error_of(Selection, path, 1, 1).reason == "GitPathInvalid"


@pytest.mark.parametrize(
    "name", [b"../evil", b"a/../../evil", b"/etc/x", b".git/config", b"a/.GIT/x", b"a\\b", b"\xff"]
)
def test_a_name_in_a_tree_that_leads_elsewhere_is_refused(name: bytes) -> None:
    listing = b"100644 blob " + b"0" * 40 + b"\t" + name + b"\0"
    assert error_of(blobs_of, listing, GITHUB, Selection(None, 9, 9)).reason == "GitEntryRefused"


WORDS = [
    ("fatal: unable to access 'https://x/': Could not resolve host: x", "GitUnreachable", True),
    ("fatal: unable to access 'https://x/': The requested URL returned error: 503", "GitUnreachable", True),
    ("fatal: unable to access 'https://x/': The requested URL returned error: 429", "GitUnreachable", True),
    ("fatal: unable to access 'https://x/': The requested URL returned error: 301", "GitRedirectRefused", False),
    ("fatal: could not read Username for 'https://x': terminal prompts disabled", "GitAuthFailed", False),
    ("remote: Repository not found.\nfatal: repository 'https://x/' not found", "GitRepositoryNotFound", False),
    ("git@github.com: Permission denied (publickey).\nfatal: Could not read from", "GitAuthFailed", False),
    ("Host key verification failed.\nfatal: Could not read from remote", "GitHostKeyUnknown", False),
    ("ssh: connect to host x port 22: Connection timed out", "GitUnreachable", True),
    ("fatal: remote error: upload-pack: not our ref 0000", "GitRefNotFound", False),
    ("error: Server does not allow request for unadvertised object 0000", "GitCommitNotServed", False),
    ("error: index-pack died of signal 25", "GitTooLarge", False),
    ("fatal: unable to access 'https://x/': SSL certificate problem: self-signed", "GitCertificateUntrusted", False),
    (
        "fatal: unable to access 'https://x/': SSL: no alternative certificate subject name matches target host name "
        "'x'",
        "GitCertificateUntrusted",
        False,
    ),
    (
        "fatal: unable to access 'https://x/': server certificate verification failed. CAfile: none CRLfile: none",
        "GitCertificateUntrusted",
        False,
    ),
    (
        "fatal: unable to access 'https://x/': OpenSSL SSL_connect: Connection reset by peer in connection to x:443",
        "GitUnreachable",
        True,
    ),
    (
        "fatal: unable to access 'https://x/': gnutls_handshake() failed: Error in the pull function.",
        "GitUnreachable",
        True,
    ),
    ("kex_exchange_identification: Connection closed by remote host", "GitUnreachable", True),
    ("sh: 1: exec: git: not found\n", "GitMissing", False),
    ("error: cannot run ssh: No such file or directory", "GitMissing", False),
    ("fatal: https://x/info/refs not valid: is this a git repository?", "GitRepositoryNotFound", False),
    ("error: RPC failed; curl 92 HTTP/2 stream 5 was not closed cleanly", "GitUnreachable", True),
    ("something that no version of git has said", "GitFailed", True),
]


@pytest.mark.parametrize(("words", "reason", "waiting"), WORDS)
def test_what_git_says_becomes_a_reason(words: str, reason: str, waiting: bool) -> None:
    error = refusal(GITHUB, "asking", words, [])
    assert (error.reason, error.waiting) == (reason, waiting)


def test_a_repositorys_name_says_nothing_of_what_went_wrong() -> None:
    remote = Remote("https://github.com/acme/certificate-not-found", "https", "github.com")
    words = f"fatal: unable to access '{remote.url}/': Could not resolve host: github.com"
    assert refusal(remote, "asking", words, []).reason == "GitUnreachable"


@pytest.mark.parametrize(
    ("once", "again", "told"),
    [
        (
            "fatal: Failed to connect to git.acme.example port 443 after 2 ms: Couldn't connect",
            "fatal: Failed to connect to git.acme.example port 443 after 131 ms: Couldn't connect",
            "Failed to connect to git.acme.example port 443: Couldn't connect",
        ),
        (
            "Connection timed out after 10001 milliseconds",
            "Connection timed out after 10002 milliseconds",
            "Connection timed out",
        ),
        (
            "Connection closed by 140.82.121.4 port 22",
            "Connection closed by 140.82.121.3 port 22",
            "Connection closed by ADDRESS",
        ),
        ("Connection reset by [2606:50c0:8000::154]:443", "Connection reset by [2606:50c0::1]:443", "by ADDRESS"),
        ("Connection reset by 2606:50c0::154 port 22", "Connection reset by fe80::1%eth0 port 22", "by ADDRESS"),
        (
            "transfer closed with 1234 bytes remaining to read",
            "transfer closed with 98765 bytes remaining to read",
            "closed with some bytes remaining",
        ),
        (
            "fetch-pack: unexpected disconnect, 3456 bytes of body are still expected",
            "fetch-pack: unexpected disconnect, 12 bytes of body are still expected",
            "some bytes of body are still expected",
        ),
        (
            "RPC failed; curl 92 HTTP/2 stream 5 was not closed cleanly: CANCEL (err 8)",
            "RPC failed; curl 92 HTTP/2 stream 7 was not closed cleanly: CANCEL (err 8)",
            "curl 92 HTTP/2 stream was not closed cleanly: CANCEL (err 8)",
        ),
        (
            "remote: error (request ID: 01HF7-ab12:9) of team 7",
            "remote: error (request ID: 01HG9-zz:77) of team 7",
            "remote: error (request id) of team 7",
        ),
        (
            "remote: 123e4567-e89b-12d3-a456-426614174000 failed at 2026-11-23T05:10:11.123Z",
            "remote: 00000000-e89b-12d3-a456-426614174000 failed at 2026-11-24T06:00:00Z",
            "remote: ID failed at TIME",
        ),
        (
            "fatal: unable to write repository/objects/pack/tmp_pack_aB3x9Q: no space",
            "fatal: unable to write repository/objects/pack/tmp_pack_0lS_Aa: no space",
            "pack/tmp_pack_: no space",
        ),
        ("Receiving objects:  12% (34/567)", "Receiving objects:  99% (560/567)", "Receiving objects:"),
    ],
)
def test_the_same_trouble_reads_the_same_each_time(once: str, again: str, told: str) -> None:
    first, second = (str(refusal(GITHUB, "asking", words, [])) for words in (once, again))
    assert first == second
    assert told in first


@pytest.mark.parametrize(
    "words",
    [
        "fatal: remote error: upload-pack: not our ref 0123456789abcdef0123456789abcdef01234567",
        "The requested URL returned error: 503",
        "error: index-pack died of signal 25",
        "error:0A000126:SSL routines::unexpected eof while reading",
        "fatal: could not read Username for 'https://git.acme.example:8443': terminal prompts disabled",
        "curl 56 GnuTLS recv error (-9): Error decoding the received TLS packet.",
    ],
)
def test_what_says_something_about_the_trouble_stays(words: str) -> None:
    assert words in str(refusal(GITHUB, "asking", words, []))


def test_what_a_host_says_is_cleaned_and_clipped() -> None:
    words = "warning: noise\nremote: \x1b[31mhttps://u:p@x/ has topsecret\r\n" + "y" * 5000
    told = str(refusal(GITHUB, "asking", words, ["topsecret"]))
    assert len(told) < 600
    short = str(refusal(GITHUB, "asking", words[:70], ["topsecret"]))
    assert "topsecret" not in short
    assert "u:p" not in short
    assert short.isprintable()
