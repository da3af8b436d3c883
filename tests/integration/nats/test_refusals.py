"""Core NATS and JetStream: what a server refuses while clients are connected, and why it ends their connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from eventmicro_nats import JetStreamBroker, NatsBroker

from eventmicro.broker import Durable
from eventmicro.client import Client
from eventmicro.errors import ConnectionFailed, EventMicroError, MessageTooLarge, TransportError
from eventmicro.message import Message
from eventmicro.service import Service
from tests.integration.nats.kit import Inbox, listen, send, started, until
from tests.servers import FaultProxy, NatsServer
from tests.told import until_told


@pytest.fixture(autouse=True)
def asked_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventmicro_nats.connection.refusals.AGAIN", 0.1)


def users(subscribe: str = "", publish: str = "", more: str = "") -> str:
    """One user who may not do these, and one who may do all."""
    denied = f"permissions: {{ subscribe: {{ deny: [{subscribe}] }}, publish: {{ deny: [{publish}] }} }}"
    return f"""
      authorization {{ users = [
        {{ user: "u", password: "p", {denied} }}
        {{ user: "all", password: "p" }}
      ] }}
      {more}
    """


def url(server: NatsServer | FaultProxy, user: str = "u", query: str = "", scheme: str = "nats") -> str:
    return f"{scheme}://{user}:p@127.0.0.1:{server.port}?reconnect_wait=0.05&{query}"


async def until_it_comes(inbox: Inbox, publish: Callable[[], Any]) -> None:
    """Publish until something of it arrives."""
    async with asyncio.timeout(20):
        while not inbox.deliveries:
            await publish()
            await asyncio.sleep(0.02)


def count(caplog: pytest.LogCaptureFixture, *words: str) -> int:
    return sum(all(word in record.getMessage() for word in words) for record in caplog.records)


@pytest.mark.parametrize("queue", [None, "Group"])
async def test_a_subscription_whose_permission_was_taken_comes_back_with_it(
    queue: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    with NatsServer(users()) as server:
        async with NatsBroker(url(server)) as broker, NatsBroker(url(server, "all")) as other:
            inbox, _ = await listen(broker, "Orders.placed", queue=queue)
            beside, _ = await listen(broker, "orders.Placed", queue=queue)
            server.reload(users(subscribe='"Orders.placed"'))
            await until(lambda: "permissions violation" in caplog.text)
            await send(other, "Orders.placed", 1)
            await send(other, "orders.Placed", 1)
            await beside.wait_for(1)
            await asyncio.sleep(0.5)  # it is asked for again, several times
            assert not inbox.deliveries
            assert count(caplog, "permissions violation", '"Orders.placed"') == 1
            server.reload(users())
            await until_it_comes(inbox, lambda: send(other, "Orders.placed", 1))
            assert count(caplog, "takes the subscription to Orders.placed again") == 1
            received = len(inbox.deliveries)
            await send(other, "Orders.placed", 1)
            await inbox.wait_for(received + 1)
            assert len(inbox.deliveries) == received + 1, "it is subscribed once"


async def test_a_subscription_that_was_refused_at_a_reconnect_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    with NatsServer(users()) as server:
        async with NatsBroker(url(server)) as broker, NatsBroker(url(server, "all")) as other:
            inbox, _ = await listen(broker, "orders.placed", queue="q")
            server.kill()
            server.config = users(subscribe='"orders.>"')
            server.start()
            await until(lambda: "permissions violation" in caplog.text)
            with pytest.raises(TransportError, match=r"refuses: .*orders\.placed"):
                await broker.flush()
            await broker.flush()
            server.reload(users())
            await until_it_comes(inbox, lambda: send(other, "orders.placed", 1))


async def test_one_that_is_drained_while_it_is_refused_is_not_asked_for_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with NatsServer(users()) as server:
        async with NatsBroker(url(server)) as broker, NatsBroker(url(server, "all")) as other:
            inbox, subscription = await listen(broker, "a")
            stays, _ = await listen(broker, "b")
            server.reload(users(subscribe='"a", "b"'))
            await until(lambda: count(caplog, "permissions violation") == 2)
            await subscription.drain()
            server.reload(users())
            await until_it_comes(stays, lambda: send(other, "b", 1))
            stays.deliveries.clear()
            await send(other, "a", 1)
            await send(other, "b", 1)
            await stays.wait_for(1)
            assert not inbox.deliveries


async def test_a_publish_that_is_not_permitted_is_told_once_and_works_again(caplog: pytest.LogCaptureFixture) -> None:
    with NatsServer(users(publish='"a"')) as server:
        async with NatsBroker(url(server)) as broker:
            inbox, _ = await listen(broker, "a")
            await send(broker, "a", 50)
            await broker.flush()
            assert count(caplog, "permissions violation for publish", '"a"') == 1
            server.reload(users())
            await until_it_comes(inbox, lambda: send(broker, "a", 1))


async def test_calls_come_back_where_endpoint_and_reply_inbox_had_lost_their_permission(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = Service("orders")

    @service.rpc
    async def double(number: int) -> int:
        return number * 2

    with NatsServer(users()) as server:
        async with started(service, url(server)), Client(url(server)) as client:
            assert await client.call("orders.double", 1, int) == 2
            server.reload(users(subscribe='"orders.>", "_INBOX.>"'))
            await until(lambda: count(caplog, "permissions violation", "_INBOX") >= 2)  # the service has inboxes, too
            await until(lambda: count(caplog, "permissions violation", '"orders.double"') == 1)
            with pytest.raises(EventMicroError):
                await client.call("orders.double", 1, int, timeout=0.3)
            server.reload(users())
            async with asyncio.timeout(20):
                while True:
                    try:
                        assert await client.call("orders.double", 2, int, timeout=0.3) == 4
                        break
                    except EventMicroError:
                        continue


@pytest.mark.timeout_seconds(60)
@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize(
    ("subscribe", "publish"),
    [('"_INBOX.>"', ""), ("", '"$JS.API.>"'), ("", '"$JS.ACK.>"')],
    ids=["inboxes", "requests", "acks"],
)
async def test_a_queue_goes_on_when_it_has_its_permission_again(
    subscribe: str, publish: str, ordered: bool, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[bytes] = []
    with NatsServer(users(), jetstream=True) as server:
        async with (
            JetStreamBroker(url(server, scheme="jetstream")) as broker,
            JetStreamBroker(url(server, "all", scheme="jetstream")) as other,
        ):

            def take(delivery: Any) -> None:
                got.append(delivery.body)
                with pytest.raises(StopIteration):
                    delivery.ack().send(None)

            await broker.subscribe("a", take, queue="q", durable=Durable(ordered=ordered))
            await other.publish(Message("a", b"before"))
            await until(lambda: got == [b"before"])
            await broker.flush()
            server.reload(users(subscribe, publish))
            await until(lambda: "Reloaded: authorization users" in server.log.read_text())
            await other.publish(Message("a", b"meanwhile"))
            await until(lambda: "permissions violation" in caplog.text)
            await asyncio.sleep(0.5)
            server.reload(users())
            await other.publish(Message("a", b"after"))
            await until(lambda: got[-1:] == [b"after"], 40)
            assert got == [b"before", b"meanwhile", b"after"]
            other_api: Any = other._parts

            async def left() -> tuple[int, int]:
                deadline = asyncio.get_running_loop().time() + 2
                info = await other_api._api.call("CONSUMER.INFO.EVENTS.q", deadline=deadline)
                return info["num_ack_pending"], info["num_redelivered"]

            await until_told(left, (0, 0))


@pytest.mark.parametrize("ordered", [False, True])
async def test_a_queue_that_may_not_be_asked_for_its_info_settles_over_a_reconnect(
    ordered: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """With declare=false that is no right which is needed, but for a queue with order."""
    got: list[Any] = []
    with NatsServer(users(publish='"$JS.API.CONSUMER.INFO.>"' if not ordered else ""), jetstream=True) as server:
        async with (
            JetStreamBroker(url(server, "all", scheme="jetstream")) as other,
            FaultProxy(server.port) as proxy,
            JetStreamBroker(url(proxy, query="declare=false", scheme="jetstream")) as broker,
        ):
            made = await other.subscribe("a", got.append, queue="q", durable=Durable(ordered=ordered))
            await made.drain()
            subscription: Any = await broker.subscribe("a", got.append, queue="q", durable=Durable(ordered=ordered))
            await other.publish(Message("a", b"1"))
            await other.publish(Message("a", b"2"))
            await until(lambda: len(got) == 2)
            await got[0].ack()
            proxy.refuse = True
            proxy.cut()
            await until(lambda: not broker.online)
            await got[1].ack()
            proxy.refuse = False
            await until(lambda: not subscription.unsettled)
            await other.publish(Message("a", b"3"))
            await until(lambda: len(got) == 3)
            assert got[2].body == b"3"
            assert not count(caplog, "permissions violation")


async def test_a_publish_is_not_taken_for_refused_where_a_subscription_to_its_subject_is() -> None:
    with NatsServer(users(), jetstream=True) as server:
        async with JetStreamBroker(url(server, scheme="jetstream")) as broker:
            await broker.publish(Message("a"))
            assert broker._parts is not None
            _, answer = broker._parts.replies.expect("a", asyncio.get_running_loop().time() + 5)
            await broker._on_error(Exception('nats: permissions violation for subscription to "a"'))
            assert not answer.done()
            await broker._on_error(Exception('nats: permissions violation for publish to "a"'))
            assert answer.done()


# -- limits ----------------------------------------------------------------------------------------------------


async def test_a_subscription_over_the_limit_is_refused_by_name_and_the_others_live_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with NatsServer(users(more="max_subscriptions: 3")) as server:
        async with NatsBroker(url(server)) as broker, NatsBroker(url(server, "all")) as other:
            inboxes = [(await listen(broker, f"a{number}"))[0] for number in range(3)]
            last, last_subscription = Inbox(), await broker.subscribe("a3", inboxes[0])
            said = r'refuses: maximum subscriptions exceeded: no subscription to "a3"; raise max_subscriptions'
            with pytest.raises(TransportError, match=said):
                await broker.flush()
            await send(other, "a0", 1)
            await inboxes[0].wait_for(1)
            await asyncio.sleep(0.3)  # it is asked for again
            assert broker.online
            assert "connection lost" not in caplog.text
            assert count(caplog, "maximum subscriptions exceeded") == 1
            await last_subscription.drain()
            server.stop()
            await until(lambda: not broker.online)
            server.start()
            for number, inbox in enumerate(inboxes):
                await until_it_comes(inbox, lambda number=number: send(other, f"a{number}", 1))  # type: ignore[misc]
            assert not last.deliveries


async def test_one_over_the_limit_is_taken_as_soon_as_there_is_room(caplog: pytest.LogCaptureFixture) -> None:
    with NatsServer(users(more="max_subscriptions: 2")) as server:
        async with NatsBroker(url(server)) as broker, NatsBroker(url(server, "all")) as other:
            _, first = await listen(broker, "a0")
            await listen(broker, "a1")
            inbox = Inbox()
            await broker.subscribe("a2", inbox)
            await until(lambda: count(caplog, "maximum subscriptions exceeded", '"a2"') == 1)
            await first.drain()
            await until_it_comes(inbox, lambda: send(other, "a2", 1))
            assert count(caplog, "takes the subscription to a2 again") == 1


async def test_a_service_with_too_many_subscriptions_does_not_start() -> None:
    service = Service("many")
    for number in range(5):

        @service.subscribe(f"a{number}", name=f"take{number}")
        async def take(event: int) -> None: ...

    said = r"maximum subscriptions exceeded.* raise max_subscriptions"
    with NatsServer(users(more="max_subscriptions: 3")) as server, pytest.raises(TransportError, match=said):
        await service.start(url(server))


async def test_a_connection_over_the_limit_is_refused_with_the_mend(caplog: pytest.LogCaptureFixture) -> None:
    with NatsServer(users(more="max_connections: 1")) as server:
        async with NatsBroker(url(server)) as broker:
            with pytest.raises(ConnectionFailed, match=r"maximum connections exceeded.*: raise max_connections"):
                await NatsBroker(url(server, query="connect_timeout=1")).connect()  # some tries read no word
            assert broker.online


async def test_a_smaller_max_payload_is_told_and_the_connection_stands_again(caplog: pytest.LogCaptureFixture) -> None:
    with NatsServer(users()) as server:
        async with NatsBroker(url(server)) as broker:
            inbox, _ = await listen(broker, "a")
            server.reload(users(more="max_payload: 100"))
            await until(lambda: "max_payload = 100" in server.log.read_text())

            async def publish_on() -> None:
                while True:
                    await broker.publish(Message("a", b"x" * 200))
                    await asyncio.sleep(0.1)

            with pytest.raises(MessageTooLarge, match="max_payload of 100"):
                await asyncio.wait_for(publish_on(), 20)
            await until(lambda: broker.online)
            await until_it_comes(inbox, lambda: send(broker, "a", 1))


async def test_a_subject_that_is_too_long_is_told_and_the_connection_does_not_flap(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with NatsServer(users(more="max_control_line: 512")) as server:
        async with NatsBroker(url(server)) as broker:
            inbox, _ = await listen(broker, "a")
            await broker.publish(Message("b" * 1000))
            await until(lambda: "connected again" in caplog.text)
            assert count(caplog, "ended the connection: maximum control line exceeded: ", "max_control_line") == 1
            await until_it_comes(inbox, lambda: send(broker, "a", 1))


async def test_a_user_that_is_removed_is_told_why_and_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    with NatsServer(users()) as server:
        async with NatsBroker(url(server)) as broker:
            inbox, _ = await listen(broker, "a")
            server.reload(users().replace('"u"', '"other"'))
            await until(lambda: count(caplog, "uthorization", "the user is unknown") == 1)
            await asyncio.sleep(0.5)
            assert count(caplog, "the user is unknown") <= 2, "not with each try"
            server.reload(users())
            await until(lambda: broker.online)
            await until_it_comes(inbox, lambda: send(broker, "a", 1))
