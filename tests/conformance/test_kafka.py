"""Kafka keeps the contract of the broker port, also over the death of its server."""

from __future__ import annotations

import asyncio

import pytest
from eventmicro_kafka import KafkaBroker

from eventmicro import conformance
from tests.servers import KafkaServer

CASES = conformance.cases(KafkaBroker.capabilities, restartable=True)


class Restartable:
    """The server as a case ends it and starts it."""

    def __init__(self, server: KafkaServer) -> None:
        self._server = server

    async def start(self) -> None:
        await asyncio.to_thread(self._server.start)

    async def stop(self) -> None:
        await asyncio.to_thread(self._server.stop)

    async def kill(self) -> None:
        self._server.kill()


@pytest.mark.parametrize("case", [case for case in CASES if not case.restarts], ids=str)
def test_kafka(case: conformance.Case, kafka_url: str) -> None:
    asyncio.run(case.run(lambda: KafkaBroker(kafka_url)))


@pytest.mark.parametrize("case", [case for case in CASES if case.restarts], ids=str)
def test_kafka_that_is_ended(case: conformance.Case) -> None:
    with KafkaServer() as server:
        asyncio.run(case.run(lambda: KafkaBroker(server.url), server=Restartable(server)))


def test_all_that_is_declared_is_proved() -> None:
    assert not conformance.unproved(KafkaBroker.capabilities, restartable=True)
