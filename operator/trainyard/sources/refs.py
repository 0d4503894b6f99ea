"""What a user's `ref` means among the refs that a repository has. Pure. Called by `sources.repository`."""

import re
from collections.abc import Mapping

from trainyard.core.errors import SourceError
from trainyard.sources.remote import Remote

# SHA-1 or SHA-256, written out: an abbreviation may come to mean two commits.
COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_ABBREVIATION = re.compile(r"[0-9a-f]{7,39}")
# git-check-ref-format(1), rules 1 to 9, and nothing that could be read as an option or a pattern.
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|\.$|/$|^[-/]|\.lock(/|$)|(^|/)\.|^@$")
_LONGEST = 255


def checked_ref(ref: str | None) -> str:
    """The ref, or HEAD when there is none, if a repository can have it.

    Raises:
        SourceError: GitRefInvalid.
    """
    if ref is None:
        return "HEAD"
    if not ref or len(ref) > _LONGEST or not ref.isprintable() or _FORBIDDEN.search(ref):
        raise SourceError(f"git.ref: {ref[:_LONGEST]!a} is no branch, tag or full commit id.", reason="GitRefInvalid")
    return ref


def candidates(ref: str) -> list[str]:
    """The full names that a ref may stand for, with the commit behind each annotated tag."""
    if ref == "HEAD":
        return ["HEAD"]
    names = [ref] if ref.startswith("refs/") else [f"refs/heads/{ref}", f"refs/tags/{ref}"]
    return [name for full in names for name in (full, f"{full}^{{}}") if full.startswith("refs/tags/") or name == full]


def with_history(ref: str) -> list[str]:
    """Refspecs of the branches and tags whose history may hold a commit that the ref once was.

    Patterns, because one that matches nothing is no error to git; what else they match is bounded by the limits.
    """
    if ref == "HEAD" or COMMIT.fullmatch(ref.lower()):
        return ["+refs/heads/*:refs/heads/*"]
    names = [ref] if ref.startswith("refs/") else [f"refs/heads/{ref}", f"refs/tags/{ref}"]
    return [f"+{name}*:{name}*" for name in names]


def chosen(remote: Remote, ref: str, listed: Mapping[str, str]) -> str:
    """The commit that the ref names. `listed` is full name to object id, as ls-remote tells it.

    Raises:
        SourceError: GitRefNotFound or GitRefAmbiguous.
    """
    # An annotated tag is an object of its own; git-ls-remote(1) lists what it points at as NAME^{}.
    found = {name: listed.get(f"{name}^{{}}", listed[name]) for name in candidates(ref) if name in listed}
    commits = {commit for name, commit in found.items() if not name.endswith("^{}")}
    if len(commits) > 1:
        raise SourceError(
            f"git.ref: {remote.url} has a branch and a tag named {ref}: write refs/heads/{ref} or refs/tags/{ref}.",
            reason="GitRefAmbiguous",
        )
    if not commits:
        raise SourceError(_missing(remote, ref), reason="GitRefNotFound")
    return commits.pop()


def _missing(remote: Remote, ref: str) -> str:
    if ref == "HEAD":
        return f"git.ref: {remote.url} has no default branch: push to it, or name a branch, tag or commit."
    if _ABBREVIATION.fullmatch(ref):
        return f"git.ref: {remote.url} has no branch or tag {ref}. If it is a commit, write its full id (40 digits)."
    return f"git.ref: {remote.url} has no branch or tag {ref}: correct it, or push it."
