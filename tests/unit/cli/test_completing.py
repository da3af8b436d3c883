"""What may follow in a line of the shell: commands, options, names of what is there, fields, replies."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from pydantic import BaseModel

from eventmicro import MemoryBroker, Service
from eventmicro.cli.shell.completing import LineCompleter
from tests.unit.cli.kit import Typed, shell_over


class Address(BaseModel):
    street: str
    city: str | None = None


class Line(BaseModel):
    sku: str


class Order(BaseModel):
    id: int
    address: Address | None = None
    lines: list[Line] = []


def orders(broker: MemoryBroker) -> Service:
    service = Service("orders", broker=broker)

    @service.rpc
    async def place(request: Order) -> Order:
        return request

    @service.rpc
    async def watch() -> AsyncIterator[int]:
        yield 1

    @service.subscribe("orders.placed")
    async def placed(event: Order) -> None: ...

    return service


shell = shell_over(orders)


def completed(shell: Typed, text: str) -> list[str]:
    completer = LineCompleter(shell.session, shell.lines.commands, shell.lines.own)
    found = completer.get_completions(Document(text, len(text)), CompleteEvent())
    return [each.text for each in found]


def look(shell: Typed) -> None:
    async def ask() -> None:
        shell.session.look()
        assert shell.session._asking is not None
        await shell.session._asking

    shell.session.run(ask())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cal", ["call"]),
        ("rep", ["replies"]),
        ("ru", []),
        ("call ", ["orders.place", "orders.watch"]),
        ("call orders.p", ["orders.place"]),
        ("stream ", ["orders.watch"]),
        ("describe o", ["orders"]),
        ("publish ", ["orders.placed"]),
        ("subscribe ord", ["orders.placed"]),
        ("help pub", ["publish"]),
        ("call orders.place {", ['"id": ', '"address": ', '"lines": ']),
        ('call orders.place {"', ["id", "address", "lines"]),
        ('call orders.place {"id": 1, a', ['"address": ']),
        ('call orders.place {"address": {', ['"street": ', '"city": ']),
        ('call orders.place {"address": {"street": "a, b", "c', ["city"]),
        ('call orders.place {"lines": [{"sku": "a"}, {"', ["sku"]),
        ('call orders.place {"lines": [], ', ['"id": ', '"address": ']),
        ('call orders.place {"id": "', []),
        ("publish orders.placed '{i", ['"id": ']),
        ("call orders.place --show", ["--show-metadata"]),
        ("nothing --", []),
        ("call orders.place $", ["$_", "$1"]),
        ("call orders.place $_.", ["id", "address", "lines"]),
        ("call orders.place $1.address.s", ["street"]),
        ("call orders.place $7.", []),
    ],
)
def test_what_may_follow(shell: Typed, text: str, found: list[str]) -> None:
    look(shell)
    shell('call orders.place {"id": 1, "address": {"street": "a"}}')
    assert completed(shell, text) == found


def test_nobody_waits_for_what_is_not_known_yet(shell: Typed) -> None:
    """Typing asks which services there are, and takes what was known before; it is asked again only after a while."""
    completer = LineCompleter(shell.session, shell.lines.commands, shell.lines.own)

    async def typing() -> list[str]:
        document = Document("call ord", 8)
        return [each.text async for each in completer.get_completions_async(document, CompleteEvent())]

    assert shell.session.run(typing()) == []
    first = shell.session._asking
    assert first is not None
    shell.session.run(_done(first))
    assert shell.session.run(typing()) == ["orders.place", "orders.watch"]
    assert shell.session._asking is first


async def _done(task: object) -> None:
    await task  # type: ignore[misc]
