"""publishing: what is waited for, refused or buffered while the broker is away, in which order, and what is counted."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest
from pydantic import BaseModel

from eventmicro import Client, Context, MemoryBroker, Publishing, Service, Topic
from eventmicro.errors import (
    Disconnected,
    EncodeError,
    MessageTooLarge,
    NotAllPublished,
    NotStored,
    TransportError,
    Unconfirmed,
    UsageError,
)
from eventmicro.events.publisher import AT_ONCE
from eventmicro.message import Message
from eventmicro.middleware import Handler, Middleware

Until = Callable[[Callable[[], object]], Awaitable[None]]


class Moody(MemoryBroker):
    """A broker that may be away, and may answer a body with an error, once or always."""

    def __init__(self) -> None:
        super().__init__("memory://moody", max_payload=100)
        self.back = asyncio.Event()
        self.back.set()
        self.taken: list[bytes] = []
        self.timeouts: list[float] = []
        self.once: dict[bytes, Exception] = {}
        self.always: dict[bytes, Exception] = {}

    @property
    def online(self) -> bool:
        return self.connected and self.back.is_set()

    async def publish(self, message: Message, *, timeout: float = 10.0) -> None:
        self.timeouts.append(timeout)
        try:
            await asyncio.wait_for(self.back.wait(), timeout)
        except TimeoutError:
            raise Disconnected("the broker was away all the time") from None
        if error := self.once.pop(message.body, None) or self.always.get(message.body):
            raise error
        await super().publish(message)
        self.taken.append(message.body)

    async def publish_many(self, messages: Sequence[Message], *, timeout: float = 10.0) -> None:
        failed: dict[int, Exception] = {}
        for number, message in enumerate(messages):
            try:
                await self.publish(message, timeout=timeout)
            except TransportError as error:
                failed[number] = error
        if failed:
            raise NotAllPublished(failed=failed, confirmed=len(messages) - len(failed))


def client(broker: Moody, **words: Any) -> Client:
    return Client(broker, publishing=Publishing(**words))


def counts(client: Client) -> tuple[int, int, int]:
    """How many events are confirmed, failed, buffered."""
    return client.outgoing.confirmed, client.outgoing.failed, client.outgoing.buffered


# -- wait ------------------------------------------------------------------------------------------------------


async def test_a_publish_waits_for_a_broker_that_is_away_and_is_counted_when_it_is_taken() -> None:
    broker = Moody()
    async with client(broker) as publisher:
        broker.back.clear()
        publishing = asyncio.create_task(publisher.publish("numbers", b"1"))
        await asyncio.sleep(0)
        assert not publishing.done()
        broker.back.set()
        await publishing
        assert broker.taken == [b"1"]
        assert counts(publisher) == (1, 0, 0)


async def test_a_publish_waits_as_long_as_it_says_or_as_its_client_does_and_then_says_so() -> None:
    broker = Moody()
    async with client(broker, timeout=0.01) as publisher:
        broker.back.clear()
        with pytest.raises(Disconnected, match="away all the time"):
            await publisher.publish("numbers", b"1")
        with pytest.raises(Disconnected):
            await publisher.publish("numbers", b"2", timeout=0.02)
        with pytest.raises(NotAllPublished):
            await publisher.publish_many("numbers", [b"3"], timeout=0.03)
        assert broker.timeouts == [0.01, 0.02, 0.03]
        assert counts(publisher) == (0, 3, 0)


@pytest.mark.parametrize("error", [NotStored("the disk is full"), Unconfirmed("no answer"), MessageTooLarge("200")])
async def test_what_the_broker_says_is_passed_on_and_counted(error: TransportError) -> None:
    broker = Moody()
    async with client(broker) as publisher:
        broker.once[b"1"] = error
        with pytest.raises(type(error)) as raised:
            await publisher.publish("numbers", b"1")
        await publisher.publish("numbers", b"2")
        assert raised.value is error
        assert counts(publisher) == (1, 1, 0)


# -- many ------------------------------------------------------------------------------------------------------


async def test_many_are_published_in_order_and_counted() -> None:
    broker = Moody()
    async with client(broker) as publisher:
        await publisher.publish_many("numbers", (b"%d" % n for n in range(100)))
        await publisher.publish_many("numbers", [])
        assert broker.taken == [b"%d" % n for n in range(100)]
        assert counts(publisher) == (100, 0, 0)


async def pass_on(event: Any, context: Context, call_next: Handler) -> Any:
    return await call_next(event, context)


@pytest.mark.parametrize("middleware", [[], [pass_on]])
async def test_others_have_their_turn_while_many_are_encoded(middleware: list[Middleware]) -> None:
    turns, ended = 0, False

    async def count() -> None:
        nonlocal turns
        while not ended:
            turns += 1
            await asyncio.sleep(0)

    async with Client(Moody(), middleware=middleware) as publisher:
        counting = asyncio.create_task(count())
        await publisher.publish_many("numbers", (b"%d" % n for n in range(10 * AT_ONCE)))
        ended = True
        await counting
    assert turns >= 10


async def test_a_list_that_is_changed_while_it_is_published_is_published_as_it_was() -> None:
    broker, events = Moody(), [b"%d" % n for n in range(2 * AT_ONCE)]
    async with client(broker) as publisher:
        publishing = asyncio.create_task(publisher.publish_many("numbers", events))
        await asyncio.sleep(0)
        events.clear()
        await publishing
    assert broker.taken == [b"%d" % n for n in range(2 * AT_ONCE)]


async def test_few_that_are_published_first_come_first_though_nobody_waits_for_them() -> None:
    taken: list[bytes] = []

    class Noting(MemoryBroker):
        async def publish(self, message: Message, *, timeout: float = 10.0) -> None:
            taken.append(message.body)

        async def publish_many(self, messages: Sequence[Message], *, timeout: float = 10.0) -> None:
            taken.extend(message.body for message in messages)

    async with Client(Noting()) as publisher:
        await asyncio.gather(publisher.publish_many("numbers", [b"1", b"2"]), publisher.publish("numbers", b"3"))
    assert taken == [b"1", b"2", b"3"]


class Reading(BaseModel):
    sensor: str


async def of_a_cursor() -> AsyncIterator[Reading]:
    yield Reading(sensor="a")


@pytest.mark.parametrize(
    ("events", "kind"),
    [
        (Reading(sensor="a"), "Reading"),
        ({"sensor": "a"}, "dict"),
        ("abc", "str"),
        (None, "NoneType"),
        (of_a_cursor(), r"async_generator: write \[event async for event in \.\.\.\]"),
    ],
)
async def test_what_is_not_several_is_refused(events: Any, kind: str) -> None:
    broker = Moody()
    async with client(broker) as publisher:
        with pytest.raises(UsageError, match=f"publish_many takes a list or a generator of events, not a {kind}"):
            await publisher.publish_many(Topic("readings", Reading), events)
    assert broker.taken == []


@pytest.mark.parametrize("word", ["key", "id"])
async def test_a_function_is_no_key_or_id_of_one_event(word: str) -> None:
    async with client(Moody()) as publisher:
        with pytest.raises(UsageError, match=rf"^{word}=<function .*: for one event write the value itself"):
            await publisher.publish("numbers", b"1", **{word: lambda event: event})  # type: ignore[arg-type]


async def test_an_event_of_another_type_is_no_event_of_the_topic_though_that_has_a_key() -> None:
    async with client(Moody()) as publisher:
        with pytest.raises(EncodeError, match="Reading"):
            await publisher.publish(Topic("readings", Reading, key="sensor"), {"a": 1})  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="no key as the topic says"):
            await publisher.publish(Topic("readings", dict[str, int], key="sensor"), {"a": 1})


async def test_of_many_it_is_said_which_were_not_taken_and_why() -> None:
    broker = Moody()
    async with client(broker) as publisher:
        with pytest.raises(NotAllPublished, match=r"1 of 3 messages were not confirmed; the first is number 1: .*200"):
            await publisher.publish_many("numbers", [b"1", b"2" * 200, b"3"])
        assert broker.taken == [b"1", b"3"]
        assert counts(publisher) == (2, 1, 0)


async def test_many_carry_the_key_and_the_id_that_their_topic_says() -> None:
    topic = Topic("numbers", dict[str, int], key="key", id=lambda event: event["id"])
    sent: list[tuple[str | None, str | None]] = []

    class Noting(Moody):
        async def publish(self, message: Message, *, timeout: float = 10.0) -> None:
            sent.append((message.key, message.id))

    async with client(Noting()) as publisher:
        await publisher.publish_many(topic, [{"key": 1, "id": 7}, {"key": 2, "id": 8}])
        await publisher.publish(topic, {"key": 3, "id": 9}, key="own")
    assert sent == [("1", "7"), ("2", "8"), ("own", "9")]


# -- fail ------------------------------------------------------------------------------------------------------


async def test_while_away_a_publish_fails_at_once_if_it_is_to() -> None:
    broker = Moody()
    async with client(broker, while_away="fail") as publisher:
        await publisher.publish("numbers", b"1")
        broker.back.clear()
        with pytest.raises(Disconnected, match="memory://moody is away"):
            await publisher.publish("numbers", b"2")
        with pytest.raises(NotAllPublished) as raised:
            await publisher.publish_many("numbers", [b"3", b"4"])
        assert {number: type(error) for number, error in raised.value.failed.items()} == dict.fromkeys(
            (0, 1), Disconnected
        )
        assert counts(publisher) == (1, 3, 0)
        broker.back.set()
        await publisher.publish("numbers", b"5")
        assert broker.taken == [b"1", b"5"]


# -- buffer ----------------------------------------------------------------------------------------------------


async def test_what_is_buffered_is_sent_in_order_and_before_what_is_published_later(until: Until) -> None:
    broker = Moody()
    async with client(broker, while_away="buffer") as publisher:
        await publisher.publish("numbers", b"0")
        broker.back.clear()
        for number in range(1, 5):
            await publisher.publish("numbers", b"%d" % number)
        await publisher.publish_many("numbers", [b"5", b"6"])
        assert counts(publisher) == (1, 0, 6)
        broker.back.set()
        await publisher.publish("numbers", b"7")
        assert broker.taken == [b"0"]
        await publisher.flush()
        assert broker.taken == [b"%d" % number for number in range(8)]
        assert counts(publisher) == (8, 0, 0)
        await publisher.publish("numbers", b"8")
        assert broker.taken[-1] == b"8"


async def test_a_broker_that_turns_out_to_be_away_is_no_error_either() -> None:
    broker = Moody()
    async with client(broker, while_away="buffer") as publisher:
        broker.once = {b"1": Disconnected("just now"), b"4": Disconnected("just now")}
        await publisher.publish("numbers", b"1")
        await publisher.flush()
        await publisher.publish_many("numbers", [b"3", b"4", b"5"])
        await publisher.flush()
        assert broker.taken == [b"1", b"3", b"5", b"4"]
        assert counts(publisher) == (4, 0, 0)


@pytest.mark.parametrize("bound", [{"buffer": 2}, {"buffer_bytes": 20}])
async def test_the_buffer_is_bounded_and_what_does_not_fit_is_refused(bound: dict[str, int]) -> None:
    broker = Moody()
    bodies = [b"%010d" % number for number in range(5)]
    async with client(broker, while_away="buffer", **bound) as publisher:
        broker.back.clear()
        await publisher.publish("numbers", bodies[0])
        with pytest.raises(NotAllPublished, match=r"2 of 3 .* number 1: .*away, and the buffer is full, 2 events"):
            await publisher.publish_many("numbers", bodies[1:4])
        with pytest.raises(Disconnected, match="the buffer is full"):
            await publisher.publish("numbers", bodies[4])
        assert counts(publisher) == (0, 3, 2)
        broker.back.set()
        await publisher.flush()
        await publisher.publish("numbers", bodies[4])
        assert broker.taken == [bodies[0], bodies[1], bodies[4]]
        assert counts(publisher) == (3, 3, 0)


@pytest.mark.parametrize("kind", [NotStored, UsageError, ValueError])
async def test_a_buffered_event_that_the_broker_refuses_is_said_and_stops_none_of_the_others(
    kind: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    broker = Moody()
    broker.always[b"2"] = kind("the disk is full")
    broker.once[b"3"] = Disconnected("away once more")
    async with client(broker, while_away="buffer") as publisher:
        broker.back.clear()
        await publisher.publish_many("numbers", [b"1", b"2", b"3", b"4"])
        broker.back.set()
        await publisher.flush()
        assert broker.taken == [b"1", b"3", b"4"]
        assert counts(publisher) == (3, 1, 0)
    assert "a buffered event is lost: the disk is full" in caplog.text


async def test_a_buffered_event_that_is_not_confirmed_is_sent_again() -> None:
    broker = Moody()
    broker.once[b"1"] = Unconfirmed("it may have it or not")
    async with client(broker, while_away="buffer") as publisher:
        broker.back.clear()
        await publisher.publish("numbers", b"1")
        broker.back.set()
        await publisher.flush()
        assert broker.taken == [b"1"]
        assert counts(publisher) == (1, 0, 0)


async def test_a_flush_says_what_is_still_buffered_when_its_time_is_over() -> None:
    broker = Moody()
    async with client(broker, while_away="buffer", timeout=0.01) as publisher:
        await publisher.flush()
        broker.back.clear()
        await publisher.publish("numbers", b"1")
        with pytest.raises(Disconnected, match="away, 1 events are still buffered"):
            await publisher.flush()
        broker.back.set()


async def test_a_close_sends_what_is_buffered_if_the_broker_is_back() -> None:
    broker = Moody()
    async with client(broker, while_away="buffer") as publisher:
        broker.back.clear()
        await publisher.publish_many("numbers", [b"1", b"2"])
        broker.back.set()
    assert broker.taken == [b"1", b"2"]


async def test_a_close_says_how_many_are_lost_if_it_is_not(caplog: pytest.LogCaptureFixture) -> None:
    broker = Moody()
    async with client(broker, while_away="buffer") as publisher:
        broker.back.clear()
        await publisher.publish_many("numbers", [b"1", b"2"])
    assert "memory://moody: 2 buffered events are lost: the broker is away" in caplog.text
    assert counts(publisher) == (0, 2, 0)


async def test_a_service_publishes_by_the_same_rules() -> None:
    broker = Moody()
    async with Service("numbers", broker=broker, publishing=Publishing(while_away="fail")) as service:
        broker.back.clear()
        with pytest.raises(Disconnected):
            await service.publish("numbers", b"1")


NO_RULES: list[tuple[dict[str, Any], str]] = [
    ({"while_away": "forget"}, "while_away='forget': write 'wait', 'fail' or 'buffer'"),
    ({"timeout": 0}, "timeout=0"),
    ({"timeout": float("nan")}, "timeout=nan"),
    ({"timeout": float("inf")}, "timeout=inf"),
    ({"buffer": 1.5}, "buffer=1.5: write a whole number"),
    ({"buffer": 0}, "buffer=0"),
    ({"buffer_bytes": 0}, "buffer_bytes=0"),
]


@pytest.mark.parametrize(("words", "said"), NO_RULES, ids=[str(words) for words, _ in NO_RULES])
def test_what_cannot_be_is_refused_when_it_is_written(words: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Publishing(**words)


@pytest.mark.parametrize("timeout", [-1, 0, float("nan"), float("inf"), "1"])
async def test_a_time_to_wait_that_is_none_is_refused_and_nothing_is_sent(timeout: Any) -> None:
    broker = Moody()
    async with client(broker) as publisher:
        with pytest.raises(UsageError, match=f"timeout={timeout!r}: write seconds, more than 0"):
            await publisher.publish("numbers", b"1", timeout=timeout)
        with pytest.raises(UsageError, match=f"timeout={timeout!r}: write seconds, more than 0"):
            await publisher.publish_many("numbers", [b"1"], timeout=timeout)
    assert broker.timeouts == []


# -- keys and ids ----------------------------------------------------------------------------------------------


async def _passes_on(event: Any, context: Any, call_next: Any) -> None:
    await call_next(event, context)


@pytest.mark.parametrize("word", ["key", "id"])
async def test_a_key_or_an_id_that_is_no_text_to_send_is_refused_before_it_reaches_a_broker(word: str) -> None:
    async with Client("memory://") as client:
        await client.publish("numbers", 7, **{word: "größe"})
        with pytest.raises(UsageError, match=f"{word}: half of a surrogate pair"):
            await client.publish("numbers", 7, **{word: os.fsdecode(b"caf\xe9")})
        assert client.outgoing.confirmed == 1


@pytest.mark.parametrize("middleware", [(), (_passes_on,)], ids=["plain", "middleware"])
@pytest.mark.parametrize("topic", ["numbers", Topic("numbers", dict[str, int], key="id", id="key")], ids=repr)
async def test_several_events_take_their_keys_and_ids_from_functions(topic: Any, middleware: Any) -> None:
    sent: list[Message] = []

    class Keeps(MemoryBroker):
        async def publish_many(self, messages: Sequence[Message], *, timeout: float = 10.0) -> None:
            sent.extend(messages)

    events = [{"key": number, "id": 10 + number} for number in range(2)]
    async with Client(Keeps(), middleware=middleware) as publisher:
        await publisher.publish_many(topic, events, key=lambda event: event["key"], id=lambda event: event["id"])
        await publisher.publisher(topic).publish_many(events, key=lambda event: 7)
    assert [(message.key, message.id) for message in sent[:2]] == [("0", "10"), ("1", "11")]
    assert {message.key for message in sent[2:]} == {"7"}


@pytest.mark.parametrize("word", ["key", "id"])
async def test_one_key_or_id_for_several_events_is_refused_with_what_to_write(word: str) -> None:
    async with client(Moody()) as publisher:
        words: dict[str, Any] = {word: "order_id"}
        with pytest.raises(UsageError, match=rf"{word}='order_id': .* a function of the event, or Topic\(..., {word}="):
            await publisher.publish_many("numbers", [b"1"], **words)
