"""Kafka: what a handler returns and the place of its queue hold together, or neither does, whoever dies or is late."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
from aiokafka import AIOKafkaConsumer
from eventmicro_kafka import KafkaBroker
from eventmicro_kafka.consuming import transactions
from eventmicro_kafka.consuming.subscription import KafkaSubscription
from eventmicro_kafka.errors import NOT_A_MEMBER
from eventmicro_kafka.producing import transactor
from pydantic import BaseModel

from eventmicro import Batch, Client, Publish, Retry, Service, Topic
from eventmicro.broker import Durable
from eventmicro.message import Delivery, Message
from tests.conftest import PATIENCE, Until
from tests.integration.kafka.admin import make_topic
from tests.integration.kafka.program_transactions import STEPS, Bill, Order, returning
from tests.servers import FaultProxy, KafkaServer

# How many orders may be without their bill before more are published: a slow machine is not given more and more to do.
AHEAD = 240
QUICK = "session_timeout=0.6&rebalance_wait=0.5&transaction_timeout=1"


class Reader:
    """Another client, that reads what is committed, or also what is not."""

    def __init__(self, url: str, topic: str, isolation: str) -> None:
        servers = url.removeprefix("kafka://")
        self._consumer = AIOKafkaConsumer(
            topic, bootstrap_servers=servers, isolation_level=isolation, auto_offset_reset="earliest"
        )
        self.values: list[bytes] = []
        self.by_key: dict[bytes, list[bytes]] = {}

    async def read(self) -> None:
        while True:
            for records in (await self._consumer.getmany(timeout_ms=100)).values():
                for record in records:
                    self.values.append(record.value)
                    self.by_key.setdefault(record.key, []).append(record.value)

    @property
    def counts(self) -> Counter[bytes]:
        return Counter(self.values)


@asynccontextmanager
async def reading(url: str, topic: str, isolation: str = "read_committed") -> AsyncIterator[Reader]:
    reader = Reader(url, topic, isolation)
    await reader._consumer.start()
    task = asyncio.create_task(reader.read())
    try:
        yield reader
    finally:
        task.cancel()
        await asyncio.wait([task])
        await reader._consumer.stop()


async def lag_is_gone(broker: KafkaBroker, queue: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while (state := await broker.queue_state(queue)) is None or state.waiting:
            await asyncio.sleep(0.02)


class Passing:
    """Passes events on in transactions."""

    def __init__(self, url: str, subject: str) -> None:
        self.broker = KafkaBroker(url)
        self.deliveries: list[Delivery] = []
        self.outcomes: list[BaseException | None] = []
        self._subject = subject
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        await self.broker.connect()
        durable = Durable(transactional=True, start="all")
        subscription = await self.broker.subscribe(
            self._subject, self._receive, queue="q." + self._subject, durable=durable
        )
        assert isinstance(subscription, KafkaSubscription)
        self.subscription = subscription

    async def close(self) -> None:
        await self.broker.close()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _receive(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)
        task = asyncio.create_task(self._pass_on(delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, delivery: Delivery) -> None:
        try:
            message = Message(f"{self._subject}.out", delivery.body, key=delivery.key)
            await self.broker.publish_and_ack([message], [delivery])
            self.outcomes.append(None)
        except Exception as error:
            self.outcomes.append(error)
            await delivery.nack()


def keyed(subject: str, numbers: Sequence[int]) -> list[Message]:
    return [Message(subject, b"%d" % number, key=f"key {number % 12}") for number in numbers]


# -- processes that die ----------------------------------------------------------------------------------------


@pytest.mark.timeout_seconds(240)
async def test_processes_that_are_killed_at_any_step_of_a_transaction_publish_each_outcome_once(
    kafka_url: str, subject: str
) -> None:
    """With what failed first and came again by the retry topic, and one that takes over from all of them."""
    async with KafkaBroker(kafka_url) as broker:
        await broker.declare(subject)
        await broker.declare(f"{subject}.bills")
        sent = 0

        async def publish(count: int) -> None:
            nonlocal sent
            orders = [Order(number=number, customer=f"c{number % 12}") for number in range(sent, sent + count)]
            messages = [Message(subject, order.model_dump_json().encode(), key=order.customer) for order in orders]
            await broker.publish_many(messages)
            sent += count

        async def start(*arguments: str) -> asyncio.subprocess.Process:
            program = "tests.integration.kafka.program_transactions"
            return await asyncio.create_subprocess_exec(sys.executable, "-m", program, kafka_url, subject, *arguments)

        async with reading(kafka_url, f"{subject}.bills") as reader:
            mortal = [await start(step) for step in STEPS]
            survivor = await start()
            try:
                while any(process.returncode is None for process in mortal):
                    if sent - len(reader.counts) < AHEAD:
                        await publish(12)
                    await asyncio.sleep(0.05)
                assert [process.returncode for process in mortal] == [-9] * len(STEPS)
                await publish(100)
                while len(reader.counts) < sent:
                    await asyncio.sleep(0.02)
                await lag_is_gone(broker, f"{subject}.bill")
            finally:
                for process in (*mortal, survivor):
                    if process.returncode is None:
                        process.kill()
                    await process.wait()
        bills = [Bill.model_validate_json(value) for value in reader.values]
        assert Counter(bill.number for bill in bills) == Counter(range(sent))
        assert Counter(reader.values) == Counter([value async for value in committed(kafka_url, f"{subject}.bills")])


async def committed(url: str, topic: str) -> AsyncIterator[bytes]:
    """What `client.read` shows of a topic."""
    async with Client(url) as client:
        async for value in client.read(Topic(topic, bytes)):
            yield value


# -- members whose partitions are others' ----------------------------------------------------------------------


async def test_a_member_that_was_taken_for_dead_commits_nothing(
    kafka_url: str, subject: str, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has published when its partitions go to another one, and commits when they are gone."""
    async with KafkaBroker(kafka_url) as broker:
        refused: list[BaseException] = []
        gone, has_begun = asyncio.Event(), asyncio.Event()
        late, other = Passing(f"{kafka_url}?{QUICK}&transaction_timeout=10", subject), Passing(kafka_url, subject)
        commit = transactions.commit_places

        async def commit_late(consumer: Any, producer: Any, **words: Any) -> None:
            if consumer is not late.subscription._member._consumer:
                return await commit(consumer, producer, **words)
            has_begun.set()
            await gone.wait()
            try:
                return await commit(consumer, producer, **words)
            except NOT_A_MEMBER as error:
                refused.append(error)
                raise

        monkeypatch.setattr(transactions, "commit_places", commit_late)
        await broker.declare(subject)
        await late.start()
        async with reading(kafka_url, f"{subject}.out") as reader:
            await broker.publish_many(keyed(subject, range(60)))
            await has_begun.wait()
            late.subscription._member._consumer._coordinator._heartbeat_task.cancel()
            await other.start()
            await until(lambda: len(other.outcomes) == 60)
            gone.set()
            await until(lambda: refused)
            await until(lambda: len(late.outcomes) == len(late.deliveries))
            await broker.publish_many(keyed(subject, range(60, 80)))
            await until(lambda: len(reader.counts) == 80)
            await asyncio.gather(late.close(), other.close())
            await lag_is_gone(broker, f"q.{subject}")
        assert len(late.deliveries) >= 60
        assert reader.counts == Counter(b"%d" % number for number in range(80))
        async with reading(kafka_url, f"{subject}.out", "read_uncommitted") as stored:
            await until(lambda: len(stored.values) > 80)  # the late one has stored what it could not commit


