"""Tasks in the order in which they can run, each indented below what it waits for. Pure; used by describe."""

from collections.abc import Mapping, Sequence


def by_dependency(names: Sequence[str], needs: Mapping[str, Sequence[str]]) -> list[tuple[str, int]]:
    """Name and depth of every task: a task stands below the last of those it depends on, one deeper than it.

    What depends on something that is not among `names`, or on itself in a circle, stands where nothing is known.
    """
    depths: dict[str, int] = {}
    for _ in names:
        for name in names:
            above = [need for need in needs.get(name, ()) if need in names]
            if name not in depths and all(need in depths for need in above):
                depths[name] = 1 + max((depths[need] for need in above), default=-1)
    parents = {name: _parent(name, needs, depths) for name in names if name in depths}
    found: list[tuple[str, int]] = []

    def put(name: str) -> None:
        found.append((name, depths[name]))
        for child in (child for child in names if parents.get(child) == name):
            put(child)

    for root in (name for name in names if name in depths and parents[name] is None):
        put(root)
    return found + [(name, 0) for name in names if name not in depths]


def _parent(name: str, needs: Mapping[str, Sequence[str]], depths: Mapping[str, int]) -> str | None:
    """The deepest of what it depends on; the first of equals."""
    above = [need for need in needs.get(name, ()) if need in depths]
    return max(above, key=lambda need: depths[need], default=None)
