"""Searches texts for tokens: whole or in part, as they are, as in a URL or in base64. Pure.

Used by the canary test over everything that the operator leaves behind. A token's header is the same for all tokens of
an issuer and no secret; its payload and its signature are searched for piece by piece, so that a cut one is found too.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote

# Characters of a token that are enough to know it by. Shorter than any secret part, longer than any chance.
PIECE = 24
_WORD = re.compile(rb"[A-Za-z0-9+/_=.%%-]{%d,}" % PIECE)


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
    if len(segments) == 3:
        yield "payload", segments[1]
        yield "signature", segments[2]
    else:
        yield "token", raw
    quoted = quote(token, safe="").encode()  # as in a URL
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
