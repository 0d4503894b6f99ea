"""What the tests of git over HTTPS share: what a fetcher refuses, a password, and what still runs."""

import base64
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from tests.wire.git_server import Forge
from trainyard.core.errors import SourceError
from trainyard.sources.git import GitCredential

Found = TypeVar("Found")
MEBIBYTE = 1024 * 1024
FILES = {"train.py": "print('train')\n", "src/team/__init__.py": "", "src/team/model.py": "WEIGHTS = 1\n"}


def refusal(act: Callable[[], object]) -> SourceError:
    with pytest.raises(SourceError) as raised:
        act()
    return raised.value


def password(forge: Forge, value: str = "s3cret-token") -> GitCredential:
    return GitCredential("https", forge.host, username="robot", password=value)


def required(credential: GitCredential) -> str:
    return "Basic " + base64.b64encode(f"{credential.username}:{credential.password}".encode()).decode()


def running(below: Path) -> list[psutil.Process]:
    """Processes that work in a folder below that one, whoever is their parent by now."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd().startswith(str(below)) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:  # it has ended meanwhile
            continue
    return found


def until(ask: Callable[[], Found]) -> Found:
    for _ in range(500):
        if found := ask():
            return found
        time.sleep(0.01)
    raise AssertionError("it never came")


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now
