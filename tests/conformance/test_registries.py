"""The registries keep the contract of the registry port."""

from __future__ import annotations

import asyncio

import pytest

from eventmicro import conformance
from eventmicro.memory.registry import MemoryRegistry


@pytest.mark.parametrize("case", conformance.registry_cases(), ids=str)
def test_memory(case: conformance.RegistryCase) -> None:
    asyncio.run(case.run(MemoryRegistry, ttl=0.2))
