"""Platform blocks of a run: merging them (RFC 7396) and looking into them. Pure. Used by the translators."""

from collections.abc import Mapping
from typing import Any

from trainyard.core.errors import TranslationError

# No field of a request that any platform takes lies half as deep.
DEEPEST = 32


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def joined(first: Any, second: Any) -> Any:
    """One patch that does what two do, one after the other: as `merge_patch`, but a null stays, for what is patched."""
    if not isinstance(first, Mapping) or not isinstance(second, Mapping):
        return second
    return {**first, **{key: joined(first.get(key), value) for key, value in second.items()}}


def look(block: Mapping[str, Any], path: str) -> tuple[bool, Any]:
    """Whether something stands at the path, and what."""
    value: Any = block
    for key in path.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return False, None
        value = value[key]
    return True, value


def check_depth(block: Mapping[str, Any], field: str, platform: str) -> None:
    """Refuses a block that is nested beyond all that the platform has. `platform` is its name for people.

    Raises:
        TranslationError: InvalidSpec.
    """
    level: list[Any] = [block]
    for _ in range(DEEPEST):
        level = [inner for value in level for inner in _inside(value)]
        if not level:
            return
    raise TranslationError(field, f"is nested deeper than {DEEPEST} levels; no field of {platform} is")


def forbidden(field: str, why: str) -> TranslationError:
    """The error of a field in a platform block that the operator owns."""
    return TranslationError(field, why, reason="OverrideForbidden")


def _inside(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, list) else []
