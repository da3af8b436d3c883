"""The serving side of a stream: its handler runs as that of a call does, and has exactly one end."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

from eventmicro.broker import Broker
from eventmicro.codec import Decoder, Encoder
from eventmicro.codecs import Body
from eventmicro.context import Received, enter_context
from eventmicro.errors import (
    BadRequest,
    EncodeError,
    EventMicroError,
    InternalError,
    MessageTooLarge,
    ServiceError,
    StreamCancelled,
    TransportError,
    Unavailable,
    UnsupportedMediaType,
)
from eventmicro.handlers.inflight import UNREAD
from eventmicro.message import Delivery
from eventmicro.middleware import Handler
from eventmicro.rpc.endpoint import Endpoint
from eventmicro.rpc.negotiated import Negotiated
from eventmicro.rpc.streams.answering import Answering, Framed, Plain, Probes
from eventmicro.rpc.streams.channel import Channel
from eventmicro.rpc.streams.opening import Opening, read_opening
from eventmicro.rpc.streams.reading import Requests
from eventmicro.rpc.streams.streams import Streams
from eventmicro.wire import STREAM, content_type, form_of, stream_subject

log = logging.getLogger(__name__)

STOPPED = "the service has stopped, and the stream was cut off"


class NodeStreams:
    """What the streams of one node share: the subject of its own on which their frames come."""

    def __init__(self, broker: Broker, service: str) -> None:
        self.streams = Streams(broker, stream_subject(service, secrets.token_hex(8)))
        self.probes = Probes(broker)

    def kind(self, takes_stream: bool, yields: bool) -> Callable[..., StreamEndpoint]:
        """What makes an endpoint of the node that serves a stream."""
        return partial(StreamEndpoint, node=self, takes_stream=takes_stream, yields=yields)

    async def close(self) -> None:
        """Take no more frames; whoever still waits for some is told so."""
        await self.streams.close(lambda: Unavailable(STOPPED))
        await self.probes.close()


async def open_streams(broker: Broker, service: str) -> NodeStreams:
    """What the streams of a node need, ready for the first."""
    node = NodeStreams(broker, service)
    await node.streams.open()
    return node


class ReceivedStream(Received):
    """The context of a stream."""

    __slots__ = ()
    is_stream = True


class StreamEndpoint(Endpoint):
    """An endpoint whose requests, or replies, or both, are streams.

    Args:
        request: the body of its request, or of each message that it reads.
        node: what the streams of its node share.
        takes_stream: whether its handler reads messages of its caller.
        yields: whether its handler yields messages; else it returns one reply.
        others: as of Endpoint.
    """

    __slots__ = ("_item", "_node", "_takes_stream", "_yields")

    def __init__(
        self,
        service: str,
        name: str,
        handler: Handler,
        request: Body | None,
        reply: Body,
        *,
        node: NodeStreams,
        takes_stream: bool,
        yields: bool,
        **others: Any,
    ) -> None:
        super().__init__(service, name, handler, None if takes_stream else request, reply, **others)
        self._item = request
        self._node = node
        self._takes_stream = takes_stream
        self._yields = yields

    async def _serve(self, delivery: Delivery, request: Any) -> None:
        try:
            opening = read_opening(delivery.headers)
            self._check_opening(opening, delivery)
        except ServiceError as error:
            await self._send(delivery, *self._write_error(error))
            return
        task = asyncio.current_task()
        assert task is not None
        if opening is None:
            await self._serve_plainly(delivery, request, task)
        else:
            await self._serve_framed(opening, delivery, request, task)

    def _check_opening(self, opening: Opening | None, delivery: Delivery) -> None:
        """Refuse what cannot be answered.

        Raises:
            BadRequest: it is said why.
        """
        if self._takes_stream and opening is None:
            raise BadRequest(f"{self.name} takes a stream of messages: open it by client.stream({self.name!r})")
        if self._takes_stream and delivery.body:
            raise BadRequest(f"{self.name} takes a stream of messages, and no request: leave it out, and send() them")

    async def _serve_plainly(self, delivery: Delivery, request: Any, task: asyncio.Task[Any]) -> None:
        """Answer a client that knows nothing of frames."""
        plain = Plain(self._broker, delivery.reply, task.cancel)
        await plain.begin(self._node.probes)
        try:
            await self._run(delivery, request, plain)
        finally:
            plain.forget(self._node.probes)

    async def _serve_framed(self, opening: Opening, delivery: Delivery, request: Any, task: asyncio.Task[Any]) -> None:
        channel = self._accept(opening)
        channel.on_failure = lambda: _cancel_unless_reading(task, channel)
        try:
            await self._run(
                delivery, self._requests(channel, delivery) if self._takes_stream else request, Framed(channel)
            )
        finally:
            channel.end()

    def _accept(self, opening: Opening) -> Channel:
        streams = self._node.streams
        channel = Channel(streams, self.name, opening.keep_alive)
        channel.outgoing.address, channel.outgoing.stream = opening.address, opening.stream
        channel.outgoing.got_credit(opening.item_limit, opening.byte_limit)
        channel.outgoing.accept(streams.address, channel.number)
        if self._takes_stream:
            credit = channel.incoming.credit
            channel.outgoing.give_credit(credit.item_limit, credit.byte_limit)
        if opening.ended or not self._takes_stream:
            channel.incoming.end()
        return channel

    def _requests(self, channel: Channel, delivery: Delivery) -> Requests:
        assert self._item is not None
        named = content_type(delivery.headers)
        return Requests(channel, self._item, _decoder(self._item, named))

    # -- the handler -------------------------------------------------------------------------------------------

    async def _run(self, delivery: Delivery, request: Any, answering: Answering) -> None:
        """Run the handler, and tell the caller how it ends."""
        try:
            await self._answer(delivery, request, answering)
        except ServiceError as error:
            await self._fail(answering, self._failure(error) if error.received and not answering.is_over else error)
        except Unsent as unsent:
            log.error("%s: a stream was cut off: %s", self.name, unsent.__cause__)
            await self._fail(answering, InternalError(str(unsent)))
        except asyncio.CancelledError:
            outcome = self._outcome_of_cancel(answering)
            if outcome is not None:
                await self._fail(answering, outcome)
        except GeneratorExit:  # the end of this coroutine
            raise
        except BaseException as error:  # nothing that a stream brings about ends the service, or is not answered
            await self._fail(answering, self._failure(error))
            if isinstance(error, KeyboardInterrupt):  # the end of the program
                raise

    async def _answer(self, delivery: Delivery, request: Any, answering: Answering) -> None:
        if request is UNREAD:
            request = await self._read_opening(delivery)
        named = content_type(delivery.headers) if delivery.headers else None
        context = ReceivedStream(delivery, self._fill)
        enter_context(context)
        try:
            value = await self._handler(request, context)
            encode = self._reply.answer if named is None else self._reply.encoder(named)
            if encode is None:
                answering.announce(self._reply.content_type)
                encode = self._reply.encode
            await _pass_on(value if self._yields else _only(value), encode, answering, self._unfit)
        finally:
            context.ended = True

    async def _read_opening(self, delivery: Delivery) -> Any:
        form = form_of(delivery.headers) if delivery.headers else None
        if form is not None and form[3] is not None:
            form = await self._gather(delivery, form[3])
        if form is not None:
            return Negotiated(delivery, form, self._request, self._reply, self._names).read()
        return self._read(delivery)

    def _fill(self, context: Received) -> None:
        super()._fill(context)
        context.metadata = {name: value for name, value in context.metadata.items() if name.lower() != _HEADER}

    def _outcome_of_cancel(self, answering: Answering) -> ServiceError | None:
        """What the cancelled handler's caller is told; None where nobody waits for it."""
        if answering.is_over:
            return answering.failure if isinstance(answering.failure, ServiceError) else None
        outcome = self._calls.outcome()
        if isinstance(outcome, InternalError) and self._calls.stopping:
            return Unavailable(STOPPED)
        return outcome

    async def _fail(self, answering: Answering, error: ServiceError) -> None:
        """Count the failure, and tell the caller of it, if it still listens."""
        if answering.is_over and isinstance(answering.failure, StreamCancelled):
            return
        body, headers = self._write_error(error)
        if answering.is_over:
            return
        try:
            await answering.fail(body, headers)
        except EventMicroError as lost:
            log.error("%s: the end of a stream was lost: %s", self.name, lost)


