"""How the values of settings are read: text of the environment, text or values of a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from types import NoneType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from eventmicro.errors import UsageError
from eventmicro.sources import Said, as_text

_TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
NONE = "none"


@dataclass(frozen=True, slots=True)
class Value:
    """A setting that is one value; `example` says what to write."""

    read: Callable[[Any], Any]
    example: str
    or_none: bool = False
    """Whether `none` is one of its values: there is to be none of it, whatever the code says."""

    def __call__(self, said: Said) -> Any:
        """The value that is said, as the code would write it.

        Raises:
            UsageError: it is none, or one of another kind.
        """
        value = said.read()
        if self.or_none and value == NONE:
            return None
        try:
            return self.read(value)
        except (ValueError, TypeError, KeyError):
            none = f", or {NONE}" if self.or_none else ""
            raise UsageError(f"{said.where}: {said.shown}: write {self.example}{none}") from None


@dataclass(frozen=True, slots=True)
class Group:
    """A setting that has parts, as `retry` has `attempts`: a dataclass."""

    kind: type[Any]
    parts: dict[str, Value | Group]
    whole: Value | None = None
    """How it is written in one word, where it can be."""


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError(value)
    return float(value)


def _count(value: Any) -> int:
    if isinstance(value, bool | float):
        raise ValueError(value)
    return int(value)


def _truth(value: Any) -> bool:
    return value if isinstance(value, bool) else _TRUTHS[str(value).lower()]


def _text(value: Any) -> str:
    if isinstance(value, list | dict):
        raise ValueError(value)
    return as_text(value)


def _several(value: Any) -> list[str]:
    several = value if isinstance(value, list) else str(value).split(",")
    return [_text(each).strip() for each in several if each != ""]


def _labels(value: Any) -> dict[str, str]:
    pairs = [each.partition("=") for each in _several(value)]
    if not all(key and separator for key, separator, _ in pairs):
        raise ValueError(value)
    return {key: label for key, _, label in pairs}


def number(*, or_none: bool = False, example: str = "a number") -> Value:
    """A number, as of seconds."""
    return Value(_number, example, or_none)


def count(*, or_none: bool = False) -> Value:
    """A whole number; whether it may be so many is checked by whom it is for."""
    return Value(_count, "a whole number", or_none)


def count_within(bounds: range, example: str) -> Value:
    """A whole number that nobody else checks."""

    def read(value: Any) -> int:
        if (number := _count(value)) not in bounds:
            raise ValueError(value)
        return number

    return Value(read, example)


def truth(*, or_none: bool = False) -> Value:
    """Whether something is so."""
    return Value(_truth, "true or false", or_none)


def text(*, or_none: bool = False, example: str = "a text") -> Value:
    """A text; what may stand there is checked by whom it is for."""
    return Value(_text, example, or_none)


def several(example: str) -> Value:
    """A list, in the environment with commas between."""
    return Value(_several, example)


def labels() -> Value:
    """Names with values: `zone=a,team=shop`, or a table of a file."""
    return Value(_labels, "zone=a,team=shop")


def group(kind: type[Any], *, whole: Value | None = None) -> Group:
    """The parts of a dataclass that can be written, by their types; functions, for one, cannot."""
    hints = get_type_hints(kind)
    read = {field.name: _by_type(hints[field.name]) for field in fields(kind)}
    return Group(kind, {name: value for name, value in read.items() if value is not None}, whole)


_PLAIN: dict[Any, Callable[..., Value]] = {bool: truth, int: count, float: number, str: text}


def only_parts() -> Value:
    """A setting that has no word of its own but `none`."""
    return Value(_nothing, "its parts", or_none=True)


def _by_type(hint: Any) -> Value | Group | None:
    """How a value of this type is read; None: it is none that can be written."""
    kinds = get_args(hint) if get_origin(hint) in (Union, type(int | str)) else (hint,)
    or_none = NoneType in kinds
    for kind in kinds:
        if kind in _PLAIN:
            return _PLAIN[kind](or_none=or_none)
        if get_origin(kind) is Literal and all(isinstance(each, str) for each in get_args(kind)):
            return text(or_none=or_none, example=" or ".join(get_args(kind)))
    groups = [kind for kind in kinds if is_dataclass(kind) and isinstance(kind, type)]
    return group(groups[0], whole=only_parts()) if groups and or_none else None


def _nothing(value: Any) -> Any:
    raise ValueError(value)
