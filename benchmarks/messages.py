"""The messages that every variant sends, and the user's own code around them: the same for all."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import BaseModel

ENDPOINT = "orders.place"
READINGS = "readings"
PROGRESS = "progress"

# The subscriber says how far it is after this many events; the publisher is never further ahead than the window.
STEP = 512
WINDOW = 8_192
# Of how many events, from the first on, the order is checked.
ORDERED = 2_048
# How many different messages there are; more than are ever on their way at once, so no two of those are equal.
VARIETY = 16_384


class Order(BaseModel):
    """A request: 106 bytes of JSON."""

    id: int
    customer: str
    sku: str
    quantity: int
    unit_price: float


class Receipt(BaseModel):
    """A reply."""

    id: int
    status: str


class Reading(BaseModel):
    """An event: 204 bytes of JSON."""

    number: int
    sensor: str
    site: str
    taken_at: str
    temperature: float
    humidity: float
    tags: list[str]


class Progress(BaseModel):
    """How many events the subscriber has received."""

    received: int


def accept(order: Order) -> Receipt:
    """What the endpoint does."""
    return Receipt(id=order.id, status="accepted")


class Tally:
    """What the subscriber does: count the events and look at the order of the first ones."""

    def __init__(self) -> None:
        self.received = 0
        self.misplaced = 0

    def count(self, reading: Reading) -> Progress | None:
        """Count one; what is to be reported to the publisher, after each `STEP` of them."""
        if self.received < ORDERED and reading.number % VARIETY != self.received:
            self.misplaced += 1
        self.received += 1
        return None if self.received % STEP else Progress(received=self.received)


class Backlog:
    """What is taken from a durable queue: how many readings, and whether it was each of them once, by their sum.

    Args:
        moments: what is called when so many were taken.
    """

    def __init__(self, moments: dict[int, Callable[[], None]]) -> None:
        self.received = 0
        self.numbers = 0
        self._moments = moments

    def take(self, reading: Reading) -> None:
        """Take one."""
        self.received += 1
        self.numbers += reading.number
        if self.received in self._moments:
            self._moments[self.received]()


def orders() -> list[Order]:
    """Orders with ids of their own."""
    return [
        Order(id=1_000_000 + n, customer="customer-00042-berlin", sku="SKU-1234567-BLUE", quantity=3, unit_price=19.99)
        for n in range(VARIETY)
    ]


def readings() -> list[Reading]:
    """Readings, numbered from 100000 * VARIETY on, so that all are equally long."""
    return [
        Reading(
            number=100_000 * VARIETY + n,
            sensor="sensor-0042-north-a",
            site="plant-7/hall-3/line-12/oven-4",
            taken_at="2025-01-01T12:00:00.000Z",
            temperature=21.53,
            humidity=0.4711,
            tags=["outdoor", "calibrated", "v2"],
        )
        for n in range(VARIETY)
    ]
