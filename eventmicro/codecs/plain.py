"""Values as plain objects, which is what the binary formats write: dicts, lists, texts, numbers, bytes, dates.

What a format has no form of its own for, such as a URL or a path, travels as the text that JSON has for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from os import PathLike, fspath
from typing import Any

from eventmicro.codec import why_unwritten
from eventmicro.codecs.protobuf import is_protobuf
from eventmicro.codecs.structs import handles_by_msgspec, holds_structs, plain_structs
from eventmicro.codecs.subclasses import keeping_subclasses
from eventmicro.codecs.validation import (
    SUBCLASSES,
    decode_error,
    is_record,
    make_adapter,
    name_of,
    refuse_wrong_fields,
    takes_none,
    value_check,
)
from eventmicro.errors import EncodeError


@dataclass(frozen=True, slots=True)
class Plain:
    """How the values of one type become plain objects, and these values.

    Attributes:
        dump: raises EncodeError where the value is not of the type.
        load: raises DecodeError where the object is no value of the type.
        takes_none: whether None is a value of the type, for which an empty body stands.
    """

    dump: Callable[[Any], Any]
    load: Callable[[Any], Any]
    takes_none: bool


def can_be_plain(kind: Any) -> bool:
    """Whether a type may have a way to plain objects: bytes need none, protobuf messages have forms of their own."""
    return kind not in (bytes, None, type(None)) and not is_protobuf(kind)


def plain(kind: Any) -> Plain:
    """Compile the way of a type to plain objects and back.

    Raises:
        UsageError: the type cannot be a message.
    """
    if handles_by_msgspec(kind):
        return Plain(*plain_structs(kind))
    return _by_pydantic(kind)


def as_text(value: Any) -> Any:
    """What stands for a value for which a format has no form: what JSON has for it.

    Raises:
        EncodeError: JSON has none either.
    """
    from pydantic_core import to_jsonable_python

    if isinstance(value, PathLike):
        return fspath(value)
    try:
        return to_jsonable_python(value)
    except ValueError as error:
        raise EncodeError(str(error)) from None


def _by_pydantic(kind: Any) -> Plain:
    from pydantic import ValidationError

    adapter = make_adapter(kind)
    validate = adapter.validator.validate_python
    check = value_check(kind, adapter)
    of_subclass = lru_cache(SUBCLASSES)(_by_pydantic) if is_record(kind) else None
    refuse_wrong_fields(__name__)
    write: Callable[..., Any] = adapter.serializer.to_python

    def write_first(value: Any, *, by_alias: bool) -> Any:
        nonlocal write
        write = keeping_subclasses(adapter, adapter.serializer.to_python)
        return write(value, by_alias=by_alias)

    write = write_first

    def dump(value: Any) -> Any:
        if value.__class__ is not kind:
            check(value)
            if of_subclass is not None:  # all its fields travel, not only those of the type
                return of_subclass(value.__class__).dump(value)
        if holds_structs(kind, value):
            return plain_structs(kind)[0](value)
        try:
            return write(value, by_alias=True)
        except (ValueError, RecursionError, UserWarning) as error:
            why, cause = why_unwritten(error)
            raise EncodeError(f"{name_of(kind)} cannot be written: {why}") from cause

    def load(value: Any) -> Any:
        try:
            return validate(value)
        except ValidationError as error:
            raise decode_error(kind, error) from None

    return Plain(dump, load, takes_none(adapter))
