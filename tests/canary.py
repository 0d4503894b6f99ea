"""Searches texts for tokens, secrets and keys: whole or in part, as they are, as in a URL or in base64. Pure.

Used by the canary test over everything that the operator leaves behind. A token's header is the same for all tokens of
an issuer and no secret; its payload and its signature are searched for piece by piece, so that a cut one is found too.
A key or certificate in PEM is searched for by its lines but the first, which those of one kind have in common.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from urllib.parse import quote

_DASHES = b"-----"
_BEGIN = _DASHES + b"BEGIN"
# Characters of a token that are enough to know it by. Shorter than any secret part, longer than any chance.
PIECE = 24
_WORD = re.compile(rb"[A-Za-z0-9+/_=.%%~-]{%d,}" % PIECE)  # with the ~ that Entra puts into its client secrets


@dataclass(frozen=True)
class Leak:
    """A piece of a token in a text. Says where, not what."""

    text: str
    token: str
    form: str


class Canary:
    """The tokens to search for, each by a label that may be shown."""

    def __init__(self, tokens: Mapping[str, str]) -> None:
        self._pieces: dict[bytes, tuple[str, str]] = {}
        for label, token in tokens.items():
            for form, text in forms(token):
                for piece in _pieces(text):
                    self._pieces[piece] = (label, form)

    def search(self, texts: Mapping[str, bytes]) -> list[Leak]:
        """Every token that is in a text, once for each form of it."""
        found: dict[Leak, None] = {}
        for name, text in texts.items():
            for word in set(_WORD.findall(text)):
                for at in range(len(word) - PIECE + 1):
                    known = self._pieces.get(word[at : at + PIECE])
                    if known is not None:
                        found[Leak(name, *known)] = None
        return list(found)


def forms(token: str) -> Iterator[tuple[str, bytes]]:
    """What a token may look like: its secret segments, and the whole of it in base64 at each alignment."""
    raw = token.encode()
    segments = raw.split(b".")
    if _BEGIN in raw:
        lines = raw.splitlines()
        own = [line for before, line in pairwise(lines) if _BEGIN not in before and _DASHES not in line]
        raw = b"\n".join(own)
        yield from (("line", line) for line in own)
    elif len(segments) == 3:
        yield "payload", segments[1]
        yield "signature", segments[2]
    else:
        yield "token", raw
    quoted = quote(raw, safe="").encode()  # as in a URL
    if quoted != raw:
        yield "quoted", quoted
    for shift in range(3):
        padded = b"\0" * shift + raw
        whole = base64.b64encode(padded[: len(padded) // 3 * 3])[4 if shift else 0 :]
        yield f"base64, {shift} off", whole
        yield f"base64url, {shift} off", whole.translate(bytes.maketrans(b"+/", b"-_"))


def _pieces(text: bytes) -> Iterable[bytes]:
    """Pieces side by side: any stretch of twice their length holds one whole."""
    return (text[at : at + PIECE] for at in range(0, len(text) - PIECE + 1, PIECE))
