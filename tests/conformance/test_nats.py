"""Core NATS keeps the contract of the broker port."""

from __future__ import annotations

import asyncio

import pytest
from eventmicro_nats import NatsBroker

from eventmicro import conformance


@pytest.mark.parametrize("case", conformance.cases(NatsBroker.capabilities), ids=str)
def test_nats(case: conformance.Case, nats_url: str) -> None:
    asyncio.run(case.run(lambda: NatsBroker(nats_url)))
