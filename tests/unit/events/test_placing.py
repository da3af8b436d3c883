"""Exchanges and queues that only a broker of their kind knows: every other one refuses them, by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest

from eventmicro.broker import HasPlaces
from eventmicro.client import Client
from eventmicro.errors import Unsupported, UsageError
from eventmicro.events.options import DeliveryOptions
from eventmicro.memory import MemoryBroker
from eventmicro.message import Message, Routed
from eventmicro.places import Exchange, Place, Queue
from eventmicro.service import Service
from eventmicro.topic import Topic


@dataclass(frozen=True)
class Shelf(Exchange):
    product: ClassVar[str] = "Warehouse"
    name: str = "shelf"


@dataclass(frozen=True)
class Box(Queue):
    product: ClassVar[str] = "Warehouse"
    name: str = "box"


@dataclass
class Seen:
    """What a broker that knows them was told."""

    subscribed: list[dict[str, Any]] = field(default_factory=list)
    published: list[Message] = field(default_factory=list)


class Warehouse(MemoryBroker):
    """A broker that knows them."""

    places: tuple[type[Place], ...] = (Shelf, Box)

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self._seen = seen

    async def subscribe(self, subject: str, receive: Any, **options: Any) -> Any:
        places = {word: options.pop(word) for word in ("exchange", "place") if word in options}
        self._seen.subscribed.append(places)
        return await super().subscribe(subject, receive, **options)

    def try_publish(self, message: Message) -> bool:
        self._seen.published.append(message)
        return super().try_publish(message)


PLACED = Topic("placed", int, exchange=Shelf())


@pytest.mark.parametrize(
    ("topic", "options", "named"),
    [
        (PLACED, {}, r"Shelf\('shelf'\) is for Warehouse, and memory:\S* knows no such thing"),
        ("placed", {"exchange": Shelf()}, r"Shelf\('shelf'\)"),
        ("placed", {"queue": Box()}, r"Box\('box'\) is for Warehouse.*leave it out, or connect to Warehouse"),
        (PLACED, {"queue": None}, r"Shelf\('shelf'\)"),
    ],
)
async def test_a_service_on_another_broker_does_not_start(topic: Any, options: dict[str, Any], named: str) -> None:
    service = Service("orders", broker="memory://")

    @service.subscribe(topic, **options)
    async def bill(event: int) -> None: ...

    with pytest.raises(Unsupported, match=f"orders.bill: {named}"):
        await service.start()


async def test_a_client_on_another_broker_publishes_nothing() -> None:
    async with Client("memory://") as client:
        with pytest.raises(Unsupported, match=r"placed: Shelf\('shelf'\) is for Warehouse"):
            await client.publish(PLACED, 1)
        with pytest.raises(Unsupported, match="Shelf"):
            await client.publish_many(PLACED, [1, 2])
        with pytest.raises(Unsupported, match="Shelf"):
            await client.publisher(PLACED).publish(1)


async def test_a_broker_that_knows_them_gets_them_unread() -> None:
    seen = Seen()
    broker = Warehouse(seen)
    assert isinstance(broker, HasPlaces)
    service = Service("orders", broker=broker)
    got: list[int] = []

    @service.subscribe(PLACED, queue=Box())
    async def bill(event: int) -> None:
        got.append(event)

    @service.subscribe("other")
    async def see(event: int) -> None: ...

    async with service:
        await service.publish(PLACED, 1, key="k", id="i")
        await service.publish_many(PLACED, [2, 3])
        await service.publish("placed", 4)
    assert seen.subscribed[:2] == [{"exchange": Shelf(), "place": Box()}, {}]
    routed = seen.published[0]
    assert isinstance(routed, Routed)
    assert (routed.exchange, routed.key, routed.id, routed.body) == (Shelf(), "k", "i", b"1")
    assert type(seen.published[-1]) is Message


def test_the_queue_of_a_box_has_its_name() -> None:
    options = DeliveryOptions(queue=Box(), exchange=Shelf())
    assert (options.queue_name, options.dead_letter_subject()) == ("box", "dead.box")
    assert options.places() == {"exchange": Shelf(), "place": Box()}


def test_what_is_no_place_is_refused_where_it_is_written() -> None:
    with pytest.raises(UsageError, match="an exchange of the broker's own"):
        Topic("placed", int, exchange="shelf")  # type: ignore[call-overload]
    with pytest.raises(UsageError, match="an exchange of the broker's own"):
        DeliveryOptions(exchange="shelf")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="large and exchange do not go together"):
        Topic("placed", int, exchange=Shelf(), large="object")
