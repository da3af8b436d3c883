"""A contract: one class that both sides share, so that a handler that differs does not start and calls are typed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Protocol

from pydantic import BaseModel

from eventmicro import Client, Contract, Service, SignatureError, rpc

BROKER = os.environ.get("BROKER", "memory://")


class Book(BaseModel):
    title: str
    pages: int = 0


class Shelf(BaseModel):
    books: int
    pages: int


# What both sides import, in a module of its own.
class Library(Contract, Protocol, service="library", version="1.0.0"):
    """Books, and what is known of them."""

    @rpc(timeout=2.0, idempotent=True)
    async def find(self, book: Book) -> Book: ...
    def read(self, book: Book) -> AsyncIterator[str]: ...
    async def store(self, books: AsyncIterator[Book]) -> Shelf: ...


service = Service("library", version="1.1.0", broker=BROKER)


@service.implements(Library)
class LibraryHandler:
    async def find(self, book: Book) -> Book:
        return Book(title=book.title, pages=3)

    async def read(self, book: Book) -> AsyncIterator[str]:
        for page in range(1, book.pages + 1):
            yield f"page {page}"

    async def store(self, books: AsyncIterator[Book]) -> Shelf:
        shelf = Shelf(books=0, pages=0)
        async for book in books:
            shelf = Shelf(books=shelf.books + 1, pages=shelf.pages + book.pages)
        return shelf


class Forgetful:
    async def find(self, book: Book) -> Shelf:
        return Shelf(books=0, pages=0)


async def some_books() -> AsyncIterator[Book]:
    for pages in (10, 20, 30):
        yield Book(title="untitled", pages=pages)


async def main() -> None:
    async with service, Client(BROKER) as client:
        library = client.stub(Library)  # its methods are those of the contract, also for type checkers
        book = await library.find(Book(title="Moby-Dick"))
        print(book.title, "has", book.pages, "pages:", [page async for page in library.read(book)])
        print("stored:", await library.store(some_books()))
        print("at once:", (await client.stub(Library, timeout=0.5).find(book)).pages)
    try:
        Service("library", version="1.1.0").implements(Library)(Forgetful)
    except SignatureError as error:
        print(error)


if __name__ == "__main__":
    asyncio.run(main())
