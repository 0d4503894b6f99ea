"""The provider of the tests is installed once, whole or not at all, whoever asks for it at the same time."""

import sys
import threading
from pathlib import Path

import pytest

from tests.providers.oidc import installed as installing

# Stands for npm: notes that it ran, and makes what `npm ci` makes, slowly.
NPM = """
import pathlib, sys, time
pathlib.Path("{notes}").open("a").write(" ".join(sys.argv[1:]) + "\\n")
pathlib.Path("node_modules").mkdir()
time.sleep(0.2)
print("npm's words")
sys.exit({code})
"""


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(installing, "NODE", Path(sys.executable))
    monkeypatch.setattr(installing, "NPM", tmp_path / "npm.py")
    say(tmp_path, 0)
    return tmp_path / "notes"


def say(folder: Path, code: int) -> None:
    (folder / "npm.py").write_text(NPM.format(notes=folder / "notes", code=code))


def test_many_that_ask_at_once_install_it_once_and_without_scripts(notes: Path) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(installing.installed())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [folder] = set(found)
    assert len(found) == 4
    assert (folder / "node_modules").is_dir()
    [line] = notes.read_text().splitlines()
    assert line.startswith("ci --ignore-scripts")


def test_a_failed_install_is_told_in_npms_words_and_leaves_nothing(notes: Path, tmp_path: Path) -> None:
    say(tmp_path, 1)
    with pytest.raises(RuntimeError, match="npm's words"):
        installing.installed()
    assert [path.name for path in (tmp_path / "cache/trainyard/oidc-provider").iterdir()] == ["install.lock"]
    say(tmp_path, 0)
    assert (installing.installed() / "node_modules").is_dir()


def test_the_lock_file_pins_every_package_and_names_no_registry() -> None:
    text = (installing.HERE / "package-lock.json").read_text()
    packages = text.count('"node_modules/')
    assert packages > 20
    assert text.count('"integrity": "sha512-') == packages
    assert "resolved" not in text
