"""What a body is labelled with: under which other names content types go, and which form a body has all the same.

A label is what somebody says of a body, and the body is what counts: one that is valid for its type is taken.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic_core import from_json

from eventmicro.charsets import to_utf8
from eventmicro.codec import Codec, Decoder
from eventmicro.codecs.json import JsonCodec
from eventmicro.codecs.protobuf import has_unknown_fields, is_protobuf
from eventmicro.errors import DecodeError, UnsupportedMediaType, describe_fields
from eventmicro.wire import BSON, CBOR, JSON, MSGPACK, OCTET_STREAM, PROTOBUF, TEXT

# Other names that are in use.
ALIASES = {
    "text/json": JSON,
    "text/x-json": JSON,
    "application/x-json": JSON,
    "application/x-protobuf": PROTOBUF,
    "application/x-google-protobuf": PROTOBUF,
    "application/vnd.google.protobuf": PROTOBUF,
    "application/proto": PROTOBUF,
    "application/x-msgpack": MSGPACK,
    "application/vnd.msgpack": MSGPACK,
    "application/messagepack": MSGPACK,
    "application/x-cbor": CBOR,
    "application/x-bson": BSON,
    "application/x-octet-stream": OCTET_STREAM,
    "application/binary": OCTET_STREAM,
    "application/data": OCTET_STREAM,
    "binary/octet-stream": OCTET_STREAM,
}
# What stands behind a plus, after RFC 6839.
SUFFIXES = {
    "json": JSON,
    "protobuf": PROTOBUF,
    "proto": PROTOBUF,
    "msgpack": MSGPACK,
    "cbor": CBOR,
    "bson": BSON,
}

Wrong = DecodeError | UnsupportedMediaType
"""What is raised for a body that is not what its label says, or whose label says nothing."""


@lru_cache(1000)
def written_as(content_type: str) -> str:
    """The content type in whose form one of another name is written: `application/json` of `application/geo+json`."""
    found = ALIASES.get(content_type) or SUFFIXES.get(content_type.rpartition("+")[2])
    return found or (TEXT if content_type[:5] == "text/" else content_type)


def takes_text(kind: Any) -> bool:
    """Whether a text is a value of the type without any quotes: `str`, one of its subclasses, `str | None` and such."""
    while get_origin(kind) is Annotated or hasattr(kind, "__supertype__"):
        kind = getattr(kind, "__supertype__", None) or get_args(kind)[0]
    if get_origin(kind) in (Union, UnionType):
        parts = [part for part in get_args(kind) if part is not type(None)]
        return all(map(takes_text, parts))
    return isinstance(kind, type) and issubclass(kind, str)


def from_text(decode: Decoder) -> Decoder:
    """What reads a text as the type of a decoder of JSON has it: an id, a date, a number."""

    def read(body: bytes) -> Any:
        try:
            text = body.decode()
        except UnicodeDecodeError:
            raise DecodeError("not a valid text in UTF-8") from None
        return decode(json.dumps(text).encode())

    return read


def unlabelled(kind: Any, codec: Codec | None, decode: Decoder, own: Decoder) -> Decoder:
    """The decoder of what says nothing of its form: JSON, and where it is none a text, or protobuf's own format.

    Args:
        codec: the one that reads it as JSON.
        decode, own: the decoders of that, and of the type's own content type.
    """
    if takes_text(kind):
        if type(codec) is JsonCodec:  # which asks the other one without a call around both
            return codec.decoder(kind, from_text(decode))
        return _first_of(decode, from_text(decode))
    if is_protobuf(kind):
        return _first_of(decode, strictly(own))
    return decode


def without_fields(kind: Any, decode: Decoder) -> Decoder:
    """The decoder of what says nothing of its form, where a JSON object is no text: who calls with fields takes the
    one parameter that is the whole body for one of several.
    """
    if not takes_text(kind):
        return decode

    def read(body: bytes) -> Any:
        if body.lstrip()[:1] == b"{" and _is_json(body):
            raise DecodeError('no text but an object: the one parameter is the whole body; send "text"')
        return decode(body)

    return read


def _is_json(body: bytes) -> bool:
    try:
        from_json(body)
    except ValueError:
        return False
    return True


def in_charset(decode: Decoder, charset: str) -> Decoder:
    """The decoder of a text that is in another charset than UTF-8."""

    def read(body: bytes) -> Any:
        try:
            return decode(to_utf8(body, charset))
        except (UnicodeError, LookupError):
            raise DecodeError(f"not a valid text in {charset}") from None

    return read


def decode_otherwise(body: bytes, wrong: Wrong, decoders: Iterable[Decoder]) -> Any:
    """Decode what is not as it is labelled by the first decoder that can.

    Args:
        wrong: what was raised when its label was believed.

    Raises:
        DecodeError, UnsupportedMediaType: as `wrong`, and it says why it is nothing else either.
    """
    other: DecodeError | None = None
    for decode in decoders:
        try:
            return decode(body)
        except DecodeError as error:
            other = error
    raise wrong if other is None else both(wrong, other)


def both(wrong: Wrong, other: Wrong) -> Wrong:
    """What is wrong with a body as it is labelled, and as it is."""
    if isinstance(wrong, UnsupportedMediaType):
        said = other.detail if isinstance(other, UnsupportedMediaType) else f"{other}{describe_fields(other.errors)}"
        return UnsupportedMediaType(f"{wrong.detail}; as it is, it is {said}", errors=other.errors)
    if str(other) == str(wrong):
        return wrong
    return DecodeError(f"{wrong}{describe_fields(wrong.errors)}, and as it is {other}", other.errors)


def is_readable(body: bytes) -> bool:
    """Whether this may be a text that somebody has written: of bytes in an unknown form some are one by chance."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return False
    return text.translate(_BLANKS).isprintable()


def _first_of(decode: Decoder, other: Decoder) -> Decoder:
    def read(body: bytes) -> Any:
        try:
            return decode(body)
        except DecodeError:
            if not body:
                raise
            try:
                return other(body)
            except DecodeError:
                pass
            raise

    return read


def strictly(decode: Decoder) -> Decoder:
    """A decoder of protobuf that takes no message of another type, of which it would see unknown fields."""

    def read(body: bytes) -> Any:
        message = decode(body)
        if not body or has_unknown_fields(message):
            raise DecodeError(f"not a valid {type(message).__name__} in protobuf's format")
        return message

    return read


_BLANKS = str.maketrans("", "", "\t\r\n")
