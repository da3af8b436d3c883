"""An ordered subscription: the queue is pinned to one client, which hands nothing over before its turn.

The server sends a queue's events to the client that it has pinned, and to another when that one asks no more. But an
event comes again behind those that are on their way already, and those that the former client had not settled come
again only when its lease runs out. So what has arrived is kept in the order of the stream, and waits
- after a nack: until that event has come again, or is gone from the stream;
- after another client was pinned, or the connection lost: until the server counts no event as delivered that is not
  here. What it sent to the lost connection is called back, so that it does not come only when its lease runs out.
"""

from __future__ import annotations

import asyncio
import logging
from math import inf
from typing import Any

from eventmicro.broker import Receive
from eventmicro_nats.connection.driver import Driver, Perishable
from eventmicro_nats.connection.headers import PIN_ID, read_headers
from eventmicro_nats.connection.reader import Raw, take_each
from eventmicro_nats.connection.told import Told
from eventmicro_nats.errors import plain
from eventmicro_nats.jetstream.api import Api
from eventmicro_nats.jetstream.deliveries import ACK, NAK, JetStreamDelivery, read_settle_subject
from eventmicro_nats.jetstream.durable import HEARTBEAT, LONGEST_PAUSE, DurableSubscription, FindQueue, gives
from eventmicro_nats.jetstream.keeping import NANO
from eventmicro_nats.jetstream.ordered_intake import OrderedIntake
from eventmicro_nats.jetstream.pins import counts_all, led_for, pinned
from eventmicro_nats.jetstream.queues import PIN_GROUP, Queue, pin_timeout
from eventmicro_nats.jetstream.settling import LAPSE, SETTLE

log = logging.getLogger(__name__)

# How often the server is asked whether the former client's events are all settled or here, in seconds.
LOOK = 0.1
LOOK_TIMEOUT = 5.0
# In how long a part of the stream, in sequences, events are called back one by one.
LONGEST_GAP = 10_000
# How long to wait before more than `prefetch` are asked for again, after one came that is not awaited, and was kept: at
# first, and at most, in seconds.
TOO_EARLY = 0.01
LONGEST_TOO_EARLY = 1.0
# How long a client that was not pinned lets another one that was go first, where all have to ask anew, in seconds: that
# one knows what is missing.
GIVE_WAY = 1.0

_PIN = PIN_ID.encode()
_SIGN_OF_LIFE = b"alive"


