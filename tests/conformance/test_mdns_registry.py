"""Multicast DNS keeps the contract of the registry port."""

from __future__ import annotations

import asyncio

import pytest
from eventmicro_mdns import MdnsRegistry

from eventmicro import conformance


@pytest.mark.parametrize("case", conformance.registry_cases(), ids=str)
def test_mdns(case: conformance.RegistryCase, mdns_url: str) -> None:
    asyncio.run(case.run(lambda: MdnsRegistry(mdns_url), ttl=2))
