"""Answers of a shape that no reader expects, as an error of ours. Used by the Endpoints of every platform."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from trainyard.core.errors import Unreachable

P = ParamSpec("P")
T = TypeVar("T")
# What reading a document raises that is of another shape than documented.
_RAISED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


def readable(method: Callable[P, T]) -> Callable[P, T]:
    """The method, which raises Unreachable for what it can not read: that is waited with and told, and ends nothing."""

    @wraps(method)
    def called(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(*args, **kwargs)
        except _RAISED as error:
            raise Unreachable(
                f"the platform's answer can not be read ({type(error).__name__} in {method.__name__})",
                reason="PlatformAnswerMalformed",
            ) from error

    return called
