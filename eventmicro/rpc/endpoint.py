"""The serving side of a call: decode, run the handler, and give every request exactly one outcome."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Coroutine
from typing import Any

from eventmicro.broker import Broker, sends_at_once
from eventmicro.codec import Decoder
from eventmicro.codecs import Body
from eventmicro.codecs.labels import without_fields
from eventmicro.codecs.validation import name_of
from eventmicro.context import Context, Received, Side, enter_context
from eventmicro.errors import (
    BadRequest,
    CallTimeout,
    ConnectionFailed,
    ContentTooLarge,
    DecodeError,
    Disconnected,
    EncodeError,
    EventMicroError,
    InternalError,
    MessageTooLarge,
    ServiceError,
    Unavailable,
    UsageError,
    unwrapped,
)
from eventmicro.fields import of_handler
from eventmicro.handlers.eager import Task
from eventmicro.handlers.inflight import ENDS, UNREAD, InFlight
from eventmicro.handlers.unawaited import unawaited
from eventmicro.large import accepted_size, too_large
from eventmicro.message import Delivery, Message
from eventmicro.middleware import Handler
from eventmicro.repeating import Repeating, origin, readable
from eventmicro.reply import check_reply_metadata
from eventmicro.rpc.large.serving import LargeBodies
from eventmicro.rpc.negotiated import Negotiated, Reply, unreadable
from eventmicro.wire import ACCEPT_LARGE, ERROR, Form, budget_of, error_headers, form_of

ENDPOINT = Side.ENDPOINT
log = logging.getLogger(__name__)

# How many cancellations of calls that have not come up yet are remembered; they may be other instances' calls.
REMEMBERED = 10_000
# What a caller is told where the handler is wrong.
FAILED = "the endpoint failed; the log of its service says why"
# What is said of many, in place of a line each.
CALLS = "calls went wrong so, the last by %s: %s"
# … and where what the handler needs did not answer it: a second try may find it.
UNANSWERED = "a service that the endpoint calls did not answer; the log of its service says which"
AWAY = "a broker that the endpoint needs is away"
# The longest reply subject that is remembered, in characters.
MAX_REPLY = 256

Serving = Coroutine[Any, Any, None]


class RunningCalls:
    """The calls of one service whose handlers are waiting for something, so that they can be cancelled."""

    def __init__(self) -> None:
        self._running: dict[Task, _RunningCall] = {}
        self._by_reply: dict[str, list[_RunningCall]] = {}
        self._cancelled: OrderedDict[str, None] = OrderedDict()
        self.stopping = False

    def __len__(self) -> int:
        return len(self._running)

    def add(self, reply: str, task: Task, deadline: float | None, late: ServiceError | None) -> None:
        """A handler waits: from now on its call can be cancelled, and is at its deadline, with the outcome `late`."""
        call = self._running[task] = _RunningCall(reply, task)
        if reply:
            self._by_reply.setdefault(reply, []).append(call)
        if deadline is not None:
            left = deadline - time.monotonic()
            call.timer = asyncio.get_running_loop().call_later(left, call.cancel, late)
        task.add_done_callback(self._remove)

    def receive_cancel(self, delivery: Delivery) -> None:
        """A caller no longer waits; where its call has not come up yet, it will not be started."""
        reply = delivery.body.decode("utf-8", "replace")
        if reply in self._by_reply:
            for call in self._by_reply[reply]:
                call.cancel(None)
        elif 0 < len(reply) <= MAX_REPLY:
            self._cancelled[reply] = None
            if len(self._cancelled) > REMEMBERED:
                self._cancelled.popitem(last=False)

    def was_cancelled(self, reply: str) -> bool:
        """Whether the caller has given this call up before it was started."""
        if reply not in self._cancelled:
            return False
        del self._cancelled[reply]
        return True

    def outcome(self) -> ServiceError | None:
        """What to answer to the call whose handler, in this task, was cancelled; None where nobody waits for it."""
        task = asyncio.current_task()
        call = self._running.get(task) if task is not None else None
        if call is not None and call.cancelled:
            return call.outcome
        if self.stopping:
            return InternalError("the service stopped before the call was finished")
        return InternalError("the handler was cancelled")

    def _remove(self, task: Task) -> None:
        call = self._running.pop(task)
        if call.timer is not None:
            call.timer.cancel()
        if call.reply:
            others = self._by_reply[call.reply]
            others.remove(call)
            if not others:
                del self._by_reply[call.reply]


class _RunningCall:
    """One call whose handler waits for something, and what to answer where it is cancelled."""

    __slots__ = ("cancelled", "outcome", "reply", "task", "timer")

    def __init__(self, reply: str, task: Task) -> None:
        self.reply = reply
        self.task = task
        self.timer: asyncio.TimerHandle | None = None
        self.cancelled = False
        self.outcome: ServiceError | None = None

    def cancel(self, outcome: ServiceError | None) -> None:
        """Cancel the handler; the first reason stands."""
        if not self.cancelled:
            self.cancelled, self.outcome = True, outcome
            self.task.cancel()


class Endpoint:
    """One endpoint at work. Lives from the start of its service to its stop.

    Args:
        service, name: `orders` and `quote`, called as `orders.quote`.
        handler: the compiled handler, middleware around it.
        request, reply: the bodies of its types; None as request where the handler takes none.
        concurrency: how many of its calls may wait for something at the same time; further ones wait in line.
        timeout: how long a call may take, in seconds, where its caller gives more; None: what the caller gives.
        large: what takes and sends bodies in pieces that are over the broker's limit; None: nothing does.
    """

    __slots__ = (
        "_broker",
        "_calls",
        "_decode",
        "_endpoint",
        "_handler",
        "_large",
        "_names",
        "_reply",
        "_request",
        "_service",
        "_state",
        "_timeout",
        "_told",
        "_try_send",
        "inflight",
        "name",
    )

    def __init__(
        self,
        service: str,
        name: str,
        handler: Handler,
        request: Body | None,
        reply: Body,
        *,
        broker: Broker,
        calls: RunningCalls,
        concurrency: int,
        timeout: float | None,
        state: Any,
        large: LargeBodies | None = None,
    ) -> None:
        self.name = f"{service}.{name}"
        self.inflight = InFlight(concurrency)
        self._service = service
        self._endpoint = name
        self._names = name, self.name
        self._handler = handler
        self._request = request
        self._reply = reply
        self._broker = broker
        self._calls = calls
        self._timeout = timeout
        self._state = state
        self._large = large
        self._told: Repeating | None = None
        self._decode: Decoder = _ignore if request is None else without_fields(request.kind, request.decode)
        self._try_send = None if (able := sends_at_once(broker)) is None else able.try_send

    def __call__(self, delivery: Delivery) -> Awaitable[None] | None:
        """What the broker hands the requests to."""
        return self.many(deque((delivery,)))

    def many(self, line: deque[Delivery]) -> Awaitable[None] | None:
        """The same for requests that came together: all are decoded, then all are handled."""
        return self.inflight.take(line, self._read_all, self._begin, self._goes_on)

    def _begin(self, delivery: Delivery, request: Any) -> Serving | None:
        """The handling of a call; None where its caller waits no more, as it has said, or as that took so long."""
        if self._calls.was_cancelled(delivery.reply):
            return None
        if delivery.arrived is None:
            delivery.arrived = time.monotonic()
        elif self._is_late(delivery.reply, delivery.arrived):
            return None
        return self._serve(delivery, request)

    def _is_late(self, reply: str, arrived: float) -> bool:
        """Whether a call has waited in line for as long as its caller waits."""
        limit, late = self._limit(reply)
        return limit is not None and late is None and arrived + limit <= time.monotonic()

    def _goes_on(self, task: Task, delivery: Delivery) -> None:
        """A handler waits for something: from now on its call can be cancelled, and is when its time is over."""
        limit, late = self._limit(delivery.reply)
        self._calls.add(delivery.reply, task, None if limit is None else (delivery.arrived or 0.0) + limit, late)

    def _limit(self, reply: str) -> tuple[float | None, CallTimeout | None]:
        """How long a call may take, and its outcome where it takes longer; None where its caller knows by itself."""
        limit = budget_of(reply)
        if self._timeout is not None and (limit is None or self._timeout < limit):
            return self._timeout, CallTimeout(f"not finished within the endpoint's own timeout of {self._timeout:g} s")
        return limit, None

    def _read_all(self, run: list[Delivery]) -> list[Any]:
        decode, requests = self._decode, list[Any]()
        for delivery in run:
            try:
                requests.append(UNREAD if delivery.headers and form_of(delivery.headers) else decode(delivery.body))
            except ENDS:
                raise
            except BaseException:  # it is answered when its turn comes
                requests.append(UNREAD)
        return requests

    async def give_back(self) -> None:
        """Nothing that was taken waits here: the broker holds what waits in line."""

    async def finish(self) -> None:
        """Wait until no call is being handled."""
        await self.inflight.finish()

    async def cut_off(self) -> int:
        """Cancel the calls that are still being handled; how many they were. Those that come yet, as a drain that is
        cancelled goes on, are told to ask another instance.
        """
        self._handler = _refuse
        try:
            return await self.inflight.cut_off()
        finally:
            if self._told is not None:
                self._told.close()

    def __len__(self) -> int:
        """How many calls are being handled."""
        return len(self.inflight)

    async def _serve(self, delivery: Delivery, request: Any) -> None:
        asked = context = None
        try:
            if request is UNREAD:
                form = form_of(delivery.headers) if delivery.headers else None
                if form is not None and form[3] is not None:
                    form = await self._gather(delivery, form[3])
                if form is not None:
                    asked = Negotiated(delivery, form, self._request, self._reply, self._names)
                    request = asked.read()
                else:
                    request = self._read(delivery)
            context = Received(delivery, self._fill)
            enter_context(context)
            try:
                value = await self._handler(request, context)
            finally:
                context.ended = True
            body, headers = self._write(value, asked)
        except ServiceError as error:
            body, headers = self._write_error(self._failure(error) if error.received else error, asked)
        except asyncio.CancelledError:
            outcome = self._calls.outcome()
            if outcome is None:
                return
            body, headers = self._write_error(outcome, asked)
        except GeneratorExit:  # the end of this coroutine
            raise
        except BaseException as error:  # nothing that a call brings about ends the service, or is not answered
            body, headers = self._write_error(self._failure(error), asked)
            if isinstance(error, KeyboardInterrupt):  # the end of the program
                await self._send(delivery, body, headers, asked)
                raise
        if context is not None and context.fill is None and context.answers_with:
            body, headers = self._with_metadata(context.answers_with, body, headers, asked)
        if not self._send_at_once(delivery.reply, body, headers):
            await self._send(delivery, body, headers, asked)

    async def _gather(self, delivery: Delivery, offer: str) -> Form | None:
        """Give a request its body, which comes in pieces; how that is written."""
        if self._large is None:
            raise BadRequest("the request is in pieces, which are not taken here")
        await self._large.take(delivery, self.name, offer)
        return form_of(delivery.headers) if delivery.headers else None

    def _fill(self, context: Received) -> None:
        delivery = context.came
        headers = delivery.headers
        if headers is not None and ACCEPT_LARGE in headers:  # that is about this reply, and not to be passed on
            headers = {name: value for name, value in headers.items() if name != ACCEPT_LARGE}
        limit, _ = self._limit(delivery.reply)
        Context.__init__(
            context,
            ENDPOINT,
            self._service,
            self._endpoint,
            delivery.subject,
            headers,
            None if limit is None else delivery.arrived + limit,
            delivery.attempt,
            self._state,
            reply=self._reply.kind,
        )

    def _read(self, delivery: Delivery) -> Any:
        try:
            return self._decode(delivery.body)
        except DecodeError as error:
            raise unreadable(error) from None

    def _write(self, value: Any, asked: Negotiated | None) -> Reply:
        """The reply, in the caller's content type where it can be, else in its own, which it then names."""
        try:
            return (self._reply.answer(value), None) if asked is None else asked.write(value)
        except EncodeError as error:
            raise self._unfit(value, error) from None

    def _with_metadata(
        self, metadata: dict[str, str], body: bytes, headers: dict[str, str] | None, asked: Negotiated | None
    ) -> Reply:
        """A reply, or an error, with what the handler has set beside it."""
        try:
            return body, {**check_reply_metadata(metadata), **(headers or {})}
        except UsageError as error:
            return self._write_error(self._failure(error), asked)

    def _unfit(self, value: Any, error: EncodeError) -> InternalError:
        """What the caller is told of a reply that cannot be written; the log is told what the handler returned."""
        if told := unawaited(value, "write `return await ...`"):
            self.say(error, ": its handler returned %s", told)
            return InternalError(FAILED)
        returned, reply = type(value).__qualname__, name_of(self._reply.kind)
        if isinstance(value, BaseException):
            self.say(error, ": its handler returned an error, a %s: write `raise` in place of `return`", returned)
            return InternalError(FAILED)
        self.say(error, ": its reply, a value of type %s, cannot be sent as %s: %s", returned, reply, error)
        return InternalError(FAILED)

    def _failure(self, error: BaseException) -> ServiceError:
        """What the caller is told of an exception that is not for it; the log is told all."""
        error = unwrapped(error)
        if isinstance(error, ServiceError) and not error.received:
            return error
        if isinstance(error, ServiceError) and error.is_unanswered:
            self.say(error, " failed, as what it calls did not answer: %s", error)
            again = error.retryable or not isinstance(error, Unavailable)
            return Unavailable(UNANSWERED, retryable=again, retry_after=error.retry_after)
        if isinstance(error, Disconnected | ConnectionFailed):
            self.say(error, " failed, as a broker is away: %s", error)
            return Unavailable(AWAY)
        self.say(error, " failed", shown=error)
        failure = InternalError(FAILED)
        failure.__cause__ = error
        return failure

    def say(self, error: BaseException, text: str, *arguments: object, shown: BaseException | None = None) -> None:
        """Say in the log what went wrong with a call; what is alike is counted."""
        if self._told is None:
            self._told = Repeating(log, self.name, of_handler(self.name))
        if not self._told.counts((text, *origin(error)), logging.ERROR, CALLS, type(error).__name__, error):
            said = map(readable, arguments)
            log.error("%s" + text, self.name, *said, exc_info=shown, extra=dict(self._told.fields))

    def _write_error(self, error: ServiceError, asked: Negotiated | None = None) -> Reply:
        cause = error.__cause__ if error.detail is FAILED else None  # whose kind may be told, and its words may not
        self.inflight.statistics.failed(error.code, error.detail if cause is None else type(cause).__name__)
        headers = error_headers(error.code, error.detail)
        try:
            body = error.to_json(self.name)
        except (TypeError, ValueError, RecursionError):
            self.say(error, ": an error was sent without its parts, which JSON cannot hold", shown=sys.exception())
            body = ServiceError(error.detail, id=error.id, code=error.code).to_json(self.name)
        return (body, headers) if asked is None else asked.write_error(error, body, headers)

    def _send_at_once(self, subject: str, body: bytes, headers: dict[str, str] | None) -> bool:
        """Send a reply where that has nothing to wait for; whether it was done."""
        if self._try_send is None or not subject:
            return not subject
        try:
            return self._try_send(subject, body, headers)
        except EventMicroError:  # which `_send` meets, too, and knows what to do
            return False

    async def _send(
        self, delivery: Delivery, body: bytes, headers: dict[str, str] | None, asked: Negotiated | None = None
    ) -> None:
        if not delivery.reply:
            return
        reply = Message(delivery.reply, body, headers)
        try:
            await self._broker.send(reply)
        except MessageTooLarge as error:
            await self._send_large(delivery, reply, error, asked)
        except EventMicroError as error:
            self.say(error, ": a reply was lost: %s", error)

    async def _send_large(
        self, delivery: Delivery, reply: Message, error: MessageTooLarge, asked: Negotiated | None
    ) -> None:
        """Send a reply in pieces, where its caller takes it so; else an error in its place."""
        size, most = len(reply.body), accepted_size(delivery.headers)
        if self._large is not None and most is not None and size <= most:
            try:
                await self._large.give(reply, self.name, error.limit)
                return
            except MessageTooLarge:  # not even what is said of it fits
                most = None
            except EventMicroError as lost:
                self.say(lost, ": a reply in pieces was lost: %s", lost)
                return
        self.say(error, ": %s; a caller that says large='stream' gets it in pieces", error)
        if reply.headers and ERROR in reply.headers:
            return  # not even an error fits
        refused: ServiceError = InternalError("the reply is too large for the broker")
        if most is not None:
            refused = ContentTooLarge(too_large("the reply", size, most))
        await self._send(delivery, *self._write_error(refused, asked))


def _ignore(body: bytes) -> None:
    """The decoder for a handler that takes no message."""


async def _refuse(request: Any, context: Context) -> None:
    """In place of the handler, whose lifespan ends."""
    raise Unavailable("the service stopped before it began with the call")
