"""grpc.aio: with the same pydantic models as JSON, and with protobuf messages, which is what it is made for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from benchmarks.messages import Reading
from benchmarks.streams.peer import READINGS, Asks, Count, first, some

Write = Callable[[Any], bytes]
Read = Callable[[bytes], Any]


class GrpcAio:
    """pydantic models as JSON."""

    readings: list[Any] = READINGS

    def of_readings(self) -> tuple[Write, Read]:
        """How readings are written and read."""
        return Reading.__pydantic_serializer__.to_json, Reading.__pydantic_validator__.validate_json

    @asynccontextmanager
    async def server(self, url: str) -> AsyncIterator[None]:
        write, read = self.of_readings()
        readings = self.readings

        async def give(request: Count, context: Any) -> AsyncIterator[Any]:
            for reading in some(readings, request.number):
                yield reading

        async def take(requests: AsyncIterator[Any], context: Any) -> Count:
            number = 0
            async for _ in requests:
                number += 1
            return Count(number=number)

        async def one(request: Any, context: Any) -> Any:
            return request

        handlers = {
            "give": grpc.unary_stream_rpc_method_handler(give, read_count, write),
            "take": grpc.stream_unary_rpc_method_handler(take, read, write_count),
            "one": grpc.unary_unary_rpc_method_handler(one, read, write),
        }
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("station", handlers),))
        server.add_insecure_port(url)
        await server.start()
        yield
        await server.stop(1.0)

    @asynccontextmanager
    async def client(self, url: str) -> AsyncIterator[Asks]:
        async with grpc.aio.insecure_channel(url) as channel:
            await channel.channel_ready()
            yield Asking(channel, self.readings, *self.of_readings())


class Asking:
    """The side that measures."""

    def __init__(self, channel: grpc.aio.Channel, readings: list[Any], write: Write, read: Read) -> None:
        self._give = channel.unary_stream("/station/give", write_count, read)
        self._take = channel.stream_unary("/station/take", write, read_count)
        self._one = channel.unary_unary("/station/one", write, read)
        self._readings = readings

    def read(self, count: int) -> AsyncIterator[Any]:
        return aiter(self._give(Count(number=count)))

    async def write(self, count: int) -> int:
        taking = self._take()
        for reading in some(self._readings, count):
            await taking.write(reading)
        await taking.done_writing()
        return int((await taking).number)

    async def call(self) -> Any:
        return await self._one(self._readings[0])


def write_count(count: Count) -> bytes:
    return count.model_dump_json().encode()


def read_count(body: bytes) -> Count:
    return Count.model_validate_json(body)


class GrpcAioProtobuf(GrpcAio):
    """Protobuf messages with the fields of the same readings."""

    def __init__(self) -> None:
        self._kind = make_kind()
        self.readings = [self._kind(**reading.model_dump()) for reading in READINGS]

    def of_readings(self) -> tuple[Write, Read]:
        return self._kind.SerializeToString, self._kind.FromString


def make_kind() -> Any:
    """The class of a protobuf message with the fields of a Reading."""
    field = descriptor_pb2.FieldDescriptorProto
    types = {int: field.TYPE_INT64, str: field.TYPE_STRING, float: field.TYPE_DOUBLE}
    file = descriptor_pb2.FileDescriptorProto(name="reading.proto", package="bench", syntax="proto3")
    message = file.message_type.add(name="Reading")
    for number, name in enumerate(Reading.model_fields, 1):
        value = getattr(first(), name)
        repeated = isinstance(value, list)
        kind = types[type(value[0] if repeated else value)]
        label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
        message.field.add(name=name, number=number, type=kind, label=label)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)  # type: ignore[no-untyped-call]
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("bench.Reading"))
