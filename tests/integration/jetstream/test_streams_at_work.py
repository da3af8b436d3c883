"""JetStream: what becomes of streams and accounts while a service works with them, and what is said of it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from eventmicro_nats import JetStreamBroker
from eventmicro_nats.jetstream import filled

from eventmicro.errors import NotStored, UsageError
from eventmicro.message import Message
from tests.integration.jetstream.kit import Until, Worker, administrator, call, config_of, jetstream, make, work
from tests.integration.jetstream.test_left_by_servers import said
from tests.servers import NatsServer


async def look(broker: JetStreamBroker) -> None:
    """Look at the streams at once, as is done every 30 s."""
    parts: Any = broker._parts
    await parts._streams.look_again(asyncio.get_running_loop().time() + 5)


async def come(until: Until, worker: Worker, *bodies: bytes) -> None:
    await until(lambda: worker.bodies[-len(bodies) :] == list(bodies))


async def test_a_subject_that_is_refused_is_named_once_and_looked_at_until_it_is_mended_and_hides_no_other(
    until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            first, second = await work(broker, "a.x", "first"), await work(broker, "a.y", "second")
            await call(admin, "STREAM.UPDATE.EVENTS", await config_of(admin) | {"subjects": ["$EVENTMICRO.EVENTS"]})
            await make(admin, name="OTHER", subjects=["a.x"], no_ack=True)
            for _ in range(3):
                await look(broker)
            assert "a.y" in (await config_of(admin))["subjects"]
            await admin.publish("a.y", b"1")
            await come(until, second, b"1")
            errors = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
            assert len(errors) == 1
            assert "a.x is kept by no stream: stream OTHER cannot be used: no_ack=true" in errors[0]
            assert said(caplog, "stream EVENTS takes a.x no more") == said(caplog, "EVENTS takes a.y no more") == 1
            await admin.delete_stream("OTHER")
            await look(broker)
            assert said(caplog, "a.x is kept by a stream again") == 1
            await admin.publish("a.x", b"2")
            await come(until, first, b"2")


async def test_a_foreign_stream_is_left_without_the_subject_that_its_owner_took_out(
    until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            await make(admin, subjects=["a", "b"])
            worker = await work(broker, "a")
            await call(admin, "STREAM.UPDATE.EVENTS", await config_of(admin) | {"subjects": ["b"]})
            for _ in range(2):
                await look(broker)
            assert said(caplog, "a is kept by no stream: stream EVENTS was not made by eventmicro") == 1
            with pytest.raises(UsageError, match=r"does not take a: .*stream=NAME"):
                await broker.publish(Message("a", b"1"))
            assert (await config_of(admin))["subjects"] == ["b"]
            await call(admin, "STREAM.UPDATE.EVENTS", await config_of(admin) | {"subjects": ["a", "b"]})
            await broker.publish(Message("a", b"2"))
            await come(until, worker, b"2")


def test_a_look_at_very_many_subjects_compares_none_with_all(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[str, int]] = []
    may_match = filled.may_match

    def counted(subject: str, patterns: list[str]) -> bool:
        compared.append((subject, len(patterns)))
        return may_match(subject, patterns)

    monkeypatch.setattr(filled, "may_match", counted)
    subjects = [f"s{number}.x" for number in range(10_000)]
    there = [*subjects[1:], "t.*"]
    assert filled.not_taken([*subjects, "t.y", "u.*", "s7.>"], there) == ["s0.x", "u.*"]
    assert compared == [("s0.x", 1), ("t.y", 1), ("u.*", 10_000), ("s7.>", 10_000)]


async def test_ours_that_comes_back_as_a_mirror_is_named_and_used_again_when_it_is_none(
    until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            worker = await work(broker, "a")
            await make(admin, name="OTHER", subjects=["other"])
            await admin.delete_stream("EVENTS")
            await make(admin, mirror={"name": "OTHER"})
            await look(broker)
            assert said(caplog, "stream EVENTS was changed, and does not keep all that is confirmed: ", "a mirror")
            with pytest.raises(UsageError, match=r"stream EVENTS .*it has a mirror.*stream=NAME"):
                await broker.publish(Message("a", b"1"), timeout=5)
            await admin.delete_stream("EVENTS")
            await broker.publish(Message("a", b"2"))
            await come(until, worker, b"2")
            assert worker.bodies == [b"2"]


async def test_where_a_stream_of_others_comes_back_as_a_mirror_its_subject_is_kept_as_at_the_start(
    until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            await make(admin, name="OTHER", subjects=["other"])
            await make(admin, name="ORDERS", subjects=["a"])
            worker = await work(broker, "a")
            await admin.delete_stream("ORDERS")
            mirror = await make(admin, name="ORDERS", mirror={"name": "OTHER"})
            await look(broker)
            assert said(caplog, "stream ORDERS takes a no more") == 1
            await broker.publish(Message("a", b"1"))
            await come(until, worker, b"1")
            assert "a" in (await config_of(admin))["subjects"]
            assert await config_of(admin, "ORDERS") == mirror


@pytest.mark.parametrize("is_ours", [True, False])
async def test_a_stream_that_gets_sources_at_work_goes_on_and_gives_their_events_too(
    is_ours: bool, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            await make(admin, name="OTHER", subjects=["theirs"])
            if not is_ours:
                await make(admin, subjects=["a"])
            worker = await work(broker, "a")
            sources = [{"name": "OTHER", "subject_transforms": [{"src": "theirs", "dest": "a"}]}]
            changed = await config_of(admin) | {"sources": sources}
            await call(admin, "STREAM.UPDATE.EVENTS", changed)
            await admin.publish("theirs", b"1")
            await come(until, worker, b"1")
            await broker.publish(Message("a", b"2"))
            await come(until, worker, b"2")
            await look(broker)
            after = await config_of(admin)
            assert after["sources"][0]["name"] == "OTHER", "what the administrator has added stays"
            await call(admin, "STREAM.UPDATE.EVENTS", after | {"sources": []})
            await broker.publish(Message("a", b"3"))
            await come(until, worker, b"1", b"2", b"3")
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR]


ACCOUNT = "accounts {{ A {{ jetstream {{ {} }}, users = [{{user: u, password: p}}] }} }}"


async def test_an_account_whose_room_is_lowered_at_work_refuses_by_name_and_takes_again(until: Until) -> None:
    with NatsServer(ACCOUNT.format("max_store: 1GB"), jetstream=True) as server:
        async with JetStreamBroker(f"jetstream://u:p@127.0.0.1:{server.port}") as broker:
            worker = await work(broker, "a")
            await broker.publish(Message("a", b"1"))
            await come(until, worker, b"1")
            server.reload(ACCOUNT.format("max_store: 10, max_streams: 1"))
            refused = await publish_until(broker, is_taken=False)
            assert "a: resource limits exceeded for account" in refused
            async with JetStreamBroker(f"jetstream://u:p@127.0.0.1:{server.port}?stream=SECOND") as other:
                with pytest.raises(UsageError, match="stream SECOND cannot be made"):
                    await work(other, "b")
            server.reload(ACCOUNT.format("max_store: 1GB"))
            await publish_until(broker, is_taken=True)
            await broker.publish(Message("a", b"2"))
            await come(until, worker, b"2")


async def publish_until(broker: JetStreamBroker, *, is_taken: bool) -> str:
    """Publish until the server has read its configuration; what it said, last."""
    async with asyncio.timeout(20):
        while True:
            try:
                await broker.publish(Message("a"), timeout=1)
                said = ""
            except NotStored as error:
                said = str(error)
            if bool(said) != is_taken:
                return said
            await asyncio.sleep(0.02)
