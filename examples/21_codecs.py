"""One endpoint, called as JSON, as MessagePack and as JSON-RPC; and a message that is a Struct, and compressed."""

from __future__ import annotations

import asyncio
import os
import sys

from pydantic import BaseModel

from eventmicro import BadRequest, Client, Context, Service

try:
    import msgspec
except ModuleNotFoundError:
    sys.exit("this example needs msgspec: pip install 'eventmicro[msgpack]'")

BROKER = os.environ.get("BROKER", "memory://")
service = Service("thermometer", broker=BROKER)


class Fahrenheit(BaseModel):
    degrees: float
    place: str = ""


class Celsius(BaseModel):
    celsius: float


class Series(msgspec.Struct):
    numbers: list[float]


@service.rpc
async def convert(request: Fahrenheit) -> Celsius:
    return Celsius(celsius=(request.degrees - 32) / 1.8)


@service.rpc
async def count(request: Series, context: Context) -> int:
    assert context.metadata["Content-Encoding"] == "gzip"
    return len(request.numbers)


async def main() -> None:
    request = Fahrenheit(degrees=70.7)
    async with service, Client(BROKER, compression="gzip") as client:
        print("JSON       ", await client.call("thermometer.convert", request, dict[str, float]))
        # The server answers in what it is asked in.
        print("MessagePack", await client.call("thermometer.convert", request, Celsius, content_type="msgpack"))

        # What a JSON-RPC client sends and gets, in whatever language, over nothing but a connection to the broker.
        body = b'{"jsonrpc": "2.0", "id": "a", "method": "convert", "params": {"degrees": 70.7}}'
        print("JSON-RPC   ", await client.call("thermometer.convert", body, bytes, content_type="json-rpc"))
        try:
            await client.call("thermometer.convert", {"degrees": "warm"}, Celsius, content_type="json-rpc")
        except BadRequest as error:
            print("JSON-RPC   ", error.detail)

        series = Series(numbers=[0.5] * 9000)
        print("a Struct, compressed:", await client.call("thermometer.count", series, int), "numbers")


if __name__ == "__main__":
    asyncio.run(main())
