"""A file goes up in pieces, with a bar that shows how much of it is stored; a slow disk slows the sender down."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from pydantic import BaseModel

from eventmicro import BadRequest, Client, Context, Service, Stream

BROKER = os.environ.get("BROKER", "memory://")
PIECE = 64 * 1024


class Stored(BaseModel):
    size: int
    sha256: str = ""


service = Service("attic", broker=BROKER)
folder = Path(tempfile.mkdtemp(prefix="attic-"))


@service.rpc
async def store(pieces: AsyncIterator[bytes], context: Context) -> AsyncIterator[Stored]:
    """Say after each piece how much is stored, and at the end what it is. What did not come whole is not kept."""
    name = context.metadata.get("File-Name", "")
    if not name.isidentifier():
        raise BadRequest(f"{name!r} is no name for a file here")
    part, size, digest = folder / f"{name}.part", 0, hashlib.sha256()
    try:
        with part.open("wb") as file:
            async for piece in pieces:
                await asyncio.to_thread(file.write, piece)
                digest.update(piece)
                size += len(piece)
                yield Stored(size=size)
        part.rename(folder / name)
        yield Stored(size=size, sha256=digest.hexdigest())
    finally:
        part.unlink(missing_ok=True)


async def send(upload: Stream[Stored], path: Path) -> None:
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, PIECE):
            await upload.send(piece)  # waits while the other side has a megabyte that it has not stored yet
    await upload.end()


async def upload(client: Client, path: Path, size: int) -> Stored:
    stored = Stored(size=0)
    going_up = client.stream("attic.store", reply=Stored, metadata={"File-Name": path.name})
    async with going_up, asyncio.TaskGroup() as tasks:  # where one of the two fails the other one ends
        tasks.create_task(send(going_up, path))
        async for stored in going_up:
            done = 30 * stored.size // size
            print(f"\r[{'#' * done:30}] {stored.size / 1e6:4.1f} MB", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return stored


async def main(path: Path, content: bytes) -> None:
    async with service, Client(BROKER) as client:
        stored = await upload(client, path, len(content))
        same = hashlib.sha256(content).hexdigest() == stored.sha256
        print(f"stored {stored.size} bytes, {'the same' if same else 'others'}")

        async with client.stream("attic.store", reply=Stored, metadata={"File-Name": "half_a_file"}) as going_up:
            await going_up.send(bytes(PIECE))
            print(f"stored {(await anext(going_up)).size} bytes, and then left")


if __name__ == "__main__":
    holidays = random.Random(7).randbytes(5_000_000)
    with tempfile.TemporaryDirectory() as elsewhere:
        photo = Path(elsewhere) / "photo"
        photo.write_bytes(holidays)
        asyncio.run(main(photo, holidays))
    print("kept:", sorted(each.name for each in folder.iterdir()))
    shutil.rmtree(folder)
