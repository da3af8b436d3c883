"""A topic's codec for a type that may be None, too, of which its format knows nothing."""

from __future__ import annotations

from typing import Any

from eventmicro.codec import Codec, Decoder, Encoder
from eventmicro.topic import takes_none, without_none


class OptionalCodec:
    """The same codec, and no body at all for None."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self.content_type = codec.content_type

    def handles(self, kind: Any) -> bool:
        return takes_none(kind) and self._codec.handles(without_none(kind))

    def encoder(self, kind: Any) -> Encoder:
        encode = self._codec.encoder(without_none(kind))
        return lambda value: b"" if value is None else encode(value)

    def decoder(self, kind: Any) -> Decoder:
        decode = self._codec.decoder(without_none(kind))
        return lambda body: decode(body) if body else None
