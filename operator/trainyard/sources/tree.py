"""What git prints about objects, read and judged. Pure. Called by `sources.repository`.

Refused rather than left out: symlinks, submodules and Git LFS pointers. A run would start without what its code reads,
and would say so only after it has cost money.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from trainyard.core.errors import SourceError
from trainyard.sources.remote import Remote

_SYMLINK, _SUBMODULE = b"120000", b"160000"
# First line of every pointer (git-lfs documentation, "The Pointer": the version line comes first, under 1024 bytes).
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_LFS_LONGEST = 1024


@dataclass(frozen=True, slots=True)
class Blob:
    """A file: path relative to the selected folder, and the id of its content."""

    path: str
    id: str


@dataclass(frozen=True, slots=True)
class Selection:
    """The folder that is wanted (None: the root), and how much of it: number of files, and bytes in all."""

    path: str | None
    files: int
    total: int

    def __post_init__(self) -> None:
        if self.path is not None and not is_plain(self.path):
            raise SourceError(
                f"git.path: {self.path[:200]!a} is no relative path of a folder, like src/train.",
                reason="GitPathInvalid",
            )

    def check_count(self, remote: Remote, count: int, *, cut: bool = False) -> None:
        """Raises SourceError: GitTooLarge or GitPathNotFound. `cut`: these are not all."""
        if count == 0:
            raise SourceError(f"git.path: {self.told(remote)} holds no files.", reason="GitPathNotFound")
        if count > self.files or cut:
            much = (
                f"more than the {self.files} files, or longer names,"
                if cut
                else f"{count} files, more than the {self.files}"
            )
            raise SourceError(
                f"git.path: {self.told(remote)} holds {much} that the operator takes: name a smaller folder.",
                reason="GitTooLarge",
            )

    def check_size(self, remote: Remote, total: int) -> None:
        """Raises SourceError: GitTooLarge."""
        if total > self.total:
            raise SourceError(
                f"git.path: {self.told(remote)} holds {total} bytes, more than the {self.total} that the operator "
                "takes: name a smaller folder, or keep data out of the repository.",
                reason="GitTooLarge",
            )

    def check_contents(self, remote: Remote, files: Mapping[str, bytes]) -> None:
        """Raises SourceError: GitEntryRefused for a pointer to what Git LFS keeps elsewhere."""
        for path, content in files.items():
            if len(content) < _LFS_LONGEST and content.startswith(_LFS_POINTER):
                raise refused_entry(self, remote, path, "is kept in Git LFS, which is not fetched")

    def told(self, remote: Remote) -> str:
        """The folder, for a message."""
        return f"folder {self.path} of {remote.url}" if self.path else remote.url


def refused_entry(selection: Selection, remote: Remote, path: str, what: str) -> SourceError:
    """The error for an entry that is no plain file."""
    return SourceError(
        f"git.path: {path[:200]!a} in {selection.told(remote)} {what}: name a folder without it, or replace it by "
        "a file.",
        reason="GitEntryRefused",
    )


def blobs_of(listing: bytes, remote: Remote, selection: Selection, *, cut: bool = False) -> list[Blob]:
    """The files that `git ls-tree -r -z` lists. `cut`: the listing is only the beginning of what it would be.

    Raises:
        SourceError: there are none or too many, or one is no plain file with a plain name.
    """
    selection.check_count(remote, listing.count(b"\0"), cut=cut)
    rows = listing.split(b"\0")[:-1]
    blobs = []
    for row in rows:
        facts, _, name = row.partition(b"\t")
        mode, _, found = facts.split(b" ")
        path = name.decode(errors="backslashreplace")  # what is no UTF-8 gets a backslash, which is not plain
        if mode == _SYMLINK:
            raise refused_entry(selection, remote, path, "is a symbolic link, which is not followed")
        if mode == _SUBMODULE:
            raise refused_entry(selection, remote, path, "is a submodule, which is not fetched")
        if not is_plain(path):
            raise refused_entry(selection, remote, path, "has a name that not every system can hold")
        blobs.append(Blob(path, found.decode()))
    return blobs


def is_plain(path: str) -> bool:
    """Whether a relative path means the same everywhere: no way up, no backslash, nothing that can not be seen."""
    parts = path.split("/")
    return (
        path.isprintable()
        and "\\" not in path
        and all(part not in ("", ".", "..") and part.lower() != ".git" for part in parts)
    )


def objects_of(answer: bytes) -> Iterator[tuple[str, int]]:
    """Id and size of each object that there is in the answer of `git cat-file --batch-check`."""
    for line in answer.decode().splitlines():
        found, *facts = line.split(" ")
        if len(facts) == 2:  # else `ID missing`
            yield found, int(facts[1])


def contents_of(answer: bytes) -> Iterator[tuple[str, bytes]]:
    """Id and content of each object in the answer of `git cat-file --batch`.

    Each is a line of `ID TYPE SIZE`, the content and a line end (git-cat-file(1), "Batch output").
    """
    at = 0
    while at < len(answer):
        end = answer.index(b"\n", at)
        found, _, size = answer[at:end].split(b" ")
        begin, at = end + 1, end + 1 + int(size)
        yield found.decode(), answer[begin:at]
        at += 1
