"""Order by key: the events of one order come one after the other, also across a retry; those of others meanwhile."""

from __future__ import annotations

import asyncio
import os

from pydantic import BaseModel

from eventmicro import Context, Retry, Service, Topic

BROKER = os.environ.get("BROKER", "memory://")


class Step(BaseModel):
    order: str
    what: str


STEPS = Topic("tracker.steps", Step, key="order")  # the key: Kafka keeps the events of one order in one partition

service = Service("tracker", broker=BROKER)
seen: dict[str, list[str]] = {}
done = asyncio.Event()


@service.subscribe(STEPS, order_by="order", concurrency=8, retry=Retry(backoff=0.05))
async def track(step: Step, context: Context) -> None:
    await asyncio.sleep(0.01)
    if step.what == "packed" and context.attempt == 1:
        raise TimeoutError("the warehouse does not answer")
    seen.setdefault(step.order, []).append(step.what)
    if sum(map(len, seen.values())) == 15:
        done.set()


async def main() -> None:
    async with service:
        for what in ("placed", "packed", "sent"):
            for order in "abcde":
                await service.publish(STEPS, Step(order=order, what=what))
        await done.wait()
    for order in sorted(seen):
        print(order, *seen[order])


if __name__ == "__main__":
    asyncio.run(main())
