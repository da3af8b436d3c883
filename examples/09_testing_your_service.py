"""Testing: the memory broker is a real broker, so a test runs the real service, in milliseconds, without a server.

pytest examples/09_testing_your_service.py
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated

import pytest
from pydantic import BaseModel

from eventmicro import BadRequest, Client, Depends, Service, Topic

# -- the service, as it would stand in a module of its own -----------------------------------------------------------


class Payment(BaseModel):
    order_id: str
    amount: float


class Receipt(BaseModel):
    number: str


class Bank:
    async def charge(self, amount: float) -> str:
        raise NotImplementedError("the real one moves real money")


PAID = Topic("payments.paid", Payment)
service = Service("payments")


def bank() -> Bank:
    return Bank()


@service.rpc
async def pay(payment: Payment, bank: Annotated[Bank, Depends(bank)]) -> Receipt:
    number = await bank.charge(payment.amount)
    await service.publish(PAID, payment)
    return Receipt(number=number)


# -- its tests -------------------------------------------------------------------------------------------------------


class FakeBank(Bank):
    def __init__(self) -> None:
        self.charged: list[float] = []

    async def charge(self, amount: float) -> str:
        self.charged.append(amount)
        return f"R{len(self.charged)}"


@pytest.fixture
def fake() -> Iterator[FakeBank]:
    """A bank that moves no money, in the place of the real one for the length of a test."""
    fake = FakeBank()
    with service.override(bank, by=lambda: fake):
        yield fake


@asynccontextmanager
async def running(*services: Service) -> AsyncIterator[Client]:
    """The services on a broker in memory, and a client of them; they are stopped again, also where a test fails."""
    async with AsyncExitStack() as stack:
        for each in services:
            await each.start("memory://")
            stack.push_async_callback(each.stop)
        yield await stack.enter_async_context(Client("memory://"))


def test_a_payment_is_charged_once_and_announced(fake: FakeBank) -> None:
    async def scenario() -> None:
        listener = Service("listener")
        announced: list[Payment] = []

        @listener.subscribe(PAID)
        async def listen(event: Payment) -> None:
            announced.append(event)

        payment = Payment(order_id="7", amount=9.5)
        async with running(service, listener) as client:
            receipt = await client.call("payments.pay", payment, Receipt)
        assert receipt.number == "R1"
        assert fake.charged == [9.5]
        assert announced == [payment]  # a stopped service has finished what had arrived: nothing to wait for

    asyncio.run(scenario())


def test_a_payment_without_amount_is_refused() -> None:
    async def scenario() -> None:
        async with running(service) as client:
            with pytest.raises(BadRequest) as refused:
                await client.call("payments.pay", {"order_id": "7"}, Receipt)
        assert refused.value.errors[0]["loc"] == ["amount"]

    asyncio.run(scenario())


def test_a_handler_is_still_a_function() -> None:
    with pytest.raises(NotImplementedError):
        asyncio.run(pay(Payment(order_id="7", amount=9.5), Bank()))


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-q"]))
