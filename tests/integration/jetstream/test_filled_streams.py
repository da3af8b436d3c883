"""JetStream: streams that others fill: by sources, a mirror, or with subjects that are renamed on the way."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from eventmicro.errors import UsageError
from eventmicro.message import Message
from tests.integration.jetstream.kit import Until, administrator, config_of, jetstream, make, work
from tests.servers import NatsServer
from tests.told import messages_in, until_told

RENAMING = {"src": "orders.*", "dest": "eu.orders.{{wildcard(1)}}"}
FILLED: dict[str, dict[str, Any]] = {
    "sources": {"sources": [{"name": "ORDERS", "subject_transforms": [RENAMING]}]},
    "mirror": {"mirror": {"name": "ORDERS", "subject_transforms": [RENAMING]}},
    "itself": {"subjects": ["at.orders.*"], "subject_transform": {"src": "at.>", "dest": "eu.>"}},
}


@pytest.mark.parametrize("kind", FILLED)
async def test_a_stream_is_found_by_what_it_is_filled_with(kind: str, until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            await make(admin, name="ORDERS", subjects=["orders.*"])
            before = await make(admin, name="ALL", **FILLED[kind])
            workers = [await work(broker, "eu.orders.placed", "one"), await work(broker, "eu.>", "two")]
            async with jetstream(server, "declare=check") as checks:
                workers.append(await work(checks, "eu.orders.placed", "one"))
                await (await checks.subscribe("none", lambda _: None)).drain()
            await broker.publish(Message("at.orders.placed" if kind == "itself" else "orders.placed", b"1"))
            await until(lambda: (workers[0].bodies + workers[2].bodies, workers[1].bodies) == ([b"1"], [b"1"]))
            assert workers[1].deliveries[0].subject == "eu.orders.placed"
            with pytest.raises(UsageError, match=r"^eu\.orders\.placed: stream ALL has this from other streams"):
                await broker.publish(Message("eu.orders.placed", b"2"))
            assert await config_of(admin, "ALL") == before


async def test_a_chain_of_sources_is_followed_and_two_that_hold_the_same_are_refused(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            await make(admin, name="ORDERS", subjects=["orders.*"])
            await make(admin, name="FIRST", **FILLED["sources"])
            await make(admin, name="SECOND", sources=[{"name": "FIRST"}])
            with pytest.raises(UsageError, match=r"eu\.orders\.\* is in several streams \(FIRST, SECOND\): .*stream="):
                await work(broker, "eu.orders.*")
            async with jetstream(server, "stream=SECOND") as named:
                worker = await work(named, "eu.orders.*")
                await broker.publish(Message("orders.placed", b"1"))
                await until(lambda: worker.bodies == [b"1"])


async def test_a_stream_of_another_account_is_found_by_what_it_holds_and_named_where_it_holds_nothing(
    until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    """What comes over a leaf or another account has no configuration that could be seen from here."""
    away = {"name": "ORDERS", "external": {"api": "$JS.nowhere.API"}}
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            await make(admin, name="FIRST", subjects=["orders.placed"])
            await admin.publish("orders.placed", b"1")
            held = await config_of(admin, "FIRST")
            await admin._nc.request("$JS.API.STREAM.UPDATE.FIRST", b"{}")
            await make(admin, name="AWAY", sources=[away])
            worker = await work(broker, "payments.made")  # to which nobody listens
            assert worker.subscription
            assert (
                "stream AWAY is filled with what cannot be seen from here, and has nothing of payments.made"
                in caplog.text
            )
            assert "set stream=AWAY" in caplog.text
            async with jetstream(server, "stream=AWAY") as named:
                await work(named, "refunds.made", "refunds")
                assert (await admin.consumer_info("AWAY", "refunds")).config.filter_subject == "refunds.made"
            assert await config_of(admin, "FIRST") == held


async def test_what_a_stream_renames_says_so_to_who_subscribes(caplog: pytest.LogCaptureFixture, until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            await make(admin, name="ALL", **FILLED["itself"])
            said = r"stream ALL stores at\.orders\.placed as eu\.>, by its subject_transform: subscribe to that"
            with pytest.raises(UsageError, match=said):
                await work(broker, "at.orders.placed")
            await broker.publish(Message("at.orders.placed", b"1", id="ev-1"))
            await broker.publish(Message("at.orders.placed", b"1", id="ev-1"))
            worker = await work(broker, "eu.orders.placed", start="all")
            await until(lambda: worker.bodies == [b"1"])
            await until_told(lambda: messages_in(admin, "ALL"), 1)  # one is its own double, under another subject
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_stream_of_our_name_that_listens_to_nothing_is_given_no_subjects(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            await make(admin, name="ORDERS", subjects=["orders.*"])
            before = await make(admin, sources=[{"name": "ORDERS"}])
            said = r"stream EVENTS was not made by eventmicro and does not take payments\.made: .*stream=NAME"
            with pytest.raises(UsageError, match=said):
                await work(broker, "payments.made")
            with pytest.raises(UsageError, match=said):
                await broker.publish(Message("payments.made"))
            assert await config_of(admin) == before
            await make(admin, name="COPY", mirror={"name": "ORDERS"})
            async with jetstream(server, "stream=COPY") as named:
                with pytest.raises(UsageError, match=r"stream COPY .*it has a mirror"):
                    await work(named, "refunds.made")