def _decoder(body: Body, named: str | None) -> Decoder:
    """What decodes messages in the content type of the opening; one that is not taken is refused at the first."""
    if named is None:
        return body.decode
    try:
        return body.decoder(named)
    except UnsupportedMediaType as error:
        refused = error

    def refuse(_: bytes) -> Any:
        raise refused

    return refuse


async def _only(value: Any) -> AsyncIterator[Any]:
    """The one reply of a handler that yields nothing."""
    yield value


class Unsent(Exception):
    """A message could not be sent, or the end of them; says why in words for the other side."""

    def __init__(self, cause: TransportError) -> None:
        large = isinstance(cause, MessageTooLarge)
        super().__init__("a message is too large for the broker" if large else "the broker was away")


async def _pass_on(
    values: Any, encode: Encoder, answering: Answering, unfit: Callable[[Any, EncodeError], InternalError]
) -> None:
    """Send all that a handler yields; where it is not awaited any more, the handler is closed.

    Raises:
        Unsent: the broker did not take it.
        InternalError: it cannot be written; `unfit` has said so in the log.
    """
    send = answering.send
    try:
        async for value in values:
            try:
                body = encode(value)
            except EncodeError as error:
                raise unfit(value, error) from None
            try:
                if (waits := send(body)) is not None:
                    await waits
            except TransportError as error:  # unlike one that the handler itself has met
                raise Unsent(error) from error
        try:
            await answering.end()
        except TransportError as error:
            raise Unsent(error) from error
    finally:
        close: Callable[[], Awaitable[None]] | None = getattr(values, "aclose", None)
        if close is not None:
            await close()


def _cancel_unless_reading(task: asyncio.Task[Any], channel: Channel) -> None:
    """End the handler of a stream that has failed. One that waits for the next message gets the error from there,
    unless its caller has given it up: then it is cancelled, as that of a call.
    """
    incoming = channel.incoming
    if not isinstance(channel.failure, StreamCancelled):
        if incoming.told is task:
            return
        if task in incoming.readers:
            if incoming.waiting:  # it goes on with what came before: look again whether it then reads on
                asyncio.get_running_loop().call_soon(_cancel_unless_reading, task, channel)
            return
    if asyncio.current_task() is not task:
        task.cancel()


_HEADER = STREAM.lower()
