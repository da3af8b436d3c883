"""The first service; it calls itself. To serve it to everybody: `eventmicro run examples/01_hello.py`."""

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
    print((await service.call("greeter.hello", Hello(name="world"), Greeting)).text)
    await service.stop()


if __name__ == "__main__":
    asyncio.run(main())
