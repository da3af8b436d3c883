"""A chat over bidirectional streams: whoever has one open is in the room, and hears all that is said there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from pydantic import BaseModel

from eventmicro import Client, Context, Service

BROKER = os.environ.get("BROKER", "memory://")


class Line(BaseModel):
    text: str
    by: str = ""


service = Service("chat", broker=BROKER)
room: dict[str, asyncio.Queue[Line | None]] = {}
somebody_is_there = asyncio.Event()


@service.rpc
async def talk(lines: AsyncIterator[Line], context: Context) -> AsyncIterator[Line]:
    """What one says goes to all who are in the room; what all say comes back here."""
    name = context.metadata["name"]
    heard = room[name] = asyncio.Queue[Line | None]()
    somebody_is_there.set()
    tell_all(Line(text=f"{name} comes in, so we are {len(room)}"))

    async def listen() -> None:
        async for line in lines:
            tell_all(Line(text=line.text, by=name))
        heard.put_nowait(None)  # that was the last word

    listening = asyncio.create_task(listen())
    try:
        while (line := await heard.get()) is not None:
            yield line
    finally:
        listening.cancel()
        del room[name]
        tell_all(Line(text=f"{name} has left"))


def tell_all(line: Line) -> None:
    for heard in room.values():
        heard.put_nowait(line)


async def person(name: str, says: dict[str, str], hears: str) -> None:
    """Join, answer what one is told, and leave at a certain line."""
    async with Client(BROKER) as client, client.stream("chat.talk", reply=Line, metadata={"name": name}) as talking:
        async for line in talking:
            print(f"{name} hears {line.by or 'the room'}: {line.text}")
            if line.text in says:
                await talking.send(Line(text=says[line.text]))
            if line.text == hears:
                break


async def main() -> None:
    async with service:
        ann = asyncio.create_task(person("ann", {"bob comes in, so we are 2": "hello bob"}, "bob has left"))
        await somebody_is_there.wait()
        await person("bob", {"hello bob": "hello ann, I cannot stay"}, "hello ann, I cannot stay")
        await ann


if __name__ == "__main__":
    asyncio.run(main())
