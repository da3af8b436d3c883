"""etcd keeps the contract of the registry port, also over the death of its server, with its data and without."""

from __future__ import annotations

import asyncio
import secrets

import pytest
from eventmicro_etcd import EtcdRegistry

from eventmicro import conformance
from tests.conformance.servers import Restartable
from tests.servers import EtcdServer

CASES = conformance.registry_cases(restartable=True)


@pytest.mark.parametrize("case", [case for case in CASES if not case.restarts], ids=str)
def test_etcd(case: conformance.RegistryCase, etcd_url: str) -> None:
    url = f"{etcd_url}?prefix=conformance-{secrets.token_hex(4)}&timeout=20"
    asyncio.run(case.run(lambda: EtcdRegistry(url), ttl=2))


@pytest.mark.parametrize("case", [case for case in CASES if case.restarts], ids=str)
@pytest.mark.parametrize("keeps", [True, False], ids=["kept", "nothing-kept"])
def test_etcd_that_is_ended(case: conformance.RegistryCase, keeps: bool) -> None:
    with Restartable(EtcdServer(keeps=keeps)) as restartable:
        asyncio.run(case.run(lambda: EtcdRegistry(restartable.server.url), ttl=2, server=restartable))
