"""What stands around the code of docs/joining/kafka.md; the first piece needs a Kafka, and is not run here."""

from typing import Annotated

from eventmicro_kafka import KafkaRecord
from eventmicro_kafka.schema_registry import SchemaRegistry
from pydantic import BaseModel

from eventmicro import Client, Depends, Service, Topic


class Order(BaseModel):
    sku: str


service = Service("shop")


async def first(client: Client) -> None:
    "docs/joining/kafka.md 1"


def second() -> None:
    "docs/joining/kafka.md 2"
    assert ORDERS.name == "shop.orders"


async def main() -> None:
    second()
