"""Kafka keeps the contract of the broker port, also over the death of its server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from eventmicro_kafka import KafkaBroker

from eventmicro import conformance
from tests.conformance.servers import Restartable
from tests.servers import KafkaServer

CASES = conformance.cases(KafkaBroker.capabilities, restartable=True)


@pytest.fixture(scope="module")
def restartable() -> Iterator[Restartable]:
    """One for all the cases that end a server."""
    with Restartable(KafkaServer()) as server:
        yield server


@pytest.mark.parametrize("case", [case for case in CASES if not case.restarts], ids=str)
def test_kafka(case: conformance.Case, kafka_url: str) -> None:
    asyncio.run(case.run(lambda: KafkaBroker(kafka_url)))


@pytest.mark.parametrize("case", [case for case in CASES if case.restarts], ids=str)
def test_kafka_that_is_ended(case: conformance.Case, restartable: Restartable) -> None:
    restartable.revive()
    asyncio.run(case.run(lambda: KafkaBroker(restartable.server.url), server=restartable))


def test_all_that_is_declared_is_proved() -> None:
    assert not conformance.unproved(KafkaBroker.capabilities, restartable=True)
