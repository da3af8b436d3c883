"""The books of all services, and whether they balance: nothing is lost, and nothing was done twice."""

from __future__ import annotations

from pydantic import BaseModel

from eventmicro import Client
from examples.shop.models import Article, Sent
from examples.shop.stock import ARTICLES


class Books(BaseModel):
    """What each service has noted."""

    outcomes: dict[str, int]
    shelves: dict[str, Article]
    taken: int
    sent: Sent
    mails: int

    def wrong(self, orders: int, reachable: int) -> list[str]:
        """What does not balance, for so many orders, of which so many had an address."""
        left_shelves = sum((ARTICLES[sku].pieces - left.pieces) * left.grams for sku, left in self.shelves.items())
        pairs = {
            "orders placed, and ended": (orders, sum(self.outcomes.values()) - self.outcomes.get("open", 0)),
            "orders shipped, and parcels": (self.outcomes.get("Shipped", 0), self.sent.parcels),
            "cents taken, and sent in goods": (self.taken, self.sent.cents),
            "grams taken from the shelves, and sent": (left_shelves, self.sent.grams),
            "orders ended, and mails": (reachable, self.mails),
        }
        return [f"{what}: {one} and {other}" for what, (one, other) in pairs.items() if one != other]


async def read_books(client: Client) -> Books:
    return Books(
        outcomes=await client.call("orders.outcomes", None, dict[str, int]),
        shelves=await client.call("stock.articles", None, dict[str, Article]),
        taken=await client.call("cards.taken", None, int),
        sent=await client.call("shipping.sent", None, Sent),
        mails=await client.call("mail.written", None, int),
    )
