"""Text as it is, in UTF-8: what shells, logs and little devices speak."""

from __future__ import annotations

from typing import Any

from eventmicro.codec import Decoder, Encoder
from eventmicro.errors import DecodeError, EncodeError
from eventmicro.wire import TEXT


class TextCodec:
    """`str`, without the quotes that JSON puts around it."""

    content_type = TEXT

    def handles(self, kind: Any) -> bool:
        return kind is str

    def encoder(self, kind: Any) -> Encoder:
        return _encode

    def decoder(self, kind: Any) -> Decoder:
        return _decode


def _encode(value: Any) -> bytes:
    if not isinstance(value, str):
        raise EncodeError(f"expected str, got {type(value).__name__}")
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise EncodeError(f"not a text that can be sent: {error.reason}") from None


def _decode(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise DecodeError("not a valid text in UTF-8") from None
