"""Where the events of a topic go and how they travel."""

from __future__ import annotations

import asyncio
import gc
from typing import Any
from weakref import ref

import pytest

from eventmicro import Client, MemoryBroker, Topic, UsageError
from eventmicro.codec import NotReady
from eventmicro.codecs import Codecs
from eventmicro.errors import Disconnected
from eventmicro.events.routes import MOST, Routes
from eventmicro.message import Message
from eventmicro.wire import CONTENT_TYPE
from tests.unit.services import Number


def test_subjects_that_are_made_up_are_not_kept_for_ever() -> None:
    routes = Routes(Codecs())
    for number in range(2 * MOST + 10):
        assert routes.find(f"orders.{number}").address(b"").subject == f"orders.{number}"
    assert len(routes._known) <= MOST


def test_of_subjects_the_oldest_is_forgotten_and_not_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventmicro.events.routes.MOST", 3)
    routes = Routes(Codecs())
    first, *others = [routes.find(f"orders.{number}") for number in range(4)]
    assert [routes.find(f"orders.{number}") for number in (1, 2, 3)] == others
    assert routes.find("orders.0") is not first


def test_the_route_of_a_topic_is_found_once_however_many_there_are() -> None:
    routes, topics = Routes(Codecs()), [Topic(f"orders.{number}", int) for number in range(3 * MOST)]
    found = [routes.find(topic) for topic in topics]
    for number in range(2 * MOST):
        routes.find(f"quotes.{number}")
    assert all(routes.find(topic) is route for topic, route in zip(topics, found, strict=True))


@pytest.mark.parametrize("picks", [{}, {"key": "value", "id": "value"}])
def test_the_route_of_a_topic_goes_with_it(picks: dict[str, str]) -> None:
    routes = Routes(Codecs())
    for _ in range(10):
        topic = Topic("orders", Number, **picks)
        assert routes.find(topic).address(Number(value=7)).subject == "orders"
    assert len(routes._of_topics) == 1
    del topic
    assert not routes._of_topics


def test_a_topic_in_the_place_of_one_that_is_gone_has_a_route_of_its_own() -> None:
    routes = Routes(Codecs())
    for kind in (int, str, float, bool) * 25:  # an object often gets the identity of the one before
        assert routes.find(Topic("values", kind)).body(None).kind is kind


def test_routes_do_not_outlive_their_client() -> None:
    topic, routes = Topic("values", int), Routes(Codecs())
    assert routes.find(topic).body(1).kind is int
    gone = ref(routes)
    del routes
    gc.collect()
    assert gone() is None
    assert topic.name == "values"


def test_topics_of_one_name_keep_their_types() -> None:
    routes = Routes(Codecs())
    numbers, texts = Topic("values", int), Topic("values", str)
    assert routes.find(numbers).body(1).kind is int
    assert routes.find(texts).body("a").kind is str
    assert routes.find(numbers) is routes.find(numbers)


def test_on_a_plain_subject_each_event_travels_as_its_own_type_does() -> None:
    route = Routes(Codecs()).find("values")
    assert [route.pack(route.address(event), event, None).body for event in ({"a": 1}, b"raw", 2)] == [
        b'{"a":1}',
        b"raw",
        b"2",
    ]


def test_a_subject_of_a_class_that_cannot_be_hashed_is_one() -> None:
    class Name(str):
        def __eq__(self, other: object) -> bool:
            return str.__eq__(self, other)

    routes = Routes(Codecs())
    assert routes.find(Name("orders")).address(b"").subject == "orders"


def test_messages_do_not_share_their_headers() -> None:
    route = Routes(Codecs()).find("values")
    metadata = {"A": "a"}
    first, second = (route.pack(route.address(1), 1, metadata).headers for _ in range(2))
    assert first is not None
    first[CONTENT_TYPE] = "text/plain"
    assert second == metadata == {"A": "a"}


@pytest.mark.parametrize("topic", [{"not": "hashable"}, 7, None, b"orders"])
def test_what_is_no_topic_is_refused(topic: object) -> None:
    with pytest.raises(UsageError, match=f"publish to a Topic or a subject, not to a {type(topic).__name__}"):
        Routes(Codecs()).find(topic)  # type: ignore[arg-type]


@pytest.mark.parametrize("words", [{}, {"key": "value"}, {"id": "value"}])
@pytest.mark.parametrize(("labels", "label"), [(False, None), (True, "application/json")])
def test_a_broker_is_told_what_an_event_is_written_in_where_it_wants_to_know(
    words: dict[str, Any], labels: bool, label: str | None
) -> None:
    route = Routes(Codecs(), labels=labels).find(Topic("numbers", Number, **words))
    assert route.message(Number(value=7), None, None, None).content_type == label
    assert route.message(Number(value=7), "k", "i", {"A": "b"}).content_type == label


class Slow:
    """A codec that needs several things, one after the other, before it can write."""

    content_type = "application/x-slow"

    def __init__(self, needs: int, seconds: float = 0.0) -> None:
        self.left, self.seconds = needs, seconds

    def handles(self, kind: Any) -> bool:
        return kind is Number

    def encoder(self, kind: Any) -> Any:
        def encode(value: Number) -> bytes:
            if self.left:
                raise Needs(self)
            return b"%d" % value.value

        return encode

    def decoder(self, kind: Any) -> Any:
        return lambda body: Number(value=int(body))


class Needs(NotReady):
    def __init__(self, codec: Slow) -> None:
        self.codec = codec

    async def fetch(self) -> None:
        await asyncio.sleep(self.codec.seconds)
        self.codec.left -= 1


async def pass_on(event: Any, context: Any, call_next: Any) -> Any:
    return await call_next(event, context)


@pytest.mark.parametrize("middleware", [[], [pass_on]])
async def test_all_that_a_codec_needs_is_fetched_before_an_event_is_published(
    middleware: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Message] = []

    async def publish(self: MemoryBroker, message: Message, *, timeout: float) -> None:
        sent.append(message)

    monkeypatch.setattr(MemoryBroker, "publish", publish)
    monkeypatch.setattr(MemoryBroker, "try_publish", lambda self, message: False)
    async with Client("memory://routes", middleware=middleware) as client:
        for needs in (0, 1, 2, 5):
            await client.publish(Topic("numbers", Number, codec=Slow(needs)), Number(value=needs))
        assert [message.body for message in sent] == [b"0", b"1", b"2", b"5"]


@pytest.mark.parametrize("middleware", [[], [pass_on]])
async def test_what_a_codec_needs_is_waited_for_no_longer_than_the_broker(middleware: list[Any]) -> None:
    topic = Topic("numbers", Number, codec=Slow(1, seconds=3600.0))
    async with Client("memory://routes", middleware=middleware) as client:
        with pytest.raises(Disconnected, match=r"numbers: what its codec needs was not to be had within 0\.01 s"):
            await client.publish(topic, Number(value=1), timeout=0.01)
        with pytest.raises(Disconnected, match="what its codec needs"):
            await client.publish_many(topic, [Number(value=1)], timeout=0.01)


def test_a_codec_of_a_topic_takes_the_type_without_none() -> None:
    body = Codecs().body_by(Number | None, Slow(0))
    assert (body.encode(None), body.encode(Number(value=7))) == (b"", b"7")
    assert (body.decode(b""), body.decode(b"7"), body.of_nothing()) == (None, Number(value=7), None)
    with pytest.raises(UsageError, match="cannot travel"):
        Codecs().body_by(str | None, Slow(0))
