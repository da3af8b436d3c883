"""Services of .proto files: messages and contracts by `eventmicro generate proto`, here from protobuf/health.proto and
protobuf/popular.proto; one class serves each contract, a stub calls it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator

from eventmicro import Client, Service

try:
    from protobuf.health_contracts import Health
    from protobuf.health_pb2 import CheckReply, CheckRequest
    from protobuf.popular_contracts import Popular
    from protobuf.popular_pb2 import Counted, TopReply, TopRequest, View
except ModuleNotFoundError:
    sys.exit("this example needs protobuf: pip install 'eventmicro[protobuf]'")

BROKER = os.environ.get("BROKER", "memory://")


class HealthHandler(Health):
    """By naming the contract as its base it is checked by type checkers, too."""

    def __init__(self) -> None:
        self.status = CheckReply.SERVING
        self.changed = asyncio.Condition()

    async def check(self, request: CheckRequest) -> CheckReply:
        return CheckReply(status=self.status)

    async def watch(self, request: CheckRequest) -> AsyncIterator[CheckReply]:
        while True:
            told = self.status
            yield CheckReply(status=told)
            async with self.changed:
                while self.status == told:
                    await self.changed.wait()

    async def change(self, status: CheckReply.Status) -> None:
        async with self.changed:
            self.status = status
            self.changed.notify_all()


class PopularHandler(Popular):
    def __init__(self) -> None:
        self.views: Counter[str] = Counter()

    async def top(self, request: TopRequest) -> TopReply:
        places = self.views.most_common(request.count or None)
        return TopReply(places=[TopReply.Place(title=title, views=views) for title, views in places])

    async def count(self, requests: AsyncIterator[View]) -> Counted:
        before = self.views.total()
        async for view in requests:
            self.views[view.title] += 1
        return Counted(views=self.views.total() - before)

    async def follow(self, requests: AsyncIterator[View]) -> AsyncIterator[TopReply]:
        async for view in requests:
            self.views[view.title] += 1
            yield await self.top(TopRequest(count=1))


async def views(*titles: str) -> AsyncIterator[View]:
    for title in titles:
        view = View(title=title)
        view.at.GetCurrentTime()
        yield view


def named(reply: CheckReply) -> str:
    return CheckReply.Status.Name(reply.status)


async def main() -> None:
    clinic, handler = Service("clinic", broker=BROKER), HealthHandler()
    charts = Service("charts", broker=BROKER)
    clinic.implements(Health, handler)
    charts.implements(Popular, PopularHandler())
    async with clinic, charts, Client(BROKER) as client:
        health, popular = client.stub(Health), client.stub(Popular)
        print("check:", named(await health.check(CheckRequest())))
        changes = []
        async for reply in health.watch(CheckRequest()):
            changes.append(named(reply))
            if len(changes) == 2:
                break
            await handler.change(CheckReply.NOT_SERVING)
        print("watch:", *changes)
        print("count:", (await popular.count(views("Dune", "Solaris", "Dune", "Dune"))).views)
        print("top:", [(place.title, place.views) for place in (await popular.top(TopRequest(count=2))).places])
        firsts = [top.places[0].title async for top in popular.follow(views("Solaris", "Solaris", "Solaris"))]
        print("follow:", *firsts)


if __name__ == "__main__":
    asyncio.run(main())
