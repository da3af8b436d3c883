"""msgspec Structs and attrs classes as messages, read and written by msgspec.

msgspec is loaded when the first of them is met. A value's fields are taken to be what its class says, as msgspec does
not look at them either before it writes them; what comes in is checked field by field.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any, get_args, get_origin

from eventmicro.codec import Decoder, Encoder
from eventmicro.codecs.finite import find_null
from eventmicro.codecs.needed import need
from eventmicro.codecs.validation import instance_check, name_of, short
from eventmicro.errors import DecodeError, EncodeError, UsageError
from eventmicro.wire import JSON

# Where msgspec says that something is wrong: `Expected `int`, got `str` - at `$.lines[0].count``.
_PLACE = re.compile(r"(.*) - at `(?:key in )?\$(.*)`", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
# What it says with a part of the input in it, which belongs neither into a log nor to a peer.
_REPEATS_INPUT = re.compile(r"(Invalid (?:enum )?value|Object contains unknown field) .*", re.DOTALL)
# Parts of what msgspec tells of a type that are the user's own objects.
_ASIDE = frozenset(("cls", "default", "default_factory"))
# What may hold such values though its class does not say so.
_CONTAINERS = (list, dict, tuple, set, frozenset)
_MISSING = re.compile(r"Object missing required field `(.+)`")


def handles_by_msgspec(kind: Any) -> bool:
    """Whether this is a Struct or an attrs class, or a list, dict or union of such."""
    return _is_struct(kind) or _is_struct(get_origin(kind)) or any(map(handles_by_msgspec, get_args(kind)))


def holds_structs(kind: Any, value: Any) -> bool:
    """Whether this is a list, or another of its kind, with such a value in it, of which its class says nothing."""
    if kind not in _CONTAINERS or "msgspec" not in sys.modules:
        return False
    return any(handles_by_msgspec(type(part)) for part in (value.values() if kind is dict else value))


class StructJsonCodec:
    """Structs and attrs classes as JSON."""

    content_type = JSON

    def handles(self, kind: Any) -> bool:
        return handles_by_msgspec(kind)

    def encoder(self, kind: Any) -> Encoder:
        msgspec = import_msgspec(kind)
        write = msgspec.json.Encoder().encode
        check = struct_check(kind)

        def encode(value: Any) -> bytes:
            if value.__class__ is not kind:
                check(value)
            try:
                body: bytes = write(value)
            except Exception as error:  # of the user's own objects within, too
                raise unwritable(kind, error) from error
            if find_null(body):
                _refuse_not_finite(kind, msgspec.to_builtins(value))
            return body

        return encode

    def decoder(self, kind: Any) -> Decoder:
        return struct_decoder(kind, import_msgspec(kind).json.Decoder(kind).decode)


def import_msgspec(kind: Any) -> Any:
    """msgspec, for this type.

    Raises:
        UsageError: it is not installed, or cannot read and write the type.
    """
    msgspec = need("msgspec", "msgspec", "msgpack", name_of(kind))
    try:
        unknown = _foreign(msgspec.inspect.type_info(kind), msgspec.inspect.CustomType)
    except TypeError as error:
        raise UsageError(f"{name_of(kind)} cannot be a message: {error}") from None
    if unknown is not None:
        raise UsageError(f"{name_of(kind)} cannot be a message: msgspec does not know {name_of(unknown)}")
    return msgspec


def plain_structs(kind: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any], bool]:
    """How such values become plain objects, and these values; and whether None is one of them."""
    msgspec = import_msgspec(kind)
    check = struct_check(kind)
    natives = _natives()

    def dump(value: Any) -> Any:
        if value.__class__ is not kind:
            check(value)
        try:
            return msgspec.to_builtins(value, builtin_types=natives)
        except Exception as error:
            raise unwritable(kind, error) from error

    def convert(value: Any) -> Any:
        return msgspec.convert(value, kind)

    return dump, struct_decoder(kind, convert), takes_nothing(kind)


def struct_check(kind: Any) -> Callable[[Any], None]:
    """What refuses a value of another type."""
    msgspec = need("msgspec", "msgspec", "msgpack", name_of(kind))

    if isinstance(kind, type) and not get_args(kind):
        return instance_check(kind)

    def check(value: Any) -> None:
        try:
            msgspec.convert(value, kind, strict=True)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise EncodeError(f"expected {name_of(kind)}, got {type(value).__name__}: {error}") from None

    return check


def struct_decoder(kind: Any, read: Callable[[Any], Any]) -> Decoder:
    """The decoder that raises what ours raise."""
    from msgspec import MsgspecError, ValidationError

    is_optional = takes_nothing(kind)

    def decode(body: Any) -> Any:
        try:
            return read(body)
        except ValidationError as error:
            raise DecodeError(f"not a valid {name_of(kind)}", [_describe(str(error))]) from None
        except (MsgspecError, RecursionError, ValueError, OverflowError):
            if body == b"" and is_optional:
                return None
            raise DecodeError(f"not a valid {name_of(kind)}") from None

    return decode


def unwritable(kind: Any, error: Exception) -> EncodeError:
    """That a value cannot be written."""
    return EncodeError(f"{name_of(kind)} cannot be written: {error}")


def takes_nothing(kind: Any) -> bool:
    """Whether None is a value of the type."""
    return kind is type(None) or type(None) in get_args(kind)


def _is_struct(kind: Any) -> bool:
    if not isinstance(kind, type):
        return False
    msgspec = sys.modules.get("msgspec")
    return "__attrs_attrs__" in vars(kind) or (msgspec is not None and issubclass(kind, msgspec.Struct))


def _natives() -> tuple[type, ...]:
    from datetime import date, datetime
    from decimal import Decimal
    from uuid import UUID

    return (bytes, datetime, date, Decimal, UUID)


def _foreign(info: Any, custom: type, seen: set[int] | None = None) -> Any:
    """The first class within a type that msgspec has no form for; None: there is none."""
    seen = set() if seen is None else seen
    if id(info) in seen:
        return None
    seen.add(id(info))
    if isinstance(info, custom):
        return info.cls  # type: ignore[attr-defined]
    fields = [field for field in getattr(info, "__struct_fields__", ()) if field not in _ASIDE]
    parts = (part for field in fields for part in _each(info, field))
    return next((found for part in parts if (found := _foreign(part, custom, seen)) is not None), None)


def _each(info: Any, field: str) -> tuple[Any, ...]:
    value = getattr(info, field)
    return value if isinstance(value, tuple) else (value,)


def _describe(said: str) -> dict[str, Any]:
    """What msgspec says of a wrong body, as an entry of the errors of a field."""
    message, path = match.groups() if (match := _PLACE.fullmatch(said)) else (said, "")
    loc = [int(index) if index.isdecimal() else name or "*" for name, index in _STEP.findall(path)]
    if missing := _MISSING.fullmatch(message):
        return {"loc": [*map(short, loc), missing[1]], "msg": "Field required", "type": "missing"}
    message = _REPEATS_INPUT.sub(r"\1", message)
    kind = "extra_forbidden" if "unknown field" in message else "invalid"
    return {"loc": [*map(short, loc)], "msg": message, "type": kind}


def _refuse_not_finite(kind: Any, value: Any, path: str = "") -> None:
    """Refuse a number for which msgspec has written null."""
    if isinstance(value, float) and not (value - value == 0.0):
        raise EncodeError(
            f"{name_of(kind)}: {path or 'it'} is {value}, and JSON has no such number: send None where the type has it"
        )
    if isinstance(value, dict):
        for name, part in value.items():
            _refuse_not_finite(kind, part, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list):
        for number, part in enumerate(value):
            _refuse_not_finite(kind, part, f"{path}[{number}]")
