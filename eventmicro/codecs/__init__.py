"""The ready-made codecs, one a file, and the choice among them by type and content type."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from eventmicro.checks import check_several
from eventmicro.codec import Codec, Decoder, Encoder
from eventmicro.codecs.json import JsonCodec
from eventmicro.codecs.protobuf import ProtobufCodec, ProtobufJsonCodec
from eventmicro.codecs.raw import RawCodec
from eventmicro.errors import UnsupportedMediaType, UsageError
from eventmicro.wire import CONTENT_TYPE, JSON, OCTET_STREAM
from eventmicro.wire import content_type as find_content_type

READY_MADE: tuple[Codec, ...] = (RawCodec(), ProtobufCodec(), ProtobufJsonCodec(), JsonCodec())


class Body:
    """The body of one type, compiled: in the content type that is its own, and in the others that it can have.

    content_type, encode: its own content type, the first that handles it, and the encoder for that.
    announced: whether a message in its own content type has to name it.
    decode, answer: the decoder and the encoder for messages that name no content type: these are JSON, or plain bytes.
    """

    __slots__ = ("_decoders", "_encoders", "announced", "answer", "content_type", "decode", "encode", "kind")

    def __init__(self, kind: Any, codecs: Iterable[Codec]) -> None:
        self.kind = kind
        self._encoders: dict[str, Encoder] = {}
        self._decoders: dict[str, Decoder] = {}
        for codec in codecs:
            if codec.content_type not in self._decoders:
                self._encoders[codec.content_type] = codec.encoder(kind)
                self._decoders[codec.content_type] = codec.decoder(kind)
        self.content_type = next(iter(self._decoders))
        unnamed = JSON if JSON in self._decoders else self.content_type
        self.encode = self._encoders[self.content_type]
        self.answer = self._encoders[unnamed]
        self.decode = self._decoders[unnamed]
        self.announced = self.content_type not in (JSON, OCTET_STREAM)

    def decoder(self, content_type: str) -> Decoder:
        """The decoder for a content type that a message names.

        Raises:
            UnsupportedMediaType: values of this type do not travel in it.
        """
        if self.content_type == OCTET_STREAM:
            return self.decode  # bytes are bytes, whatever they hold
        decoder = self._decoders.get(content_type)
        if decoder is None:
            known = ", ".join(self._decoders)
            raise UnsupportedMediaType(f"content type {content_type[:100]!r} is not taken here; taken: {known}")
        return decoder

    def asked_decoder(self, content_type: str | None) -> Decoder:
        """The decoder for an unnamed reply to a request in this content type; a foreign service may answer in JSON."""
        return self._decoders.get(content_type or "", self.decode)

    def encoder(self, content_type: str) -> Encoder | None:
        """The encoder for a content type; None where values of this type do not travel in it."""
        return self.encode if self.content_type == OCTET_STREAM else self._encoders.get(content_type)

    def pack(self, value: Any, headers: dict[str, str]) -> bytes:
        """Encode in the content type that the headers name, else in its own, and name that where it has to be.

        Raises:
            EncodeError: the value is not of this type.
            UsageError: values of this type do not travel in the content type that is named.
        """
        named = find_content_type(headers) if headers else None
        if named is None:
            if self.announced:
                headers[CONTENT_TYPE] = self.content_type
            return self.encode(value)
        encode = self.encoder(named)
        if encode is None:
            raise UsageError(f"a value of type {type(value).__name__} cannot travel as {named}; leave Content-Type out")
        return encode(value)


class Codecs:
    """The codecs of one service or client: the first that handles a type gives it its own content type.

    Args:
        own: codecs that are asked before the ready-made ones.

    Raises:
        UsageError: that is no list, or one of them is none.
    """

    def __init__(self, own: Iterable[Codec] = ()) -> None:
        self.own: tuple[Codec, ...] = check_several("codecs", own, "YamlCodec()")
        for codec in self.own:
            if not isinstance(codec, Codec) or isinstance(codec, type):
                raise UsageError(f"{codec!r} is no codec: write an object with content_type, handles, encoder, decoder")
        self._codecs = (*self.own, *READY_MADE)
        self._bodies: dict[Any, Body] = {}

    def body(self, kind: Any) -> Body:
        """The body of a type; compiled at its first use.

        Raises:
            UsageError: no codec handles the type.
        """
        try:
            body = self._bodies.get(kind)
        except TypeError:  # a type that cannot be hashed is compiled each time
            return self._compile(kind)
        if body is None:
            body = self._bodies[kind] = self._compile(kind)
        return body

    def _compile(self, kind: Any) -> Body:
        codecs = [codec for codec in self._codecs if codec.handles(kind)]
        if not codecs:
            raise UsageError(f"no codec handles {kind!r}")
        return Body(kind, codecs)
