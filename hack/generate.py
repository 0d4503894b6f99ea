"""Writes every generated file of the repository, or checks that none has drifted.

Called by `make generate` and `make check`. It compares texts, never git's state, so it also works in an unpacked
archive and with uncommitted changes.
"""

import argparse
import sys
from pathlib import Path

from crdgen.chart import render_chart_crds
from crdgen.crds import KINDS, render_crd
from crdgen.portability import render_portability
from crdgen.reference import render_reference
from crdgen.rights import render_rights, render_rights_page

ROOT = Path(__file__).resolve().parent.parent


def generated_files() -> dict[Path, str]:
    """Each generated file's path below the repository's root, with the text it must have."""
    files = {Path("crds") / f"{kind.plural}.yaml": render_crd(kind) for kind in KINDS}
    files |= {Path("docs/reference") / f"{kind.name.lower()}.md": render_reference(kind) for kind in KINDS}
    files[Path("charts/trainyard/templates/crds.yaml")] = render_chart_crds(KINDS)
    files[Path("docs/portability.md")] = render_portability()
    rights = ROOT / "charts/trainyard/files/rbac"
    files[Path("hack/rbac.yaml")] = render_rights(rights)
    files[Path("docs/reference/rbac.md")] = render_rights_page(rights)
    return files


def drifted(root: Path) -> list[Path]:
    """The generated files under `root` that differ from what the models say, or are missing, or have no model."""
    expected = generated_files()
    wrong = [path for path, text in expected.items() if _text(root / path) != text]
    present = [*root.glob("crds/*"), *root.glob("docs/reference/*.md")]
    return sorted(wrong + [p.relative_to(root) for p in present if p.relative_to(root) not in expected])


def write(root: Path) -> None:
    """Writes every generated file under `root`."""
    for path, text in generated_files().items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def main() -> int:
    """Exit code 0, or 1 when `--check` found drift."""
    parser = argparse.ArgumentParser(
        description="Generate CRDs and their pages, the page on portability, the chart's CRDs, the operator's rights."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a generated file has drifted")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository (default: this one)")
    arguments = parser.parse_args()
    if not arguments.check:
        write(arguments.root)
        return 0
    wrong = drifted(arguments.root)
    for path in wrong:
        print(f"{path}: does not match the models: run `make generate` and commit the result", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
