"""One subscription to a subject: its life, and the count of what it had to drop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from eventmicro.broker import Receive
from eventmicro.lifetime import until_done
from eventmicro_nats.connection.driver import Driver
from eventmicro_nats.connection.intake import Intake
from eventmicro_nats.connection.interest import Interest
from eventmicro_nats.connection.reader import Raw
from eventmicro_nats.deliveries import HeadedDelivery, NatsDelivery
from eventmicro_nats.settings import NatsSettings

log = logging.getLogger(__name__)

ReadHeaders = Callable[[bytes], dict[str, str] | None]
Mark = Callable[[bytes], dict[str, str] | None]

# What the receipt of a stream begins with; one look at a reply is enough for nearly all that are none.
_RECEIPTS = frozenset((b'{"stream":', b'{"error":{'))

# How often a subscription that drops messages says how many, in seconds.
REPORT_INTERVAL = 1.0


class NatsSubscription:
    """An interest in a subject; it outlives the nats-py subscription where a connection has to be made anew.

    Args:
        mark: gives the headers for what has none and may be a receipt; None: what comes here is no reply.
        on_end: told of it when it ends.
    """

    __slots__ = (
        "_driver",
        "_exact",
        "_inner",
        "_intake",
        "_leaving",
        "_mark",
        "_on_end",
        "_read_headers",
        "_report",
        "_reported",
        "_settings",
        "dropped",
        "ended",
        "queue",
        "subject",
    )

    def __init__(
        self,
        subject: str,
        queue: str | None,
        receive: Receive,
        settings: NatsSettings,
        read_headers: ReadHeaders,
        mark: Mark | None = None,
        on_end: Callable[[NatsSubscription], None] | None = None,
    ) -> None:
        self.subject = subject
        self.queue = queue
        self.dropped = 0
        self.ended = False
        self._exact = subject.encode()
        self._settings = settings
        self._read_headers = read_headers
        self._on_end = on_end
        self._mark = mark
        self._driver: Driver | None = None
        self._inner: Interest | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._intake = Intake(receive, self._count_drop, settings.pending_messages, settings.pending_bytes)
        self._reported = 0
        self._report: asyncio.TimerHandle | None = None

    async def open(self, driver: Driver) -> None:
        """Subscribe on this connection."""
        self._driver = driver
        self._inner = await driver.subscribe_to(self.subject, self.queue or "", self._take, self._take_run)

    @property
    def leaving(self) -> asyncio.Task[None] | None:
        """What goes on with a drain that was cancelled; after `end` it ends."""
        return self._leaving

    async def drain(self) -> None:
        if self._leaving is not None:
            await until_done(self._leaving)
        elif not self.ended and self._inner is not None and self._driver is not None:
            self.ended = True
            try:
                await self._leave(self._driver, self._inner)
            except asyncio.CancelledError:
                if self._inner is not None:  # else the broker is closed; a task only here, as thousands leave at once
                    self._leaving = asyncio.create_task(self._go_on(self._driver, self._inner))
                raise
            finally:
                if self._leaving is None:
                    self.end()

    async def _leave(self, driver: Driver, inner: Interest) -> None:
        """Hand over what the server had sent before it took no more."""
        if driver.is_connected:
            await driver.finish(inner, self.subject)
        else:  # nothing comes any more but what has arrived
            driver.forget(inner)
        await self._intake.join()

    async def _go_on(self, driver: Driver, inner: Interest) -> None:
        """The same though nobody waits for it: who has sent it waits for an answer."""
        try:
            await self._leave(driver, inner)
        finally:
            self._leaving = None
            self.end()

    def _take(self, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        self._take_run([(subject, reply, data, headers)])

    def _take_run(self, run: list[Raw]) -> None:
        last, name, read_headers, mark = self._exact, self.subject, self._read_headers, self._mark
        deliveries = []
        for subject, reply, data, headers in run:
            try:
                if subject != last:
                    last, name = subject, subject.decode()
                where = reply.decode() if reply else ""
                if headers:
                    delivery: NatsDelivery = HeadedDelivery(name, data, read_headers(headers), where, headers)
                else:
                    delivery = NatsDelivery(name, data, None, where)
                    if mark is not None and data[:10] in _RECEIPTS:
                        delivery.headers = mark(data)
            except UnicodeDecodeError:
                log.warning("a message was skipped: its subject %r or reply subject is not UTF-8", subject[:100])
                continue
            except Exception:  # whatever a peer sends, the others of the run are none of its business
                log.exception("a message on %r could not be taken", subject[:100])
                continue
            deliveries.append(delivery)
        self._intake.take_all(deliveries)

    def end(self) -> None:
        """Drop what waits for room, and report what was dropped and not yet said."""
        self.ended = True
        if self._leaving is not None:
            self._leaving.cancel()
        if self._on_end is not None:
            self._on_end(self)
        left = len(self._intake.give_back())
        if self._driver is not None and self._inner is not None:
            self._driver.forget(self._inner)
            self._inner = None
        if self._report is not None:
            self._report.cancel()
            self._say_dropped()
        if left:
            self.dropped += left
            log.warning(
                "subscription to %s is closed: %d messages still waited and are dropped",
                self.subject,
                left,
                extra={"subject": self.subject},
            )

    def _count_drop(self) -> None:
        """One message was dropped because the consumer is too slow; said at once, then once a second, by count."""
        self.dropped += 1
        if self._report is None:
            self._say_dropped()
            self._report = asyncio.get_running_loop().call_later(REPORT_INTERVAL, self._report_again)

    def _report_again(self) -> None:
        self._report = None
        if self.dropped > self._reported:
            self._say_dropped()
            self._report = asyncio.get_running_loop().call_later(REPORT_INTERVAL, self._report_again)

    def _say_dropped(self) -> None:
        dropped, self._reported = self.dropped - self._reported, self.dropped
        if dropped:
            log.error(
                "slow consumer: %d messages on %s dropped here, %d in all; more than %d messages or %d bytes waited; "
                "raise concurrency, add instances, or raise pending_messages and pending_bytes",
                dropped,
                self.subject,
                self.dropped,
                self._settings.pending_messages,
                self._settings.pending_bytes,
                extra={"subject": self.subject},
            )
