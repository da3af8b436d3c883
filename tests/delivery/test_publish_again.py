"""The tool of docs/delivery.md that publishes dead letters again: it loses none, ends, and goes round with none."""

from __future__ import annotations

import re
import secrets
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from eventmicro import Retry, Service
from tests.delivery.bench import Bench, Until

PAGE = (Path(__file__).parents[2] / "docs" / "delivery.md").read_text()
TOOLS = [block for block in re.findall(r"```python\n(.*?)```", PAGE, re.S) if "publish_again" in block]

# What the page lets a letter that has failed again wait for, so long that no run gets it twice: a test waits less.
MINUTE = ("delay=60", "delay=4")

ORDERS = """
from pydantic import BaseModel
from eventmicro import Topic

class OrderPlaced(BaseModel):
    order_id: str

PLACED = Topic("orders.placed", OrderPlaced, key="order_id", id="order_id")
"""

pytestmark = pytest.mark.timeout_seconds(120)


class Shop:
    """A service whose subscriber fails for as long as something is wrong, and the tool of the page, under new names."""

    def __init__(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.name = f"orders-{secrets.token_hex(4)}"
        self.orders = self._module("orders", ORDERS)
        self.service = Service(self.name, broker=url)
        self.service.subscribe(self.orders.PLACED, retry=Retry(attempts=1))(self.bill)
        self.is_wrong = True
        self.attempts = 0
        self.billed: list[str] = []
        monkeypatch.setenv("EVENTMICRO_BROKER", url)
        monkeypatch.setitem(sys.modules, "orders", self.orders)

    async def bill(self, event: Any) -> None:
        self.attempts += 1
        if self.is_wrong:
            raise ValueError("no such account")
        self.billed.append(event.order_id)

    async def publish_again(self) -> None:
        """One run of the tool."""
        (source,) = TOOLS
        tool = self._module("publish_again", source)
        tool.QUIET = 3.0
        await tool.main()

    def _module(self, name: str, source: str) -> ModuleType:
        """A module whose subjects no other test has."""
        module: Any = ModuleType(name)
        for said, meant in ("orders.bill", f"{self.name}.bill"), ("orders.placed", f"{self.name}.placed"), MINUTE:
            source = source.replace(said, meant)
        exec(source, module.__dict__)
        return module


async def test_a_letter_is_published_again_once_a_run_until_it_is_handled(
    bench: Bench, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop(bench.url, monkeypatch)
    async with shop.service as service:
        for order in ("1", "2", "3"):
            await service.publish(shop.orders.PLACED, shop.orders.OrderPlaced(order_id=order))
        await until(lambda: shop.attempts == 3)
        for _ in range(2):  # nothing is mended yet: each fails once more, and is a letter again
            before = shop.attempts
            while shop.attempts == before:
                await shop.publish_again()
            assert shop.attempts <= before + 3
        shop.is_wrong = False
        while len(shop.billed) < 3:
            await shop.publish_again()
    assert sorted(shop.billed) == ["1", "2", "3"]
