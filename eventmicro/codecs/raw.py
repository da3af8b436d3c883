"""Bytes as they are, and no body at all for None."""

from __future__ import annotations

from typing import Any

from eventmicro.codec import Decoder, Encoder
from eventmicro.errors import DecodeError, EncodeError
from eventmicro.wire import OCTET_STREAM


class RawCodec:
    """`bytes` travel untouched; `None` is an empty body."""

    content_type = OCTET_STREAM

    def handles(self, kind: Any) -> bool:
        return kind in (bytes, None, type(None))

    def encoder(self, kind: Any) -> Encoder:
        return _encode_bytes if kind is bytes else _encode_none

    def decoder(self, kind: Any) -> Decoder:
        return _decode_bytes if kind is bytes else _decode_none


def _encode_bytes(value: Any) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise EncodeError(f"expected bytes, got {type(value).__name__}")
    return bytes(value)


def _decode_bytes(body: bytes) -> bytes:
    return body


def _encode_none(value: Any) -> bytes:
    if value is not None:
        raise EncodeError(f"expected None, got {type(value).__name__}")
    return b""


def _decode_none(body: bytes) -> None:
    if body not in (b"", b"null"):
        raise DecodeError(f"{len(body)} bytes where none are expected")
