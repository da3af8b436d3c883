"""The memory broker keeps the contract of the broker port."""

from __future__ import annotations

import asyncio

import pytest

from eventmicro import conformance
from eventmicro.memory import MemoryBroker


@pytest.mark.parametrize("case", conformance.cases(MemoryBroker.capabilities), ids=str)
def test_memory(case: conformance.Case) -> None:
    asyncio.run(case.run(lambda: MemoryBroker("memory://")))
