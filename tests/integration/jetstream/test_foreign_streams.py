"""JetStream: streams and queues of our names that somebody else has made, and those of earlier versions."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from eventmicro.broker import Durable
from eventmicro.errors import Missing, NotAllPublished, NotStored, UsageError
from eventmicro.message import Message
from tests.integration.jetstream.kit import Until, administrator, call, config_of, jetstream, make, work
from tests.servers import NatsServer

UNFIT: list[tuple[dict[str, Any], str]] = [
    ({"storage": "memory"}, "storage=memory"),
    ({"max_msgs": 3}, "max_msgs=3 with discard=old"),
    ({"max_bytes": 100_000}, "max_bytes=100000 with discard=old"),
    ({"max_msgs_per_subject": 1}, "max_msgs_per_subject=1"),
    ({"max_msgs_per_subject": 1, "max_msgs": 9, "discard": "new"}, "max_msgs_per_subject=1"),
    ({"max_age": 60_000_000_000}, "max_age=60 s"),
    ({"retention": "workqueue"}, "retention=workqueue"),
    ({"retention": "interest"}, "retention=interest"),
    ({"no_ack": True}, "no_ack"),
    ({"sealed": True}, "sealed"),
    ({"subject_transform": {"src": "a.*", "dest": "b.{{wildcard(1)}}"}}, "subject_transform"),
    ({"persist_mode": "async"}, "persist_mode=async"),
]


@pytest.mark.parametrize(("config", "wanted"), UNFIT, ids=lambda value: value if isinstance(value, str) else "")
@pytest.mark.parametrize("taken", [True, False], ids=["takes-it", "takes-other"])
async def test_a_foreign_stream_that_keeps_not_what_is_promised_is_refused_and_left_alone(
    config: dict[str, Any], wanted: str, taken: bool
) -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            before = await make(admin, subjects=["a.x" if taken else "other"], **config)
            said = rf"stream EVENTS .*{wanted}.*stream="
            with pytest.raises(UsageError, match=said):
                await broker.publish(Message("a.x"))
            with pytest.raises(UsageError, match=said):
                await work(broker, "a.x")
            with pytest.raises(UsageError, match=said):
                await work(broker, "a.*", "wild")
            assert await config_of(admin) == before


async def test_a_queue_that_does_not_fit_is_told_before_dead_letters_that_are_only_missing() -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server, "declare=check") as broker:
            await make(admin, name="WORK", subjects=["work.>"])
            durable = Durable(dead_letter="dead.WORKER")
            with pytest.raises(Missing) as missing:
                await broker.declare("work.*", queue="WORKER", durable=durable)
            wide = {"durable_name": "WORKER", "ack_policy": "explicit", "filter_subject": "work.>"}
            await call(admin, "CONSUMER.DURABLE.CREATE.WORK.WORKER", {"stream_name": "WORK", "config": wide})
            with pytest.raises(UsageError, match=r"takes work.>, not work.\*") as wrong:
                await broker.declare("work.*", queue="WORKER", durable=durable)
    assert missing.value.what == ("subject dead.WORKER in a stream", "queue WORKER")
    assert not isinstance(wrong.value, Missing)


async def test_a_mirror_of_our_name_is_refused() -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            await make(admin, name="OTHER", subjects=["other"])
            await make(admin, mirror={"name": "OTHER"})
            with pytest.raises(UsageError, match=r"stream EVENTS .*mirror.*stream="):
                await broker.publish(Message("a"))


FIT: list[dict[str, Any]] = [
    {},
    {"max_msgs": 1000, "discard": "new"},
    {"max_bytes": 1_000_000, "discard": "new"},
    {"max_msgs_per_subject": 9, "discard": "new", "discard_new_per_subject": True},
    {"sources": [{"name": "OTHER"}]},
    {"deny_delete": True, "deny_purge": True},
    {"compression": "s2", "republish": {"src": "a", "dest": "copies.a"}},
]


NOT_TAKEN = r"stream EVENTS was not made by eventmicro and does not take {}: have another one made by stream=NAME"


@pytest.mark.parametrize("config", FIT, ids=lambda config: "-".join(config) or "plain")
async def test_a_foreign_stream_that_keeps_all_is_used_for_what_it_takes_and_never_changed(
    config: dict[str, Any], until: Until
) -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            await make(admin, name="OTHER", subjects=["other"])
            before = await make(admin, subjects=["a"], **config)
            worker = await work(broker, "a")
            with pytest.raises(UsageError, match=NOT_TAKEN.format("b")):
                await work(broker, "b", "two")
            with pytest.raises(UsageError, match=NOT_TAKEN.format(r"dead\.q")):
                await work(broker, "a", "three", dead_letter="dead.q")
            with pytest.raises(NotAllPublished, match=NOT_TAKEN.format("b")) as caught:
                await broker.publish_many([Message("a", b"1"), Message("b", b"2")])
            assert list(caught.value.failed) == [1]
            await until(lambda: worker.bodies == [b"1"])
            assert await config_of(admin) == before
            async with jetstream(server, "stream=SHOP") as named:
                other = await work(named, "b", "two")
                await named.publish_many([Message("a", b"3"), Message("b", b"4")])
                await until(lambda: (worker.bodies, other.bodies) == ([b"1", b"3"], [b"4"]))
            assert await config_of(admin) == before


async def test_a_wildcard_is_given_what_a_foreign_stream_of_our_name_takes_of_it(until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            before = await make(admin, subjects=["orders.placed", "orders.paid.*"])
            some, all_of_it = await work(broker, "orders.*", "some"), await work(broker, ">", "all")
            await broker.publish_many([Message("orders.placed", b"1"), Message("orders.paid.x", b"2")])
            await until(lambda: (some.bodies, all_of_it.bodies) == ([b"1"], [b"1", b"2"]))
            with pytest.raises(UsageError, match="stream EVENTS was not made by eventmicro and does not take"):
                await work(broker, "users.*", "users")
            assert await config_of(admin) == before


@pytest.mark.parametrize("query", ["max_age=60", "max_bytes=1000000", "max_age=60&max_bytes=1000000"])
async def test_a_foreign_stream_of_our_name_is_not_changed_where_changes_are_asked_for(query: str) -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server, query) as broker:
            before = await make(admin, subjects=["a"], discard="new")
            with pytest.raises(UsageError, match=r"EVENTS exists with .*, or have another one made by stream=NAME"):
                await broker.publish(Message("a"))
            with pytest.raises(UsageError, match=r"EVENTS was not made by eventmicro and stays as it is.*stream=NAME"):
                await broker.declare("a", change=True)
            assert await config_of(admin) == before
            async with jetstream(server) as unset:
                assert await unset.declare("a", change=True) == {"subject a in stream EVENTS": False}
            assert await config_of(admin) == before


async def test_a_stream_that_is_given_to_us_by_its_metadata_is_ours() -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server, "max_age=60") as broker:
            await make(admin, subjects=["a"], discard="new", metadata={"eventmicro": "stream"})
            assert "stream EVENTS: max_age=0 is now max_age=60 s" in await broker.declare("a", change=True)
            await broker.publish_many([Message("a"), Message("b")])
            assert (await config_of(admin))["subjects"] == ["a", "b"]


@pytest.mark.parametrize(
    ("config", "query"),
    [({"storage": "memory"}, "storage=memory"), ({"max_age": 60_000_000_000}, "max_age=60")],
    ids=["storage", "max_age"],
)
async def test_what_was_asked_for_is_taken_from_a_foreign_stream(
    config: dict[str, Any], query: str, until: Until
) -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server, query) as broker:
            await make(admin, subjects=["a"], **config)
            worker = await work(broker, "a")
            await broker.publish(Message("a", b"1"))
            await until(lambda: worker.bodies == [b"1"])


@pytest.mark.parametrize("query", ["", "max_age=3600", "storage=memory", "max_bytes=100000"])
async def test_ours_is_marked_and_serves_who_asks_for_nothing(query: str, until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server, query) as maker, jetstream(server) as other:
            await maker.publish(Message("a", b"1"))
            assert "eventmicro" in (await config_of(admin))["metadata"]
            worker = await work(other, "a", start="all")
            await other.publish(Message("b", b"2"))
            await until(lambda: worker.bodies == [b"1"])


@pytest.mark.parametrize("query", ["", "max_age=3600", "storage=memory"])
async def test_a_stream_of_an_earlier_version_goes_on_and_is_marked(query: str, until: Until) -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            as_before = {"storage": "memory" if "memory" in query else "file", "max_bytes": -1, "discard": "new"}
            age = 3600_000_000_000 if "age" in query else 0
            await make(admin, subjects=["$EVENTMICRO.EVENTS", "a"], max_age=age, num_replicas=1, **as_before)
            worker = await work(broker, "a")
            await broker.publish_many([Message("a", b"1"), Message("b", b"2")])
            await until(lambda: worker.bodies == [b"1"])
            assert "eventmicro" in (await config_of(admin))["metadata"]


async def test_what_an_administrator_makes_of_ours_afterwards_is_refused_where_it_loses_events() -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin:
            async with jetstream(server) as broker:
                await broker.publish(Message("a"))
            changed = await config_of(admin) | {"discard": "old", "max_msgs": 3}
            await call(admin, "STREAM.UPDATE.EVENTS", changed)
            async with jetstream(server) as broker:
                with pytest.raises(UsageError, match="max_msgs=3 with discard=old"):
                    await broker.publish(Message("a"))


async def test_a_stream_of_another_name_that_forgets_is_used_with_a_warning(
    until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            await make(admin, name="ORDERS", subjects=["orders.*"], max_msgs=100)
            await make(admin, name="USERS", subjects=["users.*"], max_age=60_000_000_000)
            workers = [
                await work(broker, "orders.a"),
                await work(broker, "users.a"),
                await work(broker, "orders.*", "w"),
            ]
            await broker.publish_many([Message("orders.a"), Message("orders.b"), Message("users.a")])
            await until(lambda: [len(worker.deliveries) for worker in workers] == [1, 1, 2])
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(said) == 1
    assert "stream ORDERS" in said[0]
    assert "max_msgs=100 with discard=old" in said[0]


async def test_a_stream_of_another_name_that_confirms_nothing_is_refused() -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            await make(admin, name="ORDERS", subjects=["orders.*"], no_ack=True)
            with pytest.raises(UsageError, match=r"stream ORDERS .*no_ack"):
                await broker.publish(Message("orders.a"))


async def test_a_queue_of_our_name_that_forgets_what_was_settled_is_refused() -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            await broker.publish(Message("a"))
            config = {"durable_name": "q", "filter_subject": "a", "ack_policy": "explicit", "mem_storage": True}
            await call(admin, "CONSUMER.CREATE.EVENTS.q", {"stream_name": "EVENTS", "config": config})
            with pytest.raises(UsageError, match="mem_storage"):
                await work(broker, "a")


@pytest.mark.parametrize("limit", ["max_msgs", "max_bytes"])
async def test_a_stream_that_fills_up_says_so_at_the_start_and_by_its_name_when_it_is_full(
    limit: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    most = {"max_msgs": 2, "max_bytes": 300}[limit]
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            await make(admin, name="ORDERS", subjects=["orders.*"], discard="new", **{limit: most})
            for queue in ("q", "other"):
                await work(broker, "orders.a", queue)
            said = [r.getMessage() for r in caplog.records if "takes no more" in r.getMessage()]
            assert len(said) == 1
            assert f"stream ORDERS takes no more than {limit}={most}" in said[0]
            events = [Message("orders.a", bytes(40)) for _ in range(9)]
            with pytest.raises(NotAllPublished) as some:
                await broker.publish_many(events)
            text = str(some.value.failed[8])
            assert isinstance(some.value.failed[8], NotStored)
            assert "10077): stream ORDERS is full, " in text
            assert "`nats stream edit ORDERS`" in text
