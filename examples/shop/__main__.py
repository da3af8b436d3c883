"""Run the shop: python -m examples.shop [--orders 1000] [--kills 5]

Without BROKER the events go over JetStream and the calls over core NATS, on an embedded server. BROKER=amqp://... or
kafka://... takes that one for the events, RPC_BROKER=nats://... for the calls.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from pathlib import Path

from eventmicro import CallRetry, CallTimeout, Client, Unavailable, embedded
from examples.shop.books import read_books
from examples.shop.models import Order, Placed

CHECKOUT = Path(__file__).parents[2]
SERVICES = ["stock", "cards", "shipping", "mail", "orders"]
STOP_TIMEOUT = 15.0  # seconds
END_TIMEOUT = 120.0  # seconds until all orders have to be ended
CUSTOMERS = 30  # who order at the same time
LEASE = 5  # seconds after which JetStream hands out again what a killed service held; 30 without a word

# What got no answer is asked again, for a minute: each endpoint of the shop is idempotent.
PATIENCE = CallRetry(attempts=100, attempt_timeout=5, backoff=0.1, budget=None, on=(CallTimeout, Unavailable))


class Process:
    """A service in a process of its own, as `python -m examples.shop.orders`; killed, it is started again."""

    def __init__(self, name: str) -> None:
        self._command = [sys.executable, "-m", f"examples.shop.{name}"]
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        settings = {"EVENTMICRO_LOG_LEVEL": "error"} | os.environ
        self._process = await asyncio.create_subprocess_exec(
            *self._command, cwd=CHECKOUT, env=settings, start_new_session=True
        )

    async def kill_and_start(self) -> None:
        assert self._process is not None
        self._process.kill()
        await self._process.wait()
        await self.start()

    async def stop(self) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_TIMEOUT)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def processes() -> AsyncIterator[list[Process]]:
    """All services, each in a process of its own."""
    async with AsyncExitStack() as undo:
        running = [Process(name) for name in SERVICES]
        for process in running:
            await process.start()
            undo.push_async_callback(process.stop)
        yield running


def wishes(count: int) -> list[Order]:
    """What the customers want, the same in each run but for the numbers; one in fifty has no address."""
    dice, run = random.Random(7), secrets.token_hex(3)
    return [wish(f"{run}-{each}", dice) for each in range(count)]


def wish(number: str, dice: random.Random) -> Order:
    customer = f"customer-{dice.randrange(200)}"
    basket = {sku: dice.randint(1, 4) for sku in dice.sample(["tea", "cup", "pot"], dice.randint(1, 3))}
    email = customer if dice.random() < 0.02 else f"{customer}@example.org"
    return Order(number=number, customer=customer, email=email, basket=basket)


async def buy(client: Client, orders: list[Order]) -> None:
    """Some customers at a time; an order that got no answer is placed again under its number."""
    waiting = iter(orders)

    async def customer() -> None:
        for order in waiting:
            await client.call("orders.place", order, Placed)

    async with asyncio.TaskGroup() as group:
        for _ in range(CUSTOMERS):
            group.create_task(customer())


async def kill_some(running: list[Process], kills: int) -> None:
    """One service after the other, by kill -9."""
    dice = random.Random(7)
    for _ in range(kills):
        await asyncio.sleep(dice.uniform(0.5, 1.0))
        await dice.choice(running).kill_and_start()


async def until_balanced(client: Client, orders: list[Order]) -> list[str]:
    """Events may be on their way still; what does not balance in the end."""
    reachable = sum("@" in order.email for order in orders)
    end = time.monotonic() + END_TIMEOUT
    while True:
        books = await read_books(client)
        wrong = books.wrong(len(orders), reachable)
        if not wrong or time.monotonic() > end:
            print(books.model_dump_json(indent=2))
            return wrong
        await asyncio.sleep(0.2)


async def main(count: int, kills: int) -> int:
    orders = wishes(count)
    async with processes() as running, Client(timeout=60, retry=PATIENCE) as client:
        await read_books(client)  # each is there, and its queues: what is published before that nobody gets
        await asyncio.gather(buy(client, orders), kill_some(running, kills))
        wrong = await until_balanced(client, orders)
    print("\n".join(wrong) or f"The books balance: {count} orders, {kills} kills, nothing lost, nothing done twice.")
    return 1 if wrong else 0


@contextmanager
def surroundings() -> Iterator[None]:
    """Say in the environment, as for any service, where the events and the calls go, and where the data is."""
    events, calls = os.environ.get("BROKER"), os.environ.get("RPC_BROKER")
    with tempfile.TemporaryDirectory(prefix="shop-") as folder:
        os.environ |= {"SHOP_DATA": folder, "EVENTMICRO_STATE_DIR": folder}
        with nullcontext("") if events and calls else embedded.running() as url:
            os.environ["EVENTMICRO_BROKER"] = events or f"{url.replace('nats://', 'jetstream://')}?ack_wait={LEASE}"
            os.environ["EVENTMICRO_RPC_BROKER"] = calls or url
            yield


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m examples.shop", description="A shop whose books have to balance.")
    parser.add_argument("--orders", type=int, default=1_000, help="how many are placed (1000)")
    parser.add_argument("--kills", type=int, default=5, help="how often a service is killed meanwhile (5)")
    options = parser.parse_args()
    with surroundings():
        sys.exit(asyncio.run(main(options.orders, options.kills)))
