"""The blocks of docs/identity that are not written by hand: manifests out of examples/, and what the doctor said.

Used by tests/unit/test_identity_pages.py and tests/e2e/test_identity_pages.py. Both compare, and, with the variable
WRITE_PAGES=1 in the environment, write what they found into the pages.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "identity"
EXAMPLES = ROOT / "examples" / "identity"
PAGES = sorted(FOLDER.glob("*.md"))
WRITE = os.environ.get("WRITE_PAGES") == "1"
_QUOTED = re.compile(r"^```yaml\n# (examples/identity/\S+)\n(?:.*?\n)??```$", re.MULTILINE | re.DOTALL)
_DOCTOR = re.compile(r"^<!-- doctor: (\S+) -->\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)


def with_examples(text: str) -> str:
    """The page with each quoted manifest as its file has it."""

    def quote(found: re.Match[str]) -> str:
        return f"```yaml\n# {found[1]}\n{(ROOT / found[1]).read_text().rstrip()}\n```"

    return _QUOTED.sub(quote, text)


def quoted(text: str) -> set[Path]:
    """The files that the page quotes."""
    return {ROOT / found[1] for found in _QUOTED.finditer(text)}


def told(text: str) -> Mapping[str, str]:
    """What the page shows of the doctor, by the name of the case; empty where it shows nothing yet."""
    return {found[1]: found[2] or "" for found in _DOCTOR.finditer(text)}


def with_told(text: str, said: Mapping[str, str]) -> str:
    """The page with what the doctor said in these cases."""

    def tell(found: re.Match[str]) -> str:
        body = said.get(found[1], found[2] or "")
        return f"<!-- doctor: {found[1]} -->\n\n```text\n{body}```\n" if body else found[0]

    return _DOCTOR.sub(tell, text)


def cases() -> Iterator[tuple[Path, str]]:
    """Each page with each case that it shows."""
    for page in PAGES:
        for name in told(page.read_text()):
            yield page, name


def agree(page: Path, change: Callable[[str], str]) -> bool:
    """Whether the page is as `change` leaves it; with WRITE_PAGES=1 it is made so."""
    text = page.read_text()
    changed = change(text)
    if WRITE and changed != text:
        page.write_text(changed)
        return True
    return changed == text
