"""nats-py's client with a shorter way in and its gaps closed. All that is touched of its inside is here."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from nats import errors
from nats.aio.client import PING_PROTO, Client, Srv
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from eventmicro_nats.connection.parser import BatchParser
from eventmicro_nats.connection.refusals import Refusals
from eventmicro_nats.errors import plain

log = logging.getLogger(__name__)

# How long a server may take to answer that it sends no more, in seconds.
ANSWER_TIMEOUT = 5.0
# How long a reconnect that is given up by a close may take to end, in seconds.
CLOSE_TIMEOUT = 1.0
# How often it is cancelled within that time until it ends.
CANCELS = 10

# Of a subject that the server does not take: it goes on.
_HARMLESS = "invalid subject"
_match_refusal = re.compile(rb"-ERR '(.*)'\r\n").search

ErrorCallback = Callable[[Exception], Awaitable[None]]
Callback = Callable[[], Awaitable[None]]
Take = Callable[[bytes, bytes, bytes, bytes], None]
"""Takes subject, reply, body and raw headers of a subscription's message, in the read loop."""


class Perishable(bytes):
    """A command of no use on another connection than the one that it was given to: whoever gave it does so again."""


class Driver(Client):
    """A client that hands messages over in its read loop, refuses a server without TLS before it sends a password, lets
    go of a hung server at once, and whose flush says something.
    """

    wants_tls = False

    def __init__(self) -> None:
        super().__init__()
        self._takes: dict[int, Take] = {}
        self._ps = BatchParser(self, self._take)
        self._refusals = Refusals(self, self._tell)

    async def subscribe_to(self, subject: str, queue: str, take: Take) -> Subscription:
        """Subscribe, with the messages going to `take` instead of nats-py's own queue."""
        coming = self._sid + 1  # its number: a message may be here before nats-py returns
        self._takes[coming] = take
        try:
            return await self.subscribe(subject, queue, cb=_never_called)
        except BaseException:
            del self._takes[coming]
            raise

    def reconnect(self, on_error: ErrorCallback, on_lost: Callback, on_back: Callback, on_closed: Callback) -> None:
        """From now on make a lost connection again, at any of the servers, and tell of it."""
        self.options |= {"allow_reconnect": True, "dont_randomize": False}
        self._error_cb = on_error
        self._disconnected_cb, self._reconnected_cb, self._closed_cb = on_lost, on_back, on_closed

    @property
    def subscriptions(self) -> dict[int, Subscription]:
        """All that there are, by their number, the oldest first."""
        return self._subs

    async def ask_for(self, subscription: Subscription) -> None:
        """Ask the server for one that it has refused or taken away."""
        await self._send_subscribe(subscription)

    async def sort_out_refusals(self) -> None:
        """Return when each subscription that the server has refused so far is told by name."""
        await self._refusals.sort_out()

    @property
    def info(self) -> dict[str, Any]:
        """What the server said of itself."""
        return self._server_info

    def push(self, command: bytes) -> None:
        """Put a command into what goes out next, with no check at all; while the server is away it waits there."""
        self._pending.append(command)
        self._pending_data_size += len(command)
        queue = self._flush_queue
        if queue is not None and queue.empty() and self.is_connected:
            queue.put_nowait(asyncio.Future())

    def send_now(self) -> None:
        """Let go out at once what would at the end of this turn of the loop, in which there may be much to do yet."""
        if self._pending_data_size and self._transport is not None and self.is_connected:
            with suppress(OSError, RuntimeError):  # of a connection that is lost, which the read loop finds, too
                self._transport.writelines(self._pending)
                self._pending, self._pending_data_size = [], 0

    def drop_unsent(self, start: bytes) -> None:
        """Drop the commands that begin so and have not gone out."""
        self._pending = [command for command in self._pending if not command.startswith(start)]
        self._pending_data_size = sum(map(len, self._pending))

    def withdraw(self, subscription: Subscription) -> None:
        """Unsubscribe; what the server has sent before still arrives."""
        self.push(b"UNSUB %d\r\n" % subscription._id)

    async def finish(self, subscription: Subscription, name: object) -> None:
        """Unsubscribe, and return when all that the server had sent before has arrived, within a bound.

        Args:
            name: what the log is to call it.
        """
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                await subscription.drain()  # type: ignore[no-untyped-call]
        except (errors.Error, TimeoutError) as error:
            log.warning("%s: left without the server's answer: %s", name, plain(error))

    def leave(self, subscription: Subscription) -> None:
        """Unsubscribe; what the server has sent before is dropped."""
        self.withdraw(subscription)
        self.forget(subscription)

    def _take(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> Awaitable[None] | None:
        """A message that came whole."""
        take = self._takes.get(sid)
        if take is None:
            return super()._process_msg(sid, subject, reply, data, headers)
        try:
            take(subject, reply, data, headers)
        except Exception:  # of what is not as a server sends it; the connection must not die of it
            log.exception("a message on %r could not be taken", subject[:100])
        return None

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        waiting = self._take(sid, subject, reply, data, headers or b"")
        if waiting is not None:
            await waiting

    def _remove_sub(self, sid: int, max_msgs: int = 0) -> None:
        self._takes.pop(sid, None)
        super()._remove_sub(sid, max_msgs)

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
        self._pending = [c for c in self._pending if c != PING_PROTO and not isinstance(c, Perishable)]
        self._pending_data_size = sum(map(len, self._pending))
        await super()._process_op_err(e)

    async def _process_connect_init(self) -> None:
        self._refusals.start_anew()
        try:
            await super()._process_connect_init()
        except OSError as error:  # of a server that refuses and goes: what it said before is here, unread
            reader = getattr(self._transport, "_io_reader", None)
            said = _match_refusal(bytes(getattr(reader, "_buffer", b"")))
            if said is None:
                raise
            raise errors.Error(said[1].decode(errors="replace")) from error

    async def _connect_to_server(self, s: Srv) -> None:
        # nats-py would forget, still open, the connection of a try that came as far as a wrong password.
        self.let_go()
        await super()._connect_to_server(s)
        transport: Any = self._transport
        # asyncio's writelines, from Python 3.12 on, tells nobody to wait: what a hung server does not take would grow.
        transport.writelines = lambda commands: transport.write(b"".join(commands))

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        # nats-py would write what is unsent, and leave its tasks running where the connection is lost just then.
        # Whoever closes has flushed before.
        self._pending.clear()
        self._pending_data_size = 0
        self._refusals.close()
        await super()._close(status, do_cbs)
        reconnecting = self._reconnection_task
        if reconnecting is not None and reconnecting is not asyncio.current_task():
            for _ in range(CANCELS):  # one is lost where a try to connect ends just then: the next try would go on
                reconnecting.cancel()
                await asyncio.wait([reconnecting], timeout=CLOSE_TIMEOUT / CANCELS)
                if reconnecting.done():
                    break
            self.let_go()  # it may have made a connection just before it ended

    async def _send_ping(self, future: asyncio.Future[bool] | None = None) -> None:
        # nats-py would let the ping overtake what was published and subscribed before it, so that its answer says
        # nothing of that: flush would return too early, and drain would lose what comes before the UNSUB.
        self._pongs.append(asyncio.get_running_loop().create_future() if future is None else future)
        await self._send_command(PING_PROTO)
        await self._flush_pending()

    async def _process_pong(self) -> None:
        # nats-py would end its read loop over the answer to a ping whose flush was cancelled.
        if self._pongs:
            future = self._pongs.pop(0)
            if not future.done():
                future.set_result(True)
        self._pongs_received += 1
        self._pings_outstanding = 0

    async def _flush_pending(self, force_flush: bool = False) -> Any:
        # nats-py would wait here for room, and swallow a cancellation; the broker has waited before.
        return await super()._flush_pending()

    def forget(self, subscription: Subscription) -> None:
        """Not to be taken up again after a reconnect, whatever became of its UNSUB."""
        self._remove_sub(subscription._id)
        subscription._stop_processing()

    def let_go(self) -> None:
        """Drop the connection without a word."""
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()


async def _never_called(msg: Msg) -> None:
    """Makes nats-py treat a subscription as one with a callback."""
