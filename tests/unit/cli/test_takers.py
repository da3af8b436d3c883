"""What a person at a shell is told of a slip: a topic that is called, a typo in one, a body that is missing."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from eventmicro import MemoryBroker, Service
from eventmicro.cli.takers import _covers
from tests.unit.cli.kit import Typed, shell_over


class Order(BaseModel):
    sku: str
    quantity: int = 1


handled: list[Order | None] = []


def orders(broker: MemoryBroker) -> Service:
    service = Service("orders", broker=broker)

    @service.rpc
    async def quote(request: Order) -> int:
        return request.quantity

    @service.rpc
    async def both(request: Order) -> int:
        return request.quantity

    @service.subscribe("orders.placed")
    async def see(event: Order) -> None:
        handled.append(event)

    @service.subscribe("orders.both")
    async def watch(event: Order) -> None: ...

    @service.subscribe("logged.*.>")
    async def log(event: Order) -> None: ...

    @service.subscribe("orders.closed")
    async def closed(event: Order | None) -> None: ...

    return service


shell = shell_over(orders)
BODY = '{"sku": "a"}'


@pytest.mark.parametrize("command", ["call", "stream"])
def test_a_topic_is_not_called_but_said_to_be_one(shell: Typed, command: str) -> None:
    handled.clear()
    code, out, err = shell(f"{command} orders.placed {BODY}")
    assert (code, out, handled) == (2, "", [])
    assert "orders.placed is no endpoint but a topic, subscribed to by orders" in err
    assert "`eventmicro publish orders.placed`" in err


def test_an_endpoint_that_a_subscriber_hears_too_is_called(shell: Typed) -> None:
    assert shell(f"call orders.both {BODY}")[0] == 0


def test_a_call_without_a_body_is_told_what_the_endpoint_takes(shell: Typed) -> None:
    code, _, err = shell("call orders.quote")
    assert code == 1
    assert "no body was given: orders.quote takes Order(sku: string, quantity?: integer)" in err
    assert "Invalid JSON" not in err


def test_publishing_a_typo_says_what_is_perhaps_meant(shell: Typed) -> None:
    code, out, err = shell(f"publish orders.plaecd {BODY}")
    assert (code, out) == (0, "")
    assert err == "eventmicro: no registered service subscribes to orders.plaecd; did you mean 'orders.placed'?\n"


def test_publishing_without_a_body_says_what_is_taken(shell: Typed) -> None:
    code, _, err = shell("publish orders.placed")
    assert code == 0
    assert err == (
        "eventmicro: no body was given: who subscribes to orders.placed takes Order(sku: string, quantity?: integer)\n"
    )


@pytest.mark.parametrize(
    "line", [f"publish orders.placed {BODY}", f"publish logged.a.b.c {BODY}", "publish orders.closed", "publish xyz"]
)
def test_what_is_taken_as_it_is_and_what_is_like_nothing_are_published_in_silence(shell: Typed, line: str) -> None:
    assert shell(line) == (0, "", "")


@pytest.mark.parametrize(
    ("pattern", "subject", "covered"),
    [
        ("a.b", "a.b", True),
        ("a.*", "a.b", True),
        ("a.>", "a.b.c", True),
        (">", "a", True),
        ("a.>", "a", False),
        ("a.*", "a.b.c", False),
        ("*.b", "a.c", False),
    ],
)
def test_a_pattern_covers_what_it_covers(pattern: str, subject: str, covered: bool) -> None:
    assert _covers(pattern, subject) is covered


def test_two_signs_do_not_follow_one_another(shell: Typed) -> None:
    err = shell(f"call ordrs.quote {BODY}")[2]
    assert "right; did you mean 'orders'?" in err
