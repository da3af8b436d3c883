"""Multicast DNS keeps the contract of the registry port."""

from __future__ import annotations

import asyncio

import pytest
from eventmicro_mdns import MdnsRegistry

from eventmicro import conformance


@pytest.mark.parametrize("case", conformance.registry_cases(), ids=str)
def test_mdns(case: conformance.RegistryCase) -> None:
    asyncio.run(case.run(lambda: MdnsRegistry("mdns://127.0.0.1"), ttl=2))
