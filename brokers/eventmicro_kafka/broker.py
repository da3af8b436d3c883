"""KafkaBroker: the broker port over Apache Kafka."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from functools import partial
from typing import NoReturn, cast

from eventmicro.broker import PUBLISH_TIMEOUT, Capabilities, Durable, QueueState, Receive, Start
from eventmicro.checks import try_each
from eventmicro.cloudevents import UNDERSCORED
from eventmicro.errors import Disconnected, Unsupported, UsageError
from eventmicro.lifetime import Lifetime
from eventmicro.message import Delivery, Message
from eventmicro.settings import address_only
from eventmicro.wire import has_wildcards
from eventmicro_kafka.connection.describing import TopicInfo
from eventmicro_kafka.connection.driver import check_compression, check_login
from eventmicro_kafka.connection.link import Link
from eventmicro_kafka.connection.noise import quieten
from eventmicro_kafka.consuming import history
from eventmicro_kafka.consuming.following import Following
from eventmicro_kafka.consuming.keeping import Keeper
from eventmicro_kafka.consuming.lane import KafkaDelivery
from eventmicro_kafka.consuming.live import Broadcast, Shared, live_group
from eventmicro_kafka.consuming.positions import fix_positions
from eventmicro_kafka.consuming.retry import retry_topic
from eventmicro_kafka.consuming.states import state_of
from eventmicro_kafka.consuming.subscription import KafkaSubscription
from eventmicro_kafka.existing import check_keeps_copies, warn_of_subject
from eventmicro_kafka.producing.producer import Producer
from eventmicro_kafka.producing.publishing import Publisher
from eventmicro_kafka.producing.transactor import Transactor
from eventmicro_kafka.rights import check_rights
from eventmicro_kafka.settings import KafkaSettings, read_url
from eventmicro_kafka.topics import Topics, check_pattern, check_topic

log = logging.getLogger(__name__)

# How long `flush` waits for the cluster, in seconds.
FLUSH_TIMEOUT = 5.0
OTHER_LETTERS = "; dead_letter= of the subscriber names another"
NO_CALLS = "Kafka carries no calls; call over nats:// or memory://"

AnySubscription = Broadcast | Shared | KafkaSubscription


class _Connection:
    """What is there between `connect` and `close`."""

    def __init__(self, settings: KafkaSettings, url: str) -> None:
        self.link = Link(settings, url)
        self.topics = Topics(settings, self.link)
        self.keeper = Keeper(settings, self.topics)
        self.publisher = Publisher(Producer(settings, self.link, self.topics), settings.max_message)
        self.subscriptions: list[AnySubscription] = []

    async def close(self) -> None:
        async with AsyncExitStack() as stack:  # each is closed, also where this is cancelled
            stack.push_async_callback(self.link.close)
            stack.push_async_callback(self.publisher.close)
            stack.push_async_callback(self.keeper.close)
            for subscription in self.subscriptions:  # again, as what is cancelled at once has not begun
                stack.push_async_callback(subscription.close)
            await asyncio.gather(*(subscription.close() for subscription in self.subscriptions))


class KafkaBroker(Lifetime):
    """A connection to Kafka; see `eventmicro.broker.Broker`.

    A subject is a topic, a queue a consumer group, `Message.key` the key that chooses the partition.

    Args:
        url: `kafka://host:9092`, or `kafkas://` for TLS; settings may follow, as `?partitions=6`.
        settings: the settings as an object, in place of a URL.
    """

    capabilities = Capabilities(
        queue_groups=True,
        broadcast=True,
        wildcards=True,
        durable=True,
        persistent=True,
        ordered_keys=True,
        replay=True,
        transactions=True,
        cloudevents=UNDERSCORED,
        order="by key, which is by partition; without a key over all partitions, in no order",
        delay="to some milliseconds; later where more than `retry_messages` wait in one instance",
        attempts="what was nacked; a process that died repeats its events with the same number",
        twice="what was not yet committed when a process died or was cut off, by default 0.2 s of work; what a handler "
        "was at for longer than `rebalance_wait` when partitions moved; a publish that was tried again after "
        "Unconfirmed",
        stored="all replicas in sync have it",
    )

    def __init__(self, url: str = "kafka://127.0.0.1:9092", settings: KafkaSettings | None = None) -> None:
        self.settings = settings or read_url(url)
        self.url = f"kafka://{','.join(self.settings.servers)}" if settings else address_only(url)
        self._connection: _Connection | None = None
        self._changing = asyncio.Lock()
        self._reconnects = 0  # of connections that were closed since

    @property
    def reconnects(self) -> int:
        return self._reconnects + (0 if self._connection is None else self._connection.link.reconnects)

    @property
    def connected(self) -> bool:
        return self._connection is not None

    @property
    def online(self) -> bool:
        return self._connection is not None and self._connection.link.online

    async def connect(self) -> None:
        self._check_home()
        async with self._changing:
            if self._connection is None:
                quieten()
                check_compression(self.settings)
                check_login(self.settings)
                connection = _Connection(self.settings, self.url)
                await connection.link.open()
                self._connection, self._home = connection, asyncio.get_running_loop()

    async def close(self) -> None:
        self._check_home()
        async with self._changing:
            connection, self._connection = self._connection, None
            self._home = None
            if connection is not None:
                self._reconnects += connection.link.reconnects
                await connection.close()

    async def publish(self, message: Message, *, timeout: float = PUBLISH_TIMEOUT) -> None:
        connection = self._connection
        if connection is None or asyncio.get_running_loop() is not self._home:
            connection = self._connected()
        await connection.publisher.publish(message, timeout)

    async def publish_many(self, messages: Sequence[Message], *, timeout: float = PUBLISH_TIMEOUT) -> None:
        await self._connected().publisher.publish_many(messages, timeout)

    async def publish_and_ack(
        self, messages: Sequence[Message], deliveries: Sequence[Delivery], *, timeout: float = PUBLISH_TIMEOUT
    ) -> None:
        self._connected()
        events = [delivery for delivery in deliveries if isinstance(delivery, KafkaDelivery)]
        if not events or len(events) < len(deliveries) or len({event.lane.holder for event in events}) > 1:
            raise UsageError(
                "publish_and_ack takes events that one durable subscription of this broker has handed over"
            )
        await cast("KafkaSubscription", events[0].lane.holder).publish_and_ack(messages, events, timeout)

    async def send(self, message: Message) -> NoReturn:
        raise Unsupported(NO_CALLS)

    def inbox(self) -> NoReturn:
        raise Unsupported(NO_CALLS)

    async def subscribe(
        self, subject: str, receive: Receive, *, queue: str | None = None, durable: Durable | None = None
    ) -> AnySubscription:
        connection = self._connected()
        check_pattern(subject)
        subscription: AnySubscription
        if durable is not None:
            subscription = await self._durable(connection, subject, receive, queue, durable)
        else:
            subscription = await self._live(connection, subject, receive, queue)
        try:
            await subscription.open()
            if self._connection is not connection:
                raise Disconnected(f"{self.url} was closed meanwhile")
        except BaseException:
            await subscription.close()
            raise
        connection.subscriptions = [s for s in connection.subscriptions if not s.closed]
        connection.subscriptions.append(subscription)
        return subscription

    async def read_kept(self, subject: str, start: Start) -> AsyncGenerator[Delivery, None]:
        topics = self._connected().topics
        check_pattern(subject)
        found = await (topics.choose(subject) if has_wildcards(subject) else topics.look([subject]))
        for topic in found.values():
            check_rights(self.settings, topic, ("Read",), subject)
        if found:
            async with aclosing(history.read(self.settings, found, start)) as kept:
                async for delivery in kept:
                    yield delivery

    def check(self, subject: str, *, queue: str | None = None, durable: Durable | None = None) -> None:
        check_pattern(subject)
        if durable is None:
            return
        if queue is None:
            raise UsageError(f"{subject}: a durable subscription needs a queue, to keep its place under that name")
        if durable.dedupe is not None:
            raise Unsupported(f"{self.url}: Kafka does not know an event again by its id; jetstream:// does")
        if not durable.ordered or has_wildcards(subject):
            check_topic(retry_topic(queue, subject), "retry topic")
        if durable.dead_letter is not None:
            check_topic(durable.dead_letter, "dead letter subject", OTHER_LETTERS)

    async def declare(
        self, subject: str, *, queue: str | None = None, durable: Durable | None = None, change: bool = False
    ) -> Mapping[str, bool]:
        self.check(subject, queue=queue, durable=durable)
        topics, keeper = self._connected().topics, self._connected().keeper
        # what wildcards stand for is others' to make
        names = [] if has_wildcards(subject) else [subject]
        if durable is not None and durable.dead_letter is not None:
            names.append(durable.dead_letter)
        is_new = await try_each([partial(topics.is_made, name) for name in names])
        made = {f"topic {name}": new for name, new in zip(names, is_new, strict=True)}
        if durable is None or queue is None:
            return made
        found = await self._found(topics, subject, f"queue {queue!r}")
        counts = {name: len(topic.leaders) for name, topic in found.items()}
        starts: dict[str, Start] = dict.fromkeys(found, durable.start)
        waits_apart = not durable.ordered or has_wildcards(subject)
        if waits_apart:
            retry, partitions = retry_topic(queue, subject), max(counts.values(), default=None)
            made[f"topic {retry}"] = await topics.is_made(retry, partitions)
            counts[retry], starts[retry] = await topics.partitions(retry, partitions), "all"
        if durable.dead_letter is not None:
            await keeper.keep(durable.dead_letter)
        known = {name: topic.id for name, topic in found.items()}
        fixed = await fix_positions(self.settings, queue, counts, starts, ids=known, together=waits_apart)
        return made | {f"group {queue}": bool(fixed.new)}

    async def queue_state(self, queue: str, *, subject: str | None = None) -> QueueState | None:
        connection = self._connected()
        return await state_of(self.settings, connection.link, connection.topics, queue)

    async def queue_states(self) -> list[QueueState]:
        found = [await self.queue_state(group) for group in await self._connected().link.groups()]
        return [state for state in found if state is not None]

    async def flush(self) -> None:
        connection = self._connected()
        await connection.publisher.flush(FLUSH_TIMEOUT)
        await connection.link.ping(FLUSH_TIMEOUT)

    def _connected(self) -> _Connection:
        self._check_home()
        if self._connection is None:
            raise Disconnected(f"{self.url} is not connected: use `async with`, or await connect() first")
        return self._connection

    async def _durable(
        self, connection: _Connection, subject: str, receive: Receive, queue: str | None, durable: Durable
    ) -> KafkaSubscription:
        if queue is None:
            raise UsageError(f"{subject}: a durable subscription needs a queue, to keep its place under that name")
        if durable.dedupe is not None:
            raise Unsupported(f"{self.url}: Kafka does not know an event again by its id; jetstream:// does")
        topics, about = connection.topics, f"queue {queue!r}"
        found = await self._found(topics, subject, about)
        counts = {name: len(topic.leaders) for name, topic in found.items()}
        starts: dict[str, Start] = dict.fromkeys(found, durable.start)
        waits_apart = not durable.ordered or has_wildcards(subject)
        if waits_apart:  # it also says, by a place of the queue in it, that the queue exists
            retry = await self._made(topics, retry_topic(queue, subject), max(counts.values(), default=None), about)
            found[retry.name], counts[retry.name], starts[retry.name] = retry, len(retry.leaders), "all"
        if durable.dead_letter is not None:
            check_topic(durable.dead_letter, "the topic of dead letters", OTHER_LETTERS)
            await self._made(topics, durable.dead_letter, None, about, what="the topic of dead letters")
            await connection.keeper.keep(durable.dead_letter)
        known = {name: topic.id for name, topic in found.items()}
        fixed = await fix_positions(self.settings, queue, counts, starts, ids=known, together=waits_apart)
        found.pop(retry_topic(queue, subject), None)
        if durable.start != "new" and found and not found.keys() & fixed.new:  # of a pattern perhaps several, or none
            log.info(
                "queue %s exists: start=%s is for a queue that is made", queue, durable.start, extra={"queue": queue}
            )
        follow = partial(Following, topics, subject, found, self.settings.topics_interval)
        transactor = None
        if durable.transactional:
            transactor = Transactor(self.settings, connection.link, topics, queue, subject)
        return KafkaSubscription(
            subject,
            queue,
            receive,
            durable,
            self.settings,
            connection.publisher,
            fixed.first,
            topics,
            follow,
            transactor,
        )

    async def _live(
        self, connection: _Connection, subject: str, receive: Receive, queue: str | None
    ) -> Broadcast | Shared:
        topics = connection.topics
        found = await self._found(topics, subject, subject if queue is None else f"queue {queue!r}")
        counts = {name: len(topic.leaders) for name, topic in found.items()}
        known = {name: topic.id for name, topic in found.items()}
        follow = partial(Following, topics, subject, found, self.settings.topics_interval)
        if queue is None:
            return Broadcast(subject, counts, receive, self.settings, connection.link, follow)
        group = live_group(queue, subject)
        starts: dict[str, Start] = dict.fromkeys(found, "new")
        fixed = await fix_positions(self.settings, group, counts, starts, ids=known, anew=True)
        return Shared(subject, queue, receive, self.settings, fixed.first, topics, follow)

    async def _found(self, topics: Topics, subject: str, about: str) -> dict[str, TopicInfo]:
        """The topics of a subject, which may be read from here; one that is missing is made, as `declare` says."""
        if has_wildcards(subject):
            found = await topics.choose(subject)
        else:
            await topics.partitions(subject)
            found = {subject: await topics.usable(subject, (), about)}
        configs = await topics.configs(found.values())
        for name, topic in found.items():
            check_rights(self.settings, topic, ("Read",), about)
            warn_of_subject(topic, configs.get(name, {}), about)
        return found

    async def _made(
        self, topics: Topics, name: str, partitions: int | None, about: str, what: str = "the retry topic"
    ) -> TopicInfo:
        """A topic for copies of events, which is made where it is missing, and can keep them."""
        check_topic(name, what)
        await topics.partitions(name, partitions)
        topic = await topics.usable(name, ("Read", "Write"), about)
        check_keeps_copies(topic, (await topics.configs([topic])).get(name, {}), what)
        return topic
