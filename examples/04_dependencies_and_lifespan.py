"""Lifespan: what a service opens once. Dependencies: what a handler needs for each message."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated

from pydantic import BaseModel

from eventmicro import Context, Depends, Service

BROKER = os.environ.get("BROKER", "memory://")


class Note(BaseModel):
    text: str


class Notes(BaseModel):
    texts: list[str]


@asynccontextmanager
async def database() -> AsyncIterator[sqlite3.Connection]:
    """Opened before the first message, closed after the last one."""
    connection = sqlite3.connect(":memory:")
    connection.execute("create table notes (text)")
    print("database open")
    yield connection
    connection.close()
    print("database closed")


def transaction(context: Context) -> Iterator[sqlite3.Connection]:
    """Around each message: committed where the handler returns, rolled back where it raises."""
    with context.state as connection:  # what the lifespan yielded
        yield connection


Transaction = Annotated[sqlite3.Connection, Depends(transaction)]
service = Service("notes", broker=BROKER, lifespan=database)


@service.rpc
async def add(note: Note, database: Transaction) -> None:
    database.execute("insert into notes values (?)", [note.text])


@service.rpc
async def everything(database: Transaction) -> Notes:
    return Notes(texts=[text for (text,) in database.execute("select text from notes")])


async def main() -> None:
    async with service:
        await service.call("notes.add", Note(text="buy milk"))
        await service.call("notes.add", Note(text="write tests"))
        print("notes:", (await service.call("notes.everything", None, Notes)).texts)


if __name__ == "__main__":
    asyncio.run(main())
