"""What options are made of, checked: seconds, counts and other numbers, and kinds of values."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import wraps
from math import inf
from types import UnionType
from typing import Any, TypeVar

from eventmicro.errors import Missing, SignatureError, UnknownOption, UsageError

K = TypeVar("K", bound=type)
T = TypeVar("T")

# The longest time that can be asked for, in seconds: four months, which every clock and broker can count.
LONGEST = 1e7


def check_seconds(name: str, seconds: Any, *, or_none_at_all: bool = False) -> None:
    """Refuse what is no time to wait; `or_none_at_all`: 0 is one.

    Raises:
        UsageError: it is no number, 0 or less, or more than four months.
    """
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not (0 < seconds <= LONGEST or (seconds == 0 and or_none_at_all)):
        least = "0 or more" if or_none_at_all else "more than 0"
        raise UsageError(f"{name}={seconds!r}: write seconds, {least} and up to {LONGEST:g}")


def check_count(name: str, count: Any) -> None:
    """Refuse what is no number of things.

    Raises:
        UsageError: it is no whole number, or less than 1.
    """
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise UsageError(f"{name}={count!r}: write a whole number, 1 or more")


def check_number(name: str, number: Any, least: float) -> None:
    """Refuse what is no number, or one below the least.

    Raises:
        UsageError: it is.
    """
    is_number = isinstance(number, int | float) and not isinstance(number, bool)
    if not is_number or not least <= number < inf:
        raise UsageError(f"{name}={number!r}: write a number, {least:g} or more")


def check_several(name: str, values: Any, example: str) -> tuple[Any, ...]:
    """Return the values of an option that takes several; `example` is one of them.

    Raises:
        UsageError: it is no list, nor anything else to go through.
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise UsageError(f"{name}={values!r}: write a list, {name}=[{example}]")
    return tuple(values)


def check_function(name: str, function: Any) -> None:
    """Refuse what cannot be called.

    Raises:
        UsageError: it is no function, nor anything like one.
    """
    if not callable(function):
        raise UsageError(f"{name}: {function!r} is no function")


def check_kind(name: str, value: Any, kind: type | UnionType, example: str) -> None:
    """Refuse a value of another kind; `example` is what to write in its place.

    Raises:
        UsageError: it is of another kind.
    """
    if not isinstance(value, kind):
        raise UsageError(f"{name}={value!r}: write {example}")


def check_hook(name: str, hook: Any) -> None:
    """Refuse what cannot be called with nothing.

    Raises:
        UsageError: it is no function, or takes something.
    """
    check_function(name, hook)
    try:
        signature_of(hook).bind()
    except TypeError as error:
        raise UsageError(f"{name}: it is called with nothing, and cannot be: {error}") from None
    except ValueError:  # it has no signature, as some of what is written in C
        return


def names_words(kind: K) -> K:
    """A class that names the options which it has where it is given another one, or too few.

    Raises:
        UnknownOption: from then on, in the place of Python's TypeError; it is one, too.
    """
    made: Callable[..., None] = kind.__init__  # type: ignore[misc]

    @wraps(made)
    def init(self: Any, *values: Any, **words: Any) -> None:
        try:
            made(self, *values, **words)
        except TypeError:
            _check_words(kind.__name__, made, (self, *values), words)
            raise

    kind.__init__ = init  # type: ignore[misc]
    return kind


def _check_words(name: str, made: Callable[..., None], values: Sequence[Any], words: Mapping[str, Any]) -> None:
    takes = inspect.signature(made)
    try:
        takes.bind(*values, **words)
    except TypeError as error:
        from difflib import get_close_matches  # for errors only

        known = list(takes.parameters)[1:]
        wrong = next((word for word in words if word not in known), "")
        close = get_close_matches(wrong, known, n=1) if wrong else []
        meant = f"; did you mean {close[0]!r}? It" if close else "; it"
        raise UnknownOption(f"{name}() {error}{meant} takes {', '.join(known)}") from None


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """A function's signature, also where an annotation names what is there for type checkers alone.

    Raises:
        TypeError, ValueError: it has none, as some of what is written in C.
    """
    if sys.version_info >= (3, 14):  # where annotations are looked up when they are asked for
        from annotationlib import Format

        return inspect.signature(function, annotation_format=Format.FORWARDREF)
    return inspect.signature(function)


def no_option(taker: str, unknown: Iterable[str], known: Iterable[str]) -> str:
    """That something takes no such options, which it takes, and what is perhaps meant."""
    wrong, known = sorted(unknown), list(known)
    return f"{taker} has no option {', '.join(wrong)}; there are {', '.join(known)}{did_you_mean(wrong[0], known)}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """What was perhaps meant, to be put behind an error; empty where nothing is like it."""
    from difflib import get_close_matches  # for errors only

    close = get_close_matches(word, sorted(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def refuse_name(function: object) -> None:
    """Refuse a name in the place of the function that `@rpc` decorates.

    Raises:
        SignatureError: it is one.
    """
    if isinstance(function, str):
        raise SignatureError(f"@rpc({function!r}): a name is said by its word, @rpc(name={function!r})")


async def try_each(steps: Iterable[Callable[[], Awaitable[T]]]) -> list[T]:
    """Take every step, one after the other, also where an earlier one is refused; what each returned.

    Raises:
        UsageError: of all that were refused, what cannot be; Missing: there is only what is not there.
    """
    done: list[T] = []
    refused: list[UsageError] = []
    for step in steps:
        try:
            done.append(await step())
        except UsageError as error:
            refused.append(error)
    raise_any(refused)
    return done


def raise_any(refused: Sequence[UsageError]) -> None:
    """Raise what was refused, as one; what only is not there is left out where something else is wrong.

    Raises:
        UsageError: there is some; Missing: there is only what is not there.
    """
    if refused:
        raise as_one([error for error in refused if not isinstance(error, Missing)] or refused)


def as_one(errors: Sequence[UsageError]) -> UsageError:
    """One or several errors as one."""
    by_kind: dict[type[UsageError], list[UsageError]] = {}
    for error in errors:
        by_kind.setdefault(type(error), []).append(error)
    kinds = [those[0] if len(those) == 1 else kind.together(those) for kind, those in by_kind.items()]
    return kinds[0] if len(kinds) == 1 else UsageError.together(kinds)
