"""What travels between the services: the types, and the topics on which they travel."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field, PositiveInt

from eventmicro import Topic


class Order(BaseModel):
    """What a customer wants; the number is the customer's own, so that to order again is to order once."""

    number: str
    customer: str
    email: str
    basket: dict[str, PositiveInt] = Field(min_length=1)
    """How many pieces of what."""


class Event(BaseModel):
    """Something that has happened to an order."""

    order: Order


class Placed(Event):
    cents: int


class Reserved(Event):
    cents: int


class SoldOut(Event):
    sku: str


class Paid(Event):
    cents: int


class Declined(Event):
    """The card was refused: what was reserved goes back."""

    reason: str


class Shipped(Event):
    cents: int
    grams: int


Ended = Shipped | SoldOut | Declined


class Article(BaseModel):
    """Something that is sold: what it costs and weighs, and how many pieces are there."""

    cents: int
    grams: int
    pieces: int


class Sent(BaseModel):
    """All parcels together."""

    parcels: int
    cents: int
    grams: int


def number(event: Event) -> str:
    return event.order.number


def customer(event: Event) -> str:
    return event.order.customer


# There is one event of a kind for each order: published again it has the same id. Those of a customer keep their order.
PLACED = Topic("sales.placed", Placed, key=customer, id=number)
RESERVED = Topic("sales.reserved", Reserved, key=customer, id=number)
SOLD_OUT = Topic("sales.soldout", SoldOut, key=customer, id=number)
PAID = Topic("sales.paid", Paid, key=customer, id=number)
DECLINED = Topic("sales.declined", Declined, key=customer, id=number)
SHIPPED = Topic("sales.shipped", Shipped, key=customer, id=number)
ENDED: list[Topic[Any]] = [SHIPPED, SOLD_OUT, DECLINED]
