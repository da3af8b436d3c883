"""Protobuf messages, in their own format and, for people and other languages, in protobuf's JSON mapping.

The protobuf package is loaded only when a protobuf message class is met, so it need not be installed.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from eventmicro.codec import Decoder, Encoder
from eventmicro.codecs.validation import short
from eventmicro.errors import DecodeError, EncodeError
from eventmicro.wire import JSON, PROTOBUF

# How json_format says where something is wrong.
_STEP = re.compile(r"Failed to parse ([A-Za-z]\w*) field: ")
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

        def decode(body: bytes) -> Any:
            try:
                return json_format.Parse(body, kind(), max_recursion_depth=100)
            except (json_format.ParseError, ValueError, RecursionError) as error:
                wrong = _describe(str(error))
                raise DecodeError(f"not a valid {kind.__name__} in protobuf's JSON mapping", wrong) from None

        return decode


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
        raise EncodeError(f"expected {kind.__name__}, got {type(value).__name__}")


def _protobuf_errors() -> Any:
    from google.protobuf import message

    return message
