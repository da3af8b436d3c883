"""An open stream, as the side that has opened it holds it."""

from __future__ import annotations

from typing import Any

from eventmicro.codecs import Body, Codecs
from eventmicro.errors import (
    CodecError,
    DecodeError,
    EventMicroError,
    MessageTooLarge,
    UnsupportedMediaType,
    UsageError,
    describe_fields,
)
from eventmicro.rpc.streams.channel import Channel
from eventmicro.rpc.streams.reading import Reading


class OpenStream(Reading):
    """Reads what the other side sends, and sends. Nobody holding it any more, the stream is given up.

    Args:
        named: the content type that its opening has named.
        ended: whether it is not to send.
    """

    __slots__ = ("_codecs", "_encode", "_ended", "_kind", "_named")

    def __init__(self, channel: Channel, codecs: Codecs, reply: Body, named: str | None, *, ended: bool) -> None:
        super().__init__(channel, reply, reply.asked_decoder(named))
        self._codecs = codecs
        self._named = named
        self._ended = ended
        self._kind: Any = _NONE
        self._encode: Any = None

    async def send(self, item: Any) -> None:
        """Send a message; it waits while the other side has not read enough of those before."""
        if self._ended:
            raise self._after_end()
        outgoing = self.channel.outgoing
        if outgoing.closed is not None:
            raise outgoing.closed.with_traceback(None)
        try:
            if item.__class__ is not self._kind:
                self._prepare(item.__class__)
            body = self._encode(item)
            if not outgoing.put(body):
                await outgoing.put_later(body)
            if outgoing.sending is not None:
                await outgoing.sent()
        except (CodecError, MessageTooLarge) as error:
            self.channel.fail(error)
            raise

    def end(self) -> None:
        """Send no more."""
        if not self._ended:
            self._ended = True
            if not self.channel.over and self.channel.outgoing.closed is None:
                self.channel.outgoing.end()
                self.channel.outgoing.close(self._after_end())  # for who waits to send

    def close(self) -> None:
        """Give it up, unless it has ended."""
        self.channel.cancel()

    def _after_end(self) -> UsageError:
        return UsageError(f"{self.channel.name}: nothing can be sent after end()")

    def _prepare(self, kind: type) -> None:
        """Get ready for messages of another type, which may travel in another content type."""
        body = self._codecs.body(kind)
        encode = None if self._named is None else body.encoder(self._named)
        if encode is None:
            encode = body.encode
            if body.names is not None or self._named is not None:
                self._named = body.content_type
                self.channel.outgoing.announce(body.content_type)
        self._kind, self._encode = kind, encode

    def _explain(self, error: DecodeError | UnsupportedMediaType) -> EventMicroError:
        name = self.channel.name
        if isinstance(error, UnsupportedMediaType):
            return DecodeError(f"a message of {name}: {error.detail}")
        if self._body.kind in (None, type(None)):
            return DecodeError(f"{name} sent a message, but no type was given for it: stream(..., TypeOfTheMessages)")
        return DecodeError(f"a message of {name} is {error}{describe_fields(error.errors)}", error.errors)

    def __del__(self) -> None:
        if not self.channel.over:
            self.channel.abandon()


_NONE = object()
