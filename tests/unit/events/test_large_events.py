"""Events over the broker's limit: their bodies go into its object store, and come out of it, whole or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel

from eventmicro import Batch, Client, Context, MemoryBroker, Publishing, Retry, Service, Topic
from eventmicro.errors import Disconnected, MessageTooLarge, NotAllPublished, NotStored, Unsupported, UsageError
from eventmicro.events import subscriber
from eventmicro.large import StoredObject
from eventmicro.memory.objects import Objects
from eventmicro.message import Delivery, Message
from eventmicro.middleware import Handler
from eventmicro.wire import DEAD_REASON, LARGE

Until = Callable[[Callable[[], object]], Awaitable[None]]

LIMIT = 1000
URL = "memory://large"


class Doc(BaseModel):
    name: str
    text: str = ""


TOPIC = Topic("docs.made", Doc, large="object")
BIG = "x" * 5000


class Keeping(MemoryBroker):
    """A broker with a low limit, whose object store may be away."""

    def __init__(self) -> None:
        super().__init__(URL, max_payload=LIMIT)
        self.back = asyncio.Event()
        self.back.set()
        self.fetched = self.stored = 0
        self.away: Exception = Disconnected("the store is away")

    @property
    def objects(self) -> Objects:
        return self._connected_hub().objects

    async def store_object(self, body: bytes, digest: str, *, timeout: float) -> StoredObject:
        if not self.back.is_set():
            raise self.away
        self.stored += 1
        return await super().store_object(body, digest, timeout=timeout)

    async def fetch_object(self, stored: StoredObject) -> bytes:
        self.fetched += 1
        if not self.back.is_set():
            raise self.away
        return await super().fetch_object(stored)


class Archive:
    """A service that keeps what it gets."""

    def __init__(self, broker: Keeping, topic: Any = TOPIC, service: dict[str, Any] | None = None, **words: Any):
        self.got: list[Doc] = []
        self.contexts: list[Context] = []
        self.service = Service("archive", broker=broker, **(service or {}))

        @self.service.subscribe(topic, **words)
        async def keep(doc: Doc, context: Context) -> None:
            self.got.append(doc)
            self.contexts.append(context)
            context.metadata

    @property
    def names(self) -> list[str]:
        return [doc.name for doc in self.got]


async def letters(broker: Keeping) -> list[Delivery]:
    """What comes to the dead letters of the archive from now on."""
    found: list[Delivery] = []
    await broker.subscribe("dead.archive.keep", found.append)
    return found


async def test_the_body_of_a_large_event_is_stored_before_it_is_published_and_fetched_before_it_is_decoded(
    until: Until,
) -> None:
    broker, seen = Keeping(), list[Delivery]()
    archive = Archive(broker)
    async with broker, archive.service, Client(broker) as client:
        await broker.subscribe("docs.made", seen.append)
        await client.publish(TOPIC, Doc(name="small"))
        await client.publish(TOPIC, Doc(name="large", text=BIG), metadata={"Tenant": "acme"})
        await until(lambda: len(archive.got) == 2)
        assert archive.got == [Doc(name="small"), Doc(name="large", text=BIG)]
        assert (broker.stored, broker.fetched) == (1, 1)
        assert seen[0].headers is None
        assert (seen[1].body, set(seen[1].headers or {})) == (b"", {"Tenant", LARGE})
        assert archive.contexts[1].metadata == {"Tenant": "acme"}
        assert client.outgoing.confirmed == 2


async def test_a_publish_says_it_for_a_plain_subject_and_for_a_topic_that_does_not(until: Until) -> None:
    broker, plain = Keeping(), Topic("docs.made", Doc)
    archive = Archive(broker, plain)
    async with broker, archive.service, Client(broker) as client:
        for topic in ("docs.made", plain):
            with pytest.raises(MessageTooLarge):
                await client.publish(topic, Doc(name="large", text=BIG))
            await client.publish(topic, Doc(name="large", text=BIG), large="object")
        await client.publisher(plain).publish(Doc(name="large", text=BIG), large="object")
        await client.publish_many(plain, [Doc(name="large", text=BIG)], large="object")
        await client.publisher(plain).publish_many([Doc(name="large", text=BIG)], large="object")
        await archive.service.publish(plain, Doc(name="large", text=BIG), large="object")
        await until(lambda: len(archive.got) == 6)


async def test_another_word_is_refused() -> None:
    word: Any = "stream"
    with pytest.raises(UsageError, match="write 'object'"):
        Topic("docs.made", Doc, large=word)
    async with Keeping() as broker, Client(broker) as client:
        with pytest.raises(UsageError, match="write 'object'"):
            await client.publish("docs.made", Doc(name="a"), large=word)
        with pytest.raises(UsageError, match="write 'object'"):
            await client.publish_many("docs.made", [Doc(name="a")], large=word)


async def test_several_events_keep_their_order_whatever_their_sizes(until: Until) -> None:
    broker = Keeping()
    archive = Archive(broker)
    async with broker, archive.service, Client(broker) as client:
        docs = [Doc(name=str(number), text=BIG if number % 3 else "") for number in range(30)]
        await client.publish_many(TOPIC, docs)
        await until(lambda: len(archive.got) == 30)
        assert archive.got == docs


@pytest.mark.parametrize("words", [{"order_by": "name"}, {"batch": Batch(size=1)}, {"durable": False}, {"queue": None}])
async def test_every_kind_of_subscriber_gets_it_in_order(words: dict[str, Any], until: Until) -> None:
    broker, got = Keeping(), list[tuple[str, int]]()
    service = Service("archive", broker=broker)
    if "batch" in words:

        @service.subscribe(TOPIC, **words)
        async def keep_all(docs: list[Doc]) -> None:
            got.extend((doc.name, len(doc.text)) for doc in docs)
    else:

        @service.subscribe(TOPIC, **words)
        async def keep(doc: Doc) -> None:
            got.append((doc.name, len(doc.text)))

    async with broker, service, Client(broker) as client:
        docs = [Doc(name="abc"[number % 3], text=BIG * (number % 2)) for number in range(12)]
        await client.publish_many(TOPIC, docs)
        await until(lambda: len(got) == 12)
        for name in "abc":
            assert [each for each in got if each[0] == name] == [(d.name, len(d.text)) for d in docs if d.name == name]


async def test_middleware_sees_the_event_on_both_sides(until: Until) -> None:
    seen: list[tuple[str, str]] = []

    async def note(message: Any, context: Context, call_next: Handler) -> Any:
        seen.append((context.side.name, message.name))
        return await call_next(message, context)

    broker = Keeping()
    archive = Archive(broker, service={"middleware": [note]})
    async with broker, archive.service, Client(broker, middleware=[note]) as client:
        await client.publish(TOPIC, Doc(name="large", text=BIG))
        await until(lambda: archive.got)
        assert seen == [("PUBLISHER", "large"), ("SUBSCRIBER", "large")]


async def test_content_types_and_compression_go_with_it(until: Until) -> None:
    import secrets

    broker, text = Keeping(), secrets.token_hex(5000)
    archive = Archive(broker)
    async with broker, archive.service, Client(broker, compression="gzip") as client:
        await client.publish(TOPIC, Doc(name="large", text=text), content_type="msgpack")
        await until(lambda: archive.got)
        assert archive.got == [Doc(name="large", text=text)]


# -- who cannot ------------------------------------------------------------------------------------------------


class KeepsNone(Keeping):
    capabilities = replace(MemoryBroker.capabilities, objects=False, more="write memory://")


async def test_a_broker_without_an_object_store_refuses_it_at_the_start_and_at_a_publish() -> None:
    broker = KeepsNone()
    archive = Archive(broker)
    async with broker:
        with pytest.raises(Unsupported, match=r"archive.keep needs objects, .* able are .*jetstream://, memory://"):
            await archive.service.start()
        async with Client(broker) as client:
            for publish in (
                client.publish(TOPIC, Doc(name="small")),
                client.publish_many(TOPIC, [Doc(name="small")]),
                client.publish("docs.made", Doc(name="small"), large="object"),
            ):
                with pytest.raises(Unsupported, match=r"able are .*jetstream://, memory://.*; write memory://"):
                    await publish


# -- bad luck --------------------------------------------------------------------------------------------------


async def test_an_object_that_is_gone_makes_a_dead_letter_that_says_so(until: Until) -> None:
    broker = Keeping()
    async with broker, Client(broker) as client:
        async with Archive(broker).service:
            dead = await letters(broker)
        await client.publish(TOPIC, Doc(name="large", text=BIG))
        await client.publish(TOPIC, Doc(name="small"))
        broker.objects.delete("1")
        archive = Archive(broker)
        async with archive.service:
            await until(lambda: dead and archive.got)
            assert archive.names == ["small"]
            headers = dead[0].headers or {}
            assert "it is without its body: the object '1' is not there any more" in headers[DEAD_REASON]
            assert (dead[0].body, LARGE in headers) == (b"", True)


async def test_a_dead_letter_refers_to_the_same_body_and_can_be_handled_again(until: Until) -> None:
    broker, got = Keeping(), list[Doc]()
    failing, mending = Service("archive", broker=broker), Service("mending", broker=broker)

    @failing.subscribe(TOPIC, retry=Retry(attempts=1))
    async def keep(doc: Doc) -> None:
        raise ValueError("no room")

    @mending.subscribe(Topic("dead.archive.keep", Doc), durable=False)
    async def mend(doc: Doc) -> None:
        got.append(doc)

    async with broker, failing, mending, Client(broker) as client:
        await client.publish(TOPIC, Doc(name="large", text=BIG))
        await until(lambda: got)
        assert got == [Doc(name="large", text=BIG)]


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("nothing", "no JSON object"),
        ('{"size": 3, "sha256": "%s"}' % ("0" * 64), "names no object"),
        ('{"bucket": "memory", "object": "1", "size": 3, "sha256": "%s"}' % ("0" * 64), "not what was put there"),
        ('{"bucket": "memory", "object": "1", "size": 4, "sha256": "%s"}' % ("0" * 64), "not what was put there"),
        ('{"bucket": "memory", "object": "7", "size": 4, "sha256": "%s"}' % ("0" * 64), "not there any more"),
        ('{"bucket": "memory", "object": "1", "size": 2001, "sha256": "%s"}' % ("0" * 64), "max_large"),
    ],
)
async def test_what_is_not_what_the_event_says_is_given_up(where: str, reason: str, until: Until) -> None:
    broker = Keeping()
    archive = Archive(broker, service={"max_large": 2000})
    async with broker, archive.service:
        broker.objects.store(b"body", "0" * 64)
        dead = await letters(broker)
        await broker.publish(Message("docs.made", b"", {LARGE: where}))
        await until(lambda: dead)
        assert reason in (dead[0].headers or {})[DEAD_REASON]
        assert archive.got == []


async def test_where_the_queue_is_not_durable_it_is_skipped_and_said(
    until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    broker = Keeping()
    archive = Archive(broker, durable=False)
    async with broker, archive.service, Client(broker) as client:
        await broker.publish(Message("docs.made", b"", {LARGE: "{}"}))
        await client.publish(TOPIC, Doc(name="small"))
        await until(lambda: archive.got)
        assert archive.names == ["small"]
        assert "skipped, it is without its body" in caplog.text


@pytest.mark.parametrize("error", [Disconnected("away"), UsageError("not permitted")])
@pytest.mark.parametrize("words", [{}, {"order_by": "name"}, {"durable": False}])
async def test_a_body_that_cannot_be_read_now_is_waited_for_and_counts_as_no_attempt(
    words: dict[str, Any],
    error: Exception,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(subscriber, "FETCH_PAUSE", 0.001)
    broker = Keeping()
    broker.away = error
    archive = Archive(broker, **words)
    async with broker, archive.service, Client(broker) as client:
        await client.publish(TOPIC, Doc(name="large", text=BIG))
        broker.back.clear()
        await client.publish(TOPIC, Doc(name="small"))
        await until(lambda: broker.fetched > 30)
        assert archive.got == []
        broker.back.set()
        await until(lambda: len(archive.got) == 2)
        assert archive.names == ["large", "small"]
        assert [context.attempt for context in archive.contexts] == [1, 1]
        assert caplog.text.count("waits for its body") == 1


@pytest.mark.parametrize("words", [{}, {"order_by": "name"}, {"batch": Batch(size=1)}])
async def test_a_stop_while_a_body_is_waited_for_gives_the_event_back(words: dict[str, Any], until: Until) -> None:
    broker = Keeping()
    service = Service("archive", broker=broker, stop_timeout=0)
    if "batch" in words:

        @service.subscribe(TOPIC, name="keep", **words)
        async def keep_all(docs: list[Doc]) -> None:
            raise AssertionError

    else:

        @service.subscribe(TOPIC, name="keep", **words)
        async def keep(doc: Doc) -> None:
            raise AssertionError

    async with broker, Client(broker) as client:
        async with service:
            broker.back.clear()
            broker.fetched = 0
            broker.back.set()
            await client.publish(Topic("docs.other", Doc), Doc(name="x"))
            stored = await broker.store_object(Doc(name="large", text=BIG).model_dump_json().encode(), "", timeout=1)
            broker.back.clear()
            where = '{"bucket": "memory", "object": "%s", "size": %d, "sha256": "%s"}'
            await broker.publish(Message("docs.made", b"", {LARGE: where % (stored.name, stored.size, "0" * 64)}))
            await until(lambda: broker.fetched)
        queue = broker._connected_hub()._queues["archive.keep"]
        await until(lambda: queue.waiting)


async def test_a_store_that_is_away_fails_the_publish_and_publishes_nothing(until: Until) -> None:
    broker, seen = Keeping(), list[Delivery]()
    async with broker, Client(broker) as client:
        await broker.subscribe("docs.made", seen.append)
        broker.back.clear()
        with pytest.raises(Disconnected, match="the store is away"):
            await client.publish(TOPIC, Doc(name="large", text=BIG))
        with pytest.raises(NotAllPublished, match="the store is away"):
            await client.publish_many(TOPIC, [Doc(name="small"), Doc(name="large", text=BIG)])
        assert client.outgoing.failed == 3
        broker.away = NotStored("the bucket is full")
        with pytest.raises(NotStored, match="the bucket is full"):
            await client.publish(TOPIC, Doc(name="large", text=BIG))
        broker.back.set()
        await client.publish(TOPIC, Doc(name="large", text=BIG))
        await until(lambda: len(seen) == 1)


async def test_a_large_event_is_buffered_while_the_broker_is_away_and_stored_when_it_is_back(until: Until) -> None:
    class Away(Keeping):
        @property
        def online(self) -> bool:
            return self.connected and self.back.is_set()

        async def publish(self, message: Message, *, timeout: float = 10.0) -> None:
            if not self.back.is_set():
                raise Disconnected("away")
            await super().publish(message, timeout=timeout)

    broker = Away()
    archive = Archive(broker)
    async with broker, archive.service, Client(broker, publishing=Publishing(while_away="buffer")) as client:
        broker.back.clear()
        await client.publish(TOPIC, Doc(name="large", text=BIG))
        await client.publish(TOPIC, Doc(name="small"))
        assert (client.outgoing.buffered, broker.stored) == (2, 0)
        broker.back.set()
        await until(lambda: len(archive.got) == 2)
        assert archive.names == ["large", "small"]


async def test_the_oldest_objects_of_a_process_go_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    from eventmicro.memory import objects

    monkeypatch.setattr(objects, "MOST", 10)
    kept = Objects()
    for _ in range(20):
        kept.store(b"1234", "")
    assert (len(kept), kept._size) == (2, 8)
    with pytest.raises(NotStored, match="over the 10 that are kept"):
        kept.store(bytes(11), "")
