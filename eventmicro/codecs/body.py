"""Body: how the values of one type travel, compiled once and used for each message."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Protocol, get_args, get_origin

from eventmicro.codec import Codec, Decoder, Encoder, Envelope
from eventmicro.codecs.cloudevents import Load, data_decoder, is_cloudevent
from eventmicro.codecs.labels import (
    both,
    decode_otherwise,
    from_text,
    in_charset,
    is_readable,
    strictly,
    takes_text,
    unlabelled,
    written_as,
)
from eventmicro.codecs.protobuf import is_protobuf
from eventmicro.codecs.validation import name_of
from eventmicro.compression import Compression, accepts, decompress, looks_compressed
from eventmicro.errors import DecodeError, ServiceError, UnsupportedMediaType, UsageError
from eventmicro.message import Delivery
from eventmicro.reply import Reply
from eventmicro.topic import takes_none
from eventmicro.wire import (
    CONTENT_ENCODING,
    CONTENT_TYPE,
    IN_CHARSET,
    JSON,
    OCTET_STREAM,
    TEXT,
    Form,
    header,
    without,
)
from eventmicro.wire import content_type as find_content_type


class Knows(Protocol):
    """What a body asks for content types beyond those that it was made with; Codecs is that."""

    max_decompressed: int

    def find(self, content_type: str) -> Codec | Envelope | None: ...
    def body(self, kind: Any) -> Body: ...
    def usable(self, content_type: str) -> Codec | Envelope | None: ...
    def envelope(self, content_type: str) -> Envelope | None: ...
    def say_unusable(self, content_type: str) -> None: ...
    def content_types(self) -> Iterable[str]: ...


class Body:
    """The body of one type, compiled: in the content type that is its own, and in the others that it can have.

    kind: the type.
    is_plain: whether it travels as bytes, or nothing, which are the same in every content type.
    compression: what large bodies are compressed by on their way out; None: nothing is.
    content_type, encode: its own content type and the encoder for that: what was asked for where it travels in that,
        else the first that handles it.
    names: the content type that a message in its own has to name, or that of the envelope around it; None: none.
    announced: whether a message of it needs headers: to name its content type, or that it is compressed; or has to be
        looked at as if it did.
    takes_metadata: whether it decodes to a Reply.
    frame: takes a body together with what the broker has beside it; None: nothing is to be taken from there.
    decode, answer: the decoder and the encoder for messages that name no content type: these are JSON, or plain bytes.

    Args:
        codecs: those that are compiled at once.
        known: where others are found when a message names them.
        content_type: the one to use where nothing else is said; left out where the type does not travel in it.
        compression: as above.
    """

    __slots__ = (
        "_bare",
        "_decoders",
        "_encoders",
        "_known",
        "announced",
        "answer",
        "compression",
        "content_type",
        "decode",
        "encode",
        "frame",
        "is_plain",
        "kind",
        "names",
    )
    takes_metadata = False

    def __init__(
        self,
        kind: Any,
        codecs: Iterable[Codec],
        known: Knows,
        content_type: str | None = None,
        compression: Compression | None = None,
    ) -> None:
        self.kind = kind
        self.compression = compression
        self._known = known
        self._bare: set[str] = set()  # the content types for which it is compiled that have no envelope
        self._encoders: dict[str, Encoder] = {}
        self._decoders: dict[str, Decoder] = {}
        first: dict[str, Codec] = {}
        for codec in codecs:
            if codec.content_type not in first:
                self._compile(codec)
                first[codec.content_type] = codec
        self.content_type = next(iter(self._decoders))
        self.is_plain = self.content_type == OCTET_STREAM
        self.frame: Callable[[Delivery], bytes] | None = None
        unnamed = JSON if JSON in self._decoders else self.content_type
        self.answer = self._encoders[unnamed]
        own = self._decoders[self.content_type]
        self.decode = unlabelled(kind, first.get(JSON), self._decoders[unnamed], own)
        self.names: str | None = None
        if content_type is not None:
            self._prefer(content_type)
        elif self.content_type not in (JSON, OCTET_STREAM):
            self.names = self.content_type
        self.encode = self.encoder(self.content_type) or self._encoders[self.content_type]
        self.announced = self.names is not None or compression is not None

    # -- on the way out ----------------------------------------------------------------------------------------

    def encoder(self, content_type: str) -> Encoder | None:
        """The encoder for a content type; None where values of this type do not travel in it."""
        encode = self._encoders.get(content_type)
        if encode is not None:
            return encode
        if self.is_plain:
            return self._encoders[self.content_type]
        if self._travels_in(content_type):
            return self._encoders[content_type]
        form = written_as(content_type)
        return None if form == content_type else self.encoder(form)

    def pack(self, value: Any, headers: dict[str, str], method: str = "") -> bytes:
        """Encode in the content type that the headers name, else in its own; the headers then say what has to be said.

        Args:
            method: what is called, for content types that put an envelope around a call; empty for an event.

        Raises:
            EncodeError: the value is not of this type.
            UsageError: values of this type do not travel in the content type that is named.
        """
        body = self.write(value, headers, method)
        if self.compression is None and header(headers, CONTENT_ENCODING) is None:
            return body
        return self.compress(body, headers)

    def write(self, value: Any, headers: dict[str, str], method: str = "") -> bytes:
        """The same before it is compressed."""
        named = find_content_type(headers) if headers else None
        if named is None:
            encode: Encoder | None = self.encode
            if (named := self.names) is not None:
                headers[CONTENT_TYPE] = named
        else:
            encode = self.encoder(named)
        if encode is None:
            raise UsageError(self._refuse(named or "", value))
        body = encode(value)
        if named is not None and (envelope := self.envelope(named)) is not None:
            if method:
                body = envelope.request(method, body)
            else:
                without(headers, CONTENT_TYPE)
                headers[CONTENT_TYPE] = envelope.inner
        return body

    def compress_for(
        self, accept: str, body: bytes, headers: dict[str, str] | None
    ) -> tuple[bytes, dict[str, str] | None]:
        """A reply and its headers, compressed where that was asked for here and its caller can read it."""
        if self.compression is None or not accepts(accept, self.compression.encoding):
            return body, headers
        said = {} if headers is None else headers
        return self.compress(body, said), said or None

    def compress(self, body: bytes, headers: dict[str, str]) -> bytes:
        """The body, compressed where it is large and that was asked for; the headers then say so."""
        if (said := header(headers, CONTENT_ENCODING)) is not None:
            if self.kind is bytes and looks_compressed(body, said):  # by its sender
                return body
            without(headers, CONTENT_ENCODING)  # that of another message, whose headers were taken over
        smaller = None if self.compression is None else self.compression.compress(body)
        if self.compression is None or smaller is None:
            return body
        headers[CONTENT_ENCODING] = self.compression.encoding
        return smaller

    # -- on the way in -----------------------------------------------------------------------------------------

    def decoder(self, content_type: str) -> Decoder:
        """The decoder for a content type that a message names.

        Raises:
            UnsupportedMediaType: values of this type do not travel in it.
        """
        decode = self._decoders.get(content_type)
        if decode is not None:
            return decode
        if is_cloudevent(content_type) and self._known.usable(content_type) is None:
            return data_decoder(content_type, name_of(self.kind), self.load, self._load_one())
        if self.is_plain:
            return self.decode  # bytes are bytes, whatever they hold
        if self._travels_in(content_type):
            return self._decoders[content_type]
        plain, _, charset = content_type.partition(IN_CHARSET)
        if charset:
            return in_charset(self.decoder(plain), charset)
        if (form := written_as(content_type)) != content_type and self._travels_in(form):
            return self._decoders[form]
        self._known.say_unusable(content_type)
        known = ", ".join(self.content_types())
        raise UnsupportedMediaType(f"content type {content_type[:100]!r} is not taken here; taken: {known}")

    def opener(self, content_type: str, endpoint: str) -> Decoder:
        """The decoder for a reply in a content type, out of the envelope that this may have; it decodes as `load`."""
        decode, envelope = self.reader(content_type), self.envelope(content_type)
        return decode if envelope is None else _opening(envelope, endpoint, decode)

    def asked_decoder(self, content_type: str | None, endpoint: str = "") -> Decoder:
        """The same for an unnamed reply to a request in this content type; a foreign service may answer in JSON."""
        if content_type is None or self.encoder(content_type) is None:
            return self.decode
        return self.opener(content_type, endpoint)

    def reader(self, content_type: str) -> Decoder:
        """The decoder for bodies that are labelled so, of which each is what it is: see `load`."""
        return partial(self.load, named=content_type)

    def load(self, body: bytes, named: str) -> Any:
        """Decode what is labelled with a content type. What is valid for the type is taken, whatever its label is.

        Raises:
            DecodeError: it is not valid, neither as it is labelled nor otherwise.
            UnsupportedMediaType: likewise, and values of this type do not travel in that content type.
        """
        try:
            decode = self._decoders.get(named) or self.decoder(named)
            return decode(body)
        except (DecodeError, UnsupportedMediaType) as error:
            wrong = error
        return decode_otherwise(body, wrong, self._forms_beside(named))

    def read(self, body: bytes, form: Form) -> Any:
        """Decode a message as it says that it is written, or as it is: as `load`.

        Raises:
            DecodeError, UnsupportedMediaType: it is not one of this type.
            ContentTooLarge: it becomes too large when it is decompressed.
        """
        named, encoding, *_ = form
        if encoding is None:
            return self.decode(body) if named is None else self.load(body, named)
        return self.read_packed(body, encoding, self.decode if named is None else self.reader(named))

    def read_packed(self, body: bytes, encoding: str, decode: Decoder) -> Any:
        """Decode what is labelled as compressed, or is valid as it is; errors as of `read`."""
        try:
            plain = self.decompress(body, encoding)
        except (DecodeError, UnsupportedMediaType) as error:
            wrong = error
        else:
            return decode(plain)
        try:
            if takes_text(self.kind) and not is_readable(body):
                raise DecodeError("no text")
            return decode(body)
        except (DecodeError, UnsupportedMediaType) as error:
            raise both(wrong, error) from None

    def _forms_beside(self, named: str) -> Iterator[Decoder]:
        """How a body may be read that is not as its label says: in any form of its type's own, and a text as any."""
        plain, _, charset = named.partition(IN_CHARSET)
        if written_as(plain) == TEXT:
            decode = from_text(self.decode)
            yield in_charset(decode, charset) if charset else decode
        tried = self._decoders.get(named)
        if tried is None and not is_cloudevent(plain):  # which may be taken as a whole, too
            tried = self._decoders.get(written_as(named))
        own = self._decoders[self.content_type]
        if tried is not self.decode:
            yield self.decode
        if own is not tried and own is not self.decode:
            yield strictly(own) if is_protobuf(self.kind) else own

    def _load_one(self) -> Load | None:
        """What decodes an item, where the type is a list."""
        return self.of(get_args(self.kind)[0]).load if get_origin(self.kind) is list else None

    def of_nothing(self) -> Any:
        """What a message is that has no body at all, on a broker where that is another thing than an empty one.

        Raises:
            DecodeError: values of this type have one.
        """
        if self.is_plain:
            return self.decode(b"")
        if self.kind is Any or takes_none(self.kind):
            return None
        name = getattr(self.kind, "__name__", str(self.kind))
        raise DecodeError(
            f"a tombstone, it has no value, and {name} is what is taken here: let topic and handler have the type "
            f"`{name} | None`"
        )

    def decompress(self, body: bytes, encoding: str) -> bytes:
        """The body as it was before it was compressed; errors as of `read`."""
        return decompress(body, encoding, self._known.max_decompressed)

    # -- content types beyond those it was made with -----------------------------------------------------------

    def of(self, kind: Any) -> Body:
        """The body of another type of the same service or client."""
        return self._known.body(kind)

    def envelope(self, content_type: str | None) -> Envelope | None:
        """What a content type puts around a call; None: nothing. Nothing is put around bytes, nor taken off."""
        if content_type is None or content_type in self._bare or self.kind is bytes:
            return None
        return self._known.envelope(content_type)

    def content_types(self) -> list[str]:
        """All that values of this type travel in."""
        return [each for each in self._known.content_types() if self._can_travel_in(each)]

    def _prefer(self, content_type: str) -> None:
        envelope = self.envelope(content_type)
        if self.is_plain:
            self.names = None if envelope is None else content_type
            return
        travels = self._travels_in(content_type) or self._is_alias(content_type)
        if travels:
            self.content_type = content_type if envelope is None else envelope.inner
        if travels and envelope is not None:
            self.names = content_type
        elif self.content_type != JSON:
            self.names = self.content_type

    def _is_alias(self, content_type: str) -> bool:
        """Whether values of this type travel in what this is another name for; then they do in this, too."""
        form = written_as(content_type)
        if form == content_type or not self._travels_in(form):
            return False
        self._encoders[content_type] = self._encoders[form]
        self._decoders[content_type] = self._decoders[form]
        return True

    def _travels_in(self, content_type: str) -> bool:
        """Whether values of this type travel in a content type; then it is compiled for that."""
        if content_type in self._decoders:
            return True
        if (envelope := self._known.envelope(content_type)) is not None:
            if not self._travels_in(envelope.inner):
                return False
            self._encoders[content_type] = self._encoders[envelope.inner]
            self._decoders[content_type] = self._decoders[envelope.inner]
            return True
        codec = self._known.usable(content_type)
        if not isinstance(codec, Codec) or not codec.handles(self.kind):
            return False
        try:
            self._compile(codec)
        except UsageError:  # it cannot, for all that it says; the types of a declaration are compiled before
            return False
        return True

    def _can_travel_in(self, content_type: str) -> bool:
        """The same as far as can be told without loading packages."""
        if content_type in self._decoders:
            return True
        codec = self._known.usable(content_type)
        if isinstance(codec, Codec):
            return codec.handles(self.kind)
        return codec is not None and self._can_travel_in(codec.inner)

    def _compile(self, codec: Codec) -> None:
        encoder, decoder = codec.encoder(self.kind), codec.decoder(self.kind)
        self._bare.add(codec.content_type)
        self._encoders[codec.content_type] = encoder
        self._decoders[codec.content_type] = decoder

    def _refuse(self, named: str, value: Any) -> str:
        """Why a value cannot travel as it is asked for; where a package is missing the error for that is raised."""
        self._known.find(named)
        able = ", ".join(self.content_types())
        what = f"a value of type {type(value).__name__} cannot travel as {named[:100]}"
        return f"{what}; leave Content-Type out, or write one of {able}"


class ReplyBody(Body):
    """The body of a reply that its caller takes as `Reply[...]`: what it decodes has room for the metadata.

    `kind` is the type of the reply itself.
    """

    __slots__ = ()
    takes_metadata = True

    def __init__(self, *made_of: Any) -> None:
        super().__init__(*made_of)
        self.announced = True

    def opener(self, content_type: str, endpoint: str) -> Decoder:
        return _with_metadata(super().opener(content_type, endpoint))

    def asked_decoder(self, content_type: str | None, endpoint: str = "") -> Decoder:
        decode = super().asked_decoder(content_type, endpoint)
        return _with_metadata(decode) if decode is self.decode else decode


def _with_metadata(decode: Decoder) -> Decoder:
    return lambda body: Reply(decode(body), {})


def _opening(envelope: Envelope, endpoint: str, decode: Decoder) -> Decoder:
    """What decodes a reply out of its envelope; an error in there is the service's own."""

    def read(body: bytes) -> Any:
        try:
            reply = envelope.open_reply(body, endpoint)
        except ServiceError as error:
            error.received = True
            raise
        return decode(reply)

    return read
