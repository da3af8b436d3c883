"""What pydantic knows of a type: whether it can be a message, what of a value is wrong, and what of a body is.

pydantic is loaded when the first type is compiled: it is most of the time that importing takes, and a program that only
passes bytes on does without it.
"""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import is_dataclass
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

from eventmicro.errors import DecodeError, EncodeError, UsageError

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

# How many wrong fields are looked at: a peer that sends a million wrong values gets a short answer.
MAX_ERRORS = 50
# Where the classes are whose objects are types, or names of types.
_TYPING = ("typing", "types", "typing_extensions", "annotationlib")
# Of how many subclasses of a type it is kept how they are written.
SUBCLASSES = 1000
# How pydantic's names end for errors that say that a value is of another type.
_OF_TYPE = ("_type", "is_instance_of", "none_required")
# What pydantic says of an empty body.
_EMPTY = "Invalid JSON: EOF while parsing a value at line 1 column 0"
# How much of a field's name it tells, in characters: of a dict's fields the peer makes up the names.
MAX_FIELD_NAME = 100


def make_adapter(kind: Any) -> TypeAdapter[Any]:
    """What pydantic reads and writes a type by.

    Raises:
        UsageError: the type cannot be a message.
    """
    from pydantic import (
        PydanticSchemaGenerationError,
        PydanticUndefinedAnnotation,
        PydanticUserError,
        TypeAdapter,
    )

    try:
        adapter = TypeAdapter(kind)
        if not adapter.pydantic_complete:
            adapter.rebuild(force=True)
        return adapter
    except PydanticUndefinedAnnotation as error:
        if isinstance(kind, str):
            raise no_type(kind) from None
        raise UsageError(
            f"{name_of(kind)} cannot be a message: a field of it, or of a type within it, names {error.name!r}, which "
            f"is not defined there: define or import it before, and say model_rebuild() of the one that names it"
        ) from None
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        if not _may_be_type(kind):
            raise no_type(kind) from None
        wrong = "await it" if inspect.isclass(kind) and issubclass(kind, Awaitable) else str(error).splitlines()[0]
        raise UsageError(f"{name_of(kind)} cannot be a message: {wrong}") from None


def _may_be_type(kind: Any) -> bool:
    return isinstance(kind, type) or get_origin(kind) is not None or type(kind).__module__ in _TYPING


def no_type(value: object) -> UsageError:
    """That an object stands where a type is to be; its value is not shown."""
    if isinstance(value, str):
        return UsageError(f"{value[:100]!r} is a text, and no message's type: write the class itself, without quotes")
    name = type(value).__name__
    return UsageError(f"an object of {name} cannot be a message's type: write the class, {name}")


def value_check(kind: Any, adapter: TypeAdapter[Any]) -> Callable[[Any], None]:
    """What refuses a value of another type, by EncodeError; it is not asked of one whose class is the type itself."""
    return instance_check(kind) if is_record(kind) else _strict_check(kind, adapter)


def refuse_wrong_fields(module: str) -> None:
    """Make an error of what pydantic only warns of: a field that was set to another type after validation.

    Its own `warnings="error"` would do so too, for three times the time. The filter holds for this module alone.
    """
    warnings.filterwarnings("error", "Pydantic serializer warnings", UserWarning, module.replace(".", r"\."))


def instance_check(kind: type) -> Callable[[Any], None]:
    """What refuses a value that is no object of this class."""

    def check(value: Any) -> None:
        if not isinstance(value, kind):
            raise EncodeError(mismatch(kind, value))

    return check


def mismatch(kind: type, value: object) -> str:
    """That a value is of another class: with the modules where both have the same name."""
    expected, got = kind, type(value)
    if expected.__name__ != got.__name__:
        return f"expected {expected.__name__}, got {got.__name__}"
    return f"expected {expected.__module__}.{expected.__qualname__}, got {got.__module__}.{got.__qualname__}"


def decode_error(kind: Any, error: ValidationError) -> DecodeError:
    """What was wrong, without the input and without anything of the inside."""
    count = error.error_count()
    if count > MAX_ERRORS:
        return DecodeError(f"not a valid {name_of(kind)}: {count} errors")
    entries = error.errors(include_url=False, include_context=False, include_input=False)
    errors = [{"loc": [short(part) for part in e["loc"]], "msg": _told(e["msg"]), "type": e["type"]} for e in entries]
    return DecodeError(f"not a valid {name_of(kind)}", errors)


def _told(message: str) -> str:
    """What pydantic says is wrong; of an empty body that it is one."""
    return "Invalid JSON: it is empty" if message == _EMPTY else message


def short(part: int | str) -> int | str:
    """A part of the way to a wrong field, not longer than is told."""
    return part[:MAX_FIELD_NAME] if isinstance(part, str) else part


def takes_none(adapter: TypeAdapter[Any]) -> bool:
    """Whether None is a value of the type, for which an empty body stands as well as `null`."""
    try:
        return adapter.validator.validate_python(None) is None
    except Exception:  # a ValidationError, or whatever a validator of the user's raises at None
        return False


def name_of(kind: Any) -> str:
    """The type as its author writes it: `Order`, `list[Order]`."""
    if isinstance(kind, type) and get_origin(kind) is None:
        return kind.__name__
    return re.sub(r"[\w.<>]+\.(?=\w)", "", str(kind))


def is_record(kind: Any) -> bool:
    """Whether the class of a value says enough about it: its fields were validated when it was made."""
    from pydantic import BaseModel

    return isinstance(kind, type) and (issubclass(kind, BaseModel) or is_dataclass(kind))


def _strict_check(kind: Any, adapter: TypeAdapter[Any]) -> Callable[[Any], None]:
    from pydantic import ValidationError

    def check(value: Any) -> None:
        try:
            adapter.validate_python(value, strict=True)
        except ValidationError as error:
            raise EncodeError(_mismatch_within(kind, value, error)) from None

    return check


def _mismatch_within(kind: Any, value: object, error: ValidationError) -> str:
    """What of a value is of another type, by the names of both and without any of its text, which may be a secret."""
    first = error.errors(include_url=False, include_context=False)[0]
    found, place = first["input"], "".join(f"[{short(part)!r}]" for part in first["loc"])
    told = f"expected {in_full(kind)}, got {in_full(type(value))}"
    if found is not value and place:
        told += f", with {in_full(type(found))} at {place}"
    return told if first["type"].endswith(_OF_TYPE) else f"{told}, which is not taken there: {first['type']}"


def in_full(kind: Any) -> str:
    """A type with the modules of what it is made of, where these are not Python's own."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return in_full(parts[0])
    if origin in (Union, UnionType):
        return " | ".join(map(in_full, parts))
    if isinstance(origin, type):
        return f"{in_full(origin)}[{', '.join(map(in_full, parts))}]"
    if not isinstance(kind, type):
        return str(kind).removeprefix("typing.")
    if kind is type(None):
        return "None"
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
