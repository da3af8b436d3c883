"""The subscriber's side of an event: decode, run the handler, settle the event by what became of it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from eventmicro.broker import Receive
from eventmicro.codec import Decoder, NotReady
from eventmicro.codecs import Body
from eventmicro.context import Context, Received, Side, enter_context
from eventmicro.errors import (
    Ack,
    BadRequest,
    BodyMissing,
    EventMicroError,
    InternalError,
    TransportError,
    UsageError,
)
from eventmicro.events.objects import Objects
from eventmicro.events.reasons import why_unreadable
from eventmicro.events.settling import ByHandler, Settling
from eventmicro.events.unsettled import PATIENCE, Unsettled
from eventmicro.fields import of_event
from eventmicro.handlers.eager import Task
from eventmicro.handlers.inflight import ENDS, UNREAD, InFlight
from eventmicro.handlers.subjects import WrongSubject
from eventmicro.large import without_large
from eventmicro.message import Delivery
from eventmicro.middleware import Handler
from eventmicro.repeating import origin
from eventmicro.wire import Form, form_of, one_line

SUBSCRIBER = Side.SUBSCRIBER
log = logging.getLogger(__name__)

# In how many seconds an event comes again whose settlement has failed.
UNSETTLED_PAUSE = 60.0

# How long after a broker could not be asked for a body it is asked again, in seconds.
FETCH_PAUSE = 1.0

# As what an event counts whose handler has raised, and one that could not be decoded.
FAILED = InternalError.code
UNREADABLE = BadRequest.code

Handling = Coroutine[Any, Any, None]


@dataclass(frozen=True, slots=True)
class Work:
    """What a subscriber does with an event.

    service, name: its own names, `orders` and `bill`.
    handler: the compiled handler, middleware around it.
    body: the body of the events; None where the handler takes none.
    timeout: how long the handler may take, in seconds; None: as long as it takes.
    state: what the service's lifespan yielded.
    settling: what becomes of an event that was handled.
    pattern: the subject that it is subscribed to, where that has wildcards.
    objects: where the bodies of those are that were too large for the broker; None: they cannot be had.
    transactional: whether the handler ends with a transaction, which is not cut off.
    """

    service: str
    name: str
    handler: Handler
    body: Body | None
    timeout: float | None
    state: Any
    settling: Settling
    objects: Objects | None = None
    pattern: str = ""
    transactional: bool = False


class Apart(NotReady):
    """The body of an event is not in it.

    form: how it is written.
    where: where it is, as the event says.
    """

    def __init__(self, form: Form, where: str) -> None:
        super().__init__(where)
        self.form = form
        self.where = where


class Subscriber:
    """One handler of events at work. Lives from the start of its service to its stop.

    Args:
        work: what it does with an event.
        concurrency: how many events may wait for something at the same time; with 1 they are handled in order.
    """

    __slots__ = (
        "_ack",
        "_decode",
        "_refuses",
        "_work",
        "inflight",
        "name",
        "run",
        "settles",
        "settling",
        "unsettled",
    )

    def __init__(self, work: Work, concurrency: int) -> None:
        self.name = f"{work.service}.{work.name}"
        self.inflight = InFlight(concurrency)
        self.settling = work.settling
        self.unsettled = Unsettled(self.name, max(PATIENCE, work.timeout or 0.0))
        self._work = work
        self._ack = work.settling.ack
        self._refuses = work.settling.refuses
        self._decode: Decoder = _ignore if work.body is None else work.body.decode
        self.settles: ByHandler | None = None
        if work.settling.ack is not None:
            self.settles = ByHandler(work.settling, self.again, self.unsettled.remove)
        self.run: Handler = work.handler if work.timeout is None else self._run_bounded

    @property
    def transactional(self) -> bool:
        """Whether its handler ends with a transaction, which is not cut off."""
        return self._work.transactional

    @property
    def consumer(self) -> Receive:
        """What the broker hands the events to."""
        return self

    def __call__(self, delivery: Delivery) -> Awaitable[None] | None:
        return self.receive(delivery)

    def receive(self, delivery: Delivery) -> Awaitable[None] | None:
        """Take one event."""
        task = self.inflight.start(self._handle(delivery))
        return None if task is None else self.inflight.room()

    def many(self, line: deque[Delivery]) -> Awaitable[None] | None:
        """The same for events that came together: all are decoded, then all are handled."""
        return self.inflight.take(line, self._read_all, self._begin)

    def _begin(self, delivery: Delivery, event: Any) -> Handling:
        return self._handle(delivery) if event is UNREAD else self.attempt(delivery, event)

    def _read_all(self, run: list[Delivery]) -> list[Any]:
        decode, read, events = self._decode, self.read, list[Any]()
        for delivery in run:
            try:
                events.append(decode(delivery.body) if delivery.headers is None else read(delivery))
            except ENDS:
                raise
            except BaseException:  # it is given up when its turn comes
                events.append(UNREAD)
        return events

    async def give_back(self) -> None:
        """Begin with no more of what was taken and waits here."""

    async def finish(self) -> None:
        """Wait until nothing is being handled."""
        await self.inflight.finish()

    async def cut_off(self) -> int:
        """Cancel what is still being handled; how many handlers that were. What comes yet, as a drain that is cancelled
        goes on, is cut off, too.
        """
        self.run = _cut_off
        self.unsettled.close()
        try:
            return await self.inflight.cut_off()
        finally:
            self.settling.close()

    def __len__(self) -> int:
        """How many handlers are running."""
        return len(self.inflight)

    async def _handle(self, delivery: Delivery) -> None:
        try:
            event = self._decode(delivery.body) if delivery.headers is None else self.read(delivery)
        except ENDS:
            raise
        except NotReady as missing:
            event = await self.fetch(delivery, missing)
            if event is UNREAD:
                return
        except BaseException as error:
            await self.unreadable(delivery, error)
            return
        await self.attempt(delivery, event)

    async def fetch(self, delivery: Delivery, missing: NotReady) -> Any:
        """An event whose body is kept apart, or needs what is; UNREAD where it is settled, or has lapsed.

        The body is not put into the delivery: as a dead letter the event is again what it came as.
        """
        try:
            if not isinstance(missing, Apart):
                return await self._read_when_ready(delivery, missing)
            body = await self._fetch_body(delivery, missing)
            return UNREAD if body is None else self.decode_as(body, missing.form)
        except ENDS:
            raise
        except asyncio.CancelledError as error:
            delay = await self.settle(delivery, self.settling.failed(delivery, error))
            if delay is not None:
                await self.again(delivery, delay)
        except BaseException as error:
            await self.unreadable(delivery, error)
        return UNREAD

    async def _read_when_ready(self, delivery: Delivery, missing: NotReady) -> Any:
        told = False
        while not delivery.lapsed:
            try:
                await missing.fetch()
                return self._decode(delivery.body) if delivery.headers is None else self.read(delivery)
            except TransportError as error:
                if not told:
                    self._say(logging.WARNING, delivery, "waits to be read", error, is_traced=False)
                told = True
                await asyncio.sleep(FETCH_PAUSE)
            except NotReady as another:  # one thing more
                missing = another
        return UNREAD

    def receive_later(
        self, delivery: Delivery, missing: NotReady, take: Callable[[Delivery, Any], None]
    ) -> Task | None:
        """Take an event when its body is there; none behind it is handed over before."""

        async def receive() -> None:
            event = await self.fetch(delivery, missing)
            if event is UNREAD:
                self.inflight.statistics.handled(1, 0.0)
            else:
                take(delivery, event)

        return self.inflight.start(receive(), 0)

    async def _fetch_body(self, delivery: Delivery, apart: Apart) -> bytes | None:
        """The body, as soon as it can be read; None: the event has lapsed, and comes again."""
        objects, told = self._work.objects, False
        if objects is None:
            raise BodyMissing("without its body, which is in an object store, and none is known here")
        while not delivery.lapsed:
            try:
                return await objects.fetch(apart.where)
            except (TransportError, UsageError) as error:
                if not told:
                    self._say(logging.WARNING, delivery, "waits for its body", error, is_traced=False)
                told = True
                await asyncio.sleep(FETCH_PAUSE)
        return None

    async def attempt(self, delivery: Delivery, event: Any) -> None:
        """Handle an event, and settle it or have it delivered again."""
        ack = self._ack
        context = Received(delivery, self._fill)
        enter_context(context)
        try:
            if (
                ack is not None
                and (delivery.lapsed or ack == "before" or self._refuses(delivery) is not None)
                and not await self.may_start(delivery)
            ):
                return
            await self.run(event, context)
            context.ended = True
            if ack is not None and not context.settled:
                if ack == "after_success":
                    if not delivery.try_ack():
                        await delivery.ack()
                elif ack == "manual":
                    self.unsettled.add(delivery)
        except ENDS:
            raise
        except BaseException as error:
            await self.failed(context, delivery, error)

    async def failed(self, context: Context, delivery: Delivery, error: BaseException) -> None:
        """Settle an event whose handler raised, unless that one has settled it itself."""
        context.ended = True
        self.count(error)
        if not context.settled:
            is_acked = self.settling.ack == "before"
            delay = await self.settle(delivery, self.settling.failed(delivery, error), is_acked=is_acked)
            if delay is not None:
                await self.again(delivery, delay)
        elif not isinstance(error, asyncio.CancelledError):
            self._say(logging.ERROR, delivery, "failed after its handler had settled it, which stands", error)

    def count(self, error: BaseException) -> None:
        """Count an event whose handler has raised."""
        if not isinstance(error, Ack | asyncio.CancelledError):
            code = UNREADABLE if isinstance(error, WrongSubject) else FAILED
            self.inflight.statistics.failed(code, type(error).__name__)

    def hold(self, ended: asyncio.Future[None]) -> None:
        """Keep the place of a handler taken until that ends: its thread, which goes on though it was given up."""
        self.inflight.hold(ended)

    async def settle(
        self, delivery: Delivery, settling: Awaitable[float | None], *, is_acked: bool = False
    ) -> float | None:
        """How a settlement ends: in how many seconds the event is to be delivered again, or None, it is settled.

        Where it cannot be brought to its end the event is to come again, unless it is acked.
        """
        try:
            try:
                return await settling
            except asyncio.CancelledError as error:
                return await self.settling.failed(delivery, error)
        except Exception as error:
            what_now = "and is gone" if is_acked else f"comes again in {UNSETTLED_PAUSE:g} s"
            self._say(logging.ERROR, delivery, f"could not be settled, {what_now}", error)
            return None if is_acked else UNSETTLED_PAUSE

    async def may_start(self, delivery: Delivery) -> bool:
        """Whether an event of a durable queue is to be handled; where not, it is settled."""
        if delivery.lapsed:
            return False
        if (reason := self.settling.refuses(delivery)) is not None:
            await self.give_up(delivery, reason)
            return False
        if self.settling.ack == "before":
            await delivery.ack()
        return True

    async def again(self, delivery: Delivery, delay: float) -> None:
        """Have an event delivered again in so many seconds."""
        await delivery.nack(delay)

    def read(self, delivery: Delivery) -> Any:
        """Decode an event, as its headers may say that it is written.

        Raises:
            DecodeError, UnsupportedMediaType, ContentTooLarge: it cannot be read.
            Apart: its body is not in it, and is to be fetched.
        """
        if delivery.null and self._work.body is not None:
            return self._work.body.of_nothing()
        form = form_of(delivery.headers) if delivery.headers else None
        if form is not None and form[3] is not None and self._work.body is not None:
            raise Apart(form, form[3])
        frame = None if self._work.body is None else self._work.body.frame
        return self.decode_as(delivery.body if frame is None else frame(delivery), form)

    def decode_as(self, body: bytes, form: Form | None) -> Any:
        """Decode a body that is written so; errors as of `read`."""
        if self._work.body is None or form is None:
            return self._decode(body)
        return self._work.body.read(body, form)

    async def unreadable(self, delivery: Delivery, error: BaseException) -> None:
        """Give an event up that cannot be decoded; another attempt would not help."""
        if not isinstance(error, EventMicroError):
            self._say(logging.ERROR, delivery, "could not be decoded", error)
        self.inflight.statistics.failed(UNREADABLE, type(error).__name__)
        await self.give_up(delivery, why_unreadable(error))

    def _say(self, level: int, delivery: Delivery, what: str, error: BaseException, *, is_traced: bool = True) -> None:
        """Say what an error has made of an event; what is alike is counted."""
        told = self.settling.told
        if told.counts((what, *origin(error)), level, "times an event %s, the last on %s", what, delivery.subject):
            return
        said, shown = (what, error) if is_traced else (f"{what}: {error}", None)
        where, fields = one_line(delivery.subject), of_event(told.fields, delivery)
        log.log(level, "%s: event on %s %s", self.name, where, one_line(said), exc_info=shown, extra=fields)

    async def give_up(self, delivery: Delivery, reason: str) -> None:
        """Settle an event that is not to be handled."""
        delay = await self.settle(delivery, self.settling.give_up(delivery, reason))
        if delay is not None:
            await self.again(delivery, delay)

    def context(self, delivery: Delivery) -> Context:
        """What the handler is told of an event besides its body."""
        return Received(delivery, self._fill)

    def _fill(self, context: Received) -> None:
        work, delivery = self._work, context.came
        Context.__init__(
            context,
            SUBSCRIBER,
            work.service,
            work.name,
            delivery.subject,
            delivery.headers if delivery.body else without_large(delivery.headers),
            None,
            delivery.attempt,
            work.state,
            delivery,
            self.settles,
            pattern=work.pattern,
        )

    async def _run_bounded(self, event: Any, context: Context) -> None:
        bound = asyncio.timeout(self._work.timeout)
        try:
            async with bound:
                await self._work.handler(event, context)
        except TimeoutError:
            if bound.expired():
                raise TimeoutError(f"not finished within its timeout of {self._work.timeout:g} s") from None
            raise


def _ignore(body: bytes) -> None:
    """The decoder for a handler that takes no message."""


async def _cut_off(event: Any, context: Context) -> None:
    """In place of the handler, whose lifespan ends."""
    raise asyncio.CancelledError
