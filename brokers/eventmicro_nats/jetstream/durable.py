"""A durable subscription: events are asked for ahead on an own inbox, as many as there is room for unsettled."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol

from nats.errors import Error

from eventmicro.broker import Receive
from eventmicro.errors import UsageError
from eventmicro.message import Delivery
from eventmicro.watchdog import Watchdog
from eventmicro.wire import DESCRIPTION
from eventmicro_nats.connection.driver import Driver, Perishable
from eventmicro_nats.connection.headers import MARKER, read_event_headers, read_headers
from eventmicro_nats.connection.intake import Intake
from eventmicro_nats.connection.interest import Interest
from eventmicro_nats.connection.reader import Raw
from eventmicro_nats.errors import plain
from eventmicro_nats.jetstream.api import read_error
from eventmicro_nats.jetstream.deliveries import ACK, NAK, JetStreamDelivery, read_settle_subject
from eventmicro_nats.jetstream.keeping import NANO
from eventmicro_nats.jetstream.queues import LIFETIME, Place, Queue, first_unsettled, lease_of, queue_name
from eventmicro_nats.jetstream.settling import SETTLE, Settling

log = logging.getLogger(__name__)

# How often the server says that it keeps a request for events open, in seconds.
HEARTBEAT = 2.0
# A request is lost when nothing is heard for so long.
SILENCE = 2.5 * HEARTBEAT
# How long one may wait for others before more events are asked for, where only few are settled, in seconds.
GATHER = 0.002
# How long to wait before a broken request is made again: at first, and at most, in seconds.
PAUSE = 0.1
LONGEST_PAUSE = 5.0
# How many requests in a row that are refused are worth a line in the log.
TELLING = 4
# How often the server is asked for the ack floor and the leader, in seconds: what was settled since then comes again if
# the queue is deleted.
FLOOR_INTERVAL = 5.0
UNLIMITED = 2**62

_HEARTBEAT = b"NATS/1.0 100"
_OF_NO_CONCERN = frozenset({"pause_until", "metadata", "description"})
_INFO = b"info"  # the token of the inbox to which the answer comes
_DELETED = "Deleted"  # in the words of the server: the queue is, or its stream
_REQUEST = b'{"batch":%%d,"expires":%d,"idle_heartbeat":%d}' % (LIFETIME * NANO, HEARTBEAT * NANO)


class HandsOver(Protocol):
    """Hands deliveries to a consumer in their turn."""

    def take_all(self, deliveries: Iterable[JetStreamDelivery]) -> None: ...

    def give_back(self) -> Sequence[Delivery]: ...


FindQueue = Callable[[Place | None], Awaitable[Queue]]
"""Finds the queue again, or makes it, beginning at this place where one is known."""


class DurableSubscription(Settling):
    """The events of one queue, as long as its broker is connected.

    Args:
        queue: where they come from.
        find: finds that queue again if the server knows it no more.
        receive: what they are handed to.
        prefetch: how many that are not settled may be here.
    """

    dropped = 0

    def __init__(self, queue: Queue, find: FindQueue, receive: Receive, prefetch: int) -> None:
        super().__init__(queue, prefetch)
        self.mending: asyncio.Task[None] | None = None
        self._find = find
        self._prefetch = prefetch
        self._intake = self._make_intake(receive)
        self._inner: Interest | None = None
        self._inbox = b""
        self._expected = 0  # how many events are asked for and not here
        self._heard = 0.0
        self._taken = 0  # how many have come
        self._subject = b"", ""  # that of the last one, as it is written and as text
        self._info: dict[str, Any] | None = None  # what was last said of the queue on this connection
        self._watchdog = Watchdog(self._progress, self._is_waiting, self._begin_anew)
        self._watching: asyncio.Task[None] | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._refused = 0  # how many requests in a row were
        self._floor_asked = 0.0
        self._too_late: list[JetStreamDelivery] = []
        self._gathering: asyncio.TimerHandle | None = None
        self._ticking: asyncio.TimerHandle | None = None
        self._paused = False
        self._config: dict[str, Any] | None = None  # how the queue was made when this was last said
        self._fields = {"queue": queue_name(queue.consumer)}

    def _make_intake(self, receive: Receive) -> HandsOver:
        return Intake(receive, _never_full, UNLIMITED, UNLIMITED)

    def __str__(self) -> str:
        return f"queue {self._queue.consumer} of stream {self._queue.stream}"

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """What is under way for it; after `end` it ends."""
        return [task for task in (self.mending, self._watching, self._leaving) if task is not None]

    @property
    def leaves(self) -> bool:
        """Whether what the server had sent before it took no more is still being given back."""
        return self._leaving is not None and not self._leaving.done()

    # -- life --------------------------------------------------------------------------------------------------

    async def open(self, driver: Driver) -> None:
        """Ask for events on a new inbox, so that nothing of an earlier request comes any more."""
        if self._driver is driver and self._inner is not None:
            driver.leave(self._inner)
        self._driver, self._expected = driver, 0
        self._heard = self._loop.time()
        self._extend_leases(driver, 0.0)
        if self.ended and not self.unsettled:
            return
        inbox = driver.new_inbox()
        self._inbox = inbox.encode()
        self._inner = await driver.subscribe_to(f"{inbox}.*", "", self._take, self._take_run)
        self._ask_for_info(driver)
        self._ask()
        if self._ticking is None:
            self._tick()
        if self._watching is None and not self.ended:
            self._watching = asyncio.create_task(self._watchdog.run(), name=f"eventmicro {self} watchdog")

    def lost(self) -> None:
        """The connection is away; what is here goes on."""
        super().lost()
        self._expected, self._info = 0, None
        if self._driver is not None and self._inner is not None:
            self._driver.forget(self._inner)  # taken up again, it would get what nobody waits for there any more
            self._inner = None
        if self.mending is not None:
            self.mending.cancel()

    async def drain(self) -> None:
        if not self.ended:
            self.ended = True
            waiting = self._intake.give_back()
            self._leaving = asyncio.create_task(self._leave(waiting), name=f"eventmicro {self} leave")
        if self._leaving is not None:
            await asyncio.wait([self._leaving])  # it is done though nobody waits for it: nothing is left to its lease

    async def _leave(self, waiting: Sequence[Delivery]) -> None:
        try:
            if self._driver is not None and self._inner is not None and self._driver.is_connected:
                await self._driver.finish(self._inner, self)
        finally:
            self._stop_asking()
            for delivery in (*waiting, *self._too_late):
                await delivery.nack()
            if self._held and self._driver is not None and self._driver.is_connected:
                with suppress(Error):  # the connection is lost: it is opened again with the next one
                    await self.open(self._driver)  # what was answered on whose they are may have been dropped
            self._hand_on()

    def stop(self) -> None:
        """Take no more, and withdraw the requests; what the server has sent before still arrives, and is kept."""
        self.ended = True
        self._intake.give_back()
        if self._driver is not None and self._inner is not None:
            self._driver.withdraw(self._inner)

    def end(self) -> None:
        """Give back all that is not settled."""
        self.stop()
        self._stop_asking()
        given_back, self.unsettled = self.unsettled, {}
        if self._driver is not None and self._driver.is_connected:
            for delivery in given_back.values():
                if delivery.sequence not in self._held and self._may_give_back(delivery):
                    self._driver.push(delivery.command(NAK))
        for delivery in given_back.values():
            delivery.lapsed = True
        self._hand_on()
        if self._leaving is not None:
            self._leaving.cancel()
        if self._ticking is not None:
            self._ticking.cancel()

    def _hand_on(self) -> None:
        """All that was not handed over is given back."""

    def _stop_asking(self) -> None:
        if self._driver is not None and self._inner is not None:
            self._driver.leave(self._inner)
            self._inner = None
        if self._gathering is not None:
            self._gathering.cancel()
        for task in self.tasks:
            if task is not self._leaving:
                task.cancel()

    # -- asking ------------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        """Ask for as many as there is room for, unless enough are on their way; at once, though there is much to do
        yet in this turn of the loop.
        """
        room = self._room()
        if self.ended or self._driver is None or not self._driver.is_connected or room <= 0:
            return
        if self._expected == 0 or 2 * room >= self._prefetch:
            self._expected += room
            self._request(self._driver, room)
            self._driver.send_now()

    def _room(self) -> int:
        return self._prefetch - len(self.unsettled) - self._expected

    def _request(self, driver: Driver, batch: int) -> None:
        self._send_request(driver, _REQUEST % batch)

    def _send_request(self, driver: Driver, body: bytes, token: bytes = b"1", what: str = "MSG.NEXT") -> None:
        subject = f"$JS.API.CONSUMER.{what}.{self._queue.stream}.{self._queue.consumer}".encode()
        driver.push(Perishable(b"PUB %b %b.%b %d\r\n%b\r\n" % (subject, self._inbox, token, len(body), body)))

    def _ask_soon(self) -> None:
        """Ask for what there is room for: at once where that is half of all, so that the server sends while the other
        half is handled; else, unless there are some on their way, a little later, for more together.
        """
        if self._expected and 2 * (len(self.unsettled) + self._expected) > self._prefetch:
            return  # there is room for less than half, and some are on their way, as nearly always
        room = self._room()
        if room <= 0:
            return
        if 2 * room >= self._prefetch:
            self._ask()
        elif self._gathering is None:
            self._gathering = self._loop.call_later(GATHER, self._ask_gathered)

    def _ask_gathered(self) -> None:
        self._gathering = None
        self._ask()

    # -- taking ------------------------------------------------------------------------------------------------

    def _take(self, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        self._take_run([(subject, reply, data, headers)])

    def _take_run(self, run: list[Raw]) -> None:
        deliveries, now, read = [], self._loop.time(), self._read
        for subject, reply, data, headers in run:
            try:
                if not reply.startswith(SETTLE):
                    self._take_word(subject, data, headers)
                elif (delivery := read(subject, reply, data, headers, now)) is not None:
                    deliveries.append(delivery)
            except Exception:  # of what is not as a server sends it; the others are
                log.exception("a message on %r could not be taken", subject[:100])
        if deliveries:
            self._intake.take_all(deliveries)
            if not self._expected:
                self._ask_soon()

    def _read(self, subject: bytes, reply: bytes, data: bytes, headers: bytes, now: float) -> JetStreamDelivery | None:
        """The event that has come, if it is to be handed over."""
        self._heard, self._refused = now, 0
        self._taken += 1
        if self._expected > 0:
            self._expected -= 1
        attempt, sequence, stored = read_settle_subject(reply)
        known = self.unsettled.get(sequence)
        word = self._held.pop(sequence, None) if self._held else None
        if known is not None and known.stored == stored:
            known.settle_at, known.leased = reply, now  # its lease ran out, as the connection was away: it goes on here
            if word is not None:
                self.settle(known, word)
            self._ask_soon()
            return None
        written, text = self._subject
        if subject != written:
            text = subject.decode(errors="replace")
            self._subject = subject, text
        parsed = read_event_headers(headers) if headers else None
        delivery = JetStreamDelivery(self, sequence, stored, reply, now, text, data, parsed, attempt, headers)
        self.unsettled[sequence] = delivery
        if self._acks.events and (sequence, stored) in self._acks.events:
            self.settle(delivery, ACK)
            return None
        if not data and MARKER in headers:
            self.settle(delivery, ACK)  # a note of the server that an event expired or was removed, and none itself
            return None
        if self.ended:
            self._too_late.append(delivery)
            return None
        return delivery

    def _take_word(self, subject: bytes, data: bytes, headers: bytes) -> None:
        """What is no event: how it is with the queue, which was asked for, or with a request."""
        token = subject.rpartition(b".")[2]
        if data:
            self._take_info(float(token.removeprefix(_INFO)) / 1000, data)
            return
        if token.startswith(_INFO) and self._queue.begin is None:
            self._do_without_info()  # nobody answers that here
            return
        self._heard = self._loop.time()
        if headers.startswith(_HEARTBEAT):
            self._refused = 0
        else:
            self._take_status(subject, read_headers(headers) or {})

    def _take_info(self, asked: float, data: bytes) -> None:
        error = read_error(data)
        if error is not None:
            self._mend(str(error))
        else:
            self._learn(json.loads(data), asked)

    def _learn(self, info: dict[str, Any], asked: float) -> None:
        """Remember up to where all is settled: behind that the queue begins again if somebody deletes it. Say acks
        again that may be lost: the one that leads the queue has just said this, so it is there to hear them.

        Args:
            asked: when it was asked for, in seconds of the loop's clock; so it was at that time or later.
        """
        self._look_at_changes(info)
        begin = first_unsettled(info)
        if self._queue.created not in ("", info["created"]):
            self._disown(self._held)  # it is another queue of this name
        self._queue = replace(self._queue, created=info["created"], begin=self._queue.begin and begin)
        self._settle_what_waits(begin.sequence, (info.get("cluster") or {}).get("leader", ""))
        self._info = info

    def _look_at_changes(self, info: dict[str, Any]) -> None:
        """Notice what an administrator does with the queue."""
        paused = bool(info.get("paused"))
        if paused != self._paused:
            self._paused = paused
            how = f"nats consumer resume {self._queue.stream} {self._queue.consumer}"
            text = f"paused until {info['config'].get('pause_until')}: it gives no events; {how}"
            log.warning("%s is %s", self, text if paused else "paused no more", extra=self._fields)
        config = {key: value for key, value in info["config"].items() if key not in _OF_NO_CONCERN}
        is_first = self._config is None  # it may have been changed since it was found
        changed = lease_of(info["config"]) != self._queue.ack_wait if is_first else config != self._config
        if changed and self._queue.begin is not None:
            self._check_anew()
        self._config = config

    def _check_anew(self) -> None:
        """Somebody has changed the queue: look whether it still does, as at the start."""
        if self.mending is None and not self.ended:
            log.warning("%s was changed by somebody else", self, extra=self._fields)
            self.mending = asyncio.create_task(self._check(), name=f"eventmicro {self}")

    async def _check(self) -> None:
        try:
            await self._find_queue()
        except UsageError as error:
            self._refused = 1
            if self._driver is not None and self._inner is not None:
                self._driver.leave(self._inner)  # what it gives now may be other events
                self._inner, self._expected = None, 0
            log.error("%s gives no events from now on: %s", self, plain(error), extra=self._fields)
            await self._ask_anew("it was changed")
        except Exception as error:  # it is looked at again when it is changed again, or gone
            log.debug("%s could not be looked at: %s", self, plain(error))
        finally:
            self.mending = None

    # -- what the watchdog asks and does -----------------------------------------------------------------------

    async def _is_waiting(self) -> bool:
        return self._info is not None and self._waits(self._info)

    async def _begin_anew(self, still: float) -> None:
        log.warning("%s: events and room, and no progress for %.0f s: beginning anew", self, still, extra=self._fields)
        self._mend("it stood still")

    def _waits(self, info: dict[str, Any]) -> bool:
        """Whether there are events and room for them, so that some should come."""
        return info["num_pending"] > 0 and len(self.unsettled) < self._prefetch and gives(info)

    def _progress(self) -> int:
        """What changes when something comes."""
        return self._taken

    # -- what is said of requests ------------------------------------------------------------------------------

    def _take_status(self, subject: bytes, status: dict[str, str]) -> None:
        """What the server says of a request: it is over, or cannot be."""
        code, text = status.get("Status"), status.get(DESCRIPTION, "")
        if code == "408":
            self._expected = max(0, self._expected - int(status.get("Nats-Pending-Messages", 0)))
            self._ask_soon()
        else:
            self._mend(f"{code} {text}")

    # -- watching ----------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        """Look after the leases and the requests, as long as there are any."""
        self._ticking = None
        if self.ended and not self.unsettled and not self.leaves:
            self._stop_asking()
            return
        self._ticking = self._loop.call_later(min(HEARTBEAT, self._queue.ack_wait / 6), self._tick)
        if self._driver is not None and self._driver.is_connected:
            self._extend_leases(self._driver, self._queue.ack_wait / 3)
            if not self.ended:
                self._look_after_queue(self._driver)
            elif self._held and self._inner is not None:
                self._ask_for_info(self._driver)

    def _look_after_queue(self, driver: Driver) -> None:
        now = self._loop.time()
        if (self._expected or self._inner is None) and now - self._heard > SILENCE:
            self._mend("nothing was heard of it")
        elif now - self._floor_asked > FLOOR_INTERVAL:
            self._ask_for_info(driver)

    def _ask_for_info(self, driver: Driver) -> None:
        """Ask how it is with the queue, where that is permitted."""
        self._floor_asked = self._loop.time()
        if not self._asks_for_info:
            self._do_without_info()
        else:
            self._send_request(driver, b"", b"%b%d" % (_INFO, self._floor_asked * 1000), "INFO")

    def _mend(self, why: str) -> None:
        """A request is gone: look whether its queue is still there, then ask anew."""
        if self.mending is None and not self.ended:
            self._refused += 1
            if _DELETED in why:
                self._disown(self.unsettled)
            if self._refused >= TELLING:
                log.warning("%s gives no events: %s", self, why, extra=self._fields)
            else:
                log.debug("%s: request for events ended: %s", self, why)
            self.mending = asyncio.create_task(self._ask_anew(why), name=f"eventmicro {self}")

    async def _ask_anew(self, why: str) -> None:
        pause, said = min(PAUSE * 2 ** min(self._refused - 1, 10), LONGEST_PAUSE), ""
        try:
            while True:
                await asyncio.sleep(pause)
                if self._driver is None or not self._driver.is_connected:
                    return  # it is opened again when the connection is back
                try:
                    await self._find_queue()
                    await self.open(self._driver)
                    return
                except Exception as error:  # whatever it is, the queue has events yet
                    pause = min(2 * pause, LONGEST_PAUSE)
                    if plain(error) != said:  # it will fail many times
                        said = plain(error)
                        log.warning("%s gives no events (%s), trying on: %s", self, why, said, extra=self._fields)
        finally:
            self.mending = None

    async def _find_queue(self) -> None:
        self._come_from(await self._find(self._queue.begin))


def _never_full() -> None:
    """An intake that has room for all that was asked for drops nothing."""


def gives(info: dict[str, Any]) -> bool:
    """Whether the server would give events of this queue: it is not paused, and fewer are unsettled than may be."""
    most = info["config"].get("max_ack_pending", -1)
    return not info.get("paused") and not 0 < most <= info["num_ack_pending"]
