"""The serving side of a call: decode, run the handler, and give every request exactly one outcome."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from typing import Any

from eventmicro.broker import Broker
from eventmicro.codecs import Body
from eventmicro.context import Context, Side, enter_context
from eventmicro.errors import (
    BadRequest,
    CallTimeout,
    DecodeError,
    EventMicroError,
    InternalError,
    MessageTooLarge,
    ServiceError,
)
from eventmicro.handlers.eager import Task
from eventmicro.handlers.inflight import InFlight
from eventmicro.message import Delivery, Message
from eventmicro.middleware import Handler
from eventmicro.wire import CONTENT_TYPE, ERROR, budget_of, content_type, error_headers

ENDPOINT = Side.ENDPOINT
log = logging.getLogger(__name__)

# How many cancellations of calls that have not come up yet are remembered; they may be other instances' calls.
REMEMBERED = 10_000
# The longest reply subject that is remembered, in characters.
MAX_REPLY = 256


class RunningCalls:
    """The calls of one service whose handlers are waiting for something, so that they can be cancelled."""

    def __init__(self) -> None:
        self._running: dict[Task, _RunningCall] = {}
        self._by_reply: dict[str, list[_RunningCall]] = {}
        self._cancelled: dict[str, None] = {}
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
                del self._cancelled[next(iter(self._cancelled))]

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
    """

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
    ) -> None:
        self.name = f"{service}.{name}"
        self.inflight = InFlight(concurrency)
        self._service = service
        self._endpoint = name
        self._handler = handler
        self._request = request
        self._reply = reply
        self._broker = broker
        self._calls = calls
        self._timeout = timeout
        self._state = state

    def receive(self, delivery: Delivery) -> Awaitable[None] | None:
        """What the broker hands the requests to."""
        reply = delivery.reply
        if self._calls.was_cancelled(reply):
            return None
        limit = budget_of(reply)
        late = None  # a caller that gave a budget knows by itself when it is used up
        if self._timeout is not None and (limit is None or self._timeout < limit):
            limit = self._timeout
            late = CallTimeout(f"not finished within the endpoint's own timeout of {limit:g} s")
        deadline = None
        if limit is not None:
            now = time.monotonic()
            deadline = (delivery.arrived or now) + limit
            if deadline <= now and late is None:
                return None  # it waited in line for so long that its caller waits no more
        task = self.inflight.start(self._serve(delivery, deadline))
        if task is None:
            return None
        self._calls.add(reply, task, deadline, late)
        return self.inflight.room()

    async def give_back(self) -> None:
        """Nothing that was taken waits here: the broker holds what waits in line."""

    async def finish(self) -> None:
        """Wait until no call is being handled."""
        await self.inflight.finish()

    async def cut_off(self) -> int:
        """Cancel the calls that are still being handled; how many they were."""
        return await self.inflight.cut_off()

    def __len__(self) -> int:
        """How many calls are being handled."""
        return len(self.inflight)

    async def _serve(self, delivery: Delivery, deadline: float | None) -> None:
        reply = Message(delivery.reply)
        try:
            named = content_type(delivery.headers) if delivery.headers else None
            request = None if self._request is None else self._read(self._request, delivery, named)
            context = Context(
                ENDPOINT,
                self._service,
                self._endpoint,
                delivery.subject,
                delivery.headers,
                deadline,
                delivery.attempt,
                self._state,
            )
            enter_context(context)
            self._write(reply, await self._handler(request, context), named)
        except ServiceError as error:
            self._write_error(reply, self._failure() if error.received else error)
        except asyncio.CancelledError:
            outcome = self._calls.outcome()
            if outcome is None:
                return
            self._write_error(reply, outcome)
        except GeneratorExit:  # the end of this coroutine
            raise
        except BaseException as error:  # nothing that a call brings about ends the service, or is not answered
            self._write_error(reply, self._failure())
            if isinstance(error, KeyboardInterrupt):  # the end of the program
                await self._send(reply)
                raise
        await self._send(reply)

    def _read(self, body: Body, delivery: Delivery, named: str | None) -> Any:
        decode = body.decode if named is None else body.decoder(named)
        try:
            return decode(delivery.body)
        except DecodeError as error:
            raise BadRequest(f"the request is {error}", errors=error.errors) from None

    def _write(self, reply: Message, value: Any, named: str | None) -> None:
        """Encode the reply in the caller's content type where it can be, else in its own, and say so."""
        encode = self._reply.answer if named is None else self._reply.encoder(named)
        if encode is None:
            encode = self._reply.encode
            reply.headers = {CONTENT_TYPE: self._reply.content_type}
        reply.body = encode(value)

    def _failure(self) -> InternalError:
        """What the caller is told of the exception at hand; the log is told all."""
        log.exception("%s failed", self.name)
        return InternalError("the endpoint failed; the log of its service says why")

    def _write_error(self, reply: Message, error: ServiceError) -> None:
        reply.headers = error_headers(error.code, error.detail)
        try:
            reply.body = error.to_json(self.name)
        except (TypeError, ValueError, RecursionError):
            log.exception("%s: an error was sent without its parts, which JSON cannot hold", self.name)
            reply.body = ServiceError(error.detail, id=error.id, code=error.code).to_json(self.name)

    async def _send(self, reply: Message) -> None:
        if not reply.subject:
            return
        try:
            await self._broker.send(reply)
        except MessageTooLarge as error:
            log.error("%s: %s", self.name, error)
            if reply.headers and ERROR in reply.headers:
                return  # not even an error fits
            self._write_error(reply, InternalError("the reply is too large for the broker"))
            await self._send(reply)
        except EventMicroError as error:
            log.error("%s: a reply was lost: %s", self.name, error)
