"""NatsBroker: the broker port over core NATS."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

from nats.errors import Error, StaleConnectionError, UnexpectedEOF

from eventmicro.broker import PUBLISH_TIMEOUT, Capabilities, Durable, Receive, Subscription
from eventmicro.errors import (
    Disconnected,
    EventMicroError,
    NotAllPublished,
    Refused,
    Unsupported,
    UsageError,
)
from eventmicro.lifetime import Lifetime
from eventmicro.message import Message
from eventmicro.settings import address_only
from eventmicro_nats.connection.commands import publish_command
from eventmicro_nats.connection.connecting import connect
from eventmicro_nats.connection.driver import Driver
from eventmicro_nats.connection.follower import Follower
from eventmicro_nats.connection.headers import check_orders, read_headers
from eventmicro_nats.connection.refusals import TOO_MANY, refused_subjects
from eventmicro_nats.connection.told import Told
from eventmicro_nats.connection.trial import Trials
from eventmicro_nats.errors import in_words, plain, translate
from eventmicro_nats.receipts import Storage
from eventmicro_nats.settings import NatsSettings, read_url
from eventmicro_nats.subscription import NatsSubscription

if TYPE_CHECKING:
    from eventmicro.registry import Registry

log = logging.getLogger(__name__)

# How long `flush` and `close` wait for the server, in seconds.
FLUSH_TIMEOUT = 5
# A connection that the server ends for good within so many seconds is made anew after a longer pause, up to the
# longest.
LASTING = 10.0
LONGEST_PAUSE = 10.0


class NatsBroker(Lifetime):
    """A connection to NATS; see `eventmicro.broker.Broker`.

    Args:
        url: `nats://host:4222` or `tls://host:4222`; settings may follow, as `?connect_timeout=30`.
        settings: the settings as an object, in place of a URL.
    """

    capabilities = Capabilities(
        request_reply=True,
        no_responders=True,
        queue_groups=True,
        broadcast=True,
        wildcards=True,
        order="that of its publisher, while the connection stands",
        delay="none: nothing is delivered again",
        attempts="nothing: it is always 1",
        twice="nothing",
        stored="handed to the connection; who is not there does not get it",
        more="where the server has JetStream, write jetstream:// in place of nats:// to have events kept",
    )
    _settings_kind: ClassVar[type[NatsSettings]] = NatsSettings
    _read_headers = staticmethod(read_headers)

    def __init__(self, url: str = "nats://127.0.0.1:4222", settings: NatsSettings | None = None) -> None:
        self.settings = settings or read_url(url, self._settings_kind)
        self.url = ",".join(self.settings.servers) if settings else address_only(url)
        self._driver: Driver | None = None
        self._subscriptions: dict[NatsSubscription, None] = {}
        self._followers: dict[Follower, None] = {}
        self._refused: list[str] = []
        self._new: set[str] = set()  # the subjects that were subscribed to since the last `flush`
        self._told = Told()
        self.reconnects = 0
        self._trials = Trials()
        self._pause = 0.0
        self._revived = float("-inf")
        self._reviving: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()
        self._changed = asyncio.Event()
        self._storage = Storage(self._connected_driver)

    @property
    def connected(self) -> bool:
        return self._driver is not None

    @property
    def online(self) -> bool:
        return self._driver is not None and self._driver.is_connected

    async def connect(self) -> None:
        self._check_home()
        async with self._changing:
            if self._driver is None:
                self._driver = await self._open()
                self._home = asyncio.get_running_loop()

    async def close(self) -> None:
        self._check_home()
        async with self._changing:
            driver, self._driver = self._driver, None
            self._home = None
            self._changed.set()
            leaving = [each.leaving for each in self._subscriptions if each.leaving is not None]
            for subscription in list(self._subscriptions):
                subscription.end()
            self._subscriptions.clear()
            for follower in list(self._followers):
                follower.end()
            self._followers.clear()
            if driver is None:
                return
            try:
                if leaving:
                    await asyncio.wait(leaving)
                if self._reviving is not None:
                    self._reviving.cancel()
                    await asyncio.wait([self._reviving])
                await self._end(driver)
                await self._send_the_rest(driver)
            finally:
                driver.let_go()  # its own close() would wait for ever for a hung server to take what is unsent
                await driver.close()

    async def _send_the_rest(self, driver: Driver) -> None:
        """Wait within bounds until the server has all that was published."""
        if driver.is_closed:
            return
        try:
            async with asyncio.timeout(FLUSH_TIMEOUT):
                while not driver.is_connected and driver.pending_data_size:  # noqa: ASYNC110  nats-py tells nobody
                    await asyncio.sleep(0.05)
                if driver.is_connected:
                    await driver.flush(FLUSH_TIMEOUT)
        except (Error, TimeoutError) as error:
            if not isinstance(error, TimeoutError):
                why = plain(error)
            elif driver.is_connected:
                why = f"the server did not answer within {FLUSH_TIMEOUT} s"
            else:
                why = f"the server was away for {FLUSH_TIMEOUT} s"
            unsent = driver.pending_data_size
            log.warning("%s: closed; what was sent last may be lost, %d bytes have not left: %s", self.url, unsent, why)

    async def publish(self, message: Message, *, timeout: float = PUBLISH_TIMEOUT) -> None:
        driver = self._driver or self._connected_driver()
        if not driver.is_connected or driver.pending_data_size > self.settings.outgoing_bytes:
            driver = await self._ready_driver(message.subject, timeout)
        if message.headers:
            check_orders(message.subject, message.headers)
        driver.push(publish_command(message, driver.max_payload))

    def try_publish(self, message: Message) -> bool:
        driver = self._driver
        if message.headers:
            check_orders(message.subject, message.headers)
        return driver is not None and driver.publish_now(message.subject, message.reply, message.body, message.headers)

    def try_send(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None, reply: str = "") -> bool:
        driver = self._driver
        return driver is not None and driver.publish_now(subject, reply, body, headers, not reply)

    async def publish_many(self, messages: Sequence[Message], *, timeout: float = PUBLISH_TIMEOUT) -> None:
        self._check_home()
        end = time.monotonic() + timeout
        failed: dict[int, Exception] = {}
        for number, message in enumerate(messages):
            try:
                await self.publish(message, timeout=end - time.monotonic())
            except EventMicroError as error:
                failed[number] = error
        if failed:
            raise NotAllPublished(failed=failed, confirmed=len(messages) - len(failed))

    async def send(self, message: Message) -> None:
        driver = self._driver or self._connected_driver()
        ready = publish_command(message, driver.max_payload)
        if not driver.is_connected:
            self._check_waits(driver, message.subject, len(ready))
        elif driver.pending_data_size > self.settings.outgoing_bytes:
            driver = await self._ready_driver(message.subject, FLUSH_TIMEOUT)
        driver.push(ready)

    def _check_waits(self, driver: Driver, subject: str, size: int) -> None:
        """Refuse what is sent while the server is away, unless it can wait until that is back."""
        if driver.is_closed:
            raise Disconnected(f"{subject}: {self.url} has closed the connection, which is being made anew")
        if driver.pending_data_size + size > self.settings.outgoing_bytes:
            raise Disconnected(f"{subject}: {self.url} is away and the outgoing buffer is full")

    async def subscribe(
        self, subject: str, receive: Receive, *, queue: str | None = None, durable: Durable | None = None
    ) -> Subscription:
        if durable is not None:
            raise Unsupported(f"{self.url}: core NATS keeps no events; jetstream:// does")
        driver = self._connected_driver()
        mark = self._storage.mark if subject.startswith(self.settings.inbox_prefix + ".") else None
        subscription = NatsSubscription(subject, queue, receive, self.settings, self._read_headers, mark, self._forget)
        try:
            await (subscription.open(driver) if mark is None else self._open_inbox(subscription, driver))
        except Error as error:
            raise translate(error, f"subscription to {subject}") from error
        self._subscriptions[subscription] = None
        self._new.add(subject)
        return subscription

    def check(self, subject: str, *, queue: str | None = None, durable: Durable | None = None) -> None:
        if durable is not None:
            raise Unsupported(f"{self.url}: core NATS keeps no events; jetstream:// does")

    async def _open_inbox(self, subscription: NatsSubscription, driver: Driver) -> None:
        """Subscribe to where answers come; where that is refused they would be awaited in vain."""
        with self._trials.of(subscription.subject) as trial:
            await subscription.open(driver)
            await self._hear_out(driver)
        if trial.refused:
            subscription.end()
            raise UsageError(f"{self.url} refuses: {'; '.join(trial.refused)}")

    async def _hear_out(self, driver: Driver) -> None:
        """Return when it is known what the server refuses of what was sent; where it is away that comes out later."""
        if driver.is_connected:
            with suppress(TimeoutError, Error):
                await driver.hear_out(FLUSH_TIMEOUT)

    def _forget(self, subscription: NatsSubscription) -> None:
        self._subscriptions.pop(subscription, None)

    def follow(self, follower: Follower) -> None:
        """Tell from now on what becomes of this connection."""
        self._followers[follower] = None

    def unfollow(self, follower: Follower) -> None:
        """Tell it no more."""
        self._followers.pop(follower, None)

    def registry(self) -> Registry:
        """See `eventmicro.registry.HasRegistry`: a bucket of JetStream, or where there is none, who answers."""
        from eventmicro_nats.registry import NatsRegistry  # its records are pydantic's, which is loaded when needed

        return NatsRegistry(self)

    def inbox(self) -> str:
        return self._connected_driver().new_inbox()

    async def stores(self, subjects: Sequence[str]) -> Mapping[str, Sequence[str]] | None:
        return await self._storage.stores(subjects)

    async def flush(self) -> None:
        try:
            async with asyncio.timeout(FLUSH_TIMEOUT):
                while not (driver := self._connected_driver()).is_connected:
                    await self._change()
                await driver.flush(FLUSH_TIMEOUT)
                await driver.sort_out_refusals()
        except TimeoutError:
            raise Disconnected(f"{self.url}: the server did not answer within {FLUSH_TIMEOUT} s") from None
        except Error as error:
            raise translate(error, self.url) from error
        refused, self._refused = self._refused, []
        self._new.clear()
        if refused:
            raise Refused(f"{self.url} refuses: {'; '.join(refused)}", refused_subjects("; ".join(refused)))

    def _connected_driver(self) -> Driver:
        self._check_home()
        if self._driver is None:
            raise Disconnected(f"{self.url} is not connected: use `async with`, or await connect() first")
        return self._driver

    async def _ready_driver(self, subject: str, timeout: float) -> Driver:
        """The connection, when it stands and can take more.

        An event is not left in a buffer of which nobody knows what becomes.
        """
        driver = self._connected_driver()
        try:
            async with asyncio.timeout(timeout):
                while True:
                    driver = self._connected_driver()
                    if not driver.is_connected:
                        await self._change()
                    elif driver.pending_data_size > self.settings.outgoing_bytes:
                        await asyncio.sleep(0.005)  # nats-py tells nobody
                    else:
                        return driver
        except TimeoutError:
            if driver.is_connected:
                why = f"{self.url} takes nothing and the outgoing buffer is full"
            else:
                why = f"{self.url} was away for {max(timeout, 0):.3g} s"
            raise Disconnected(f"{subject}: {why}") from None

    async def _change(self) -> None:
        """Return when the connection is back, or closed."""
        if self._changed.is_set():
            self._changed = asyncio.Event()
        await self._changed.wait()

    async def _open(self) -> Driver:
        """Make the first connection, with all that lives as long as this broker is connected."""
        return await self._connect()

    async def _end(self, driver: Driver) -> None:
        """End all that lives as long as this broker is connected."""

    async def _connect(self) -> Driver:
        driver = await connect(self.settings, self.url)
        driver.reconnect(self._on_error, self._on_lost, self._on_back, self._on_closed)
        return driver

    async def _on_error(self, error: Exception) -> None:
        text = self._words(error)
        if isinstance(error, UnexpectedEOF | StaleConnectionError | OSError) or "expecting INFO" in text:
            log.debug("%s: %s", self.url, text)  # a lost connection, of which on_lost and on_back tell
            return
        if (
            self._trials.take(text)
            or self._storage.refused(text)
            or any(follower.refused(text) for follower in self._followers)
        ):
            return
        if "permissions violation for subscription" in text.lower() or TOO_MANY in text:
            self._refused.append(text)
        level = logging.INFO if self._is_new(text) else logging.ERROR
        if self._told.is_new(text):
            log.log(level, "%s: %s", self.url, text)

    def _is_new(self, text: str) -> bool:
        """Whether it is about what was just subscribed to: `flush` says that, and whoever awaits it how bad it is."""
        refused = refused_subjects(text) if TOO_MANY not in text else []
        return bool(refused) and self._new.issuperset(refused)

    def _words(self, error: Exception) -> str:
        """What the server says, with what mends it."""
        return in_words(plain(error), self.settings.inbox_prefix)

    async def _on_lost(self) -> None:
        for follower in self._followers:
            follower.lost()
        if self._driver is not None:
            log.warning("%s: connection lost, reconnecting; live subscriptions miss what is sent meanwhile", self.url)

    async def _on_back(self) -> None:
        """nats-py has made the lost connection again, and subscribed as before."""
        self._say_back()
        if self._driver is not None:
            await self._resume(self._driver)
            self._tell_back()

    def _tell_back(self) -> None:
        for follower in self._followers:
            follower.back()

    def _say_back(self) -> None:
        self.reconnects += 1
        self._changed.set()
        log.warning("%s: connected again", self.url)

    async def _on_closed(self) -> None:
        """The server has ended the connection for good, as it does when credentials expire; make a new one."""
        if self._driver is not None and self._reviving is None:
            self._say_why(self._driver.last_error)
            self._reviving = asyncio.create_task(self._revive(), name="eventmicro nats revive")

    def _say_why(self, error: Exception | None) -> None:
        text = plain(error) if error is not None else "no reason given"
        if self._told.is_new(text):
            log.error("%s: the server has ended the connection: %s", self.url, in_words(text))

    async def _revive(self) -> None:
        """Connect anew; the longer apart, the sooner the server has ended the connections before."""
        loop = asyncio.get_running_loop()
        self._pause = self.settings.reconnect_wait if loop.time() - self._revived > LASTING else 2 * self._pause
        self._pause = min(self._pause, max(LONGEST_PAUSE, self.settings.reconnect_wait))
        try:
            while True:
                await asyncio.sleep(self._pause)
                try:
                    await self._reopen(await self._connect())
                    self._revived = loop.time()
                    return
                except Exception as error:  # wrong files, a server that refuses again: it may be mended yet
                    if self._told.is_new(plain(error)):
                        log.error("%s: %s", self.url, plain(error))
        finally:
            self._reviving = None

    async def _take_up(self, driver: Driver) -> None:
        """Move to a connection that was made anew."""
        for subscription in list(self._subscriptions):
            if not subscription.ended:
                await subscription.open(driver)
        for follower in list(self._followers):
            await follower.open(driver)

    async def _resume(self, driver: Driver) -> None:
        """Go on with what is more than a subscription, on a connection that is there again."""

    async def _reopen(self, driver: Driver) -> None:
        try:
            await self._take_up(driver)
            await self._resume(driver)
        except BaseException:
            driver.let_go()
            await driver.close()
            raise
        self._driver = driver
        self._say_back()
        self._tell_back()
