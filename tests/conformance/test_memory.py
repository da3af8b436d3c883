"""The memory broker keeps the contract of the broker port."""

from __future__ import annotations

import asyncio

import pytest

from eventmicro import conformance
from eventmicro.memory import MemoryBroker


@pytest.mark.parametrize("case", conformance.cases(MemoryBroker.capabilities), ids=str)
def test_memory(case: conformance.Case) -> None:
    outcome = asyncio.run(case.run(lambda: MemoryBroker("memory://")))
    assert outcome.duplicates == 0


def test_what_memory_declares_is_proved() -> None:
    assert conformance.unproved(MemoryBroker.capabilities) == []
