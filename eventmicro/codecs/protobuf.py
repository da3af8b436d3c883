"""Protobuf messages, in their own format and, for people and other languages, in protobuf's JSON mapping.

The protobuf package is loaded only when a protobuf message class is met, so it need not be installed.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

from eventmicro.codec import Decoder, Encoder
from eventmicro.codecs.validation import mismatch, short
from eventmicro.errors import DecodeError, EncodeError
from eventmicro.wire import JSON, PROTOBUF

# How json_format says where something is wrong.
_STEP = re.compile(r"Failed to parse ([A-Za-z]\w*) field: ")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*")
_KNOWN_FIELDS = re.compile(r"""Available Fields\(except extensions\): "\[([\w', ]*)\]"\.*$""")


def is_protobuf(kind: Any) -> bool:
    """Whether this is a generated message class; none can exist before its base class has been imported."""
    module = sys.modules.get("google.protobuf.message")
    return module is not None and isinstance(kind, type) and issubclass(kind, module.Message)


def has_unknown_fields(message: Any) -> bool:
    """Whether a message was read of a body with fields that it does not have, as one of another type has."""
    from google.protobuf.unknown_fields import UnknownFieldSet

    return len(UnknownFieldSet(message)) > 0


class ProtobufCodec:
    """The default of protobuf messages."""

    content_type = PROTOBUF

    def handles(self, kind: Any) -> bool:
        return is_protobuf(kind)

    def encoder(self, kind: Any) -> Encoder:
        serialize = kind.SerializeToString
        error = _protobuf_errors()

        def encode(value: Any) -> bytes:
            _check(kind, value)
            try:
                return bytes(serialize(value))
            except error.EncodeError as wrong:
                raise EncodeError(f"{kind.__name__}: {wrong}") from None

        return encode

    def decoder(self, kind: Any) -> Decoder:
        parse = kind.FromString
        error = _protobuf_errors()

        def decode(body: bytes) -> Any:
            try:
                return parse(body)
            except error.DecodeError:
                raise DecodeError(f"not a valid {kind.__name__} in protobuf's format") from None

        return decode


class ProtobufJsonCodec:
    """Protobuf messages as JSON, after https://protobuf.dev/programming-guides/json/."""

    content_type = JSON

    def handles(self, kind: Any) -> bool:
        return is_protobuf(kind)

    def encoder(self, kind: Any) -> Encoder:
        from google.protobuf import json_format

        def encode(value: Any) -> bytes:
            _check(kind, value)
            return str(json_format.MessageToJson(value, indent=None)).encode()

        return encode

    def decoder(self, kind: Any) -> Decoder:
        from google.protobuf import json_format

        holds_bytes = _holds_bytes(kind.DESCRIPTOR, set())

        def decode(body: bytes) -> Any:
            try:
                if holds_bytes and (wrong_at := _no_base64(kind.DESCRIPTOR, json.loads(body), [])) is not None:
                    wrong = [{"loc": wrong_at, "msg": "Not base64", "type": "bytes_invalid_encoding"}]
                    raise DecodeError(f"not a valid {kind.__name__} in protobuf's JSON mapping", wrong)
                return json_format.Parse(body, kind(), max_recursion_depth=100)
            except (json_format.ParseError, ValueError, RecursionError) as error:
                wrong = _describe(str(error))
                raise DecodeError(f"not a valid {kind.__name__} in protobuf's JSON mapping", wrong) from None

        return decode


def _holds_bytes(descriptor: Any, seen: set[str]) -> bool:
    """Whether a message has bytes in it, at any depth."""
    if descriptor.full_name in seen:
        return False
    seen.add(descriptor.full_name)
    return any(
        field.type == field.TYPE_BYTES or (field.message_type is not None and _holds_bytes(field.message_type, seen))
        for field in descriptor.fields
    )


def _no_base64(descriptor: Any, form: Any, at: list[int | str]) -> list[int | str] | None:
    """Where in a message a field of bytes is no base64, which json_format takes, leaving out what is none."""
    if descriptor.full_name == "google.protobuf.BytesValue":
        return None if _is_base64(form) else at
    if not isinstance(form, dict) or descriptor.full_name.startswith("google.protobuf."):
        return None
    for field in descriptor.fields:
        name = field.json_name if field.json_name in form else field.name
        inner = field.message_type
        if form.get(name) is None or (field.type != field.TYPE_BYTES and inner is None):
            continue
        is_map = inner is not None and inner.GetOptions().map_entry
        if inner is not None and is_map:
            field = inner.fields_by_name["value"]
            inner = field.message_type
        for step, each in _each(form[name], is_map):
            if field.type == field.TYPE_BYTES:
                wrong = None if _is_base64(each) else [*at, short(name), *step]
            else:
                wrong = None if inner is None else _no_base64(inner, each, [*at, short(name), *step])
            if wrong is not None:
                return wrong
    return None


def _each(value: Any, is_map: bool) -> Iterator[tuple[list[int | str], Any]]:
    """The values of a field: its one, those of a list, or of a map; with where each is."""
    if is_map and isinstance(value, dict):
        for key, each in value.items():
            yield [short(key)], each
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield [number], each
    else:
        yield [], value


def _is_base64(value: Any) -> bool:
    """Whether it is, in either alphabet; what is no text is for json_format to refuse."""
    if not isinstance(value, str):
        return True
    digits = value.rstrip("=")
    return _BASE64.fullmatch(digits) is not None and len(digits) % 4 != 1


def _describe(said: str) -> list[dict[str, Any]]:
    """The field of which json_format says something; what it says of that repeats parts of the body, which belong
    neither into a log nor to a peer.
    """
    at, loc = 0, list[int | str]()
    while (step := _STEP.match(said, at)) is not None:
        loc.append(short(step[1]))
        at = step.end()
    if (known := _KNOWN_FIELDS.search(said, at)) is not None:
        there = known[1].replace("'", "")
        return [{"loc": loc, "msg": f"A field that it does not have; it has {there}", "type": "extra_forbidden"}]
    return [{"loc": loc, "msg": "Not a value of this field", "type": "invalid"}] if loc else []


def _check(kind: type, value: Any) -> None:
    if not isinstance(value, kind):
        raise EncodeError(mismatch(kind, value))


def _protobuf_errors() -> Any:
    from google.protobuf import message

    return message
