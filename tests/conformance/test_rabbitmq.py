"""RabbitMQ keeps the contract of the broker port, also over the death of its server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from eventmicro_rabbitmq import RabbitBroker

from eventmicro import conformance
from tests.conformance.servers import Restartable
from tests.servers import RabbitServer

CASES = conformance.cases(RabbitBroker.capabilities, restartable=True)


@pytest.fixture(scope="module")
def restartable() -> Iterator[Restartable]:
    """One for all the cases that end a server."""
    with Restartable(RabbitServer()) as server:
        yield server


@pytest.mark.parametrize("case", [case for case in CASES if not case.restarts], ids=str)
def test_rabbitmq(case: conformance.Case, rabbitmq_url: str) -> None:
    # Nobody is killed here, so that new queues need not be safe from it.
    asyncio.run(case.run(lambda: RabbitBroker(f"{rabbitmq_url}?new_queue_wait=0")))


@pytest.mark.parametrize("case", [case for case in CASES if case.restarts], ids=str)
def test_rabbitmq_that_is_ended(case: conformance.Case, restartable: Restartable) -> None:
    restartable.revive()
    try:
        asyncio.run(case.run(lambda: RabbitBroker(restartable.server.url), server=restartable))
    except BaseException:
        print(restartable.server.log.read_text(errors="replace")[-10_000:])
        raise


def test_all_that_is_declared_is_proved() -> None:
    assert not conformance.unproved(RabbitBroker.capabilities, restartable=True)
