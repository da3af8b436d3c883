"""One subscription to a subject: its life, and the count of what it had to drop."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from eventmicro.broker import Receive
from eventmicro_nats.intake import Intake
from eventmicro_nats.settings import NatsSettings

log = logging.getLogger(__name__)

# How often a subscription that drops messages says how many, in seconds.
REPORT_INTERVAL = 1.0


class NatsSubscription:
    """An interest in a subject; it outlives the nats-py subscription where a connection has to be made anew."""

    def __init__(self, subject: str, queue: str | None, receive: Receive, settings: NatsSettings) -> None:
        self.subject = subject
        self.queue = queue
        self.dropped = 0
        self.ended = False
        self._receive = receive
        self._settings = settings
        self._driver: Client | None = None
        self._inner: Subscription | None = None
        self._intake: Intake | None = None
        self._reported = 0
        self._report: asyncio.TimerHandle | None = None

    async def open(self, driver: Client) -> None:
        """Subscribe on this connection."""
        self._driver = driver
        self._inner = inner = await driver.subscribe(
            self.subject,
            queue=self.queue or "",
            cb=_never_called,
            pending_msgs_limit=self._settings.pending_messages,
            pending_bytes_limit=self._settings.pending_bytes,
        )
        self._intake = Intake(inner, self._receive, self._settings.pending_messages)
        inner._pending_queue = self._intake  # type: ignore[assignment]

    def owns(self, inner: Any) -> bool:
        """Whether this is the nats-py subscription behind it."""
        return inner is self._inner

    async def drain(self) -> None:
        if self.ended or self._inner is None or self._driver is None or self._intake is None:
            return
        self.ended = True
        try:
            if self._driver.is_connected and not self._driver.is_draining:
                await self._inner.drain()  # type: ignore[no-untyped-call]
            else:
                await self._intake.join()  # the server is away, so nothing comes but what has arrived
        finally:
            self.end()

    def end(self) -> None:
        """Drop what waits for room, and report what was dropped and not yet said."""
        self.ended = True
        if self._intake is not None:
            self._intake.close()
        if self._report is not None:
            self._report.cancel()
            self._say_dropped()

    def count_drop(self) -> None:
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
            )


async def _never_called(msg: Msg) -> None:
    """Makes nats-py treat the subscription as one with a callback; the intake takes the messages."""
