"""Logs in a volume: which paths its files get."""

import pytest

from trainyard.core.errors import Refused
from trainyard.keeping.volume import VolumeLogStore


class Files:
    """A volume's files, in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def put(self, path: str, data: bytes) -> None:
        self.kept[path] = data

    def get(self, path: str) -> bytes | None:
        return self.kept.get(path)

    def delete(self, path: str) -> None:
        self.kept = {name: data for name, data in self.kept.items() if f"{name}/".find(f"{path}/") != 0}


def test_logs_are_files_below_the_folder() -> None:
    files = Files()
    store = VolumeLogStore("/Volumes/main/ml/logs/", files)
    assert store.put("team-a/run/1/log", b"x", "text/plain") == "/Volumes/main/ml/logs/team-a/run/1/log"
    store.put("team-a/run2/log", b"y", "text/plain")
    assert store.get("team-a/run/1/log") == b"x"
    store.delete("team-a/run")
    assert list(files.kept) == ["/Volumes/main/ml/logs/team-a/run2/log"]


@pytest.mark.parametrize("key", ["../../other/x", "a/../b", "", "/a"])
def test_no_key_leads_out_of_the_folder(key: str) -> None:
    store = VolumeLogStore("/Volumes/main/ml/logs", Files())
    for act in (lambda: store.put(key, b"", ""), lambda: store.get(key), lambda: store.delete(key)):
        with pytest.raises(Refused, match="key"):
            act()
