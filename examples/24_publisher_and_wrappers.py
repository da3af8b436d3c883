"""go-micro's publisher, and its wrappers, in Python: a publisher with its topic, and one function around each of the
four sides. What go-micro calls WrapHandler, WrapSubscriber, WrapClient and WrapCall is `middleware=`.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from pydantic import BaseModel

from eventmicro import Client, Context, Handler, Service, Topic, sides

BROKER = os.environ.get("BROKER", "memory://")


class News(BaseModel):
    number: int
    text: str


class Question(BaseModel):
    about: str


HEADLINES = Topic("gazette.headlines", News)
read: list[int] = []
all_read = asyncio.Event()


@sides("endpoint", "subscriber")
async def log_handler(message: Any, context: Context, call_next: Handler) -> Any:
    """A wrapper of what is handled: says so before the handler runs."""
    if not isinstance(message, News) or message.number in (1, 10):
        print(f"[{context.side.value}] {context.endpoint}")
    return await call_next(message, context)


@sides("client")
async def name_the_caller(message: Any, context: Context, call_next: Handler) -> Any:
    """A wrapper of what is called: a header that goes along."""
    context.metadata["From-Service"] = "readers"
    return await call_next(message, context)


service = Service("gazette", broker=BROKER, middleware=[log_handler])


@service.rpc
async def answer(question: Question, context: Context) -> str:
    return f"nothing new about {question.about}, {context.metadata['From-Service']}"


@service.subscribe(HEADLINES)
async def collect(news: News) -> None:
    read.append(news.number)
    if len(read) == 10:
        all_read.set()


async def main() -> None:
    async with service, Client(BROKER, middleware=[name_the_caller]) as client:
        publisher = client.publisher(HEADLINES)
        for number in range(1, 11):
            await publisher.publish(News(number=number, text=f"all the news, part {number}"))
        await all_read.wait()
        print("read:", *read)
        print(await client.call("gazette.answer", Question(about="gophers"), str))


if __name__ == "__main__":
    asyncio.run(main())
