"""Consul keeps the contract of the registry port, also over the death of its agent, with its data and without."""

from __future__ import annotations

import asyncio

import pytest
from eventmicro_consul import ConsulRegistry

from eventmicro import conformance
from tests.conformance.servers import Restartable
from tests.servers import ConsulServer

CASES = conformance.registry_cases(restartable=True)


@pytest.mark.parametrize("case", [case for case in CASES if not case.restarts], ids=str)
def test_consul(case: conformance.RegistryCase, consul_url: str) -> None:
    asyncio.run(case.run(lambda: ConsulRegistry(f"{consul_url}?timeout=20"), ttl=1))


@pytest.mark.parametrize("case", [case for case in CASES if case.restarts], ids=str)
@pytest.mark.parametrize("keeps", [True, False], ids=["kept", "nothing-kept"])
def test_consul_that_is_ended(case: conformance.RegistryCase, keeps: bool) -> None:
    with Restartable(ConsulServer(keeps=keeps)) as restartable:
        asyncio.run(case.run(lambda: ConsulRegistry(restartable.server.url), ttl=1, server=restartable))
