"""nats-py's client with a shorter way in and out, and its gaps closed. All that is touched of its inside is here."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from nats import errors
from nats.aio.client import PING_PROTO, PONG_PROTO, Client, Srv, _validate_queue, _validate_subject

from eventmicro.lifetime import check_home
from eventmicro_nats.connection.commands import command
from eventmicro_nats.connection.interest import Interest
from eventmicro_nats.connection.leaving import Leaving
from eventmicro_nats.connection.link import Link, LinkTransport
from eventmicro_nats.connection.reader import Raw, Reader, Take, TakeRun, take_each
from eventmicro_nats.connection.refusals import Refusals
from eventmicro_nats.errors import plain, small

log = logging.getLogger(__name__)

# How long a reconnect that is given up by a close may take to end, in seconds.
CLOSE_TIMEOUT = 1.0
# How often it is cancelled within that time until it ends.
CANCELS = 10

_CONNECTED = Client.CONNECTED
# Of a subject that the server does not take: it goes on.
_HARMLESS = "invalid subject"
_match_refusal = re.compile(rb"-ERR '(.*)'\r\n").search

ErrorCallback = Callable[[Exception], Awaitable[None]]
Callback = Callable[[], Awaitable[None]]


class Perishable(bytes):
    """A command of no use on another connection than the one that it was given to: whoever gave it does so again."""


class Driver(Client):
    """A client that hands messages over as they are read, refuses a server without TLS before it sends a password, lets
    go of a hung server at once, and whose flush says something.
    """

    wants_tls = False

    def __init__(self) -> None:
        super().__init__()
        self._takes: dict[bytes, TakeRun] = {}  # by the number of the subscription, as it is on the wire
        self._reader = Reader(self._takes, self)
        self._link: Link | None = None
        self._loop = asyncio.get_running_loop()
        self._orders: deque[Callable[[], Awaitable[None]]] = deque()  # what is to be awaited of what the server says
        self._ordered = asyncio.Event()
        self._writes_soon = False
        self._is_quiet = False  # whether the last turn of the loop, or read, had one command at most
        self._went_at_once = False  # whether the first of this one did
        self._leaving = Leaving(self._ping, lambda: self.is_connected)
        self._refusals = Refusals(self, self._tell)

    async def subscribe_to(self, subject: str, queue: str, take: Take, take_run: TakeRun | None = None) -> Interest:
        """Subscribe.

        Args:
            take: takes each of the messages; whatever it raises is logged.
            take_run: takes those that come together, in place of it.
        """
        _validate_subject(subject, strict=True)
        _validate_queue(queue)
        if self.is_closed:
            raise errors.ConnectionClosedError
        self._sid += 1
        interest = self._subs[self._sid] = Interest(self._sid, subject, queue)  # type: ignore[assignment]
        self._takes[b"%d" % interest.number] = take_run or partial(take_each, take)
        try:
            await self._send_subscribe(interest)  # type: ignore[arg-type]
        except BaseException:
            self.forget(interest)
            raise
        return interest

    def reconnect(self, on_error: ErrorCallback, on_lost: Callback, on_back: Callback, on_closed: Callback) -> None:
        """From now on make a lost connection again, at any of the servers, and tell of it."""
        self.options |= {"allow_reconnect": True, "dont_randomize": False}
        self._error_cb = on_error
        self._disconnected_cb, self._reconnected_cb, self._closed_cb = on_lost, on_back, on_closed

    @property
    def subscriptions(self) -> dict[int, Interest]:
        """All that there are, by their number, the oldest first."""
        return self._subs  # type: ignore[return-value]

    async def ask_for(self, interest: Interest) -> None:
        """Ask the server for one that it has refused or taken away."""
        await self._send_subscribe(interest)  # type: ignore[arg-type]

    async def sort_out_refusals(self) -> None:
        """Return when each subscription that the server has refused so far is told by name."""
        await self._refusals.sort_out()

    async def hear_out(self, timeout: float) -> None:
        """Return when the server has taken all that was sent, and what it has said to that is told."""
        async with asyncio.timeout(timeout):
            await self.flush(math.ceil(timeout))
            await self.sort_out_refusals()
            told: asyncio.Future[None] = self._loop.create_future()

            async def tell() -> None:
                told.set_result(None)

            self._order(tell)
            await told

    @property
    def info(self) -> dict[str, Any]:
        """What the server said of itself."""
        return self._server_info

    # -- the way out -------------------------------------------------------------------------------------------

    def publish_now(
        self, subject: str, reply: str, body: bytes, headers: Mapping[str, str] | None, once: bool = False
    ) -> bool:
        """Publish a message, unless the connection is away or full; errors and `once` as of `command`."""
        if self._status != _CONNECTED or self._pending_data_size > self._max_pending_size:
            return False
        self.push(command(subject, reply, body, headers, self._max_payload, once))
        return True

    def push(self, command: bytes) -> None:
        """Put a command into what goes out at the end of this turn of the loop, or of this read, with no check at all;
        while the server is away it waits there. Where little is going on, the first goes out at once.
        """
        if not self._writes_soon:
            self._write_soon()
        if self._is_quiet and not self._reader.has_more:
            self._is_quiet = False
            if not self._pending and self._may_write():
                self._went_at_once = True
                self._link.transport.write(command)  # type: ignore[union-attr]
                return
        self._pending.append(command)
        self._pending_data_size += len(command)

    def send_now(self) -> None:
        """Let go out at once what would at the end of this turn of the loop, in which there may be much to do yet."""
        if self._pending_data_size and self._transport is not None and self.is_connected:
            with suppress(OSError, RuntimeError):  # of a connection that is lost, which the reader finds, too
                self._transport.writelines(self._pending)
                self._pending, self._pending_data_size = [], 0

    def drop_unsent(self, start: bytes) -> None:
        """Drop the commands that begin so and have not gone out."""
        self._pending = [command for command in self._pending if not command.startswith(start)]
        self._pending_data_size = sum(map(len, self._pending))

    def _write_soon(self) -> None:
        if asyncio.get_running_loop() is not self._loop:
            check_home(self._loop, "broker")
        self._writes_soon = True
        self._loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._writes_soon = False
        self._write_together()

    def _write_together(self) -> None:
        """Write all that a turn or a read has brought about, but for what went out at once."""
        self._is_quiet = len(self._pending) + self._went_at_once < 2
        self._went_at_once = False
        self._write_pending()

    def _write_pending(self) -> None:
        if self._pending_data_size and self._may_write():
            pending, self._pending, self._pending_data_size = self._pending, [], 0
            self._link.transport.write(pending[0] if len(pending) == 1 else b"".join(pending))  # type: ignore[union-attr]

    def _may_write(self) -> bool:
        link = self._link
        return self._status == _CONNECTED and link is not None and not (link.paused or link.lost)

    async def _flush_pending(self, force_flush: bool = False) -> Any:
        # nats-py would wait here for room, and swallow a cancellation; the broker has waited before.
        if not self._writes_soon:
            self._write_soon()

    async def _flusher(self) -> None:
        """nats-py has a task that writes, and takes it for a sign that flush can be answered."""
        await asyncio.Event().wait()

    async def _send_ping(self, future: asyncio.Future[bool] | None = None) -> None:
        # nats-py would let the ping overtake what was published and subscribed before it, so that its answer says
        # nothing of that: flush would return too early, and drain would lose what comes before the UNSUB.
        self._ping(self._loop.create_future() if future is None else future)

    def _ping(self, answer: asyncio.Future[bool]) -> None:
        self._pongs.append(answer)
        self._pending.append(PING_PROTO)
        self._pending_data_size += len(PING_PROTO)
        if not self._writes_soon:
            self._write_soon()

    # -- the end of a subscription -----------------------------------------------------------------------------

    def withdraw(self, interest: Interest) -> None:
        """Unsubscribe; what the server has sent before still arrives."""
        self.push(b"UNSUB %d\r\n" % interest.number)

    async def finish(self, interest: Interest, name: object) -> None:
        """Unsubscribe, and return when all that the server had sent before has arrived, within a bound. Cancelled, what
        comes yet is still handed over, until it is forgotten.

        Args:
            name: what the log is to call it.
        """
        self.withdraw(interest)
        await self._leaving.answer(name)
        self.forget(interest)

    def leave(self, interest: Interest) -> None:
        """Unsubscribe; what the server has sent before is dropped."""
        self.withdraw(interest)
        self.forget(interest)

    def forget(self, interest: Interest) -> None:
        """Not to be taken up again after a reconnect, whatever became of its UNSUB."""
        self._remove_sub(interest.number)

    def _remove_sub(self, sid: int, max_msgs: int = 0) -> None:
        self._takes.pop(b"%d" % sid, None)
        super()._remove_sub(sid, max_msgs)

    # -- what the reader says ----------------------------------------------------------------------------------

    def on_foreign(self, sid: bytes, run: list[Raw]) -> None:
        """Messages of a subscription of nats-py's own, or of one that has ended."""
        if int(sid) in self._subs:
            for subject, reply, data, headers in run:
                self._order(lambda m=(int(sid), subject, reply, data, headers): self._process_msg(*m))  # type: ignore[misc]

    def on_ping(self) -> None:
        self.push(PONG_PROTO)

    def on_pong(self) -> None:
        # nats-py would end its read loop over the answer to a ping whose flush was cancelled.
        if self._pongs:
            answer = self._pongs.pop(0)
            if not answer.done():
                answer.set_result(True)
        self._pongs_received += 1

    def on_error(self, text: str) -> None:
        self._order(lambda: self._process_err(small(text)))

    def on_info(self, text: bytes) -> None:
        self._order(lambda: self._process_info(json.loads(text)))

    def _order(self, work: Callable[[], Awaitable[None]]) -> None:
        self._orders.append(work)
        self._ordered.set()

    def _feed(self, data: bytes) -> None:
        if self._status != _CONNECTED:
            return
        self._pings_outstanding = 0  # whatever comes is a sign of life; the answer may be far behind it
        writes_soon, self._writes_soon = self._writes_soon, True
        try:
            self._reader.feed(data)
        except errors.ProtocolError as error:
            failed = error
            self._order(lambda: self._process_op_err(failed))
        finally:
            self._writes_soon = writes_soon
        self._write_together()

    async def _read_loop(self) -> None:
        """What is to be awaited of what the server says, one after the other, until the connection ends."""
        link = self._link
        assert link is not None
        self._orders.clear()
        self._reader.reset()
        link.start(self._feed, self._link_changed)
        try:
            while not (self.is_closed or self.is_reconnecting):
                if self._orders:
                    await self._orders.popleft()()
                elif link.lost:
                    await self._process_end(link.error)
                else:
                    self._ordered.clear()
                    await self._ordered.wait()
        except asyncio.CancelledError:
            pass
        except OSError as error:
            await self._process_op_err(error)
        except Exception as error:
            log.exception("what the server said could not be taken")
            await self._process_op_err(error)

    def _link_changed(self) -> None:
        """There is room for more, or the connection has ended."""
        self._ordered.set()
        self._write_pending()

    async def _process_end(self, error: Exception | None) -> None:
        if error is None:
            error = errors.UnexpectedEOF()
            await self._error_cb(error)
        await self._process_op_err(error)

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        take_run = self._takes.get(b"%d" % sid)
        if take_run is None:
            await super()._process_msg(sid, subject, reply, data, headers)
        else:
            take_run([(subject, reply, data, headers)])

    # -- gaps closed -------------------------------------------------------------------------------------------

    def _connect_command(self) -> bytes:
        if self.wants_tls and not self._server_info.get("tls_required"):
            raise errors.SecureConnWantedError
        try:
            return super()._connect_command()
        except Exception as error:  # e.g. of a key that is just being written
            if isinstance(error, OSError | errors.Error) or not self.options["allow_reconnect"]:
                raise
            raise errors.Error(plain(error)) from error  # any other would end nats-py's reconnecting without a word

    async def _process_err(self, err_msg: str) -> None:
        if await self._refusals.take(err_msg):
            return
        if _HARMLESS in err_msg:  # nats-py would close the connection, over and over
            await self._tell(errors.Error(err_msg.strip("'")))
            return
        await super()._process_err(err_msg)

    async def _tell(self, error: Exception) -> None:
        await self._error_cb(error)

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        self._max_payload = info.get("max_payload", self._max_payload)  # it may be set anew while the server runs
        await super()._process_info(info, initial_connection)

    async def _process_op_err(self, e: Exception) -> None:
        # nats-py would first wait until all that is unsent has gone out, which to a hung server takes for ever.
        self.let_go()
        self._leaving.lost()
        self._pending = [c for c in self._pending if c != PING_PROTO and not isinstance(c, Perishable)]
        self._pending_data_size = sum(map(len, self._pending))
        await super()._process_op_err(e)

    async def _process_connect_init(self) -> None:
        self._refusals.start_anew()
        try:
            await super()._process_connect_init()
        except OSError as error:  # of a server that refuses and goes: what it said before is here, unread
            said = _match_refusal(self._link.unread if self._link is not None else b"")
            if said is None:
                raise
            raise errors.Error(said[1].decode(errors="replace")) from error

    async def _connect_to_server(self, s: Srv) -> None:
        # nats-py would forget, still open, the connection of a try that came as far as a wrong password.
        self.let_go()
        self._transport = transport = LinkTransport()
        s.last_attempt = time.monotonic()
        await transport.connect(s.uri, 0, self.options["connect_timeout"])
        self._link = transport.link

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        # nats-py would write what is unsent, and leave its tasks running where the connection is lost just then.
        # Whoever closes has flushed before.
        self._pending.clear()
        self._pending_data_size = 0
        self._refusals.close()
        self._leaving.lost()
        await super()._close(status, do_cbs)
        reconnecting = self._reconnection_task
        if reconnecting is not None and reconnecting is not asyncio.current_task():
            for _ in range(CANCELS):  # one is lost where a try to connect ends just then: the next try would go on
                reconnecting.cancel()
                await asyncio.wait([reconnecting], timeout=CLOSE_TIMEOUT / CANCELS)
                if reconnecting.done():
                    break
            self.let_go()  # it may have made a connection just before it ended

    def let_go(self) -> None:
        """Drop the connection without a word."""
        if self._link is not None:
            self._link.transport.abort()
