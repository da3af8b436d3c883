"""How much is kept of what others say of who is there: who is known goes on, and who comes beyond is left out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from eventmicro import heard, registrations
from eventmicro.heard import Heard
from eventmicro.registrations import Registrations
from eventmicro.registry import EndpointRecord, NodeRecord, ServiceRecord
from eventmicro.testing.clock import hold, let_go

TTL = 1e6


def record(node: str, name: str = "orders", version: str = "", note: str = "", length: int = 0) -> ServiceRecord:
    endpoints = [EndpointRecord(name="quote", metadata={"about": "x" * length})] if length else []
    return ServiceRecord(
        name=name, version=version, endpoints=endpoints, nodes=[NodeRecord(id=node, metadata={"note": note})]
    )


def nodes(table: Registrations) -> set[str]:
    return {node.id for record in table.roster.all() for node in record.nodes}


@asynccontextmanager
async def listening() -> AsyncIterator[Registrations]:
    """A table over a clock, so that silence costs nothing."""
    clock = hold()
    table = Registrations("nats://x")
    try:
        yield table
    finally:
        table.lose()
        let_go(clock)


async def test_nodes_beyond_those_that_are_kept_are_left_out_and_known_ones_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(heard, "NODES", 3)
    async with listening() as table:
        assert all(table.hear(record(f"honest{n}"), TTL) for n in range(3))
        for number in range(100):
            assert not table.hear(record(f"flood{number}", f"of{number}"), TTL)
            assert all(table.hear(record(f"honest{n}"), TTL) for n in range(3))
        assert nodes(table) == {"honest0", "honest1", "honest2"}
        (said,) = caplog.records
        assert "registry nats://x: node flood0 of of0 is left out" in said.getMessage()
        table.remove("orders", "honest0")
        assert table.hear(record("new"), TTL)
        assert nodes(table) == {"honest1", "honest2", "new"}


async def test_who_is_registered_here_is_there_however_full_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heard, "NODES", 1)
    async with listening() as table:
        assert table.hear(record("1"), TTL)
        table.register(record("own"), TTL)
        assert table.hear(record("own"), TTL)  # as everybody hears it
        assert nodes(table) == {"1", "own"}


async def test_records_beyond_the_bytes_that_are_kept_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heard, "BYTES", 10_000)
    async with listening() as table:
        kept = [table.hear(record(f"{n}", version=f"{n}", length=3000), TTL) for n in range(10)]
        assert kept == [True] * 4 + [False] * 6
        assert table.hear(record("0", version="0", length=3000), TTL)
        assert table.hear(record("0", version="0", length=9000), TTL)  # it is there, as it was
        assert table.roster.node("orders", "0") == record("0", version="0", length=3000)
        table.remove("orders", "0")
        assert table.hear(record("1", version="1", length=9000), TTL)
        assert table.roster.node("orders", "1") == record("1", version="1", length=9000)


async def test_what_nodes_of_a_version_share_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heard, "BYTES", 10_000)
    async with listening() as table:
        assert all(table.hear(record(f"{n}", length=3000), TTL) for n in range(50))
        table.remove("orders", "0")  # who brought it
        assert table.hear(record("new", length=3000), TTL)
        assert table.hear(record("large", note="x" * 20_000), TTL)  # the last for which there was room
        assert not table.hear(record("beyond", length=3000), TTL)


async def test_a_single_flood_keeps_nobody_out_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was not heard of for a while makes room, whatever time it has said; who goes on stays."""
    monkeypatch.setattr(heard, "NODES", 5)
    async with listening() as table:
        table.hear(record("honest"), TTL)
        for number in range(10):
            table.hear(record(f"flood{number}"), TTL)
        assert len(nodes(table)) == 5
        for _ in range(2):
            await asyncio.sleep(registrations.SILENCE * 0.6)
            assert table.hear(record("honest"), TTL)
        assert all(table.hear(record(f"new{n}"), TTL) for n in range(4))
        assert nodes(table) == {"honest", "new0", "new1", "new2", "new3"}
        assert not table.hear(record("beyond"), TTL)


async def test_nobody_is_forgotten_while_there_is_room() -> None:
    async with listening() as table:
        table.hear(record("silent"), TTL)
        await asyncio.sleep(registrations.SILENCE * 2)
        table.hear(record("new"), TTL)
        assert nodes(table) == {"silent", "new"}


def test_what_is_weighed_is_weighed_out_again() -> None:
    kept, shared = Heard(), record("1", length=100)
    kept.put(("orders", "1"), shared)
    kept.put(("orders", "2"), shared.of_node(NodeRecord(id="2")))
    both = kept.size
    kept.put(("orders", "2"), shared.of_node(NodeRecord(id="2")))
    assert (kept.size, len(kept)) == (both, 2)
    kept.remove(("orders", "1"))
    assert both > kept.size > 100
    kept.put(("orders", "2"), record("2"))
    kept.remove(("orders", "2"))
    kept.remove(("orders", "2"))
    assert (kept.size, len(kept)) == (0, 0)
