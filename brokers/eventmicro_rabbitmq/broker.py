"""RabbitBroker: the broker port over RabbitMQ."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Literal, TypeVar

from eventmicro.broker import PUBLISH_TIMEOUT, Bindings, Capabilities, Durable, QueueState, Receive
from eventmicro.checks import as_one
from eventmicro.cloudevents import TEXT
from eventmicro.errors import (
    Disconnected,
    EventMicroError,
    MessageTooLarge,
    NotAllPublished,
    Refused,
    Unsupported,
    UsageError,
)
from eventmicro.lifetime import Lifetime
from eventmicro.message import Copy, Message, Routed
from eventmicro.places import Exchange, Place, Queue
from eventmicro.settings import address_only
from eventmicro_rabbitmq.calls.calls import Calls, CallSubscription
from eventmicro_rabbitmq.calls.declaring import CallDeclarer
from eventmicro_rabbitmq.connection.channel import answered, borrowed_channel, close_channel, open_channel
from eventmicro_rabbitmq.connection.connection import Connection
from eventmicro_rabbitmq.connection.frames import Properties
from eventmicro_rabbitmq.connection.link import Link, open_together
from eventmicro_rabbitmq.connection.properties import Limited
from eventmicro_rabbitmq.consuming.durable import DurableSubscription
from eventmicro_rabbitmq.consuming.live import LiveSubscription
from eventmicro_rabbitmq.declare import Declarer
from eventmicro_rabbitmq.errors import DriverError, check_permitted, translate
from eventmicro_rabbitmq.layout import Layout, layout_of
from eventmicro_rabbitmq.needs import needs_of_calls, needs_of_events
from eventmicro_rabbitmq.outgoing import is_for_one_queue, is_letter, limited, properties_of
from eventmicro_rabbitmq.places import RabbitExchange, RabbitQueue
from eventmicro_rabbitmq.publisher import Confirm, Publisher
from eventmicro_rabbitmq.publishers import Publishers
from eventmicro_rabbitmq.queues import state_of
from eventmicro_rabbitmq.retry import Retries, check_retry_queues
from eventmicro_rabbitmq.rights import NotAllowed, Right
from eventmicro_rabbitmq.settings import RabbitSettings, address_of, read_url
from eventmicro_rabbitmq.telling import calls_told, events_told, unbound
from eventmicro_rabbitmq.topology import (
    INBOX,
    binding_key,
    check_length,
    check_name,
    check_supported,
    dead_exchange,
    is_of_calls,
    message_id,
)
from eventmicro_rabbitmq.upkeep import Upkeep

log = logging.getLogger(__name__)

# How long `flush` and `close` wait for the server, in seconds.
FLUSH_TIMEOUT = 5.0
# How long `subscribe` waits for a lost connection, in seconds.
SUBSCRIBE_TIMEOUT = 10.0

Subscription = DurableSubscription | LiveSubscription | CallSubscription
P = TypeVar("P", bound=Place)


class RabbitBroker(Lifetime):
    """Two connections to RabbitMQ, one to publish and one to consume; see `eventmicro.broker.Broker`.

    There are two because RabbitMQ stops reading from a connection that publishes when its disk or memory is short: what
    is consumed can be settled meanwhile, which makes room.

    Args:
        url: `amqp://user:password@host:5672/vhost` or `amqps://...`; settings may follow, as `?connect_timeout=30`.
        settings: the settings as an object, in place of a URL.
    """

    capabilities = Capabilities(
        request_reply=True,
        no_responders=True,
        queue_groups=True,
        broadcast=True,
        wildcards=True,
        durable=True,
        persistent=True,
        crash_attempts=True,
        ordered=True,
        ordered_keys=True,
        ttl=True,
        priority=True,
        cloudevents=TEXT,
        order="As published by one connection; what is delivered again comes first. With `order_by` one instance at a "
        "time; only where it is killed or cut off while it tries an event again, that one comes after those it also "
        "held.",
        delay="Within 10 %, and not below 50 ms: it is rounded to a ladder of waiting queues.",
        attempts="Counted by RabbitMQ, and by a header over delayed retries and for queues that do not count; what an "
        "instance held unhandled when it ended counts, too.",
        twice="What was not settled when its connection was lost or its instance died; a delayed retry whose copy was "
        "stored then; what was handled for longer than RabbitMQ's consumer_timeout, 30 minutes by default; "
        "a publish that was tried again after Unconfirmed.",
        stored="Every queue that takes it has it on disk, on most of its nodes.",
    )

    places: tuple[type[Place], ...] = (RabbitExchange, RabbitQueue)
    labels_events: Literal[True] = True

    def __init__(self, url: str = "amqp://127.0.0.1:5672", settings: RabbitSettings | None = None) -> None:
        self.settings = settings or read_url(url)
        self.url = address_of(self.settings) if settings else address_only(url)
        self._publishing: Link | None = None
        self._consuming: Link | None = None
        self._publisher: Publisher | None = None
        self._subscriptions: list[Subscription] = []
        self._changing = asyncio.Lock()
        self._was_online = False
        self.reconnects = 0
        self._refused: set[str] = set()
        self._refused_calls: dict[str, UsageError] = {}  # what could not be listened to, and why
        self._needs: set[Right] = set()  # all that is subscribed to

    @property
    def connected(self) -> bool:
        return self._publisher is not None

    @property
    def online(self) -> bool:
        links = (self._publishing, self._consuming)
        return all(link is not None and link.online for link in links)

    async def connect(self) -> None:
        self._check_home()
        async with self._changing:
            if self._publisher is not None:
                return
            publishing, consuming = (
                Link(self.settings, self._on_lost, self._on_refused, self._on_back) for _ in range(2)
            )
            await open_together(publishing, consuming)
            self._publishing, self._consuming, self._was_online = publishing, consuming, True
            self._home = asyncio.get_running_loop()
            self._declarer = Declarer(self.settings)
            self._upkeep = Upkeep(consuming, self._kept_up, self.settings.look_every, self._declarer.timeout)
            self._publishers = Publishers(publishing, self._declarer, self.settings.look_every)
            self._looking, self._publisher = self._publishers.looking, self._publishers.main
            self._retries = Retries(publishing, Declarer(self.settings))
            self._calls = Calls(publishing, consuming, self.settings, self.url)

    async def close(self) -> None:
        self._check_home()
        async with self._changing:
            publisher, self._publisher = self._publisher, None
            self._home = None
            publishing, consuming = self._publishing, self._consuming
            subscriptions, self._subscriptions = self._subscriptions, []
            if publisher is None or publishing is None or consuming is None:
                return
            async with AsyncExitStack() as closing:  # each of them, though this is cancelled
                closing.callback(self._publishers.close)
                closing.callback(self._retries.close)
                closing.push_async_callback(self._close_links, publishing, consuming)
                closing.push_async_callback(self._calls.close)
                closing.push_async_callback(_close_all, subscriptions)
                closing.push_async_callback(self._upkeep.close)
                closing.push_async_callback(self._looking.close)
                await self._publishers.settle(FLUSH_TIMEOUT, self.url)

    async def publish(self, message: Message, *, timeout: float = PUBLISH_TIMEOUT) -> None:
        await (await self._send(message, asyncio.get_running_loop().time() + timeout))

    async def publish_many(self, messages: Sequence[Message], *, timeout: float = PUBLISH_TIMEOUT) -> None:
        self._check_home()
        deadline = asyncio.get_running_loop().time() + timeout
        on_their_way: dict[int, Confirm] = {}
        failed: dict[int, Exception] = {}
        for number, message in enumerate(messages):
            try:
                on_their_way[number] = await self._send(message, deadline)
            except EventMicroError as error:
                failed[number] = error
        for number, confirm in on_their_way.items():
            try:
                await confirm
            except EventMicroError as error:
                failed[number] = error
        if failed:
            raise NotAllPublished(failed=failed, confirmed=len(messages) - len(failed))

    def try_send(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None, reply: str = "") -> bool:
        if self._home is None or asyncio.get_running_loop() is not self._home:
            return False
        return self._calls.sender.try_send(subject, body, headers, reply)

    async def send(self, message: Message) -> None:
        self._connected_publisher()
        await self._calls.sender.send(message.subject, message.body, message.headers, message.reply)

    def inbox(self) -> str:
        self._connected_publisher()
        return self._calls.sender.inbox()

    async def subscribe(
        self,
        subject: str,
        receive: Receive,
        *,
        queue: str | None = None,
        durable: Durable | None = None,
        exchange: Exchange | None = None,
        place: Queue | None = None,
    ) -> Subscription:
        link, publisher = self._link(), self._publisher
        subscription = self._subscription(link, subject, receive, queue, durable, exchange, place)
        self._needs.update(self._needed(subscription, queue, durable))
        try:
            await self._open(subscription, link)
            if self._publisher is not publisher:
                raise Disconnected(f"subscription to {subject}: {self.url} was closed meanwhile")
        except UsageError as refused:
            await subscription.close()
            if not isinstance(subscription, CallSubscription) or subject.startswith(INBOX):
                raise self._with_needs(refused) from refused
            self._refused_calls[subject] = refused  # `flush` says it: a service may go without it
            return subscription
        except BaseException:
            await subscription.close()
            raise
        self._subscriptions = [each for each in self._subscriptions if not each.closed] + [subscription]
        self._upkeep.begin()
        return subscription

    def bindings(
        self,
        subject: str,
        *,
        queue: str | None = None,
        durable: Durable | None = None,
        exchange: Exchange | None = None,
        place: Queue | None = None,
    ) -> Bindings:
        events, vhost = self.settings.exchange, self.settings.vhost
        if durable is None and is_of_calls(subject, queue):
            return calls_told(events, subject, vhost)
        source = RabbitExchange(events) if exchange is None else _ours(exchange, RabbitExchange)
        layout = layout_of(subject, queue, source, None if place is None else _ours(place, RabbitQueue))
        return events_told(layout, events, queue, durable, vhost)

    async def flush(self) -> None:
        link = self._link()
        try:
            async with asyncio.timeout(FLUSH_TIMEOUT):
                await self._publishers.idle()
                await self._calls.flush()
                await close_channel(await open_channel(await link.wait()))
                for subscription in self._subscriptions.copy():
                    await subscription.stands()
        except TimeoutError:
            raise Disconnected(f"{self.url}: the server did not answer within {FLUSH_TIMEOUT:g} s") from None
        except DriverError as error:
            raise translate(error, self.url) from error
        refused, self._refused_calls = self._refused_calls, {}
        if refused:
            said = [
                refused[subject] for subject in sorted(refused, key=lambda subject: "$" in subject)
            ]  # endpoints first
            raise Refused(f"{self.url}: {self._with_needs(as_one(said))}", refused)

    def _needed(self, subscription: Subscription, queue: str | None, durable: Durable | None) -> Iterable[Right]:
        """The rights that it takes."""
        events, mode = self.settings.exchange, self._declarer.mode
        if isinstance(subscription, CallSubscription):
            return needs_of_calls(subscription.subject, queue, events, mode)
        assert subscription.layout is not None
        return needs_of_events(subscription.layout, queue, durable, events, mode)

    def _with_needs(self, refused: UsageError) -> UsageError:
        """Where it is a right that is missing: with all that are needed, as one command grants them."""
        return refused.needing(self._needs) if isinstance(refused, NotAllowed) else refused

    async def _send(self, message: Message, deadline: float) -> Confirm:
        publisher, exchange, key = self._publisher, self.settings.exchange, message.subject
        mandatory = self.settings.mandatory or is_letter(message)
        if publisher is None or asyncio.get_running_loop() is not self._home:
            publisher = self._connected_publisher()
        if type(message) is not Message:
            if isinstance(message, Routed):
                exchange, publisher = (
                    message.exchange.name,
                    self._publishers.to(_ours(message.exchange, RabbitExchange)),
                )
            elif isinstance(message, Copy):
                mandatory = True
                if is_for_one_queue(message):
                    exchange, key = "", check_name(message.queue or "", "queue")
        if len(message.body) > self.settings.max_payload:
            raise MessageTooLarge(
                f"{message.subject}: {len(message.body)} bytes, over the {self.settings.max_payload} of max_payload",
                limit=self.settings.max_payload,
            )
        properties: Properties = properties_of(message, message_id(message.id) if message.id else publisher.new_id())
        if type(message) is not Message:
            properties = limited(message, properties)
        if type(properties) is Limited and properties.user_id not in (None, self.settings.user):
            publisher = self._publishers.apart(publisher)
        return await publisher.send(
            exchange,
            check_length(key),
            properties,
            message.body,
            mandatory=mandatory,
            deadline=deadline,
        )

    def _subscription(
        self,
        link: Link,
        subject: str,
        receive: Receive,
        queue: str | None,
        durable: Durable | None,
        exchange: Exchange | None,
        place: Queue | None,
    ) -> Subscription:
        binding_key(subject)
        if durable is None and is_of_calls(subject, queue):
            return self._calls.subscription(subject, receive, queue)
        layout = self._layout(subject, queue, exchange, place)
        if durable is None:
            if layout.exchange.is_default and layout.queue is None:
                raise UsageError(
                    f"subject {subject!r}: the default exchange knows no other queue: write "
                    f"queue=RabbitQueue({subject!r})"
                )
            return LiveSubscription(subject, queue, receive, link, self._declarer, layout)
        queue = self._check_durable(subject, queue, durable)
        dead = dead_exchange(self.settings.exchange)
        return DurableSubscription(subject, queue, durable, receive, link, self._declarer, dead, self._retries, layout)

    def _layout(self, subject: str, queue: str | None, exchange: Exchange | None, place: Queue | None) -> Layout:
        source = self._declarer.events if exchange is None else _ours(exchange, RabbitExchange)
        layout = layout_of(subject, queue, source, None if place is None else _ours(place, RabbitQueue))
        for described in (source, *layout.exchanges):
            self._declarer.check_description(described)
        return layout

    async def _open(self, subscription: Subscription, link: Link) -> None:
        """Begin a subscription, again where the connection is lost meanwhile."""
        deadline = asyncio.get_running_loop().time() + SUBSCRIBE_TIMEOUT
        about, why = f"subscription to {subscription.subject}", ""
        try:
            while True:
                async with asyncio.timeout_at(deadline):
                    connection = await link.wait()
                try:
                    if isinstance(subscription, CallSubscription):
                        await self._calls.get_ready(subscription)
                    return await subscription.open(connection)  # each of its steps within declare_timeout
                except DriverError:
                    if not connection.lost.done():
                        raise
                    why = f": {connection.lost.result()}"
                    check_permitted(about, why)
        except TimeoutError:
            why = why or (self._publisher.alarm() if self._publisher is not None else "")
            raise Disconnected(f"{about}: {self.url} was away for {SUBSCRIBE_TIMEOUT:g} s{why}") from None
        except DriverError as error:
            raise translate(error, about) from error

    def check(self, subject: str, *, queue: str | None = None, durable: Durable | None = None) -> None:
        binding_key(subject)
        if durable is not None:
            self._check_durable(subject, queue, durable)

    def _check_durable(self, subject: str, queue: str | None, durable: Durable) -> str:
        """The name of the queue, if it and all that is asked for can be."""
        if queue is None:
            raise UsageError(f"subscription to {subject}: a durable one needs a queue")
        check_supported(durable)
        check_name(queue, "queue")
        if durable.dead_letter is not None:
            check_name(durable.dead_letter, "dead_letter")
        if self.settings.declare == "true" and not durable.ordered:
            check_retry_queues(queue)
        return queue

    async def declare(
        self,
        subject: str,
        *,
        queue: str | None = None,
        durable: Durable | None = None,
        change: bool = False,
        exchange: Exchange | None = None,
        place: Queue | None = None,
    ) -> Mapping[str, bool]:
        self.check(subject, queue=queue, durable=durable)
        self._link()
        published = durable is None  # and that is all
        layout = self._layout(subject, subject if published else queue, exchange, None if published else place)
        try:
            connection = await self._link().wait()
            return await self._declarer.declare(connection, subject, queue, durable, layout)
        except DriverError as error:
            raise translate(error, f"declaring {queue or subject}") from error

    async def declare_calls(self) -> Mapping[str, bool]:
        self._link()
        try:
            return await CallDeclarer(self.settings).declare_calls(await self._link().wait())
        except DriverError as error:
            raise translate(error, "declaring what calls need") from error

    async def queue_state(self, queue: str, *, subject: str | None = None) -> QueueState | None:
        about, wait = f"queue {queue!r}", self.settings.declare_timeout
        try:
            connection = await self._standing(about, wait)
            return await state_of(lambda about: borrowed_channel(connection, about, wait), check_name(queue, "queue"))
        except DriverError as error:
            raise translate(error, about) from error

    async def unreached(self, subject: str) -> str:
        try:
            state = await self.queue_state(subject)
        except EventMicroError:
            return ""
        return "" if state is None else unbound(self.settings.exchange, state)

    async def queue_states(self) -> None:
        """AMQP lists no queues."""
        self._link()

    async def _standing(self, about: str, timeout: float) -> Connection:
        """The connection, which may be away for a moment."""
        async with answered(about, timeout):
            return await self._link().wait()

    def _link(self) -> Link:
        self._connected_publisher()
        assert self._consuming is not None
        return self._consuming

    def _kept_up(self) -> list[DurableSubscription | LiveSubscription]:
        """What needs exchanges and bindings of others."""
        return [each for each in self._subscriptions if isinstance(each, DurableSubscription | LiveSubscription)]

    def _connected_publisher(self) -> Publisher:
        self._check_home()
        if self._publisher is None:
            raise Disconnected(f"{self.url} is not connected: use `async with`, or await connect() first")
        return self._publisher

    async def _close_links(self, *links: Link) -> None:
        self._publishing = self._consuming = None
        await asyncio.gather(*(link.close() for link in links))

    def _on_lost(self, reason: str) -> None:
        if self._was_online:
            self._was_online = False
            log.warning("%s: connection lost, reconnecting: %s", self.url, reason)

    def _on_refused(self, reason: str) -> None:
        if reason not in self._refused:  # it will be refused many times, on each of its links
            self._refused.add(reason)
            log.error("%s, trying on", reason)

    def _on_back(self) -> None:
        if self.online and not self._was_online:
            self._was_online = True
            self.reconnects += 1
            self._refused.clear()
            count = sum(not subscription.ended for subscription in self._subscriptions)
            log.warning("%s: connected again, %d subscriptions are taken up", self.url, count)


def _ours(place: Place, kind: type[P]) -> P:
    """A place that only an adapter of its own kind can read."""
    if not isinstance(place, kind):
        raise Unsupported(f"{place!r} is no {kind.__name__}, and of no use to RabbitMQ")
    return place


async def _close_all(subscriptions: list[Subscription]) -> None:
    await asyncio.gather(*(subscription.close() for subscription in subscriptions))
