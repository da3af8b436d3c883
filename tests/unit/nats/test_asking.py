"""Who is there where nothing is stored: what a registry hears, and what it remembers of those who are gone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from eventmicro_nats.registry.asking import NODE, SPARE, TTL, Asking

from eventmicro.message import Delivery
from eventmicro.registry import NodeRecord, ServiceRecord


def said(node: str) -> Delivery:
    record = ServiceRecord(name="orders", nodes=[NodeRecord(id=node)])
    return Delivery(f"{NODE}.orders", record.model_dump_json().encode(), {TTL: "60"})


async def test_who_has_died_without_a_goodbye_is_not_remembered_for_ever() -> None:
    asking = Asking(cast("Any", SimpleNamespace(url="nats://x", on_loss={})))
    asking._hear(said("stays"))
    for number in range(10 * SPARE):
        asking._hear(said(f"n{number}"))
        asking._table.remove("orders", f"n{number}")  # as its time does
    assert len(asking._told) <= SPARE + 2
    assert ("orders", "stays") in asking._told
    asking._table.remove("orders", "stays")
