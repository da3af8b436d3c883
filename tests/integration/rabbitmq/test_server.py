"""RabbitMQ, a server of its own: killed, hanging, short of disk, with TLS, with users that may not do everything."""

from __future__ import annotations

import asyncio
import shlex
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiormq
import pytest
from eventmicro_rabbitmq import RabbitBroker, RabbitQueue
from pamqp.commands import Basic

from eventmicro.broker import Durable
from eventmicro.client import Client
from eventmicro.context import Context
from eventmicro.errors import (
    ConnectionFailed,
    Disconnected,
    MessageTooLarge,
    NotAllPublished,
    NotStored,
    TransportError,
    Unavailable,
    Unconfirmed,
    UsageError,
)
from eventmicro.message import Delivery, Message
from eventmicro.retry import Retry
from eventmicro.service import Service
from tests.certificates import Certificates, make_certificates
from tests.servers import FaultProxy, RabbitServer

Until = Callable[[Callable[[], object]], Awaitable[None]]

CONFIG = "max_message_size = 100000\n"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("rabbitmq"), "localhost")


@pytest.fixture(scope="module")
def server(certificates: Certificates, starter: ThreadPoolExecutor) -> Iterator[RabbitServer]:
    with RabbitServer(CONFIG, certificates=certificates) as server:
        yield server


@pytest.fixture(scope="module")
def starter() -> Iterator[ThreadPoolExecutor]:
    """The thread that starts the server again: it ends with the thread that has started it."""
    with ThreadPoolExecutor(1) as executor:
        yield executor


async def start_again(server: RabbitServer, starter: ThreadPoolExecutor) -> None:
    await asyncio.get_running_loop().run_in_executor(starter, server.start)


def url(server: RabbitServer, user: str = "guest", vhost: str = "", **settings: object) -> str:
    address = server.url.replace("guest:guest", f"{user}:guest")
    query = "&".join(f"{name}={value}" for name, value in {"new_queue_wait": 0, **settings}.items())
    return f"{address}{vhost}?{query}"


# -- TLS, users, virtual hosts -----------------------------------------------------------------------------------


async def test_tls_with_the_right_authority(server: RabbitServer, certificates: Certificates, subject: str) -> None:
    async with RabbitBroker(f"{server.tls_url}?tls_ca={certificates.authority}") as broker:
        await broker.publish(Message(subject))


async def test_over_tls_too_what_cannot_be_sent_waits_with_its_publisher(
    server: RabbitServer, certificates: Certificates, subject: str
) -> None:
    """And lets others run meanwhile: asyncio's TLS takes twice as much as its TCP before it says that it is full."""
    async with FaultProxy(server.tls_port) as proxy:
        by_proxy = server.tls_url.replace(f":{server.tls_port}", f":{proxy.port}")
        async with RabbitBroker(f"{by_proxy}?tls_ca={certificates.authority}") as broker:
            await broker.publish(Message(subject))
            await broker.publish_many([Message(subject, bytes(100_000))] * 100)
            proxy.blackhole = True
            with pytest.raises(NotAllPublished) as caught:
                await broker.publish_many([Message(subject, bytes(100_000))] * 500, timeout=1)
            kinds = [type(error) for error in caught.value.failed.values()]
            assert kinds.count(Disconnected) > 100
            proxy.blackhole = False


async def test_an_authority_that_is_not_trusted_is_refused_at_once(server: RabbitServer, tmp_path: Path) -> None:
    other = make_certificates(tmp_path, "localhost")
    for query in ("", f"?tls_ca={other.authority}"):
        with pytest.raises(ConnectionFailed, match=r"refused: .*certificate verify failed"):
            await RabbitBroker(f"{server.tls_url}{query}").connect()


async def test_a_certificate_for_another_name_is_refused(server: RabbitServer, certificates: Certificates) -> None:
    by_number = server.tls_url.replace("localhost", "127.0.0.1")
    with pytest.raises(ConnectionFailed, match=r"refused: .*IP address mismatch"):
        await RabbitBroker(f"{by_number}?tls_ca={certificates.authority}").connect()
    async with RabbitBroker(f"{by_number}?tls_ca={certificates.authority}&tls_hostname=localhost") as broker:
        assert broker.online


async def test_tls_to_a_port_without_it_is_refused(server: RabbitServer) -> None:
    with pytest.raises(ConnectionFailed):
        await RabbitBroker(server.url.replace("amqp:", "amqps:") + "?connect_timeout=1").connect()


