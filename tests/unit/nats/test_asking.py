"""Who is there where nothing is stored: what a registry hears, and what it remembers of those who are gone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from eventmicro_nats.registry import asking as module
from eventmicro_nats.registry.asking import NODE, SPARE, TTL, Asking

from eventmicro import heard
from eventmicro.errors import UsageError
from eventmicro.message import Delivery
from eventmicro.registry import NodeRecord, ServiceRecord


def said(node: str, ttl: str = "60") -> Delivery:
    record = ServiceRecord(name="orders", nodes=[NodeRecord(id=node)])
    return Delivery(f"{NODE}.orders", record.model_dump_json().encode(), {TTL: ttl})


async def test_who_has_died_without_a_goodbye_is_not_remembered_for_ever() -> None:
    asking = Asking(cast("Any", SimpleNamespace(url="nats://x", on_loss={})))
    asking._hear(said("stays"))
    for number in range(10 * SPARE):
        asking._hear(said(f"n{number}"))
        asking._table.remove("orders", f"n{number}")  # as its time does
    assert len(asking._told) <= SPARE + 2
    assert ("orders", "stays") in asking._told
    asking._table.remove("orders", "stays")


def test_a_record_that_is_longer_than_any_is_not_read_nor_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "MAX_ANSWER", 1000)
    asking = Asking(cast("Any", SimpleNamespace(url="nats://x", on_loss={})))
    for number in range(10):
        asking._hear(said(f"{number}" + "x" * 1000))
    assert len(asking._table.roster) == 0
    assert caplog.text.count("no more than 1000 are read") == 1
    with pytest.raises(UsageError, match="too large for this registry: 1106 bytes, over 1000"):
        asking._say(ServiceRecord(name="orders", nodes=[NodeRecord(id="x" * 1000)]), 60)


async def test_nobody_is_kept_for_longer_than_may_be_said() -> None:
    asking = Asking(cast("Any", SimpleNamespace(url="nats://x", on_loss={})))
    asking._hear(said("1", "1e300"))
    assert len(asking._table.roster) == 0


async def test_who_is_left_out_is_not_remembered_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heard, "NODES", 2)
    asking = Asking(cast("Any", SimpleNamespace(url="nats://x", on_loss={})))
    for number in range(20):
        asking._hear(said(f"n{number}"))
    assert asking._told == {("orders", "n0"), ("orders", "n1")}
    asking._table.lose()
