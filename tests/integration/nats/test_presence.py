"""What a service tells of itself, where the server does not let it."""

from __future__ import annotations

import logging

import nats
import pytest
from eventmicro_nats.registry import NatsRegistry
from eventmicro_nats.registry.bucket import Bucket

from eventmicro.client import Client
from eventmicro.errors import NotFound, TransportError, Unavailable
from eventmicro.service import Service
from tests.integration.nats.kit import started
from tests.servers import NatsServer

OF_THE_SERVICE = '"Orders.quote", "Orders.$cancel", "_INBOX.>"'


def user(subscribe: str) -> str:
    """One who may listen to these subjects alone, and send to what is the service's."""
    return f"""authorization {{ users = [ {{ user: "u", password: "p", permissions: {{
        subscribe: [{subscribe}], publish: ["Orders.>", "_INBOX.>"] }} }},
        {{ user: "all", password: "p" }} ] }}"""


def orders() -> Service:
    service = Service("Orders", id="n1")

    @service.rpc
    async def quote() -> str:
        return "4.20"

    return service


@pytest.mark.parametrize(
    ("more", "lacking"),
    [
        ("", "orders.$node.n1.* and orders.health and orders.stats and $SRV.>;"),
        (', "Orders.>"', "listen to $SRV.>;"),
        (', "$SRV.>"', "orders.$node.n1.* and orders.health and orders.stats;"),
    ],
)
async def test_a_service_that_may_not_be_asked_serves(
    more: str, lacking: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "eventmicro")
    with NatsServer(user(OF_THE_SERVICE + more)) as server:
        url = f"127.0.0.1:{server.port}"
        service = orders()
        async with started(service, f"nats://u:p@{url}"), Client(f"nats://all:p@{url}") as client:
            assert await client.call("Orders.quote", None, str) == "4.20"
            told = [r.getMessage() for r in caplog.records if "cannot be looked into" in r.getMessage()]
            assert [lacking in line for line in told] == [True]
            errors = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
            assert [line for line in errors if "for subscription" in line] == []  # that one line has it
            assert (await service.health()).live
            assert service._node is not None
            presence = service._node._presence
            assert presence is not None
            assert bool(presence._make_record().nodes[0].address) == ("Orders.>" in more)
            assert any("permit this user _EVENTMICRO.registry.>" in r.getMessage() for r in caplog.records)
            await service.client.broker.flush()  # nothing of it is left that is asked for again


async def test_a_service_that_may_not_serve_does_not_start() -> None:
    with NatsServer(user('"_INBOX.>", "$SRV.>", "Orders.$node.>", "Orders.$cancel"')) as server:
        with pytest.raises(TransportError, match=r"Orders\.quote"):
            await orders().start(f"nats://u:p@127.0.0.1:{server.port}")
        async with Client(f"nats://all:p@127.0.0.1:{server.port}") as client:
            with pytest.raises((Unavailable, NotFound)):
                await client.call("Orders.quote", None, str)


LIMITED = """accounts { A { jetstream: { max_mem: 1M, max_file: 1M, max_streams: 1 },
  users: [ { user: "u", password: "p" } ] } }"""


async def test_an_account_without_room_for_the_bucket_stops_no_service(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "eventmicro_nats")
    with NatsServer(LIMITED, jetstream=True) as server:
        url = f"nats://u:p@127.0.0.1:{server.port}"
        other = await nats.connect(url)
        await other.jetstream().add_stream(name="OTHERS", subjects=["others"])
        async with started(orders(), url), Client(url) as client:
            assert await client.call("Orders.quote", None, str, selector="random") == "4.20"
            told = [r.getMessage() for r in caplog.records if "services are asked who is there" in r.getMessage()]
            assert "maximum number of streams reached" in told[0]
            await other.jetstream().delete_stream("OTHERS")  # there is room now, and it is used in a while
            async with NatsRegistry(url) as registry:
                assert isinstance(registry._keeper, Bucket)
            assert client.registry is not None
            monkeypatch.setattr(client.registry, "_rethink", 0.0)
            await client.registry.connect()
            with pytest.raises(NotFound):  # the service has not registered there yet
                await client.registry.get_service("Orders")
            assert isinstance(client.registry._keeper, Bucket)
        await other.close()
