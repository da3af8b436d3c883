"""JetStream: streams and queues that are declared, checked or refused, and what a server has no room for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import nats
import pytest
from eventmicro_nats import JetStreamBroker
from eventmicro_nats.jetstream import lock, telling
from eventmicro_nats.jetstream.api import Api
from nats.js import JetStreamContext
from nats.js.api import AckPolicy

from eventmicro.errors import (
    Disconnected,
    MessageTooLarge,
    NotAllPublished,
    NotStored,
    Unconfirmed,
    UsageError,
)
from eventmicro.message import Message
from tests.integration.jetstream.kit import Until, administrator, jetstream, work
from tests.servers import NatsServer
from tests.servers.nats import flush
from tests.told import until_told

# -- refusals --------------------------------------------------------------------------------------------------------


async def test_a_full_stream_refuses_by_name_and_takes_again_when_there_is_room() -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server, "max_bytes=10000") as broker, administrator(server.port) as admin:
            with pytest.raises(NotAllPublished, match="maximum bytes exceeded") as caught:
                await broker.publish_many([Message("a", b"x" * 1000)] * 20)
            assert caught.value.confirmed == 20 - len(caught.value.failed) > 0
            assert all(isinstance(error, NotStored) for error in caught.value.failed.values())
            with pytest.raises(NotStored, match="maximum bytes exceeded"):
                await broker.publish(Message("a", b"x" * 1000))
            await admin.purge_stream("EVENTS")
            await broker.publish(Message("a", b"x" * 1000))


async def test_a_server_without_room_refuses_by_name() -> None:
    with NatsServer('jetstream: { store_dir: "streams", max_file_store: 20000 }') as server:
        async with jetstream(server) as broker:
            with pytest.raises(NotAllPublished, match=r"resource|storage|bytes"):
                await broker.publish_many([Message("a", b"x" * 5000)] * 20)


USERS = """
accounts {
  A {
    jetstream: enabled
    users = [
      { user: admin, password: p }
      { user: publisher, password: p, permissions: { publish: { deny: ["secret"] } } }
      { user: reader, password: p, permissions: { publish: { deny: ["$JS.API.CONSUMER.CREATE.>"] } } }
      { user: nothing, password: p, permissions: { publish: { deny: ["$JS.API.>"] } } }
    ]
  }
}
"""


async def test_what_a_user_may_not_do_is_refused_with_the_servers_words() -> None:
    with NatsServer(USERS, jetstream=True) as server:

        def user(name: str) -> JetStreamBroker:
            return JetStreamBroker(f"jetstream://{name}:p@127.0.0.1:{server.port}")

        async with user("admin") as admin, user("publisher") as publisher, user("reader") as reader:
            await admin.publish_many([Message("secret"), Message("public")])
            await publisher.publish(Message("public"))
            with pytest.raises(NotStored, match=r'(?i)permissions violation for publish.*"secret"'):
                await publisher.publish(Message("secret"))
            with pytest.raises(UsageError, match=r"(?i)permissions violation.*CONSUMER\.CREATE"):
                await work(reader, "public")
        async with user("nothing") as nothing:
            with pytest.raises(NotStored, match=r"(?i)permissions violation.*STREAM\.NAMES"):
                await nothing.publish(Message("public"))
            with pytest.raises(UsageError, match=r"(?i)permissions violation"):
                await work(nothing, "public")


async def test_a_server_without_jetstream_is_told_apart(nats_url: str) -> None:
    async with JetStreamBroker(nats_url.replace("nats://", "jetstream://")) as broker:
        with pytest.raises(NotStored, match=r"has no JetStream.*--jetstream"):
            await broker.publish(Message("a"))
        with pytest.raises(UsageError, match="has no JetStream"):
            await work(broker, "a")


async def test_what_cannot_be_sent_is_refused_before() -> None:
    with NatsServer("max_payload: 1000", jetstream=True) as server:
        async with jetstream(server) as broker:
            worker = await work(broker, "a")
            with pytest.raises(MessageTooLarge, match=r"with headers.*1000"):
                await broker.publish(Message("a", b"x" * 1000))
            with pytest.raises(UsageError, match="signs that no header may have"):
                await broker.publish(Message("a", id="one\r\nNats-Rollup: all"))
            with pytest.raises(UsageError, match="header"):
                await broker.publish(Message("a", headers={"Bad: Name": "1"}))
            for subject in ("", "a b", "a.*", "a\r\nPUB b 0"):
                with pytest.raises(UsageError):
                    await broker.publish(Message(subject))
            assert worker.deliveries == []


# -- declaring -------------------------------------------------------------------------------------------------------


async def test_what_is_declared_by_many_at_once_is_all_there() -> None:
    with NatsServer(jetstream=True) as server:
        brokers = [jetstream(server) for _ in range(10)]
        await asyncio.gather(*(broker.connect() for broker in brokers))
        subjects = [f"s{number}" for number in range(100)]
        await asyncio.gather(
            *(brokers[number % 10].publish(Message(subject)) for number, subject in enumerate(subjects)),
            *(work(broker, "shared") for broker in brokers),
        )
        async with administrator(server.port) as admin:
            assert {*subjects, "shared"} < set((await admin.stream_info("EVENTS")).config.subjects or ())
            assert [stream.config.name for stream in await admin.streams_info()] == ["EVENTS"], "a lock was left"
        await asyncio.gather(*(broker.close() for broker in brokers))


async def test_the_lock_of_a_process_that_died_is_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventmicro_nats.jetstream.lock.LIFETIME", 0.1)
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker, jetstream(server) as other:
            await broker.publish(Message("a"))
            api: Any = other._parts and other._parts._api
            assert await lock._take(api, "EVENTS", "one that dies", asyncio.get_running_loop().time() + 5)
            await broker.publish(Message("b"))
            async with administrator(server.port) as admin:

                async def locks() -> int | None:
                    return (await admin.stream_info("EVENTS")).state.consumer_count

                await until_told(locks, 0)


async def test_a_lock_that_is_given_back_twice_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    call = Api.call

    async def call_twice(self: Api, what: str, arguments: Any = None, *, deadline: float) -> dict[str, Any]:
        if what.startswith("CONSUMER.DELETE"):
            await call(self, what, arguments, deadline=deadline)  # of which the answer was lost
        return await call(self, what, arguments, deadline=deadline)

    monkeypatch.setattr(Api, "call", call_twice)
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker:
            await broker.publish(Message("a"))
            await broker.publish(Message("b"))


@asynccontextmanager
async def lock_held(server: NatsServer) -> AsyncIterator[JetStreamContext]:
    """Somebody else changes the stream; it ends when he is asked for the lock, and he is done."""
    client = await nats.connect(f"nats://127.0.0.1:{server.port}")
    admin = client.jetstream()
    await admin.add_consumer("EVENTS", name=lock.NAME, filter_subject="whatever", ack_policy=AckPolicy.EXPLICIT)
    asked = await client.subscribe(f"$JS.API.CONSUMER.CREATE.EVENTS.{lock.NAME}")
    await flush(client)
    yield admin
    await asked.next_msg()
    await asked.next_msg()
    await admin.delete_consumer("EVENTS", lock.NAME)
    await client.close()


async def test_what_another_changes_in_the_stream_meanwhile_stays() -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker:
            await broker.publish(Message("a"))
            async with lock_held(server) as admin:
                declaring = asyncio.create_task(work(broker, "a", dedupe=300))
                await asyncio.sleep(0.05)  # it has looked at the stream, more likely than not
                await admin.update_stream(name="EVENTS", subjects=["a", "b"])
            await declaring
            async with administrator(server.port) as admin:
                config = (await admin.stream_info("EVENTS")).config
                assert (config.subjects, config.duplicate_window) == (["a", "b"], 300)


async def test_who_is_cancelled_while_it_declares_for_others_leaves_that_to_them() -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker:
            await broker.publish(Message("a"))
            async with lock_held(server):
                first = asyncio.create_task(broker.publish(Message("b")))
                await asyncio.sleep(0.05)
                second, third = (asyncio.create_task(work(broker, name, name)) for name in "cd")
                await asyncio.sleep(0.05)
            await first
            second.cancel()
            await third
            async with administrator(server.port) as admin:
                assert "d" in ((await admin.stream_info("EVENTS")).config.subjects or ())


async def test_a_publish_keeps_its_timeout_while_another_holds_the_lock() -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker:
            await broker.publish(Message("a"))
            async with lock_held(server):
                with pytest.raises(Disconnected, match="could not be looked up or changed in time"):
                    await broker.publish(Message("b"), timeout=0.2)


async def test_a_stream_that_an_administrator_made_is_used_as_it_is(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            await admin.add_stream(name="ORDERS", subjects=["orders.>"])
            exact, wild = await work(broker, "orders.placed", "one"), await work(broker, "orders.*", "two")
            await broker.publish(Message("orders.placed", b"1"))
            await until(lambda: exact.bodies == wild.bodies == [b"1"])
            assert [stream.config.name for stream in await admin.streams_info()] == ["ORDERS"]
            with pytest.raises(UsageError, match=r"knows ids for 120 s, dedupe needs 300 s.*--dupe-window 300s"):
                await work(broker, "orders.placed", "three", dedupe=300)
            with pytest.raises(UsageError, match=r"in several streams \(ORDERS, and EVENTS for the rest\)"):
                await work(broker, ">", "four")


async def test_to_check_is_to_make_nothing_and_to_say_what_is_missing(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with (
            administrator(server.port) as admin,
            jetstream(server, "declare=check") as checks,
            jetstream(server, "declare=false") as trusts,
        ):
            with pytest.raises(UsageError, match=r"no stream keeps orders\.placed: nats stream add EVENTS"):
                await checks.publish(Message("orders.placed"))
            with pytest.raises(NotStored, match="no stream takes it"):
                await trusts.publish(Message("orders.placed"))
            await admin.add_stream(name="EVENTS", subjects=["orders.placed"])
            with pytest.raises(UsageError, match="no queue bill: nats consumer add EVENTS bill --pull"):
                await work(checks, "orders.placed", "bill")
            await admin.update_stream(name="EVENTS", subjects=["orders.placed", "dead"])
            with pytest.raises(UsageError, match="there is no queue dead"):
                await work(checks, "orders.placed", "bill", dead_letter="dead")
            await admin.add_consumer(
                "EVENTS", durable_name="bill", filter_subject="orders.placed", ack_policy="explicit"
            )  # type: ignore[arg-type]
            workers = [await work(checks, "orders.placed", "bill"), await work(trusts, "orders.placed", "bill")]
            await checks.publish(Message("orders.placed", b"1"))
            await trusts.publish(Message("orders.placed", b"2"))
            await until(lambda: sorted(workers[0].bodies + workers[1].bodies) == [b"1", b"2"])


async def test_a_queue_that_is_made_otherwise_is_refused() -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker, administrator(server.port) as admin:
            await work(broker, "a", "q.one")
            with pytest.raises(UsageError, match=r"queue q.one \(consumer q=one of stream EVENTS\) takes a, not b"):
                await work(broker, "b", "q.one")
            with pytest.raises(UsageError, match=r"made without order: .* delete .*: nats consumer rm EVENTS \S+$"):
                await work(broker, "a", "q.one", ordered=True)
            await work(broker, "a", "q.two", ordered=True)
            with pytest.raises(UsageError, match="made with order"):
                await work(broker, "a", "q.two")
            await admin.add_consumer(
                "EVENTS", durable_name="q", filter_subject="a", max_deliver=5, ack_policy="explicit"
            )  # type: ignore[arg-type]
            with pytest.raises(UsageError, match="max_deliver=5: set it to -1, or name a dead_letter"):
                await work(broker, "a", "q")


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({"headers_only": True}, "headers only"),
        ({"inactive_threshold": 5.0}, "is deleted when nobody asks: unset inactive_threshold"),
        ({"max_batch": 10}, "max_batch=10 at once: set prefetch"),
        ({"max_expires": 5.0}, "max_expires=5 s: it takes 30 s"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_a_queue_of_which_nothing_would_come_is_refused(config: dict[str, Any], wanted: str) -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker, administrator(server.port) as admin:
            await broker.publish(Message("a"))
            nanoseconds = {
                key: int(value * 1e9) if isinstance(value, float) else value for key, value in config.items()
            }
            config = {"durable_name": "q", "filter_subject": "a", "ack_policy": "explicit", **nanoseconds}
            body = json.dumps({"stream_name": "EVENTS", "config": config}).encode()
            await admin._nc.request("$JS.API.CONSUMER.CREATE.EVENTS.q", body)
            with pytest.raises(UsageError, match=wanted):
                await work(broker, "a")


async def test_an_event_whose_id_is_just_being_stored_is_sent_until_that_is_known() -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server, "declare=false") as broker:
            client = await nats.connect(f"nats://127.0.0.1:{server.port}")
            asked = await client.subscribe("a")  # in place of a cluster's stream
            await flush(client)
            in_process = b'{"error":{"code":409,"err_code":10158,"description":"duplicate message id is in process"}}'
            publishing = asyncio.create_task(broker.publish(Message("a", id="7")))
            await (await asked.next_msg()).respond(in_process)
            await (await asked.next_msg()).respond(b'{"stream":"EVENTS","seq":1,"duplicate":true}')
            await publishing
            publishing = asyncio.create_task(broker.publish(Message("a", id="8"), timeout=0.05))
            await (await asked.next_msg()).respond(in_process)
            with pytest.raises(Unconfirmed, match="in process"):
                await publishing
            await client.close()


async def test_an_event_is_not_sent_again_when_its_id_may_be_forgotten() -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server, "declare=false&duplicate_window=0.5") as broker:
            client = await nats.connect(f"nats://127.0.0.1:{server.port}")
            sent = await client.subscribe("a")  # a stream that does not answer
            await flush(client)
            with pytest.raises(Unconfirmed):
                await broker.publish(Message("a"), timeout=10)
            await flush(client)
            assert sent.pending_msgs == 1
            await client.close()


async def test_a_stream_with_other_settings_than_were_set_is_refused() -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server, "max_age=3600") as first, jetstream(server, "storage=memory") as second:
            await first.publish(Message("a"))
            with pytest.raises(UsageError, match="exists with storage=file, not memory"):
                await second.publish(Message("a"))
            with pytest.raises(UsageError, match="exists with storage=file, not memory"):
                await second.publish(Message("b"))
            await first.publish(Message("b"))


async def test_a_wildcard_catches_what_is_declared_later(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker, jetstream(server) as other:
            worker = await work(broker, "orders.*")
            all_of_it = await work(broker, ">", "all")
            for subject in ("orders.placed", "orders.paid", "payments.made"):
                await other.publish(Message(subject, subject.encode()))
            await until(lambda: worker.bodies == [b"orders.placed", b"orders.paid"])
            await until(lambda: all_of_it.bodies == [b"orders.placed", b"orders.paid", b"payments.made"])


async def test_who_makes_the_stream_says_that_it_keeps_all_for_ever_and_nobody_who_comes_later(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    with NatsServer(jetstream=True) as server:
        for _ in range(3):
            monkeypatch.setattr(telling, "_looked_at", set())  # as in a process of its own
            async with jetstream(server) as broker:
                await broker.publish(Message("placed", b"1"))
    assert caplog.text.count("stream EVENTS keeps all events for ever") == 1
