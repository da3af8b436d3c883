"""A breaker that one watches open and close, and what callers get meanwhile: retries, a refusal, a fallback."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from eventmicro import CallRetry, Client, InternalError, Service, Unavailable
from eventmicro.middlewares import Circuit, CircuitBreaker, Fallback, in_order, only

BROKER = os.environ.get("BROKER", "memory://")

service = Service("lighthouse", broker=BROKER)
is_broken = False
runs = 0


@service.rpc(idempotent=True, timeout=2)
async def forecast(city: str) -> str:
    global runs
    runs += 1
    if is_broken:
        raise InternalError("the sensors are down")
    return f"sunny in {city}"


def watch(circuit: Circuit) -> None:
    print(f"        {circuit.name} is {circuit.state}")


def yesterday(city: str, context: Any, error: Exception) -> str:
    return f"as yesterday in {city}"


async def main() -> None:
    global is_broken
    breaker = CircuitBreaker(minimum=4, open_for=1.0, on_change=watch)
    around = in_order(breaker, only(Fallback(yesterday, on=Unavailable), "lighthouse.forecast"))
    retry = CallRetry(attempts=2, backoff=0.01)
    async with service, Client(BROKER, middleware=around, retry=retry) as client:

        async def ask() -> str:
            try:
                return await client.call("lighthouse.forecast", "Oslo", str, idempotent=True)
            except InternalError as error:
                return f"{error.detail}, {error.attempts} attempts"

        print("well   ", await ask())
        is_broken = True
        for number in range(1, 4):
            print("broken ", number, await ask())
        print("open   ", await ask())
        is_broken = False
        await asyncio.sleep(1.1)
        print("mended ", await ask())
        print("circuits", [(circuit.name, str(circuit.state)) for circuit in breaker], "runs", runs)


if __name__ == "__main__":
    asyncio.run(main())
