"""What git's words on standard error mean to a person. Pure.

Called by `sources.repository`. git is run with LC_ALL=C, so that its words are these; words that are not known count
as something that time may mend, because a network fails in more ways than can be listed. What a host says is clipped
and cleaned: it may echo what it was sent. The same trouble always reads the same: a run's status is written when its
message changes, and whoever watches it is woken.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from trainyard.core.errors import SourceError
from trainyard.sources.remote import Remote

_SHOWN = 300  # characters of git's words in a message
_READ = 2000  # characters that these are made of
# What differs from one try to the next without a difference to the reader, and what stands for it: the words of curl
# (lib/connect.c, lib/transfer.c, "HTTP/2 stream 5"), OpenSSH ("Connection closed by 192.0.2.1 port 22"), git's
# temporary files and forges' numbers of requests.
_FLEETING = [
    (re.compile(words, re.IGNORECASE), instead)
    for words, instead in (
        (r"\s+after \d[\d.]{0,15} ?(ms|milliseconds|s|seconds)\b", ""),
        (r"\b\d[\d.,]{0,15}( ?([kmg]i?b|bytes?))(/s(ec)?)?\b", "some bytes"),
        (r"\b(request|correlation|trace|ray|session)[ -]?id\b\W*[\w:.-]+", r"\1 id"),
        (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "ID"),
        (r"\b\d{1,3}(\.\d{1,3}){3}\b", "ADDRESS"),
        (r"\[?(?<![\w:])(?=[0-9a-f:]*:[0-9a-f:]*:)[0-9a-f:]{3,}(%\w+)?(?![\w:])\]?", "ADDRESS"),
        (r"(ADDRESS)( port |:)\d+", r"\1"),
        (r"\bstream \d+", "stream"),
        (r"\b(tmp_[a-z]+_)\w+", r"\1"),
        (r"\b\d{4}-\d\d-\d\d[T ]", ""),
        (r"\b\d\d:\d\d:\d\d([.,]\d+)?(Z|[+-]\d\d:?\d\d)?\b", "TIME"),
        (r"\b(pid|process) \d+", r"\1"),
        (r"\d+% \(\d+/\d+\)", ""),
    )
]


class _Meaning(NamedTuple):
    words: re.Pattern[str]
    reason: str
    waiting: bool
    advice: str


def _meaning(words: str, reason: str, advice: str, *, waiting: bool = False) -> _Meaning:
    return _Meaning(re.compile(words, re.IGNORECASE), reason, waiting, advice)


# In this order: the words of a redirect also say that the URL could not be read, and so on.
_MEANINGS = (
    _meaning(
        r"exec: \S+: not found|cannot run|command not found",
        "GitMissing",
        "the operator's image lacks git or ssh: use one that has both",
    ),
    _meaning(
        r"signal 25|file too large|file size limit|out of memory|cannot allocate|mmap failed",
        "GitTooLarge",
        "there is more of it, in files or refs, than the operator fetches: name a smaller folder in git.path, or keep "
        "data out of the repository",
    ),
    _meaning(
        r"returned error: 3\d\d|unable to update url base from redirection|maximum \(\d+\) redirects",
        "GitRedirectRefused",
        "the host redirects, which is never followed: write the URL that it redirects to",
    ),
    _meaning(
        r"host key verification failed|no .* host key is known|host key .* has changed",
        "GitHostKeyUnknown",
        "the host's key is not among the Secret's known_hosts: add what ssh-keyscan prints, after comparing it with "
        "the forge's own page",
    ),
    _meaning(
        r"error in libcrypto|invalid format|incorrect passphrase|bad passphrase",
        "GitAuthFailed",
        "the Secret's ssh-privatekey can not be used: it has to be a private key without a passphrase",
    ),
    _meaning(
        r"authentication failed|could not read (username|password)|terminal prompts disabled|permission denied|"
        r"returned error: 40[13]|access denied|not authorized",
        "GitAuthFailed",
        "the host does not let it be read: check that the repository exists, and that git.secretRef names a Secret "
        "whose key or token may read it",
    ),
    _meaning(
        r"certificate|no alternative .*subject name",
        "GitCertificateUntrusted",
        "its certificate is not signed by an authority that the operator knows: have the operator started with the "
        "authority's certificate",
    ),
    _meaning(
        r"does not allow request for unadvertised",
        "GitCommitNotServed",
        "the host gives only what branches and tags point at: keep the commit under a branch or tag",
    ),
    _meaning(
        r"not our ref|unadvertised object|couldn't find remote ref|remote did not send all necessary objects",
        "GitRefNotFound",
        "the host does not have that commit, or no longer gives it (its branch was deleted or force-pushed): push it "
        "again under a tag",
    ),
    _meaning(
        r"repository .*not found|does not appear to be a git repo|is this a git repo|returned error: 404|not found\W*$",
        "GitRepositoryNotFound",
        "there is no such repository, or it is private and needs git.secretRef",
    ),
    _meaning(
        r"could not resolve|failed to connect|couldn't connect|connection (refused|timed out|reset|closed)|too slow|"
        r"timed out|returned error: (429|5\d\d)|hung up|unexpected disconnect|early eof|empty reply|no route|"
        r"rpc failed|curl [0-9]+|ssl_|tls|recv failure|send failure|broken pipe|remote end|closed by remote",
        "GitUnreachable",
        "the host does not answer as it should",
        waiting=True,
    ),
)
_UNKNOWN = _meaning("", "GitFailed", "git failed", waiting=True)


def refusal(remote: Remote, doing: str, words: str, secrets: Sequence[str]) -> SourceError:
    """The error for what git said while it was doing something with that repository."""
    # A repository may be named after one of these words.
    unnamed = words.replace(remote.url, "URL")
    meaning = next((each for each in _MEANINGS if each.words.search(unnamed)), _UNKNOWN)
    said = cleaned(words, secrets)
    return SourceError(
        f"{doing} {remote.url}: {meaning.advice}. git said: {said or 'nothing'}",
        reason=meaning.reason,
        waiting=meaning.waiting,
    )


def cleaned(words: str, secrets: Sequence[str]) -> str:
    """The last words, on one line, without control characters, anything secret, and what differs each time."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        words = words.replace(secret, "[secret]")
    words = re.sub(r"://[^\s/@]+@", "://", words)
    lines = [" ".join(re.sub(r"[^\x20-\x7e]", " ", line).split()) for line in words.splitlines()]
    told = "; ".join(line for line in lines if line and not line.startswith(("hint:", "warning:")))
    told = steady(told[-_READ:])
    return told if len(told) <= _SHOWN else "... " + told[-_SHOWN:]


def steady(words: str) -> str:
    """The words without times, addresses, byte counts and numbers of requests."""
    for fleeting, instead in _FLEETING:
        words = fleeting.sub(instead, words)
    return words
