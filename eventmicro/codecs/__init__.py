"""The codecs, one a file, and the choice among them by type and content type.

Those of READY_MADE are here for every type. Others, ours as anybody's, name themselves in the entry-point group
`eventmicro.codecs` under their content type, and are loaded when a message or a user asks for that:

    [project.entry-points."eventmicro.codecs"]
    "application/avro" = "acme_eventmicro_avro:AvroCodec"

What is named is called without arguments and returns a Codec, or an Envelope.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, get_args, get_origin

from eventmicro.checks import check_count, check_several
from eventmicro.codec import Codec, Envelope, ReadsHeaders
from eventmicro.codecs.body import Body, ReplyBody
from eventmicro.codecs.json import JsonCodec
from eventmicro.codecs.optional import OptionalCodec
from eventmicro.codecs.protobuf import ProtobufCodec, ProtobufJsonCodec
from eventmicro.codecs.raw import RawCodec
from eventmicro.codecs.structs import StructJsonCodec
from eventmicro.codecs.validation import no_type
from eventmicro.compression import MAX_DECOMPRESSED, Compression, Encoding, check_compression
from eventmicro.errors import EventMicroError, UsageError
from eventmicro.kinds import TypeHeader
from eventmicro.plugins import CODECS, known, load
from eventmicro.reply import Reply
from eventmicro.wire import CONTENT_TYPE, OCTET_STREAM, TEXT, check_headers, without

__all__ = ["READY_MADE", "Body", "Codecs"]

log = logging.getLogger(__name__)

READY_MADE: tuple[Codec, ...] = (RawCodec(), ProtobufCodec(), ProtobufJsonCodec(), StructJsonCodec(), JsonCodec())
# The short names that are not what stands behind the slash.
SHORT_NAMES = {"text": TEXT, "bytes": OCTET_STREAM}


class Codecs:
    """The codecs of one service or client: the first that handles a type gives it its own content type.

    Args:
        own: codecs that are asked before the ready-made ones.
        content_type: what messages travel in where nothing else is said, and their type can; by its short name, too.
        compression: what large bodies are compressed by on their way out.
        max_decompressed: how large a body may become that a peer has compressed, in bytes.

    Raises:
        UsageError: one of these is something else, or there is no such content type, or its package is missing.
    """

    def __init__(
        self,
        own: Iterable[Codec | Envelope] = (),
        *,
        content_type: str | None = None,
        compression: Encoding | Compression | None = None,
        max_decompressed: int = MAX_DECOMPRESSED,
    ) -> None:
        self.own: tuple[Codec | Envelope, ...] = check_several("codecs", own, "YamlCodec()")
        for codec in self.own:
            if not isinstance(codec, Codec | Envelope) or isinstance(codec, type):
                raise UsageError(f"{codec!r} is no codec: write an object with content_type, handles, encoder, decoder")
        check_count("max_decompressed", max_decompressed)
        self.max_decompressed = max_decompressed
        self.compression = check_compression(compression)
        self._codecs = (*(codec for codec in self.own if isinstance(codec, Codec)), *READY_MADE)
        self._found: dict[str, Codec | Envelope] = {codec.content_type: codec for codec in self._codecs}
        self._found |= {codec.content_type: codec for codec in reversed(self.own)}
        self._envelopes = {each.content_type: each for each in self._found.values() if isinstance(each, Envelope)}
        self._unusable: dict[str, EventMicroError] = {}
        self._said: set[str] = set()
        self._resolved: dict[str, str] = {}
        self._bodies: dict[Any, Body] = {}
        self.content_type = None if content_type is None else self.resolve(content_type)

    def body(self, kind: Any) -> Body:
        """The body of a type; compiled at its first use.

        Raises:
            UsageError: no codec handles the type.
        """
        try:
            body = self._bodies.get(kind)
        except TypeError:  # a type that cannot be hashed is compiled each time
            return self._compile(kind, self.content_type, self.compression)
        if body is None:
            body = self._bodies[kind] = self._compile(kind, self.content_type, self.compression)
        return body

    def body_as(self, kind: Any, content_type: str | None, compression: Compression | None) -> Body:
        """The body of a type for which somebody has said more than this client does in general.

        Raises:
            UsageError: the type does not travel in this content type.
        """
        if content_type is None and compression is None:
            return self.body(kind)
        wanted = self.content_type if content_type is None else self.resolve(content_type)
        body = self._compile(kind, wanted, compression or self.compression)
        if content_type is not None and body.encoder(wanted or "") is None:
            able = ", ".join(body.content_types())
            raise UsageError(f"content_type={content_type!r}: {kind!r} cannot travel as {wanted}; it can as {able}")
        if kind is bytes and content_type is not None:
            body.names, body.announced = wanted, True
        return body

    def body_by(self, kind: Any, codec: Codec, compression: Compression | None = None) -> Body:
        """The body of a type for which a topic has a codec of its own, by which messages that name none are read, too.

        Raises:
            UsageError: values of this type do not travel so.
        """
        writes: Codec = codec if codec.handles(kind) else OptionalCodec(codec)
        if not writes.handles(kind):
            raise UsageError(f"codec={codec!r}: {kind!r} cannot travel as {codec.content_type}")
        body = Body(kind, [writes], self, compression=compression or self.compression)
        body.frame = codec.frame if isinstance(codec, ReadsHeaders) else None
        return body

    def body_of_events(
        self, kind: Any, codec: Codec | None, told_by: TypeHeader | None, *, cloudevents: bool = False
    ) -> Body:
        """The body of a topic's events, for those who read them; errors as of `body` and `body_by`."""
        if told_by is not None:
            from eventmicro.codecs.told import ToldBody  # which few topics need

            return ToldBody(kind, told_by, self.body)
        body = self.body(kind) if codec is None else self.body_by(kind, codec)
        if not cloudevents or body.is_plain:
            return body
        from eventmicro.codecs.enveloped import EnvelopedBody

        return EnvelopedBody(body)

    def naming(self, content_type: str, headers: dict[str, str] | None) -> dict[str, str]:
        """Headers that say in which content type a message is to travel, in place of what they said of it before.

        Raises:
            UsageError: as of `resolve`, and of `check_headers`.
        """
        headers = {} if headers is None else check_headers(headers)
        without(headers, CONTENT_TYPE)
        headers[CONTENT_TYPE] = self.resolve(content_type)
        return headers

    # -- content types -----------------------------------------------------------------------------------------

    def resolve(self, content_type: str) -> str:
        """A content type in full, which may be given by its short name: `msgpack`.

        Raises:
            UsageError: nothing has this name, or its package is missing.
        """
        if not isinstance(content_type, str):
            raise UsageError(f"content_type={content_type!r}: write a name such as 'msgpack' or 'application/msgpack'")
        if content_type in self._resolved:
            return self._resolved[content_type]
        wanted = content_type.partition(";")[0].strip().lower()
        full = wanted if "/" in wanted else self._full(wanted)
        self.find(full)
        self._resolved[content_type] = full
        return full

    def find(self, content_type: str) -> Codec | Envelope | None:
        """What reads and writes a content type; None: nobody here does.

        Raises:
            UsageError: its package is missing.
            EventMicroError: it cannot be loaded.
        """
        found = self.usable(content_type)
        if found is None and content_type in self._unusable:
            raise self._unusable[content_type]
        return found

    def usable(self, content_type: str) -> Codec | Envelope | None:
        """The same, where one that is there and cannot be used is none."""
        found = self._found.get(content_type)
        if found is not None or content_type in self._unusable or content_type not in _installed():
            return found
        try:
            found = _load(content_type)
        except EventMicroError as error:
            self._unusable[content_type] = error
            return None
        self._found[content_type] = found
        if isinstance(found, Envelope):
            self._envelopes[content_type] = found
        return found

    def envelope(self, content_type: str) -> Envelope | None:
        """What a content type puts around a call; None: nothing."""
        if content_type not in self._found:
            self.usable(content_type)
        return self._envelopes.get(content_type)

    def say_unusable(self, content_type: str) -> None:
        """Say in the log, once, why a content type that a message names cannot be read, where that can be mended."""
        why = self._unusable.get(content_type)
        if why is not None and content_type not in self._said:
            self._said.add(content_type)
            log.warning("a message in %s could not be read: %s", content_type, why)

    def content_types(self) -> list[str]:
        """All that is known here, whether or not its package is installed."""
        return list(dict.fromkeys((*(codec.content_type for codec in (*self.own, *READY_MADE)), *_installed())))

    def _full(self, short: str) -> str:
        from difflib import get_close_matches  # for errors only

        names = {each.partition("/")[2]: each for each in reversed(self.content_types())} | SHORT_NAMES
        if short not in names:
            close = get_close_matches(short, names, n=1)
            there = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(sorted(names))}"
            raise UsageError(f"content_type={short!r}: {there}")
        return names[short]

    def _compile(self, kind: Any, content_type: str | None, compression: Compression | None) -> Body:
        make: type[Body] = Body
        if get_origin(kind) is Reply:
            make, [kind] = ReplyBody, get_args(kind)
        elif kind is Reply:
            raise UsageError("Reply: say of what, Reply[YourModel]")
        if isinstance(kind, dict):  # pydantic takes it for a schema of its own
            raise no_type(kind)
        codecs = [codec for codec in self._codecs if codec.handles(kind)]
        if not codecs:
            raise UsageError(f"no codec handles {kind!r}")
        try:
            return make(kind, codecs, self, content_type, compression)
        except UsageError:
            body = self._compile_by_others(kind, content_type, compression, make)
            if body is None:
                raise
            return body

    def _compile_by_others(
        self, kind: Any, content_type: str | None, compression: Compression | None, make: type[Body]
    ) -> Body | None:
        """The body of a type that only an installed codec can have made for, such as records of a format of its own."""
        for other in map(self.usable, _installed()):
            if isinstance(other, Codec) and other.handles(kind):
                try:
                    return make(kind, [other], self, content_type, compression)
                except UsageError:
                    continue
        return None


def _load(content_type: str) -> Codec | Envelope:
    """The codec, or the envelope, that an entry point names.

    Raises:
        EventMicroError: its package is missing, or it cannot be loaded for another reason.
    """
    try:
        found = load(CODECS, content_type, "content type")()
    except EventMicroError:
        raise
    except Exception as error:  # somebody else's module may fail in any way
        raise UsageError(f"{content_type} cannot be used: {error!r}") from error
    if not isinstance(found, Codec | Envelope) or found.content_type != content_type:
        raise UsageError(f"{content_type} cannot be used: {found!r} is no codec for it")
    return found


@cache
def _installed() -> Mapping[str, Any]:
    """What is installed, by content type; looked up once, as it takes milliseconds."""
    return known(CODECS)
