"""The messages of a stream as its reader has them: one after the other, decoded as he takes them."""

from __future__ import annotations

from typing import Any, Self

from eventmicro.codec import Decoder
from eventmicro.codecs import Body
from eventmicro.errors import BadRequest, DecodeError, EventMicroError, UnsupportedMediaType
from eventmicro.rpc.streams.channel import Channel


class Reading:
    """An async iterator over what the other side sends.

    Args:
        body: that of the messages' type.
        decode: decodes what comes before the other side names a content type.
    """

    __slots__ = ("_body", "_decode", "_incoming", "channel")

    def __init__(self, channel: Channel, body: Body, decode: Decoder) -> None:
        self.channel = channel
        self._incoming = channel.incoming
        self._body = body
        self._decode = decode

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        incoming = self._incoming
        waiting = incoming.waiting
        try:
            while True:
                if not waiting:
                    await incoming.wait()
                item = waiting.popleft()
                if not isinstance(item, str):
                    break
                self._decode = self._body.decoder(item)
            incoming.was_read(len(item))
            return self._decode(item)
        except (DecodeError, UnsupportedMediaType) as error:
            if incoming.failure is error:  # nothing that was read here
                raise
            failure = self._explain(error)
            incoming.spoil(failure)
            self.channel.fail(failure)
            raise failure from None

    def _explain(self, error: DecodeError | UnsupportedMediaType) -> EventMicroError:
        """The error that the reader gets of a message that cannot be read."""
        raise NotImplementedError


class Requests(Reading):
    """What a handler reads of its caller."""

    __slots__ = ()

    def _explain(self, error: DecodeError | UnsupportedMediaType) -> EventMicroError:
        if isinstance(error, UnsupportedMediaType):
            return error
        return BadRequest(f"a message of the stream is {error}", errors=error.errors)
