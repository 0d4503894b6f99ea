"""docs/cookbook.md as data: each recipe with its manifest and what its status shows at the end. Used by the tests only.

A recipe is a section of the page, or a part of one, with a block that quotes a file of examples/cookbook (its first
line names the file), and, where there is something to see, a block that begins with `status:` and one of `text`, which
are lines of its logs.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "cookbook.md"
FOLDER = ROOT / "examples" / "cookbook"
NAMESPACE = "team-wine"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Recipe:
    """A section of the page. `quoted` is what it shows as the file's text, `log` what it shows of the run's logs."""

    title: str
    file: Path
    quoted: str
    status: dict[str, Any]
    log: tuple[str, ...]

    @property
    def is_team(self) -> bool:
        """Whether it is what recipes share, and nothing is run."""
        return self.file.stem.endswith("-team")

    @property
    def is_deployment(self) -> bool:
        """Whether it is a ModelDeployment, which needs the model of another recipe."""
        return "\nkind: ModelDeployment\n" in self.quoted

    def __str__(self) -> str:
        return self.file.stem


def recipes() -> Iterator[Recipe]:
    """Every recipe, in the order of the page."""
    for section in re.split(r"^###? ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        told = [body for language, body in _BLOCK.findall(section) if language == "text"]
        blocks = [body for _, body in _BLOCK.findall(section)]
        named = [(m[1], body) for body in blocks if (m := re.match(r"# (examples/cookbook/\S+)\n", body))]
        seen = [yaml.safe_load(body)["status"] for body in blocks if body.startswith("status:\n")]
        for path, body in named:
            yield Recipe(
                title=section.partition("\n")[0],
                file=ROOT / path,
                quoted=body.partition("\n")[2],
                status=seen[-1] if seen else {},
                log=tuple(line for body in told for line in body.splitlines()),
            )


def differences(expected: Any, actual: Any, path: str = "status") -> Iterator[str]:
    """Where a status is not what the page shows. `<...>` stands for anything but nothing; what it leaves out may be."""
    if isinstance(expected, dict):
        if not isinstance(actual, dict):
            yield f"{path} is {actual!r}"
            return
        for name, value in expected.items():
            yield from differences(value, actual.get(name), f"{path}.{name}")
    elif isinstance(expected, list):
        if isinstance(actual, list) and expected and "type" in expected[0]:  # conditions go by their type
            found = {each["type"]: each for each in actual}
            actual = [found.get(each["type"]) for each in expected]
        if not isinstance(actual, list) or len(actual) != len(expected):
            yield f"{path} is {actual!r}"
            return
        for number, (one, other) in enumerate(zip(expected, actual, strict=True)):
            yield from differences(one, other, f"{path}[{number}]")
    elif isinstance(expected, str) and re.fullmatch(r"<.*>", expected):
        if not actual:
            yield f"{path} is {actual!r}"
    elif expected != actual:
        yield f"{path} is {actual!r}, not {expected!r}"
