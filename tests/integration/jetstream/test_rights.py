"""JetStream: each right that is used is tried at the start, and named as it can be granted; no other is asked for."""

from __future__ import annotations

from typing import Any

import pytest
from eventmicro_nats import JetStreamBroker, NatsBroker

from eventmicro import Client, Service
from eventmicro.errors import EventMicroError, NotStored, TransportError, UsageError
from eventmicro.message import Message
from tests.integration.jetstream.kit import Until, administrator, call, work
from tests.servers import NatsServer
from tests.servers.nats import flush

QUEUE = "Orders.Bill"
CONSUMER = "Orders=Bill"
# All that a queue with dead letters takes, and what the reference in docs/joining/nats.md names.
PUBLISH = [
    "Orders.placed",
    "dead.Orders.Bill",
    "$JS.API.STREAM.NAMES",
    "$JS.API.STREAM.INFO.EVENTS",
    "$JS.API.STREAM.CREATE.EVENTS",
    "$JS.API.STREAM.UPDATE.EVENTS",
    "$JS.API.CONSUMER.CREATE.EVENTS.>",
    "$JS.API.CONSUMER.DELETE.EVENTS.eventmicro-declaring",
    "$JS.API.CONSUMER.INFO.EVENTS.*",
    f"$JS.API.CONSUMER.MSG.NEXT.EVENTS.{CONSUMER}",
    f"$JS.ACK.EVENTS.{CONSUMER}.>",
]
SUBSCRIBE = ["_INBOX.>"]


def users(publish: list[str], subscribe: list[str] = SUBSCRIBE) -> str:
    def listed(subjects: list[str]) -> str:
        return ", ".join(f'"{subject}"' for subject in subjects)

    rights = f"publish: {{ allow: [{listed(publish)}] }}, subscribe: {{ allow: [{listed(subscribe)}] }}"
    return f"""
      authorization {{ users: [
        {{ user: "u", password: "p", permissions: {{ {rights} }} }}
        {{ user: "all", password: "p" }}
      ] }}
    """


def broker_of(server: NatsServer, user: str = "u", query: str = "") -> JetStreamBroker:
    return JetStreamBroker(f"jetstream://{user}:p@127.0.0.1:{server.port}?{query}")


async def test_what_is_in_the_reference_is_enough(until: Until, caplog: pytest.LogCaptureFixture) -> None:
    with NatsServer(users(PUBLISH), jetstream=True) as server:
        async with broker_of(server) as broker:
            worker = await work(broker, "Orders.placed", QUEUE, dead_letter="dead.Orders.Bill")
            await broker.flush()
            await broker.publish(Message("Orders.placed", b"1"))
            await broker.publish(Message("dead.Orders.Bill", b"2"))
            await until(lambda: worker.bodies == [b"1"])
    assert "ermissions" not in "".join(r.getMessage() for r in caplog.records if r.levelname != "INFO")


async def test_where_nothing_is_declared_four_subjects_to_publish_to_are_enough(until: Until) -> None:
    worker = [right for right in PUBLISH if not right.startswith("$JS.API") or ".MSG.NEXT." in right]
    assert len(worker) == 4
    with NatsServer(users(worker), jetstream=True) as server:
        async with broker_of(server, "all") as other, broker_of(server, query="declare=false") as broker:
            made = await work(other, "Orders.placed", QUEUE, dead_letter="dead.Orders.Bill")
            await made.subscription.drain()
            took = await work(broker, "Orders.placed", QUEUE, dead_letter="dead.Orders.Bill")
            await broker.publish(Message("Orders.placed", b"1"))
            await until(lambda: took.bodies == [b"1"])


NEEDED = [
    (f"$JS.API.CONSUMER.MSG.NEXT.EVENTS.{CONSUMER}", None),
    (f"$JS.ACK.EVENTS.{CONSUMER}.>", None),
    ("dead.Orders.Bill", None),
    ("$JS.API.STREAM.NAMES", "declare=true"),
    ("$JS.API.CONSUMER.CREATE.EVENTS.>", "declare=true"),
    ("$JS.API.CONSUMER.INFO.EVENTS.*", "declare=true"),
]