async def test_a_transaction_of_which_nobody_knows_how_it_ended_is_looked_up(
    kafka_url: str, subject: str, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it holds, and once it does not."""
    async with KafkaBroker(kafka_url) as broker:
        end, unanswered = transactor.end, ["after", "before"]

        async def end_unanswered(producer: Any, *, commit: bool) -> None:
            when = unanswered.pop() if commit and unanswered else ""
            if when != "before":
                await end(producer, commit=commit)
            if when:
                raise TimeoutError("no answer")

        monkeypatch.setattr(transactor, "end", end_unanswered)
        passing = Passing(kafka_url, subject)
        await broker.declare(subject)
        await passing.start()
        async with reading(kafka_url, f"{subject}.out") as reader:
            await broker.publish_many(keyed(subject, range(40)))
            await until(lambda: len(reader.counts) == 40 and not unanswered)
            await passing.close()
            await lag_is_gone(broker, f"q.{subject}")
        assert reader.counts == Counter(b"%d" % number for number in range(40))
        assert len(passing.deliveries) > 40


# -- refusals, order, and what others see ----------------------------------------------------------------------


class Copy(BaseModel):
    number: int
    key: str | None = None


async def test_where_an_outcome_is_refused_nothing_of_it_is_seen_and_its_event_comes_again(
    kafka_url: str, subject: str, until: Until
) -> None:
    """A topic that compacts takes no record without a key, which only its broker knows."""
    async with KafkaBroker(kafka_url) as broker:
        compacted = f"{subject}.copies"
        await make_topic(kafka_url, compacted, config={"cleanup.policy": "compact"})
        service, attempts = Service(subject), Counter[int]()
        placed, bills = Topic(subject, Order, key="customer"), Topic(f"{subject}.bills", Bill, key="customer")
        copies = Topic(compacted, Copy, key="key")
        await broker.declare(bills.subject)

        async def bill(order: Order) -> Any:
            attempts[order.number] += 1
            is_refused = order.number in (7, 30) and attempts[order.number] < 3
            return Bill(**order.model_dump()), Copy(number=order.number, key=None if is_refused else order.customer)

        kind = tuple[Annotated[Bill, Publish(bills)], Annotated[Copy, Publish(copies)]]
        words: Any = {"concurrency": 16, "order_by": "customer", "retry": Retry(backoff=0)}
        service.subscribe(placed, transactional=True, **words)(returning(bill, kind))
        await service.start(kafka_url)
        try:
            async with reading(kafka_url, bills.subject) as reader:
                await service.publish_many(placed, [Order(number=n, customer=f"c{n % 12}") for n in range(120)])
                await until(lambda: len(reader.counts) == 120)
                await lag_is_gone(broker, f"{subject}.bill")
                seen = [Bill.model_validate_json(value).number for value in reader.values]
                ours = [Bill.model_validate_json(value).number async for value in committed(kafka_url, bills.subject)]
        finally:
            await service.stop()
        assert Counter(seen) == Counter(ours) == Counter(range(120))
        assert attempts == Counter(range(120)) + Counter([7, 7, 30, 30]), "others were refused with them"
        for values in reader.by_key.values():
            numbers = [Bill.model_validate_json(value).number for value in values]
            assert numbers == sorted(numbers)
        async with reading(kafka_url, bills.subject, "read_uncommitted") as stored:
            await until(lambda: len(stored.values) > 120)  # some of it was stored and taken back
        copied = [Copy.model_validate_json(value).number async for value in committed(kafka_url, compacted)]
        assert Counter(copied) == Counter(range(120))


async def test_a_batch_of_several_partitions_is_one_transaction(kafka_url: str, subject: str, until: Until) -> None:
    async with KafkaBroker(kafka_url) as broker:
        service, sizes = Service(subject), list[int]()
        bills, placed = Topic(f"{subject}.bills", Bill, key="customer"), Topic(subject, Order, key="customer")

        async def bill(orders: list[Order]) -> Any:
            sizes.append(len(orders))
            return [Bill(**order.model_dump()) for order in orders]

        words: Any = {"batch": Batch(size=20, within=0.2)}
        kind = Annotated[list[Bill], Publish(bills)]
        service.subscribe(placed, transactional=True, **words)(returning(bill, kind))

        await service.start(kafka_url)
        try:
            await service.publish_many(placed, [Order(number=n, customer=f"c{n % 12}") for n in range(50)])
            async with reading(kafka_url, bills.subject) as reader:
                await until(lambda: len(reader.counts) == 50)
                await lag_is_gone(broker, f"{subject}.bill")
        finally:
            await service.stop()
        assert sum(sizes) == 50
        assert set(reader.counts.values()) == {1}


# -- a cluster that is away, or refuses ------------------------------------------------------------------------


@pytest.mark.timeout_seconds(90)
async def test_a_cluster_that_hangs_or_dies_takes_nothing_away_and_adds_nothing(
    subject: str, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hangs before a transaction is decided, and whoever made that stops; it dies under the one that goes on."""
    server = KafkaServer()
    async with FaultProxy(server.port) as proxy:
        server.addresses["PLAINTEXT"] = f"127.0.0.1:{proxy.port}"
        with server:
            first, second = Passing(f"{server.url}?{QUICK}", subject), Passing(f"{server.url}?{QUICK}", subject)
            async with KafkaBroker(server.url) as broker:
                await broker.declare(subject)
                await first.start()
                await broker.publish_many(keyed(subject, range(5)))
                await until(lambda: len(first.outcomes) == 5)
                commit = transactions.commit_places

                async def hang(*words: Any, **others: Any) -> None:
                    await commit(*words, **others)
                    proxy.blackhole = True

                monkeypatch.setattr(transactions, "commit_places", hang)
                await broker.publish_many(keyed(subject, range(5, 400)))
                await until(lambda: proxy.blackhole)
                async with asyncio.timeout(20):
                    await first.close()
                monkeypatch.undo()
                proxy.blackhole = False
                await second.start()
                await until(lambda: len(second.outcomes) > 100)
                server.kill()
                await asyncio.to_thread(server.start)
                async with reading(server.url, f"{subject}.out") as reader:
                    await until(lambda: len(reader.counts) == 400)
                    await second.close()
                    await lag_is_gone(broker, f"q.{subject}")
            assert reader.counts == Counter(b"%d" % number for number in range(400))
