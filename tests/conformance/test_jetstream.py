"""JetStream keeps the contract of the broker port, also over the death of its server."""

from __future__ import annotations

import asyncio
import secrets

import pytest
from eventmicro_nats import JetStreamBroker

from eventmicro import conformance
from tests.conformance.servers import Restartable
from tests.servers import NatsServer

# JetStream keeps leases over a lost connection, and so does the consumer: what it holds does not come again.
KEEPS_ITS_LEASE = "what_a_consumer_holds_comes_again_after_a_kill"
# Only here the lease is to run out, if it is not extended; elsewhere it would on a machine that is busy for a second.
OUTLASTS_ITS_LEASE = "an_event_is_not_delivered_again_while_its_handler_runs"
CASES = [c for c in conformance.cases(JetStreamBroker.capabilities, restartable=True) if str(c) != KEEPS_ITS_LEASE]


@pytest.mark.parametrize("case", [case for case in CASES if not case.restarts], ids=str)
def test_jetstream(case: conformance.Case, jetstream_url: str) -> None:
    # A stream for each case: one sets how long ids are known.
    lease = 2 if str(case) == OUTLASTS_ITS_LEASE else 30
    url = f"{jetstream_url}?stream=conformance-{secrets.token_hex(6)}&duplicate_window=1&ack_wait={lease}"
    asyncio.run(case.run(lambda: JetStreamBroker(url)))


@pytest.mark.parametrize("case", [case for case in CASES if case.restarts], ids=str)
def test_jetstream_that_is_ended(case: conformance.Case) -> None:
    with Restartable(NatsServer(jetstream=True)) as restartable:
        url = f"{restartable.server.url.replace('nats', 'jetstream')}?ack_wait=2"
        asyncio.run(case.run(lambda: JetStreamBroker(url), server=restartable))


def test_all_that_is_declared_is_proved() -> None:
    assert not conformance.unproved(JetStreamBroker.capabilities, restartable=True)