@pytest.mark.parametrize(("missing", "query"), NEEDED, ids=[subject for subject, _ in NEEDED])
async def test_a_right_that_is_missing_is_named_at_the_start(missing: str, query: str | None) -> None:
    """With declare=false nothing is looked up, so that the rights of a worker are left."""
    with NatsServer(users([right for right in PUBLISH if right != missing]), jetstream=True) as server:
        async with broker_of(server, "all") as other:
            if query is None:
                made = await work(other, "Orders.placed", QUEUE, dead_letter="dead.Orders.Bill")
                await made.subscription.drain()
            async with broker_of(server, query=query or "declare=false") as broker:
                wanted = missing if "CREATE" not in missing and "INFO" not in missing else missing[: missing.rfind(".")]
                said = rf'permissions violation for publish to ".*allow this user to publish to "{_regex(wanted)}'
                with pytest.raises(UsageError, match=said):
                    await work(broker, "Orders.placed", QUEUE, dead_letter="dead.Orders.Bill")
                assert not broker._durables


def _regex(subject: str) -> str:
    return subject.replace("$", r"\$").replace(".", r"\.").replace("*", r"\*")


async def test_order_takes_two_rights_more(until: Until) -> None:
    name = f"EVENTS.{CONSUMER}"
    order = [f"$JS.API.CONSUMER.UNPIN.{name}"]
    with NatsServer(users(PUBLISH), jetstream=True) as server:
        async with broker_of(server) as broker:
            with pytest.raises(
                UsageError, match=rf'allow this user to publish to "\$JS\.API\.CONSUMER\.UNPIN\.{name}"'
            ):
                await work(broker, "Orders.placed", QUEUE, ordered=True)
    with NatsServer(users([*PUBLISH, *order]), jetstream=True) as server:
        async with broker_of(server) as broker:
            worker = await work(broker, "Orders.placed", QUEUE, ordered=True)
            await broker.publish(Message("Orders.placed", b"1"))
            await until(lambda: worker.bodies == [b"1"])
            await worker.subscription.drain()


@pytest.mark.parametrize("declare", ["true", "check", "false"])
async def test_a_wrong_inbox_prefix_is_named_at_once(declare: str) -> None:
    said = r'subscription to "_INBOX\..*allow this user to subscribe to "_INBOX\.>", or set inbox_prefix'
    with NatsServer(users(PUBLISH, ["orders_inbox.>"]), jetstream=True) as server:
        async with broker_of(server, query=f"declare={declare}") as broker:
            with pytest.raises(UsageError, match=said):
                await work(broker, "Orders.placed", QUEUE)
            if declare != "false":
                with pytest.raises(NotStored, match=said):
                    await broker.publish(Message("Orders.placed"))
        async with broker_of(server, query="inbox_prefix=orders_inbox") as broker:
            await work(broker, "Orders.placed", QUEUE)
            await broker.publish(Message("Orders.placed"))


async def test_a_client_that_may_not_hear_answers_says_so_at_its_first_call() -> None:
    with NatsServer(users(["orders.>"], ["orders_inbox.>"])) as server:
        async with Client(f"nats://u:p@127.0.0.1:{server.port}") as client:
            with pytest.raises(
                EventMicroError, match=r'allow this user to subscribe to "_INBOX\.>", or set inbox_prefix'
            ):
                await client.call("orders.double", 1, int, timeout=20)


async def test_a_service_names_the_subject_to_which_it_may_not_subscribe() -> None:
    service = Service("Orders")

    @service.rpc
    async def Double(number: int) -> int:  # noqa: N802
        return number

    said = r'allow this user to subscribe to "Orders\.Double"'
    with NatsServer(users([">"], ["_INBOX.>", "$SRV.>"])) as server, pytest.raises(TransportError, match=said):
        await service.start(f"nats://u:p@127.0.0.1:{server.port}")


async def test_a_publisher_is_told_the_subject_in_its_case() -> None:
    with NatsServer(users(PUBLISH), jetstream=True) as server:
        async with broker_of(server, "all") as other:
            await other.publish(Message("Secret.One"))
        async with broker_of(server) as broker:
            with pytest.raises(
                NotStored, match=r'publish to "Secret\.One": allow this user to publish to "Secret\.One"'
            ):
                await broker.publish(Message("Secret.One"))


