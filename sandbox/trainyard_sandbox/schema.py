"""Strict shapes of request bodies and query strings: what is not described is refused.

Every platform route calls `json_body`, `form_body` or `query` with an `Obj`. Nothing here knows a particular API.

The real platform parses protobuf JSON: a wrong type is refused, int64 is accepted as a number or as a string of digits
(protobuf documentation, "ProtoJSON Format"). The real platform ignores some unknown fields in silence; we refuse all of
them, because a field that is ignored in silence is what a stand-in exists to find.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from starlette.requests import Request

from trainyard_sandbox.errors import ApiError, invalid_parameter, not_found

INT64_MAX = 2**63 - 1

Item = TypeVar("Item")


class Shape:
    """What one JSON value may be. `check` returns the value to use, or raises `ApiError` naming `path`."""

    def check(self, value: Any, path: str) -> Any:
        """Validate a value from a JSON body."""
        raise NotImplementedError

    def parse(self, text: str, path: str) -> Any:
        """Validate a value from a query string or form, where everything arrives as text."""
        return self.check(text, path)


def _wrong_type(path: str, expected: str, value: Any) -> ApiError:
    got = {type(None): "null", bool: "boolean", dict: "object", list: "array", str: "string"}.get(type(value), "number")
    return ApiError(
        400,
        "INVALID_PARAMETER_VALUE",
        f"Could not parse request object: field '{path}' expects {expected}, got {got}.",
    )


@dataclass(frozen=True)
class Str(Shape):
    """A string, optionally one of `choices`, of `min_length` to `max_length` characters."""

    choices: Collection[str] | None = None
    min_length: int = 0
    max_length: int | None = None

    def check(self, value: Any, path: str) -> str:
        """See `Shape.check`."""
        if not isinstance(value, str):
            raise _wrong_type(path, "a string", value)
        if len(value) < self.min_length:
            raise invalid_parameter(f"'{path}' must not be empty.")
        if self.max_length is not None and len(value) > self.max_length:
            raise invalid_parameter(
                f"'{path}' is too long: {len(value)} characters, the maximum allowed is {self.max_length}."
            )
        if self.choices is not None and value not in self.choices:
            raise invalid_parameter(f"Invalid value '{value}' for '{path}'. Valid values: {', '.join(self.choices)}.")
        return value


@dataclass(frozen=True)
class Int(Shape):
    """An integer in [minimum, maximum]; int64 may also come as a string of digits."""

    minimum: int = -(2**63)
    maximum: int = INT64_MAX

    def check(self, value: Any, path: str) -> int:
        """See `Shape.check`."""
        if isinstance(value, str) and value.lstrip("-").isascii() and value.lstrip("-").isdigit():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise _wrong_type(path, "an integer", value)
        if not self.minimum <= value <= self.maximum:
            raise invalid_parameter(f"'{path}' must be between {self.minimum} and {self.maximum}, got {value}.")
        return value


@dataclass(frozen=True)
class Number(Shape):
    """Any JSON number."""

    def check(self, value: Any, path: str) -> float:
        """See `Shape.check`."""
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise _wrong_type(path, "a number", value)
        return value

    def parse(self, text: str, path: str) -> float:
        """See `Shape.parse`."""
        try:
            return float(text)
        except ValueError:
            raise _wrong_type(path, "a number", text) from None


@dataclass(frozen=True)
class Bool(Shape):
    """true or false."""

    def check(self, value: Any, path: str) -> bool:
        """See `Shape.check`."""
        if not isinstance(value, bool):
            raise _wrong_type(path, "a boolean", value)
        return value

    def parse(self, text: str, path: str) -> bool:
        """See `Shape.parse`: the SDK writes booleans in lower case."""
        if text not in ("true", "false"):
            raise _wrong_type(path, "a boolean", text)
        return text == "true"


@dataclass(frozen=True)
class ListOf(Shape):
    """An array of at most `maximum` items."""

    item: Shape
    maximum: int | None = None

    def check(self, value: Any, path: str) -> list[Any]:
        """See `Shape.check`."""
        if not isinstance(value, list):
            raise _wrong_type(path, "an array", value)
        if self.maximum is not None and len(value) > self.maximum:
            raise invalid_parameter(f"'{path}' may have at most {self.maximum} items, got {len(value)}.")
        return [self.item.check(entry, f"{path}[{index}]") for index, entry in enumerate(value)]


@dataclass(frozen=True)
class MapOf(Shape):
    """An object with free keys."""

    item: Shape
    maximum: int | None = None

    def check(self, value: Any, path: str) -> dict[str, Any]:
        """See `Shape.check`."""
        if not isinstance(value, dict):
            raise _wrong_type(path, "an object", value)
        if self.maximum is not None and len(value) > self.maximum:
            raise invalid_parameter(f"'{path}' may have at most {self.maximum} entries, got {len(value)}.")
        return {key: self.item.check(entry, f"{path}.{key}") for key, entry in value.items()}


@dataclass(frozen=True)
class AnyJson(Shape):
    """Any JSON value: for fields the platform takes and the sandbox only keeps."""

    def check(self, value: Any, path: str) -> Any:
        """See `Shape.check`."""
        del path
        return value


@dataclass(frozen=True)
class Obj(Shape):
    """An object with exactly the named fields; null counts as absent, as in protobuf JSON."""

    fields: Mapping[str, Shape]
    required: Collection[str] = field(default_factory=tuple)

    def check(self, value: Any, path: str) -> dict[str, Any]:
        """See `Shape.check`."""
        if not isinstance(value, dict):
            raise _wrong_type(path or "(body)", "an object", value)
        prefix = f"{path}." if path else ""
        self._refuse_unknown(value, prefix)
        present = {key: entry for key, entry in value.items() if entry is not None}
        self._require(present, prefix)
        return {key: self.fields[key].check(entry, prefix + key) for key, entry in present.items()}

    def parse_pairs(self, pairs: list[tuple[str, str]]) -> dict[str, Any]:
        """Validate decoded query-string or form pairs; a repeated key is refused unless its shape is a list."""
        raw: dict[str, Any] = {}
        for key, text in pairs:
            if isinstance(self.fields.get(key), ListOf):
                raw.setdefault(key, []).append(text)
            elif key in raw:
                raise invalid_parameter(f"Parameter '{key}' is given more than once.")
            else:
                raw[key] = text
        self._refuse_unknown(raw, "")
        self._require(raw, "")
        return {key: self._parse_one(key, value) for key, value in raw.items()}

    def _parse_one(self, key: str, value: Any) -> Any:
        shape = self.fields[key]
        return shape.check(value, key) if isinstance(shape, ListOf) else shape.parse(value, key)

    def _refuse_unknown(self, value: Mapping[str, Any], prefix: str) -> None:
        unknown = sorted(set(value) - set(self.fields))
        if unknown:
            raise invalid_parameter(f"Could not parse request object: unknown field '{prefix}{unknown[0]}'.")

    def _require(self, present: Mapping[str, Any], prefix: str) -> None:
        for key in self.required:
            if key not in present:
                raise invalid_parameter(f"Missing required field: {prefix}{key}")


async def json_body(request: Request, shape: Obj, *, takes_query: bool = False) -> dict[str, Any]:
    """The request's JSON body, validated.

    Raises:
        ApiError: 400 MALFORMED_REQUEST when it is not JSON, INVALID_PARAMETER_VALUE when the shape does not fit,
            also for query parameters beside a body (most of the platform's POST endpoints take none).
    """
    if request.url.query and not takes_query:
        raise invalid_parameter(f"{request.method} {request.url.path} takes no query parameters.")
    raw = await request.body()
    try:
        value = json.loads(raw) if raw else {}
    except ValueError:
        raise ApiError(400, "MALFORMED_REQUEST", "Could not parse request object: the body is not JSON.") from None
    return shape.check(value, "")


async def form_body(request: Request, shape: Obj) -> dict[str, Any]:
    """The request's application/x-www-form-urlencoded body, validated."""
    text = (await request.body()).decode("utf-8", "replace")
    return shape.parse_pairs(parse_qsl(text, keep_blank_values=True))


def query(request: Request, shape: Obj) -> dict[str, Any]:
    """The request's query string, validated."""
    return shape.parse_pairs(parse_qsl(request.url.query, keep_blank_values=True))


def page(
    items: Sequence[Item], asked: Mapping[str, Any], default: int, maximum: int
) -> tuple[Sequence[Item], dict[str, str]]:
    """The page that `max_results` and `page_token` ask for, and the `next_page_token` field, absent at the end.

    Args:
        items: all of them, in a stable order.
        asked: the validated query.
        default: page length when none, or 0, is asked for.
        maximum: a longer one is cut to this, as the platform does.
    """
    token = asked.get("page_token", "0")
    if not token.isascii() or not token.isdigit():
        raise not_found("The page token is not valid.")
    begin = int(token)
    end = begin + min(asked.get("max_results", 0) or default, maximum)
    return items[begin:end], {"next_page_token": str(end)} if end < len(items) else {}