class OrderedSubscription(DurableSubscription):
    """The events of one ordered queue, while it is pinned to this client."""

    _intake: OrderedIntake

    def __init__(self, queue: Queue, find: FindQueue, receive: Receive, prefetch: int, api: Api) -> None:
        super().__init__(queue, find, receive, prefetch)
        self._api = api
        self._pin = ""
        self._missing = 0  # how many events are awaited that the server counts as delivered
        self._beyond = False  # whether more than `prefetch` were asked for, as some are awaited
        self._at_once = 1  # how many of them at a time
        self._too_early = TOO_EARLY  # how long to wait if another one comes
        self._later: asyncio.TimerHandle | None = None
        self._alone = False  # whether they can be nowhere but on their way here, as for this pin all were here once
        self._alone_at = -inf  # when that was so for sure
        self._pinned_at = -inf
        self._told = Told()
        self._other_pin = ""  # the one seen since then that was not this client's; it may become so
        self._asked_at = -inf  # when the server had the last sign of this client
        self._gives_way: asyncio.TimerHandle | None = None
        self._returning_before: set[int] = set()  # what was awaited after a nack when this was last looked at
        self._looked_at_leases = self._loop.time()
        self._taking_over: asyncio.Task[None] | None = None

    def _make_intake(self, receive: Receive) -> OrderedIntake:
        return OrderedIntake(receive, lambda: len(self.unsettled) - len(self._intake) < self._prefetch)

    async def open(self, driver: Driver) -> None:
        if self._driver is not None and not self._pin and self._gives_way is None:
            self._gives_way = self._loop.call_later(GIVE_WAY, self._ask_after_others)
        await super().open(driver)
        if self._pin and not self.ended:
            self._look_for_others()

    def lost(self) -> None:
        super().lost()
        self._intake.close_gate()
        if self._taking_over is not None:
            self._taking_over.cancel()

    def settle(self, delivery: JetStreamDelivery, word: bytes) -> None:
        if word is not ACK and self.unsettled.get(delivery.sequence) is delivery:
            if self._pin:
                self._intake.returning[delivery.sequence] = delivery
            else:
                delivery.lapsed = True  # it goes to whoever is pinned
        super().settle(delivery, word)
        if self._loop.time() - self._looked_at_leases > self._queue.ack_wait / 2:
            self._let_lapse()  # this process stood still
        self._intake.go_on()
        if self.ended:
            self._hand_on()

    def _stop_asking(self) -> None:
        super()._stop_asking()
        self._ask_no_later()
        if self._gives_way is not None:
            self._gives_way.cancel()

    def _hand_on(self) -> None:
        """Let the server pin another client at once, as soon as nothing is held here any more.

        It would take the pin from whoever has it, which is another one where this client was silent for long.
        """
        if self.unsettled or not self._pin:
            return
        self._pin = ""
        late = self._loop.time() - self._asked_at > LAPSE * pin_timeout(self._queue.ack_wait)
        if self._driver is not None and self._driver.is_connected and not late:
            self._unpin(self._driver, PIN_GROUP.encode())

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        return [*super().tasks, *([self._taking_over] if self._taking_over is not None else [])]

    @property
    def rights(self) -> list[str]:
        name = f"{self._queue.stream}.{self._queue.consumer}"
        return [*super().rights, f"$JS.API.CONSUMER.UNPIN.{name}", f"$JS.API.CONSUMER.INFO.{name}"]

    def try_rights(self, driver: Driver) -> None:
        super().try_rights(driver)
        info = f"$JS.API.CONSUMER.INFO.{self._queue.stream}.{self._queue.consumer}".encode()
        driver.push(Perishable(b"PUB %b 0\r\n\r\n" % info))
        self._unpin(driver, b"none of this queue")

    def _unpin(self, driver: Driver, group: bytes) -> None:
        body = b'{"group":"%b"}' % group
        subject = f"$JS.API.CONSUMER.UNPIN.{self._queue.stream}.{self._queue.consumer}".encode()
        driver.push(b"PUB %b %d\r\n%b\r\n" % (subject, len(body), body))

    # -- leases ------------------------------------------------------------------------------------------------

    def _extend_leases(self, driver: Driver, age: float) -> None:
        self._let_lapse()
        super()._extend_leases(driver, age)

    def _let_lapse(self) -> None:
        """Give up what goes to another by now, for the connection was away or this process stood still.

        Whoever has begun with one of them goes on; nothing else of them is begun here.
        """
        now = self._looked_at_leases = self._loop.time()
        lapsed = [d for d in self.unsettled.values() if now - d.leased > LAPSE * self._queue.ack_wait]
        for delivery in lapsed:
            delivery.lapsed = True
            del self.unsettled[delivery.sequence]
        if lapsed:
            self._intake.drop_lapsed()
            if self._pin and not self.ended:
                self._look_for_others()

    # -- asking ------------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        if self._gives_way is None:
            super()._ask()

    def _ask_after_others(self) -> None:
        self._gives_way = None
        self._ask()

    def _room(self) -> int:
        """Some at least while earlier events are awaited: no room would be left for them by what came too early."""
        room, returning = super()._room(), self._intake.returning
        if not (self._missing or returning) or self._expected or self._later is not None:
            return room
        return max(room, min(self._at_once, max(self._missing, len(returning))))

    def _request(self, driver: Driver, batch: int) -> None:
        self._beyond = len(self.unsettled) + self._expected > self._prefetch
        self._send_request(driver, self._body(batch, b""))

    def _pace(self, attempt: int) -> None:
        """Ask for ever more of those that are awaited as long as they come, ever more rarely if others do.

        The server sends what is to come again before what is new: so if that comes, nobody has given them back yet.
        """
        if attempt > 1:
            self._missing = max(0, self._missing - 1)
            self._at_once, self._too_early = min(2 * self._at_once, self._prefetch), TOO_EARLY
            self._ask_no_later()
        elif self._later is None:
            self._later = self._loop.call_later(self._too_early, self._ask_on)
            self._at_once, self._too_early = 1, min(2 * self._too_early, LONGEST_TOO_EARLY)

    def _ask_no_later(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None

    def _ask_on(self) -> None:
        self._later = None
        self._ask()

    def _body(self, batch: int, more: bytes) -> bytes:
        self._asked_at = self._loop.time()
        lifetime = pin_timeout(self._queue.ack_wait) / 3
        pin = b',"id":"%b"' % self._pin.encode() if self._pin else b""
        return b'{"batch":%d,"expires":%d,"idle_heartbeat":%d,"group":"%b"%b%b}' % (
            batch,
            lifetime * NANO,
            min(HEARTBEAT, lifetime / 2) * NANO,
            PIN_GROUP.encode(),
            pin,
            more,
        )

    def _tick(self) -> None:
        self._let_lapse()
        super()._tick()
        if self._driver is None or not self._driver.is_connected or self.ended:
            return
        if not self._pin:
            self._ask_soon()  # what has lapsed has made room
            return
        self._look_for_returning()
        self._ask_for_info(self._driver)
        if self._expected == 0:
            # It asks for no event, having enough of them, but an event of one byte, so that it counts as alive.
            self._send_request(self._driver, self._body(1, b',"max_bytes":1'), _SIGN_OF_LIFE)

    # -- taking ------------------------------------------------------------------------------------------------

    def _take_run(self, run: list[Raw]) -> None:
        take_each(self._take_one, run)

    def _take_one(self, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        if self._pin.encode() not in headers or not self._pin:
            self._be_pinned((read_headers(headers) or {}).get(PIN_ID, ""))
        if self._beyond and reply.startswith(SETTLE):
            self._pace(read_settle_subject(reply)[0])
        super()._take_run([(subject, reply, data, headers)])

    def _be_pinned(self, pin: str) -> None:
        if pin and pin != self._pin and not self.ended:
            self._pin, self._alone = pin, self._was_alone_until_now(pin)
            self._pinned_at, self._at_once = self._loop.time(), 1
            self._intake.await_none()
            self._look_for_others()

    def _was_alone_until_now(self, pin: str) -> bool:
        """Whether no other client can have got events before: it would be pinned until it has settled them, and
        asks no more, or for the whole time after which it counts as gone. So a new leader has pinned this client again.
        """
        lately = self._loop.time() - self._alone_at < pin_timeout(self._queue.ack_wait)
        return lately and self._other_pin in ("", pin)

    def _was_alone_by(self, info: dict[str, Any], asked: float) -> bool:
        """The same for a longer time, where it is known since when the server leads the queue that has pinned this one.

        If it did before, it can have pinned another only after this one had asked nothing for the whole time, of which
        at most a third was over; else as soon as it did. Either way it would have kept that one for the whole time.
        """
        timeout, age = pin_timeout(self._queue.ack_wait), led_for(info)
        if age is None or self._other_pin not in ("", self._pin):
            return False
        earliest, latest = asked - age, self._loop.time() - age  # when it was elected, as it has answered since `asked`
        if latest <= self._alone_at:
            return self._pinned_at - self._alone_at < timeout + timeout * 2 / 3
        return latest - self._alone_at < timeout and self._pinned_at - earliest < timeout

    def _learn(self, info: dict[str, Any], asked: float) -> None:
        super()._learn(info, asked)
        pin = pinned(info)
        if pin and pin != self._pin:
            if self._other_pin not in ("", pin):
                self._alone_at = -inf
            self._other_pin = pin
        elif pin and self._alone:
            self._alone_at, self._other_pin = asked, ""

    def _waits(self, info: dict[str, Any]) -> bool:
        """Whether events should come, or be handed over: where another is pinned, that one has them, and where one was,
        it may be at work on them yet.
        """
        if pinned(info) not in ("", self._pin) or not gives(info) or self._misses_some(info):
            return False
        has_room = len(self.unsettled) - len(self._intake) < self._prefetch
        return has_room and info["num_pending"] + len(self._intake) > 0

    def _progress(self) -> int:
        return self._taken - len(self._intake)

    def _take_status(self, subject: bytes, status: dict[str, str]) -> None:
        if status.get("Status") == "423":
            self._be_unpinned()
            self._acks.in_doubt = True  # it may be that another server leads the queue
            self._expected = max(0, self._expected - int(status.get("Nats-Pending-Messages", self._expected)))
            if self._driver is not None:
                self._ask_for_info(self._driver)
            self._ask_soon()
        elif not subject.endswith(_SIGN_OF_LIFE):
            super()._take_status(subject, status)

    def _be_unpinned(self) -> None:
        """Another client is pinned: what was not handed over yet goes there."""
        self._pin, self._alone = "", False
        self._nack_again()
        self._intake.await_none()
        self._intake.close_gate()
        for delivery in self._intake.take_back():
            DurableSubscription.settle(self, delivery, NAK)

    def _nack_again(self) -> None:
        """Give again back what has not come since: it may be lost with the connection, or the one that led the queue.
        Whoever has it meanwhile goes on with it when it comes again.
        """
        for delivery in self._intake.returning.values():
            fresh = self._loop.time() - delivery.leased < LAPSE * self._queue.ack_wait
            if self._driver is not None and delivery.settle_at and fresh:
                self._driver.push(Perishable(delivery.command(NAK)))

    def _say_acks_again(self, driver: Driver, first: int = 0) -> None:
        super()._say_acks_again(driver, first)
        self._nack_again()

    def _look_for_returning(self) -> None:
        """Have the server asked where one that was nacked does not come again: it may be gone from the stream."""
        late = self._returning_before & self._intake.returning.keys()
        self._returning_before = set(self._intake.returning)
        if late and self._taking_over is None:
            self._look_for_others()

    # -- taking over -------------------------------------------------------------------------------------------

    def _look_for_others(self) -> None:
        """Hand nothing over until what the former client has not settled is here."""
        self._intake.close_gate()
        if self._taking_over is not None:
            self._taking_over.cancel()
        self._taking_over = asyncio.create_task(self._take_over(), name=f"eventmicro {self} takes over")

    async def _take_over(self) -> None:
        task = asyncio.current_task()
        called_back, pause, began = False, LOOK, self._loop.time()
        telling = pin_timeout(self._queue.ack_wait)
        try:
            while True:
                asked = self._loop.time()
                info = await self._look()
                if info:
                    self._learn(info, asked)
                pause = LOOK if info else min(2 * pause, LONGEST_PAUSE)
                pin = pinned(info)
                if pin and pin != self._pin:
                    self._be_unpinned()
                    return
                self._missing = self._count_missing(info) if info else 0
                if info and counts_all(info) and not self._missing:  # who will be pinned waits for what is here
                    self._alone = True
                    self._intake.await_none()
                    self._intake.open_gate()
                    return
                if pin and not called_back and (self._alone or self._was_alone_by(info, asked)):
                    called_back = True
                    self._call_back(info["ack_floor"]["stream_seq"] + 1, info["delivered"])
                if self._missing and asked - began > telling:
                    telling *= 2
                    self._say_what_is_missing()
                self._ask_soon()
                await asyncio.sleep(pause)
        finally:
            self._missing = 0
            if self._taking_over is task:
                self._taking_over = None

    def _misses_some(self, info: dict[str, Any]) -> bool:
        return self._count_missing(info) > 0

    def _count_missing(self, info: dict[str, Any]) -> int:
        """How many events the server counts as delivered that are not here; later ones may have come since it did."""
        floor, last = info["ack_floor"]["stream_seq"], info["delivered"]["stream_seq"]
        here: int = sum(floor < sequence <= last for sequence in self.unsettled)
        return max(0, int(info["num_ack_pending"]) - here)

    def _say_what_is_missing(self) -> None:
        log.warning(
            "%s waits for %d events that another client has or that were lost on their way: they come when it gives "
            "them back or their lease of %g s ends",
            self,
            self._missing,
            self._queue.ack_wait,
            extra=self._fields,
        )

    async def _look(self) -> dict[str, Any]:
        """What the server says of the queue; nothing where that cannot be told now."""
        what = f"CONSUMER.INFO.{self._queue.stream}.{self._queue.consumer}"
        try:
            return await self._api.call(what, deadline=self._loop.time() + LOOK_TIMEOUT)
        except Exception as error:  # whatever it is, the queue has events yet
            if not self.ended and self._told.is_new(plain(error)):
                log.warning(
                    "%s waits, for it cannot see whether another client has its events: %s",
                    self,
                    plain(error),
                    extra=self._fields,
                )
            return {}

    def _call_back(self, first: int, delivered: dict[str, int]) -> None:
        """Have those sent again that are not here; the server passes over what is settled or of no concern."""
        last, number = delivered["stream_seq"], delivered["consumer_seq"]
        if self._driver is None or last - first > LONGEST_GAP:
            return
        subject = f"$JS.ACK.{self._queue.stream}.{self._queue.consumer}.1".encode()
        for sequence in range(first, last + 1):
            if sequence not in self.unsettled:
                command = b"PUB %b.%d.%d.0.0 %d\r\n%b\r\n" % (subject, sequence, number, len(NAK), NAK)
                self._driver.push(Perishable(command))
