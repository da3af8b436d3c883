"""NATS keeps the contract of the registry port: with JetStream in a bucket, without it by asking."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

import pytest
from eventmicro_nats import JetStreamBroker, NatsBroker
from eventmicro_nats.registry import NatsRegistry

from eventmicro import conformance
from eventmicro.errors import ConnectionFailed, Unavailable
from tests.conformance.servers import Restartable
from tests.servers import NatsServer

CASES = conformance.registry_cases(restartable=True)
STAYING = [case for case in CASES if not case.restarts]
RESTARTING = [case for case in CASES if case.restarts]


@pytest.mark.parametrize("case", STAYING, ids=str)
def test_a_bucket(case: conformance.RegistryCase, jetstream_url: str) -> None:
    url = f"{jetstream_url.replace('jetstream', 'nats')}?registry_bucket=conformance-{secrets.token_hex(4)}"
    asyncio.run(case.run(lambda: NatsRegistry(url), ttl=1))


@pytest.mark.parametrize("case", STAYING, ids=str)
def test_without_jetstream(case: conformance.RegistryCase, nats_url: str) -> None:
    asyncio.run(case.run(lambda: NatsRegistry(nats_url), ttl=0.5))


@pytest.mark.parametrize("case", RESTARTING, ids=str)
@pytest.mark.parametrize("kept", ["file", "memory", "nothing"])
def test_a_server_that_is_ended(case: conformance.RegistryCase, kept: str) -> None:
    with Restartable(NatsServer(jetstream=kept != "nothing")) as restartable:
        url = f"{restartable.server.url}?connect_timeout=1"
        if kept != "nothing":
            url += f"&registry_storage={kept}"
        asyncio.run(case.run(lambda: NatsRegistry(url), ttl=1, server=restartable))


class OverBroker(NatsRegistry):
    """A registry over a broker, which is connected and closed with it."""

    async def connect(self) -> None:
        try:
            await self._broker.connect()
        except ConnectionFailed as error:
            raise Unavailable(str(error)) from error
        await super().connect()

    async def close(self) -> None:
        await super().close()
        await self._broker.close()


@pytest.mark.parametrize("make", [NatsBroker, JetStreamBroker])
@pytest.mark.parametrize("case", RESTARTING, ids=str)
def test_over_the_connection_of_a_broker(case: conformance.RegistryCase, make: Callable[[str], NatsBroker]) -> None:
    with Restartable(NatsServer(jetstream=True)) as restartable:
        scheme = "jetstream" if make is JetStreamBroker else "nats"
        url = f"{scheme}://127.0.0.1:{restartable.server.port}?connect_timeout=1"
        asyncio.run(case.run(lambda: OverBroker(make(url)), ttl=1, server=restartable))
