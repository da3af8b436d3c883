"""RabbitMQ keeps the contract of the broker port, also over the death of its server."""

from __future__ import annotations

import asyncio

import pytest
from eventmicro_rabbitmq import RabbitBroker

from eventmicro import conformance
from tests.servers import RabbitServer

CASES = conformance.cases(RabbitBroker.capabilities, restartable=True)


class Restartable:
    """The server as a case ends it and starts it."""

    def __init__(self, server: RabbitServer) -> None:
        self._server = server

    async def start(self) -> None:
        await asyncio.to_thread(self._server.start)

    async def stop(self) -> None:
        await asyncio.to_thread(self._server.stop)

    async def kill(self) -> None:
        self._server.kill()


@pytest.mark.parametrize("case", [case for case in CASES if not case.restarts], ids=str)
def test_rabbitmq(case: conformance.Case, rabbitmq_url: str) -> None:
    # Nobody is killed here, so that new queues need not be safe from it.
    asyncio.run(case.run(lambda: RabbitBroker(f"{rabbitmq_url}?new_queue_wait=0")))


@pytest.mark.parametrize("case", [case for case in CASES if case.restarts], ids=str)
def test_rabbitmq_that_is_ended(case: conformance.Case) -> None:
    with RabbitServer() as server:
        try:
            asyncio.run(case.run(lambda: RabbitBroker(server.url), server=Restartable(server)))
        except BaseException:
            print(server.log.read_text(errors="replace")[-10_000:])
            raise


def test_all_that_is_declared_is_proved() -> None:
    assert not conformance.unproved(RabbitBroker.capabilities, restartable=True)
