"""Peers without eventmicro: a body is the message and nothing else, so any NATS client can take part.

Runs on the server that BROKER names, or else on an embedded one.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import nullcontext

from pydantic import BaseModel

from eventmicro import Service, Topic, embedded

try:
    import nats
    from nats.aio.msg import Msg
except ModuleNotFoundError:
    sys.exit("this example needs NATS: pip install 'eventmicro[embedded]'")


class Article(BaseModel):
    sku: str


class Price(BaseModel):
    euros: float


QUOTED = Topic("pricing.quoted", Price)
WANTED = Topic("pricing.wanted", Article)

service = Service("pricing")
heard = asyncio.Event()


@service.rpc
async def quote(article: Article) -> Price:
    """Asks a peer that is plain nats-py, and tells all who listen."""
    price = await service.call("legacy.price", article, Price)
    await service.publish(QUOTED, price)
    return price


@service.subscribe(WANTED)
async def wanted(article: Article) -> None:
    print("service: somebody wants", article.sku)
    heard.set()


async def main(url: str) -> None:
    peer = await nats.connect(url)

    async def price(message: Msg) -> None:
        print("peer: asked", message.data.decode())
        await message.respond(json.dumps({"euros": 0.75}).encode())

    await peer.subscribe("legacy.price", cb=price)  # a responder for eventmicro's calls
    events = await peer.subscribe("pricing.quoted")  # a reader of its events
    await peer.flush()

    await service.start(url)
    reply = await peer.request("pricing.quote", b'{"sku": "pear"}', timeout=5)  # a caller of its endpoints
    print("peer: reply", reply.data.decode())
    event = await events.next_msg(timeout=5)
    print("peer: event", event.data.decode())
    refused = await peer.request("pricing.quote", b"{}", timeout=5)
    print("peer: refused", (refused.headers or {})["Nats-Service-Error-Code"], json.loads(refused.data)["detail"])
    await peer.publish("pricing.wanted", b'{"sku": "kiwi"}')  # a publisher of its events
    await heard.wait()
    await service.stop()
    await peer.close()


if __name__ == "__main__":
    given = os.environ.get("BROKER")
    with nullcontext(given) if given else embedded.running() as url:
        asyncio.run(main(url))
