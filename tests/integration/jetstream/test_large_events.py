"""Large events on JetStream: in its object store, for every queue, over restarts; what is gone is a dead letter."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import pytest
from eventmicro_nats import JetStreamBroker, NatsBroker
from nats.js.api import ObjectStoreConfig

from eventmicro import Client, Service, Topic
from eventmicro.errors import MessageTooLarge, NotStored, Unsupported
from eventmicro.large import StoredObject, digest_of
from eventmicro.message import Message
from eventmicro.wire import DEAD_REASON
from tests.integration.jetstream.kit import Until, administrator, work
from tests.servers import NatsServer

BIG = secrets.token_bytes(3_000_001)


def topic() -> Topic[bytes]:
    return Topic(f"files-{secrets.token_hex(4)}.made", bytes, large="object")


class Archive:
    """A service of a name of its own that keeps what it gets."""

    def __init__(self, made: Topic[bytes], **options: Any) -> None:
        self.got: list[bytes] = []
        self.service = Service(f"archive-{secrets.token_hex(4)}", **options)

        @self.service.subscribe(made)
        async def keep(body: bytes) -> None:
            self.got.append(body)


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2].strip("/"))


async def test_every_queue_gets_the_whole_event(jetstream_url: str, until: Until) -> None:
    made = topic()
    first, second = Archive(made, broker=jetstream_url), Archive(made, broker=jetstream_url)
    async with first.service, second.service, Client(jetstream_url) as client:
        await client.publish(made, b"small")
        await client.publish(made, BIG)
        await client.publish_many(made, [b"one", BIG[:2_000_000], b"two"])
        sent = [b"small", BIG, b"one", BIG[:2_000_000], b"two"]
        await until(lambda: len(first.got) == len(second.got) == 5)
        assert first.got == second.got == sent
        with pytest.raises(MessageTooLarge, match="max_payload"):
            await client.publish(Topic(made.name, bytes), BIG)


async def test_other_clients_of_nats_read_and_write_the_same_objects(jetstream_url: str) -> None:
    bucket = f"bodies-{secrets.token_hex(4)}"
    async with (
        JetStreamBroker(f"{jetstream_url}?object_bucket={bucket}&object_ttl=3600&storage=memory") as broker,
        administrator(port_of(jetstream_url)) as js,
    ):
        stored = await broker.store_object(BIG, await digest_of(BIG), timeout=10)
        assert stored.bucket == bucket
        store = await js.object_store(bucket)
        found = await store.get(stored.name)
        assert (found.data, found.info.size, found.info.chunks) == (BIG, len(BIG), 23)
        status = await store.status()
        assert (status.ttl, status.storage_type) == (3600, "memory")
        await store.put("theirs", BIG[:500_000])
        theirs = StoredObject(bucket, "theirs", 500_000, await digest_of(BIG[:500_000]))
        assert await broker.fetch_object(theirs) == BIG[:500_000]
        await js.delete_object_store(bucket)


async def test_an_object_deleted_before_it_is_read_makes_a_dead_letter_that_says_so(until: Until) -> None:
    made, archive = topic(), None
    with NatsServer(jetstream=True) as server:
        archive = Archive(made, broker=server.jetstream_url)
        async with archive.service:
            queue = f"{archive.service.name}.keep"
        async with Client(server.jetstream_url) as client, administrator(server.port) as js:
            await client.publish(made, BIG)
            await client.publish(made, BIG)
            await client.publish(made, b"small")
            info = await js.get_last_msg(client.broker.settings.stream, made.name)  # type: ignore[attr-defined]
            assert info.data == b"small"
            await js.purge_stream("OBJ_eventmicro_events", keep=25)  # the second, whole
            async with archive.service:
                await until(lambda: len(archive.got) == 2)
                assert archive.got == [BIG, b"small"]
            async with JetStreamBroker(server.jetstream_url) as broker:
                dead = await work(broker, f"dead.{queue}", f"dead.{queue}")
                await until(lambda: dead.deliveries)
                reason = (dead.deliveries[0].headers or {})[DEAD_REASON]
                assert "it is without its body: object" in reason
                assert "not there any more in bucket eventmicro_events" in reason


async def test_chunks_that_are_gone_or_changed_make_one_too(jetstream_url: str, until: Until) -> None:
    made, bucket = topic(), f"bodies-{secrets.token_hex(4)}"
    url = f"{jetstream_url}?object_bucket={bucket}"
    archive = Archive(made, broker=url)
    async with archive.service:
        queue = f"{archive.service.name}.keep"
    async with Client(url) as client, administrator(port_of(jetstream_url)) as js:
        await client.publish(made, BIG)
        await js.delete_msg(f"OBJ_{bucket}", 3)
        async with archive.service, JetStreamBroker(url) as broker:
            dead = await work(broker, f"dead.{queue}", f"dead.{queue}")
            await until(lambda: dead.deliveries)
            assert "without its body" in (dead.deliveries[0].headers or {})[DEAD_REASON]
        assert archive.got == []
        await js.delete_object_store(bucket)


@pytest.mark.timeout_seconds(60)
async def test_a_server_killed_between_publish_and_fetch_loses_nothing(until: Until) -> None:
    made = topic()
    with NatsServer(jetstream=True) as server:
        archive = Archive(made, broker=server.jetstream_url)
        async with archive.service:
            pass
        async with Client(server.jetstream_url) as client:
            for number in range(5):
                await client.publish(made, BIG + b"%d" % number)
            server.kill()
            server.start()
            async with archive.service:
                await until(lambda: len(archive.got) == 5)
                assert archive.got == [BIG + b"%d" % number for number in range(5)]
                server.kill()
                publishing = asyncio.create_task(client.publish(made, BIG + b"late", timeout=20))
                server.start()
                await publishing
                await until(lambda: archive.got[-1] == BIG + b"late")


async def test_a_bucket_that_is_not_to_be_made_must_be_there(jetstream_url: str) -> None:
    bucket, made = f"bodies-{secrets.token_hex(4)}", topic()
    url = f"{jetstream_url}?object_bucket={bucket}&declare=check"
    async with Archive(made, broker=jetstream_url).service, administrator(port_of(jetstream_url)) as js:
        async with Client(url) as client:
            with pytest.raises(NotStored, match="stream not found"):
                await client.publish(made, BIG)
            await js.create_object_store(bucket, config=ObjectStoreConfig(bucket=bucket))
            await client.publish(made, BIG)
        await js.delete_object_store(bucket)


async def test_core_nats_refuses_it_and_names_who_can(nats_url: str) -> None:
    made = topic()
    archive = Archive(made)
    with pytest.raises(Unsupported, match=r"needs objects, which .* lacks; able are jetstream://.*write jetstream://"):
        await archive.service.start(nats_url)
    async with Client(nats_url) as client:
        with pytest.raises(Unsupported, match=r"able are jetstream://, memory://; .*write jetstream://"):
            await client.publish(made, b"small")


async def test_a_live_subscriber_over_core_nats_skips_what_it_cannot_read(
    jetstream_url: str, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    made = topic()
    plain = Archive(Topic(made.name, bytes), broker=NatsBroker(jetstream_url.replace("jetstream", "nats")))
    async with plain.service, Client(jetstream_url) as client:
        await client.publish(made, BIG)
        await client.publish(made, b"small")
        await until(lambda: plain.got)
        assert plain.got == [b"small"]
        assert "has none" in caplog.text


async def test_a_fetch_reads_no_more_than_the_event_says(jetstream_url: str) -> None:
    async with JetStreamBroker(jetstream_url) as broker:
        digest = await digest_of(BIG)
        stored = await broker.store_object(BIG, digest, timeout=10)
        with pytest.raises(Exception, match="longer than the event says"):
            await broker.fetch_object(StoredObject(stored.bucket, stored.name, 1000, digest))
        assert broker.fits(Message("a", bytes(1_000_000)))
        assert not broker.fits(Message("a", bytes(1_048_577)))
