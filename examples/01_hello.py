"""The first service: one endpoint, called once.

python examples/01_hello.py             in this process, without a server
eventmicro run examples/01_hello.py     the same service over NATS, for everybody to call
"""

from __future__ import annotations

import asyncio
import os

from pydantic import BaseModel

from eventmicro import Service


class Hello(BaseModel):
    name: str


class Greeting(BaseModel):
    text: str


service = Service("greeter")


@service.rpc
async def hello(request: Hello) -> Greeting:
    return Greeting(text=f"Hello, {request.name}!")


async def main() -> None:
    await service.start(os.environ.get("BROKER", "memory://"))
    reply = await service.call("greeter.hello", Hello(name="world"), Greeting)
    print(reply.text)
    await service.stop()


if __name__ == "__main__":
    asyncio.run(main())
