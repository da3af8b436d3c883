"""eventmicro with other messages: pydantic's in MessagePack, msgspec's Structs, protobuf's.

The messages are made before the calls, as those of the others are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from benchmarks.messages import ENDPOINT, Receipt, orders
from benchmarks.nats.eventmicro import EventMicro
from benchmarks.peer import Call
from eventmicro import Client, Service


class Msgpack(EventMicro):
    """The usual messages, written as MessagePack."""

    @asynccontextmanager
    async def client(self, url: str) -> AsyncIterator[Call]:
        async with Client(url, content_type="msgpack") as client:
            yield lambda order: client.call(ENDPOINT, order, Receipt)


class StructOrder(msgspec.Struct):
    id: int
    customer: str
    sku: str
    quantity: int
    unit_price: float


class StructReceipt(msgspec.Struct):
    id: int
    status: str


class Structs(EventMicro):
    """Structs, written as JSON."""

    order: Any = StructOrder
    receipt: Any = StructReceipt
    content_type: str | None = None

    @asynccontextmanager
    async def client(self, url: str) -> AsyncIterator[Call]:
        made = {order.id: self.order(**order.model_dump()) for order in orders()}
        async with Client(url, content_type=self.content_type) as client:
            yield lambda order: client.call(ENDPOINT, made[order.id], self.receipt)

    def serve(self, service: Service) -> None:
        async def place(order: Any) -> Any:
            return self.receipt(id=order.id, status="accepted")

        place.__annotations__ = {"order": self.order, "return": self.receipt}
        service.rpc(place)


class MsgpackStructs(Structs):
    """Structs, written as MessagePack."""

    content_type = "msgpack"


def protobuf_messages() -> tuple[Any, Any]:
    """The classes that `protoc` would generate, made here."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="bench.proto", package="bench", syntax="proto3")
    fields = {
        "Order": {"id": 3, "customer": 9, "sku": 9, "quantity": 5, "unit_price": 1},
        "Receipt": {"id": 3, "status": 9},
    }
    for name, types in fields.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(types.items(), start=1):
            message.field.add(name=field, number=number, type=kind, label=kinds.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    order, receipt = (message_factory.GetMessageClass(pool.FindMessageTypeByName(f"bench.{n}")) for n in fields)
    return order, receipt


class Protobuf(Structs):
    """Protobuf messages, in their own format."""

    order, receipt = protobuf_messages()
