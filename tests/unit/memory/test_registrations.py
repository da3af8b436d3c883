"""What a watcher is told that is slower than what happens."""

from __future__ import annotations

import asyncio

import pytest

from eventmicro import registrations
from eventmicro.registrations import Registrations
from eventmicro.registry import NodeRecord, ServiceRecord


def record(node: int) -> ServiceRecord:
    return ServiceRecord(name="orders", nodes=[NodeRecord(id=str(node))])


async def test_more_nodes_than_may_wait_are_told_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registrations, "WAITING", 5)
    table = Registrations()
    for node in range(20):
        table.register(record(node), 60)
    changes = table.watch(None)
    assert [(await anext(changes)).action for _ in range(21)] == ["create"] * 20 + ["synced"]
    for node in range(20):
        table.remove("orders", str(node))
        table.register(record(node + 100), 60)
    told = [await anext(changes) for _ in range(41)]
    assert [change.action for change in told] == ["delete"] * 20 + ["create"] * 20 + ["synced"]
    await changes.aclose()
    table.lose()


async def test_nobody_ends_while_nothing_is_heard() -> None:
    table = Registrations()
    table.register(record(1), 0.01)
    table.lose()
    changes = table.watch("orders")
    assert (await anext(changes)).action == "lost"
    await asyncio.sleep(0.03)
    assert len(table.roster) == 1
    table.restore()
    assert [(await anext(changes)).action for _ in range(3)] == ["create", "synced", "delete"]
    await changes.aclose()
