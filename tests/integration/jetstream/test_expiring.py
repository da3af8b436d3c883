"""JetStream: events that the stream drops when their time is over; streams of others are asked, and never changed."""

from __future__ import annotations

import pytest

from eventmicro.errors import NotAllPublished, NotStored, Unsupported, UsageError
from eventmicro.message import Bounded, Message
from tests.integration.jetstream.kit import administrator, call, config_of, jetstream, make
from tests.servers import NatsServer


async def test_our_stream_learns_to_let_events_expire_when_the_first_does() -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            await broker.publish(Message("a", b"for ever"))
            assert not (await config_of(admin)).get("allow_msg_ttl")
            await broker.publish(Bounded("a", b"brief", ttl=0.2))
            await broker.publish_many([Bounded("b", b"brief", ttl=90.5), Message("b", b"for ever")])
            assert (await config_of(admin))["allow_msg_ttl"] is True
            headers = [(await admin.get_msg("EVENTS", number)).headers for number in (3, 4)]
    assert [(said or {}).get("Nats-TTL") for said in headers] == ["91s", None]


@pytest.mark.parametrize("stream", ["EVENTS", "OTHER"])
async def test_a_stream_of_others_that_lets_none_expire_is_left_alone_and_used_when_it_does(stream: str) -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            before = await make(admin, name=stream, subjects=["a"])
            told = rf"a: stream {stream} lets no event expire .*nats stream edit {stream} --allow-msg-ttl"
            with pytest.raises(UsageError, match=told):
                await broker.publish(Bounded("a", b"", ttl=60))
            with pytest.raises(NotAllPublished) as caught:
                await broker.publish_many([Bounded("a", b"", ttl=60), Message("a", b"kept")])
            assert [(number, type(error)) for number, error in caught.value.failed.items()] == [(0, UsageError)]
            assert await config_of(admin, stream) == before
            await call(admin, f"STREAM.UPDATE.{stream}", {**before, "allow_msg_ttl": True})
            await broker.publish(Bounded("a", b"brief", ttl=60))
            assert ((await admin.get_msg(stream, 2)).headers or {})["Nats-TTL"] == "60s"


async def test_a_stream_that_is_made_anew_without_is_found_out() -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin, jetstream(server) as broker:
            await make(admin, name="OTHER", subjects=["a"], allow_msg_ttl=True)
            await broker.publish(Bounded("a", b"", ttl=60))
            await admin.delete_stream("OTHER")
            await make(admin, name="OTHER", subjects=["a"])
            with pytest.raises(NotStored, match=r"^a: .*TTL"):
                await broker.publish(Bounded("a", b"", ttl=60))
            with pytest.raises(UsageError, match="nats stream edit OTHER --allow-msg-ttl"):
                await broker.publish(Bounded("a", b"", ttl=60))


async def test_a_server_that_would_keep_them_for_ever_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with NatsServer(jetstream=True) as server:
        async with jetstream(server) as broker:
            info = {**broker._connected_driver().info, "version": "2.10.7", "api_lvl": 0}
            monkeypatch.setattr(type(broker._connected_driver()), "info", info)
            with pytest.raises(
                Unsupported, match=r"^nats-server 2\.10\.7 cannot let events expire by their ttl: 2\.11"
            ):
                await broker.publish(Bounded("a", b"", ttl=60))