async def test_advisories_are_asked_for_where_the_server_gives_events_up() -> None:
    """A queue with max_deliver, of somebody else, needs them; all others do without."""
    with NatsServer(users([*PUBLISH, "$JS.API.STREAM.MSG.GET.EVENTS"]), jetstream=True) as server:
        async with broker_of(server, "all") as other, broker_of(server) as broker:
            await other.publish(Message("Orders.placed"))
            async with administrator(server.port, "all:p@") as admin:
                config: dict[str, Any] = {
                    "durable_name": CONSUMER,
                    "filter_subject": "Orders.placed",
                    "ack_policy": "explicit",
                    "max_deliver": 5,
                }
                what = f"CONSUMER.CREATE.EVENTS.{CONSUMER}"
                await call(admin, what, {"stream_name": "EVENTS", "config": config})
            said = rf'subscribe to "\$JS\.EVENT\.ADVISORY\.CONSUMER\.MAX_DELIVERIES\.EVENTS\.{CONSUMER}"'
            with pytest.raises(UsageError, match=said):
                await work(broker, "Orders.placed", QUEUE, dead_letter="dead.Orders.Bill")


async def test_rights_that_are_taken_while_it_works_are_named_and_it_goes_on_with_them(
    until: Until, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventmicro_nats.jetstream.durable.HEARTBEAT", 0.1)
    monkeypatch.setattr("eventmicro_nats.jetstream.durable.SILENCE", 0.5)
    next_subject = f"$JS.API.CONSUMER.MSG.NEXT.EVENTS.{CONSUMER}"
    with NatsServer(users(PUBLISH), jetstream=True) as server:
        async with broker_of(server, query="reconnect_wait=0.05") as broker, broker_of(server, "all") as other:
            worker = await work(broker, "Orders.placed", QUEUE)
            server.reload(users([right for right in PUBLISH if right != next_subject]))
            await until(lambda: "Reloaded: authorization users" in server.log.read_text())
            for number in range(200):  # more than were asked for before
                await other.publish(Message("Orders.placed", b"%d" % number))
            await until(lambda: f'allow this user to publish to "{next_subject}"' in caplog.text)
            server.reload(users(PUBLISH))
            await until(lambda: len(worker.deliveries) == 200)
            assert worker.bodies == [b"%d" % number for number in range(200)]


async def test_core_nats_names_what_may_not_be_published(until: Until, caplog: pytest.LogCaptureFixture) -> None:
    with NatsServer(users(["a"])) as server:
        async with NatsBroker(f"nats://u:p@127.0.0.1:{server.port}") as broker:
            await broker.publish(Message("Not.This"))
            await broker.flush()
            await until(lambda: 'publish to "Not.This": allow this user to publish to "Not.This"' in caplog.text)


@pytest.mark.parametrize("may_publish", [True, False])
async def test_trying_to_publish_a_dead_letter_gives_nothing_to_whoever_listens_there(
    may_publish: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Where this user may not ask what it may do; a stream's subject may have plain subscribers, too."""
    rights = [right for right in PUBLISH if may_publish or right != "dead.Orders.Bill"]
    with NatsServer(users(rights), jetstream=True) as server:
        async with administrator(server.port, "all:p@") as admin, broker_of(server) as broker:
            heard = await admin._nc.subscribe("dead.>")
            await flush(admin._nc)
            trying = work(broker, "Orders.placed", QUEUE, dead_letter="dead.Orders.Bill")
            if may_publish:
                await trying
            else:
                with pytest.raises(UsageError, match=r'allow this user to publish to "dead\.Orders\.Bill"'):
                    await trying
            await flush(admin._nc)
            assert heard.pending_msgs == 0
            assert (await admin.stream_info("EVENTS")).state.messages == 0
            assert "_R_." in server.log.read_text() or not may_publish, "it was tried"
    assert "ermissions" not in "".join(r.getMessage() for r in caplog.records if r.levelname != "INFO")
