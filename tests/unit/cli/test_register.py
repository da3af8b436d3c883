"""`eventmicro register --keep` while the registry comes and goes."""

from __future__ import annotations

import asyncio

import pytest

from eventmicro.cli import register
from eventmicro.errors import Disconnected
from eventmicro.memory.registry import MemoryRegistry
from eventmicro.registry import NodeRecord, ServiceRecord


async def test_a_registry_that_was_away_is_told_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    registry, again, tries = MemoryRegistry("memory://kept"), asyncio.Event(), 0
    await registry.connect()
    kept = registry.register

    async def comes_back(service: ServiceRecord, *, ttl: float) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise Disconnected("away\x1b[31m")
        await kept(service, ttl=ttl)
        again.set()

    monkeypatch.setattr(registry, "register", comes_back)
    legacy = ServiceRecord(name="legacy", nodes=[NodeRecord(id="one", address="legacy.one")])
    renewing = asyncio.create_task(register._renew(registry, legacy, 0.03))
    await again.wait()
    assert [each.name for each in await registry.get_service("legacy")] == ["legacy"]
    renewing.cancel()
    await asyncio.wait([renewing])
    assert capsys.readouterr().err == "eventmicro: legacy is not renewed: away\\u001b[31m\n"
    await registry.close()
