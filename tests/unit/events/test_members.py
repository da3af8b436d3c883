"""A handler for some of the types of a union topic: it gets those, and what is none of all is a dead letter."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from eventmicro import Batch, Context, Retry, Service, Topic
from eventmicro.errors import SignatureError

Until = Callable[[Callable[[], object]], Awaitable[None]]


class Placed(BaseModel):
    kind: Literal["placed"] = "placed"
    id: str = ""


class Paid(BaseModel):
    kind: Literal["paid"] = "paid"
    amount: int = 0


class Moved(BaseModel):
    kind: Literal["moved"] = "moved"
    to: str = ""


PLAIN: Topic[Any] = Topic("orders.events", Placed | Paid | Moved)
TAGGED: Topic[Any] = Topic("orders.events", Annotated[Placed | Paid | Moved, Field(discriminator="kind")])


@pytest.mark.parametrize("topic", [PLAIN, TAGGED])
async def test_each_gets_its_own_and_what_is_none_of_them_is_a_dead_letter_of_each(topic: Any, until: Until) -> None:
    around = list[str]()

    async def note(message: Any, context: Context, call_next: Any) -> Any:
        if context.side == "subscriber":
            around.append(f"{context.endpoint} {type(message).__name__}")
        return await call_next(message, context)

    service, seen = Service("orders", broker=f"memory://{secrets.token_hex(4)}", middleware=[note]), list[Any]()

    @service.subscribe(topic)
    async def on_placed(event: Placed) -> None:
        seen.append(event)

    @service.subscribe(topic)
    async def on_others(event: Paid | Moved) -> None:
        seen.append(event)

    letters = list[str]()

    @service.subscribe("dead.orders.*")
    async def letter(context: Context) -> None:
        letters.append(context.metadata["Dead-Letter-Queue"])

    async with service:
        for event in (Paid(amount=3), Placed(id="a"), Moved(to="b")):
            await service.publish(topic, event)
        await service.publish("orders.events", {"kind": "lost"})
        await until(lambda: len(letters) == 2)
        await until(lambda: len(seen) == 3)
        counts = {each.name: each.count for each in service.statistics().subscribers if each.name != "letter"}
    assert [each for each in seen if not isinstance(each, Placed)] == [Paid(amount=3), Moved(to="b")]
    assert [each for each in seen if isinstance(each, Placed)] == [Placed(id="a")]
    assert sorted(letters) == ["orders.on_others", "orders.on_placed"]
    assert sorted(each for each in around if not each.startswith("letter")) == [
        "on_others Moved",
        "on_others Paid",
        "on_placed Placed",
    ]
    assert counts == {"on_placed": 4, "on_others": 4}


async def test_one_that_fails_comes_again_and_those_left_alone_do_not(until: Until) -> None:
    service, seen = Service("orders", broker=f"memory://{secrets.token_hex(4)}"), list[int]()

    @service.subscribe(PLAIN, retry=Retry(attempts=3, backoff=0.001))
    async def on_paid(event: Paid, context: Context) -> None:
        seen.append(context.attempt)
        if context.attempt < 3:
            raise ValueError("not yet")

    async with service:
        await service.publish_many(PLAIN, [Placed(), Paid(), Moved()])
        await until(lambda: seen == [1, 2, 3])


class Lost(BaseModel):
    kind: Literal["lost"] = "lost"


async def lost(event: Lost) -> None: ...
async def placed_or_lost(event: Placed | Lost) -> None: ...
async def several(events: list[Placed]) -> None: ...


@pytest.mark.parametrize("handler", [lost, placed_or_lost])
def test_what_the_topic_does_not_carry_is_refused_as_ever(handler: Any) -> None:
    with pytest.raises(SignatureError, match=r"takes .*, but .* carries .*write the same type in both"):
        Service("orders").subscribe(PLAIN)(handler)


def test_a_batch_takes_all_of_it() -> None:
    with pytest.raises(SignatureError, match=r"has batch=, and takes some of what .* carries: take all of it"):
        Service("orders").subscribe(PLAIN, batch=Batch(2))(several)


def test_the_record_says_what_the_topic_carries() -> None:
    service = Service("orders")

    @service.subscribe(PLAIN)
    async def on_placed(event: Placed) -> None: ...

    assert service.subscribers["on_placed"].event == PLAIN.type
    assert service.subscribers["on_placed"].some == (Placed,)