async def test_a_server_that_says_nothing_in_tls_is_given_up(certificates: Certificates) -> None:
    writers: list[asyncio.StreamWriter] = []

    def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        transport = writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        writers.append(writer)

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.certificate, certificates.key)
    async with await asyncio.start_server(hang, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        broker = RabbitBroker(f"amqps://localhost:{port}?tls_ca={certificates.authority}&connect_timeout=0.5")
        async with asyncio.timeout(15):  # TLS itself would wait for longer
            with pytest.raises(ConnectionFailed, match="no answer"):
                await broker.connect()
        for writer in writers:
            writer.transport.abort()


@pytest.mark.timeout_seconds(60)
async def test_a_password_that_was_changed_meanwhile_is_said_once(
    server: RabbitServer, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    await asyncio.to_thread(server.ctl, "add_user", "changing", "guest")
    await asyncio.to_thread(server.ctl, "set_permissions", "changing", ".*", ".*", ".*")
    async with FaultProxy(server.port) as proxy:
        through = url(server, "changing", reconnect_wait=0.05).replace(f":{server.port}", f":{proxy.port}")
        async with RabbitBroker(through) as broker:
            await asyncio.to_thread(server.ctl, "change_password", "changing", "other")
            proxy.cut()
            await until(lambda: "refused" in caplog.text)
            await asyncio.to_thread(server.ctl, "change_password", "changing", "guest")
            await until(lambda: broker.online)
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("eventmicro")]
    assert ["lost" in line or "refused" in line or "again" in line for line in lines] == [True] * 3


async def test_virtual_hosts_are_apart(server: RabbitServer, subject: str, until: Until) -> None:
    await asyncio.to_thread(server.ctl, "add_vhost", "a/b")
    await asyncio.to_thread(server.ctl, "set_permissions", "-p", "a/b", "guest", ".*", ".*", ".*")
    here: list[Delivery] = []
    there: list[Delivery] = []
    async with RabbitBroker(url(server)) as one, RabbitBroker(url(server, vhost="a%2Fb")) as other:
        await one.subscribe(subject, here.append)
        await other.subscribe(subject, there.append)
        await other.publish(Message(subject, b"there"))
        await one.publish(Message(subject, b"here"))
        await until(lambda: here and there)
    assert ([d.body for d in here], [d.body for d in there]) == ([b"here"], [b"there"])


async def test_a_user_who_may_only_consume(server: RabbitServer, subject: str, until: Until) -> None:
    await asyncio.to_thread(server.ctl, "add_user", "reader", "guest")
    await asyncio.to_thread(server.ctl, "set_permissions", "reader", "^$", "^$", ".*")
    got: list[Delivery] = []
    async with RabbitBroker(url(server)) as maker, RabbitBroker(url(server, "reader")) as reader:
        await (await maker.subscribe(subject, lambda _: None, queue=subject, durable=Durable())).drain()
        with pytest.raises(UsageError, match=r"exchange 'events' may not be made from here: .*declare=false"):
            await reader.subscribe(subject, got.append, queue=subject, durable=Durable())
        async with RabbitBroker(url(server, "reader", declare="false")) as obedient:
            await obedient.subscribe(subject, got.append, queue=subject, durable=Durable())
            await maker.publish(Message(subject, b"1"))
            await until(lambda: got)
            refused = (obedient.publish(Message(subject)) for _ in range(10))
            errors = await asyncio.gather(*refused, return_exceptions=True)
            assert {type(error) for error in errors} == {NotStored}
            assert "access to exchange 'events' in vhost '/' refused for user 'reader'" in str(errors[0])


@pytest.mark.timeout_seconds(120)
@pytest.mark.parametrize("declare", ["check", "false"])
async def test_a_user_who_may_make_nothing_runs_with_what_is_there(
    server: RabbitServer, subject: str, declare: str, until: Until
) -> None:
    """He may publish to the exchange and consume, retries and dead letters included."""
    await asyncio.to_thread(server.ctl, "add_user", subject, "guest")
    await asyncio.to_thread(server.ctl, "set_permissions", subject, "^$", "^events$", f"^{subject}")
    attempts: list[int] = []
    letters: list[Delivery] = []
    queue, dead = f"{subject}.q", f"{subject}.dead"
    service = Service(subject, broker=url(server, subject, declare=declare))

    @service.subscribe(subject, queue=queue, dead_letter=dead, retry=Retry(attempts=3, backoff=0.05, longest=0.05))
    async def fail(event: int, context: Context) -> None:
        attempts.append(context.attempt)
        raise ValueError("never")

    async with RabbitBroker(url(server)) as admin:
        made = await admin.subscribe(subject, lambda _: None, queue=queue, durable=Durable(dead_letter=dead))
        await made.drain()
        async with service:
            await service.publish(subject, 1)
            await admin.subscribe(dead, letters.append, queue=dead, durable=Durable())
            await until(lambda: letters)
        with pytest.raises(UsageError, match=r"'not-there'|queue 'not-there' is missing and declare=check"):
            async with RabbitBroker(url(server, subject, declare=declare)) as user:
                await user.subscribe(subject, lambda _: None, queue="not-there", durable=Durable())
    assert attempts == [1, 2, 3]
    assert (letters[0].headers or {})["Dead-Letter-Attempts"] == "3"


@pytest.mark.timeout_seconds(120)
async def test_attempts_on_a_classic_queue_are_counted_for_a_user_who_may_not_copy(
    server: RabbitServer, subject: str, until: Until
) -> None:
    """What is refused is the copy alone, and not what others publish at that time."""
    await asyncio.to_thread(server.ctl, "add_user", subject, "guest")
    await asyncio.to_thread(server.ctl, "set_permissions", subject, "^$", "^events$", f"^{subject}")
    got: list[Delivery] = []
    admin = await aiormq.connect(server.url)
    channel = await admin.channel()
    await channel.queue_declare(subject, durable=True)
    await channel.queue_bind(subject, "events", subject)
    async with RabbitBroker(url(server, subject, declare="false")) as user:
        await user.subscribe(subject, got.append, queue=subject, durable=Durable())
        await user.publish(Message(subject, b"1"))
        for count in (1, 2, 3):
            await until(lambda: len(got) == count)  # noqa: B023
            nothing = [Message(f"{subject}.other", b"%d" % number) for number in range(200)]
            await asyncio.gather(got[-1].nack(), user.publish_many(nothing))
        await until(lambda: len(got) == 4)
    await channel.queue_delete(subject)
    await admin.close()
    assert [delivery.attempt for delivery in got] == [1, 2, 3, 4]


# -- calls by users who may not do everything ------------------------------------------------------------------------


async def user_of(server: RabbitServer, name: str, configure: str, write: str, read: str) -> None:
    await asyncio.to_thread(server.ctl, "add_user", name, "guest")
    await asyncio.to_thread(server.ctl, "set_permissions", name, configure, write, read)


async def test_a_client_needs_no_more_than_to_write_to_the_exchange_for_calls(
    server: RabbitServer, subject: str
) -> None:
    """It makes no queue: its replies are direct ones."""
    await user_of(server, subject, "^$", "^events.calls$", "^$")
    service = Service(subject, broker=url(server))

    @service.rpc
    async def double(number: int) -> int:
        return 2 * number

    async with service, Client(url(server, subject, declare="false")) as client:
        assert await client.call(f"{subject}.double", 4, int) == 8
        with pytest.raises(Unavailable):
            await client.call(f"{subject}-other.double", 4, int)


async def test_where_nothing_is_made_calls_need_no_right_to_make_and_what_is_missing_is_said_once(
    server: RabbitServer, subject: str
) -> None:
    rights = f"^({subject}.*|amq.gen.*)$", f"^(events.calls|amq.default|{subject}.*|amq.gen.*)$", ".*"
    await user_of(server, subject, *rights)
    async with RabbitBroker(url(server)) as maker:
        await maker.send(Message(subject))  # makes the exchanges
        await maker.publish(Message(subject))

    async def double(number: int) -> int:
        return 2 * number

    for declare in ("false", "check"):
        service = Service(subject, broker=url(server, subject, declare=declare))
        service.rpc(double)
        async with service:
            assert await service.call(f"{subject}.double", 4, int) == 8
    service = Service(subject, broker=f"{url(server, declare='check')}&exchange={subject}")
    service.rpc(double)
    with pytest.raises(TransportError) as refused:
        await service.start()
    assert str(refused.value).count("is missing") <= 2


async def test_who_may_not_call_is_told_which_right_is_missing(server: RabbitServer, subject: str) -> None:
    await user_of(server, subject, "^$", "^events$", "^$")
    async with RabbitBroker(url(server)) as maker, Client(url(server, subject, declare="false")) as client:
        await maker.send(Message(subject))  # makes the exchange
        with pytest.raises(UsageError, match=rf"exchange 'events.calls', .* the user '{subject}' the right to write"):
            await client.call(f"{subject}.double", 4, int)


@pytest.mark.parametrize(
    ("configure", "write", "says"),
    [
        (".*", "^(events|events.calls|test-.*|amq.gen.*)$", "right to write to amq.default"),
        ("^events(.calls)?$", ".*", r"queue '[-a-z0-9]+\.double', for calls of .* may not be made from here"),
    ],
    ids=["to answer", "to make its queue"],
)
async def test_who_may_not_serve_is_told_so_at_its_start(
    server: RabbitServer, subject: str, configure: str, write: str, says: str
) -> None:
    await user_of(server, subject, configure, write, ".*")
    service = Service(subject, broker=url(server, subject))

    @service.rpc
    async def double(number: int) -> int:
        return 2 * number

    with pytest.raises(TransportError, match=says):
        await service.start()


@pytest.mark.timeout_seconds(120)
@pytest.mark.parametrize("declare", ["true", "check", "false"])
async def test_the_rights_that_are_missing_are_one_list_and_its_command_grants_what_is_needed(
    server: RabbitServer, subject: str, declare: str, until: Until
) -> None:
    await user_of(server, subject, "^$", "^$", "^$")
    attempts: list[int] = []
    dead = [f"dead.{subject}.{name}" for name in ("one", "two", "live")]

    def make(broker: str) -> Service:
        service = Service(subject, broker=broker)
        for name in ("one", "two"):

            @service.subscribe(
                f"{subject}.{name}",
                name=name,
                dead_letter=f"dead.{subject}.{name}",
                retry=Retry(attempts=2, backoff=0.05),
            )
            async def fail(event: int, context: Context) -> None:
                attempts.append(context.attempt)
                raise ValueError("never")

        @service.subscribe(f"{subject}.live", queue=RabbitQueue(f"{subject}.live", type="classic"), dead_letter=dead[2])
        async def live(event: int) -> None: ...

        @service.rpc
        async def double(number: int) -> int:
            return 2 * number

        return service

    async with make(url(server)):  # makes what is not made from here
        pass
    said: list[str] = []
    service = make(url(server, subject, declare=declare))
    while len(said) < 3:
        try:
            await service.start()
            break
        except (UsageError, TransportError) as error:
            said.append(str(error))
            await asyncio.to_thread(
                server.ctl, *shlex.split(str(error).partition("as it takes that away: rabbitmqctl ")[2])
            )
    try:
        assert len(said) <= 2  # the events, and then the calls
        assert [text.count("ACCESS_REFUSED") for text in said] == [1] * len(said)
        if declare != "true":
            queues = [f"queue '{subject}.{name}'" for name in ("one", "two", "live")]
            assert f"the user '{subject}' has no right to read {', '.join(queues)}; all that" in said[0]
        async with RabbitBroker(url(server)) as admin, Client(url(server)) as client:
            letters: list[Delivery] = []
            for name in dead[:2]:
                await admin.subscribe(name, letters.append, queue=name, durable=Durable())
                await client.publish(name.removeprefix("dead."), 1)
            await until(lambda: len(letters) == 2)
            assert await client.call(f"{subject}.double", 4, int) == 8
    finally:
        await service.stop()
    assert sorted(attempts) == [1, 1, 2, 2]


# -- limits of the server ------------------------------------------------------------------------------------------


async def test_a_message_over_the_servers_own_limit(server: RabbitServer, subject: str) -> None:
    async with RabbitBroker(url(server)) as broker:
        with pytest.raises(MessageTooLarge, match="larger than configured max size"):
            await broker.publish(Message(subject, b"x" * 100_001))
        await broker.publish(Message(subject, b"x" * 100_000))


async def test_a_message_that_is_refused_costs_no_connection(
    server: RabbitServer, subject: str, caplog: pytest.LogCaptureFixture
) -> None:
    """RabbitMQ ends its channel, on which others are just being published."""
    errors: list[Exception] = []
    async with RabbitBroker(url(server)) as broker:

        async def publish(number: int) -> None:
            for turn in range(50):
                body = bytes(100_001 if turn % 10 == number else 10)
                try:
                    await broker.publish(Message(subject, body))
                except (MessageTooLarge, Unconfirmed) as error:
                    errors.append(error)

        await asyncio.gather(*(publish(number) for number in range(10)))
        assert len(errors) >= 50
    assert "connection lost" not in caplog.text


async def test_what_is_handled_for_too_long_comes_again(
    server: RabbitServer, subject: str, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    def set_timeout(milliseconds: int, look_every: int) -> str:
        return server.ctl(
            "eval",
            f"application:set_env(rabbit, consumer_timeout, {milliseconds}), "
            f"application:set_env(rabbit, channel_tick_interval, {look_every}).",
        )

    got: list[Delivery] = []
    await asyncio.to_thread(set_timeout, 500, 200)
    try:
        async with RabbitBroker(url(server)) as broker:
            await broker.subscribe(subject, got.append, queue=subject, durable=Durable(timeout=0.5))
            await broker.publish(Message(subject))
            await until(lambda: len(got) >= 2)  # not beside a handler that may go on for as long as it likes
            assert got[0].lapsed
            await got[0].ack()
            assert got[1].attempt == 2
    finally:
        await asyncio.to_thread(set_timeout, 1_800_000, 60_000)
    assert "RabbitMQ has ended the consumer" in caplog.text
    assert "acknowledgement" in caplog.text


async def test_a_server_short_of_disk_takes_no_events_and_settles_on(
    server: RabbitServer, subject: str, until: Until
) -> None:
    got: list[Delivery] = []
    async with RabbitBroker(url(server)) as broker:
        await broker.subscribe(subject, got.append, queue=subject, durable=Durable())
        await broker.publish(Message(subject, b"before"))
        await until(lambda: got)
        await asyncio.to_thread(server.ctl, "set_disk_free_limit", "1000000GB")
        try:
            with pytest.raises(Unconfirmed, match=r"not confirmed in time: an alarm .*disk"):
                await broker.publish(Message(subject, b"sent"), timeout=1)
            with pytest.raises(NotStored, match=r"an alarm stops all publishing there: .*disk"):
                await broker.publish(Message(subject, b"refused"), timeout=0.2)
            await got[0].ack()
            await broker.flush()
            waiting = asyncio.ensure_future(broker.publish(Message(subject, b"patient"), timeout=20))
        finally:
            await asyncio.to_thread(server.ctl, "set_disk_free_limit", "50MB")
        await waiting
        await until(lambda: len(got) == 3)
    assert [d.body for d in got] == [b"before", b"sent", b"patient"]
    assert {d.attempt for d in got} == {1}


@pytest.mark.timeout_seconds(60)
async def test_a_server_short_of_memory_is_named_to_callers_and_consumers_go_on(
    server: RabbitServer, subject: str, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    got: list[bytes] = []
    service = Service(subject, broker=url(server))

    @service.rpc
    async def double(number: int) -> int:
        return 2 * number

    @service.subscribe(f"{subject}.told")
    async def hear(event: bytes) -> None:
        got.append(event)

    async with service, Client(url(server)) as client:
        await client.publish(f"{subject}.told", b"before")
        await asyncio.to_thread(server.ctl, "set_vm_memory_high_watermark", "absolute", "1000000")
        try:
            with pytest.raises(Unconfirmed, match=r"an alarm stops all publishing there: .*memory"):
                await client.publish(f"{subject}.told", b"sent", timeout=1)
            monkeypatch.setattr("eventmicro_rabbitmq.broker.SUBSCRIBE_TIMEOUT", 0.3)
            with pytest.raises(Disconnected, match=r"an alarm stops all publishing there: .*memory"):
                await client.call(f"{subject}.double", 4, int)  # its first, so that it needs an inbox
            monkeypatch.undo()
        finally:
            await asyncio.to_thread(server.ctl, "set_vm_memory_high_watermark", "0.6")
        assert await client.call(f"{subject}.double", 4, int) == 8
        await client.publish(f"{subject}.told", b"after")
        await until(lambda: len(got) == 3)
    assert got == [b"before", b"sent", b"after"]


@pytest.mark.timeout_seconds(60)
async def test_limits_that_an_administrator_has_set_are_named_and_cost_no_wait(
    server: RabbitServer, subject: str
) -> None:
    await asyncio.to_thread(server.ctl, "add_vhost", subject)
    await asyncio.to_thread(server.ctl, "add_user", subject, "guest")
    await asyncio.to_thread(server.ctl, "set_permissions", "-p", subject, subject, ".*", ".*", ".*")
    await asyncio.to_thread(server.ctl, "set_vhost_limits", "-p", subject, '{"max-queues": 1}')
    there = url(server, subject, subject)

    async def subscribe_to_some(broker: RabbitBroker, **words: Any) -> None:
        for number in range(4):
            await broker.subscribe(f"{subject}.{number}", lambda _: None, queue=f"{subject}.{number}", **words)

    async with RabbitBroker(there) as broker:
        with pytest.raises(UsageError, match=r"queue limit in vhost .* rabbitmqctl set_vhost_limits"):
            await subscribe_to_some(broker, durable=Durable())
    await asyncio.to_thread(server.ctl, "clear_vhost_limits", "-p", subject)
    await asyncio.to_thread(server.ctl, "set_user_limits", subject, '{"max-channels": 3}')
    async with RabbitBroker(there) as broker:
        with pytest.raises(UsageError, match=r"maximum allowed user limit of .* rabbitmqctl set_user_limits"):
            await subscribe_to_some(broker)
        assert broker.reconnects <= 1


@pytest.mark.timeout_seconds(60)
async def test_who_waits_for_a_server_short_of_disk_goes_on_with_the_next_connection(
    server: RabbitServer, subject: str, until: Until
) -> None:
    async with FaultProxy(server.port) as proxy:
        through = url(server).replace(f":{server.port}", f":{proxy.port}")
        async with RabbitBroker(through) as broker:

            async def publish() -> None:
                while True:
                    await broker.publish(Message(subject), timeout=1)

            await asyncio.to_thread(server.ctl, "set_disk_free_limit", "1000000GB")
            try:
                with pytest.raises((Unconfirmed, NotStored)):
                    await publish()
                waiting = asyncio.ensure_future(broker.publish(Message(subject), timeout=45))
                await asyncio.sleep(0)
                proxy.blackhole = True  # so that it is not told of the end
            finally:
                await asyncio.to_thread(server.ctl, "set_disk_free_limit", "50MB")
            proxy.cut()
            proxy.blackhole = False
            await waiting


# -- a server that hangs or dies -----------------------------------------------------------------------------------


@pytest.mark.timeout_seconds(60)
async def test_a_server_that_is_paused(server: RabbitServer, subject: str, until: Until) -> None:
    got: list[bytes] = []
    acks: list[asyncio.Task[None]] = []

    def receive(delivery: Delivery) -> None:
        got.append(delivery.body)
        acks.append(asyncio.create_task(delivery.ack()))

    async with RabbitBroker(url(server, heartbeat=1)) as broker, RabbitBroker(url(server)) as closed:
        await broker.subscribe(subject, receive, queue=subject, durable=Durable())
        await closed.subscribe(subject, lambda _: None)
        await broker.publish(Message(subject, b"before"))
        server.pause()
        try:
            with pytest.raises(Unconfirmed):
                await broker.publish(Message(subject, b"during"), timeout=0.3)
            async with asyncio.timeout(15):
                await asyncio.gather(closed.close(), closed.close())
            await until(lambda: not broker.online)
            with pytest.raises(Disconnected):
                await broker.flush()
        finally:
            server.resume()
        await until(lambda: broker.online)
        await broker.publish(Message(subject, b"after"), timeout=10)
        await until(lambda: b"after" in got)
        await asyncio.gather(*acks)


@pytest.mark.timeout_seconds(240)
async def test_kills_and_restarts_under_load_lose_nothing(
    server: RabbitServer, starter: ThreadPoolExecutor, subject: str
) -> None:
    """Ten thousand events, one in ten nacked with a delay; the server is killed twice and stopped in order once."""
    sent = [b"%d" % number for number in range(10_000)]
    done: list[bytes] = []
    again: list[bytes] = []
    tasks: set[asyncio.Task[None]] = set()

    async def settle(delivery: Delivery) -> None:
        if delivery.attempt == 1 and int(delivery.body) % 10 == 0:
            await delivery.nack(int(delivery.body) % 2000 / 1000)
        elif not delivery.lapsed:
            done.append(delivery.body)
            await delivery.ack()

    def receive(delivery: Delivery) -> Awaitable[None] | None:
        task = asyncio.create_task(settle(delivery))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return None

    published = 0

    async def publish(broker: RabbitBroker, number: int) -> None:
        nonlocal published
        for body in sent[number::100]:
            while published - len(done) > 1500:  # so that there is something to publish at each end of the server
                await asyncio.sleep(0.01)
            published += 1
            while True:
                try:
                    await broker.publish(Message(subject, body), timeout=5)
                    break
                except (Disconnected, Unconfirmed, NotStored):
                    again.append(body)
                    await asyncio.sleep(0.02)

    async with RabbitBroker(server.url) as publisher, RabbitBroker(server.url) as one, RabbitBroker(server.url) as two:
        for broker in (one, two):
            await broker.subscribe(subject, receive, queue=subject, durable=Durable())
        publishing = [asyncio.ensure_future(publish(publisher, number)) for number in range(100)]
        for count, end in ((2500, server.kill), (5000, server.stop), (7500, server.kill)):
            while len(done) < count:
                await asyncio.sleep(0.005)
            await asyncio.to_thread(end)
            await start_again(server, starter)
        await asyncio.gather(*publishing)
        while not set(sent) <= set(done):
            await asyncio.sleep(0.02)
        while tasks:
            await asyncio.sleep(0.02)
    assert not Counter(sent) - Counter(done)
    print(f"10000 events, 3 ends of the server: 0 lost, {len(again)} published again, {len(done) - 10_000} twice")


@pytest.mark.timeout_seconds(120)
async def test_what_waits_for_its_next_attempt_survives_a_kill(
    server: RabbitServer, starter: ThreadPoolExecutor, subject: str
) -> None:
    """Events whose delay ends while no server is there: they return when it is back."""
    got: list[tuple[bytes, int]] = []
    postponed: list[bytes] = []
    tasks: set[asyncio.Task[None]] = set()

    async def settle(delivery: Delivery) -> None:
        if delivery.attempt == 1:
            await delivery.nack(2)
            postponed.append(delivery.body)
        else:
            got.append((delivery.body, delivery.attempt))
            await delivery.ack()

    def receive(delivery: Delivery) -> None:
        task = asyncio.create_task(settle(delivery))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    sent = [b"%d" % number for number in range(201)]
    async with RabbitBroker(server.url) as broker:
        await broker.subscribe(subject, receive, queue=subject, durable=Durable())
        await broker.publish(Message(subject, sent[0]))  # makes the waiting queue
        while not got:
            await asyncio.sleep(0.01)
        await broker.publish_many([Message(subject, body) for body in sent[1:]])
        while len(postponed) < len(sent):
            await asyncio.sleep(0.001)
    await asyncio.to_thread(server.kill)  # a close that has returned, so that RabbitMQ has got all that was settled
    await asyncio.sleep(2)
    await start_again(server, starter)
    async with RabbitBroker(server.url) as broker:
        await broker.subscribe(subject, receive, queue=subject, durable=Durable())
        while len(got) < len(sent):
            await asyncio.sleep(0.01)
        while tasks:
            await asyncio.sleep(0.01)
        async with asyncio.timeout(20):
            await broker.flush()
    assert sorted(got) == sorted((body, 2) for body in sent)


async def test_a_waiting_queue_holds_the_copy(server: RabbitServer, subject: str, until: Until) -> None:
    """What waits is in RabbitMQ, under the name that the documentation says, with what it needs to return."""
    got: list[Delivery] = []
    async with RabbitBroker(url(server)) as broker:
        await broker.subscribe(subject, got.append, queue=subject, durable=Durable())
        await broker.publish(Message(subject, b"1", {"A": "b"}))
        await until(lambda: got)
        await got[0].nack(60)
    connection = await aiormq.connect(server.url)
    channel = await connection.channel()
    names = (await asyncio.to_thread(server.ctl, "list_queues", "name")).split()
    (name,) = [name for name in names if name.startswith(f"{subject}.retry.")]
    milliseconds = int(name.rpartition(".")[2])
    assert 54_000 <= milliseconds <= 66_000
    waiting = await channel.basic_get(name)
    await connection.close()
    assert isinstance(waiting.delivery, Basic.GetOk)
    assert waiting.body == b"1"
    headers = dict(waiting.header.properties.headers or {})
    headers.pop("x-delivery-count", None)  # 0 by RabbitMQ 3, where a queue is asked for one
    assert headers == {
        "A": "b",
        "x-eventmicro-attempts": 1,
        "x-eventmicro-subject": subject,
    }
