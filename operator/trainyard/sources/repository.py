"""One repository asked by the git program: what a ref means, and the files of a commit. Blocking.

Called by `sources.git`, in a thread, once for a temporary folder. There is never a work tree: objects are read one by
one, so that no file name, symlink, filter, hook or attribute of the repository takes effect on this machine.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from trainyard.core.errors import SourceError
from trainyard.sources.answers import refusal
from trainyard.sources.process import Bounds, OutOfSpace, OutOfTime, Ran, Stopped, run
from trainyard.sources.refs import candidates, chosen, with_history
from trainyard.sources.remote import Remote
from trainyard.sources.tree import Blob, Selection, blobs_of, contents_of, objects_of

# Bytes of a line that git prints about an object: an id, a word, a size. And of an answer of a few such lines or names.
_LINE = 128
_ANSWER = 64 * 1024
# Bytes of a file's name in a listing, all in all: PATH_MAX of Linux.
_NAME = 4096
# Bytes of address space for a question about refs, whose answer git has in memory as a whole.
_ASKING_MEMORY = 256 * 1024 * 1024
# What makes a repository of git's a partial clone (git documentation, technical/partial-clone): objects that are not
# here are known to be at origin, so that a commit can be had without the files that nobody asks for.
_PARTIAL = """
[core]
\trepositoryformatversion = 1
[extensions]
\tpartialClone = origin
[remote "origin"]
\tpromisor = true
\tpartialCloneFilter = blob:none
"""


@dataclass(frozen=True, slots=True)
class Git:
    """The git program for one remote repository, in one folder, within bounds that all its calls share.

    `seconds` is what the deadline in `bounds` was made of, for messages. `secrets` never stand in a message.
    """

    remote: Remote
    environment: Mapping[str, str]
    bounds: Bounds
    seconds: float
    secrets: Sequence[str]
    program: str = "git"

    def resolve(self, ref: str) -> str:
        """The commit id that a ref (see `refs.checked_ref`) has now.

        Raises:
            SourceError: it has none, or the host can not be asked.
        """
        ran = self._run("asking", ["ls-remote", "--quiet", "--end-of-options", "origin", *candidates(ref)])
        if ran.cut:
            raise SourceError(
                f"git.ref: {self.remote.url} has more refs that end in {ref} than are read: write the one that is "
                "meant in full, like refs/heads/main.",
                reason="GitTooLarge",
            )
        if ran.code != 0:
            raise self._refused("asking", ran)
        rows = (line.split("\t", 1) for line in ran.out.decode(errors="replace").splitlines())
        return chosen(self.remote, ref, {row[1]: row[0] for row in rows if len(row) == 2})

    def files(self, commit: str, ref: str, selection: Selection) -> dict[str, bytes]:
        """What is in the selected folder of the commit, by path relative to the folder.

        `ref` is where to look for the commit with hosts that do not give commits by their id.

        Raises:
            SourceError: it can not be had, or is more or other than may be fetched.
        """
        partially = self._commit(commit, ref, selection)
        tree = self._tree(commit, selection)
        blobs = self._blobs(tree, selection)
        ids = sorted({blob.id for blob in blobs})
        if partially:
            self._fetch(ids, [])
        sizes = dict(objects_of(self._local(["cat-file", "--batch-check"], ids, len(ids) * _LINE).out))
        if len(sizes) < len(ids):
            raise refusal(self.remote, "fetching", "the host left out some files", ())
        selection.check_size(self.remote, sum(sizes[blob.id] for blob in blobs))
        return self._contents(blobs, ids, selection)

    def _commit(self, commit: str, ref: str, selection: Selection) -> bool:
        """Fetches the commit, and says whether the files are yet to be fetched."""
        partially = selection.path is not None
        self._start(commit, partially)
        try:
            self._fetch([commit], ["--depth=1"])
        except SourceError as error:
            if error.reason != "GitCommitNotServed":
                raise
        else:
            return partially
        # Whole, because the history of a partial clone would fetch what is missing when it is asked about.
        shutil.rmtree(self.bounds.folder / "repository")
        self._start(commit, partially=False)
        self._fetch(with_history(ref), [])
        return False

    def _blobs(self, tree: str, selection: Selection) -> list[Blob]:
        """The files below the tree. A few kilobytes of trees can list a billion, so that only a beginning is read."""
        listed = self._local(["ls-tree", "-r", "-z", tree], answer=(selection.files + 1) * _NAME, whole=False)
        return blobs_of(listed.out, self.remote, selection, cut=listed.cut)

    def _contents(self, blobs: Sequence[Blob], ids: Sequence[str], selection: Selection) -> dict[str, bytes]:
        most = selection.total + len(ids) * _LINE
        contents = dict(contents_of(self._local(["cat-file", "--batch"], ids, most).out))
        found = {blob.path: contents[blob.id] for blob in blobs}
        selection.check_contents(self.remote, found)
        return found

    def _start(self, commit: str, partially: bool) -> None:
        """An empty repository, of the kind of hash that the commit has."""
        kind = "sha256" if len(commit) == 64 else "sha1"
        repository = self.bounds.folder / "repository"
        self._local(["init", "--quiet", "--bare", "--template=", f"--object-format={kind}", str(repository)])
        if partially:
            with (repository / "config").open("a") as config:
                config.write(_PARTIAL)

    def _fetch(self, refspecs: Sequence[str], options: Sequence[str]) -> None:
        command = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"]
        ran = self._run("fetching", [*command, *options, "--stdin", "--end-of-options", "origin"], refspecs)
        if ran.code != 0:
            raise self._refused("fetching", ran)

    def _tree(self, commit: str, selection: Selection) -> str:
        """The id of the selected folder's tree. Of a partial clone, it touches no file, as that may not be here."""
        asked = [f"{commit}^{{commit}}", f"{commit}^{{tree}}"]
        kinds = self._local(["cat-file", "--batch-check=%(objecttype) %(objectname)"], asked).out.decode().splitlines()
        if not kinds[0].startswith("commit "):
            raise SourceError(
                f"git.ref: {self.remote.url} has no commit {commit}, or no longer: name a branch, a tag of a commit, "
                "or a commit.",
                reason="GitRefNotFound",
            )
        root = kinds[1].removeprefix("tree ")
        return root if selection.path is None else self._folder(commit, root, selection.path)

    def _folder(self, commit: str, root: str, path: str) -> str:
        row = self._local(["ls-tree", "-d", "-z", root, "--", path]).out.decode(errors="replace").removesuffix("\0")
        facts, _, name = row.partition("\t")
        if name != path or not facts.startswith("040000 tree "):
            raise SourceError(
                f"git.path: {path} is no folder of {self.remote.url} at commit {commit}: correct it; the file to run "
                "is named by the entrypoint, relative to this folder.",
                reason="GitPathNotFound",
            )
        return facts.removeprefix("040000 tree ")

    def _local(
        self, command: Sequence[str], lines: Sequence[str] = (), answer: int = _ANSWER, *, whole: bool = True
    ) -> Ran:
        """git on what has been fetched: no transport is allowed, so a missing object is an error, not a request.

        `whole` says that there is no use for just the beginning of the answer.
        """
        ran = self._run("reading", command, lines, answer)
        if ran.cut and whole:
            raise SourceError(
                f"reading {self.remote.url}: git told more than {answer} bytes about what it fetched: the repository "
                "is none that git itself makes.",
                reason="GitTooLarge",
            )
        if ran.code != 0 and not ran.cut:
            raise self._refused("reading", ran)
        return ran

    def _run(self, doing: str, command: Sequence[str], lines: Sequence[str] = (), answer: int = _ANSWER) -> Ran:
        repository = self.bounds.folder / "repository"
        given = dict(self.environment)
        if repository.exists():
            given["GIT_DIR"] = str(repository)
        if doing == "reading":
            given["GIT_ALLOW_PROTOCOL"] = ""
        bounds = self.bounds
        if doing == "asking":
            bounds = replace(bounds, memory=min(bounds.memory, _ASKING_MEMORY))
        stdin = "".join(f"{line}\n" for line in lines).encode()
        error = partial(SourceError, waiting=True)
        try:
            return run([self.program, *command], given, bounds, stdin, answer=answer, writes=doing == "fetching")
        except OutOfTime:
            raise error(
                f"{doing} {self.remote.url} took more than {self.seconds:g} s: it is asked again. If this goes on, "
                "name a smaller folder in git.path.",
                reason="GitTimeout",
            ) from None
        except OutOfSpace:
            # How much more is not told: it differs each time, and a message that changes is news to whoever watches.
            raise SourceError(
                f"{doing} {self.remote.url} brought more than the {self.bounds.written} bytes that the operator "
                "fetches: name a smaller folder in git.path, or keep data out of the repository.",
                reason="GitTooLarge",
            ) from None
        except Stopped:
            raise error(
                f"{doing} {self.remote.url} was interrupted: the operator stops.", reason="GitStopped"
            ) from None

    def _refused(self, doing: str, ran: Ran) -> SourceError:
        words = ran.err.replace(str(self.bounds.folder), "") or f"exit code {ran.code}"
        # 128 + SIGXFSZ: the shell's or git's word for a process that was about to write more than it may.
        words = f"signal 25: {words}" if ran.code in (-25, 153) else words
        return refusal(self.remote, doing, words, self.secrets)
