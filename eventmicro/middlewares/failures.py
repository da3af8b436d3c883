"""What counts as a failure of what is called, and not as its answer: it opens a breaker, and brings a fallback in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from eventmicro.errors import CodecError, MessageTooLarge, ServiceError, UsageError

Judge = Callable[[Exception], bool]
Failures = type[Exception] | tuple[type[Exception], ...] | Judge | None
"""Exception classes, or a function of the error."""


def is_failure(error: Exception) -> bool:
    """Whether it did not answer, or with 500 or more; what the caller did wrong is no failure of it."""
    if isinstance(error, ServiceError):
        return error.is_failure
    return not isinstance(error, UsageError | CodecError | MessageTooLarge)


def make_judge(name: str, on: Any, default: Judge = is_failure) -> Judge:
    """What judges an error, by what the user has said.

    Raises:
        UsageError: it is no exception class, no tuple of them, and no function.
    """
    if on is None:
        return default
    kinds = on if isinstance(on, tuple) else (on,)
    if all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
        return lambda error: isinstance(error, kinds)
    if isinstance(on, type | tuple) or not callable(on):
        raise UsageError(f"{name}={on!r}: write an exception class, a tuple of them, or a function of the error")
    return cast("Judge", on)
