"""service: declaring, starting, stopping, and what is undone where one of them fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from eventmicro import Batch, Client, Context, Depends, MemoryBroker, Service, Topic, rpc, subscribe
from eventmicro.broker import Capabilities
from eventmicro.codecs.json import JsonCodec
from eventmicro.errors import Disconnected, SignatureError, Unavailable, Unsupported, UsageError
from eventmicro.message import Message

Until = Callable[[Callable[[], object]], Awaitable[None]]


class Number(BaseModel):
    value: int = 0


TOPIC = Topic("numbers.seen", Number)


async def echo(request: Number) -> Number:
    return request


def one() -> int:
    return 1


class Logged(MemoryBroker):
    """Notes what a service does with it."""

    def __init__(self, log: list[str], fail_at: str = "") -> None:
        super().__init__("memory://service")
        self.log = log
        self.fail_at = fail_at

    def note(self, what: str) -> None:
        self.log.append(what)
        if self.fail_at and self.fail_at in what:
            raise Disconnected(f"failed at {what}")

    async def connect(self) -> None:
        self.note("connect")
        await super().connect()

    async def subscribe(self, subject: str, *arguments: Any, **options: Any) -> Any:
        self.note(f"subscribe {subject}")
        return await super().subscribe(subject, *arguments, **options)

    async def flush(self) -> None:
        self.note("flush")
        await super().flush()

    async def close(self) -> None:
        self.log.append("close")
        await super().close()


def logged_service(log: list[str], broker: Logged) -> Service:
    @asynccontextmanager
    async def lifespan() -> AsyncIterator[str]:
        broker.note("lifespan in")
        try:
            yield "state"
        finally:
            log.append("lifespan out")

    service = Service("numbers", broker=broker, lifespan=lifespan)
    service.rpc(name="echo")(echo)

    @service.subscribe(TOPIC)
    async def see(event: Number) -> None: ...

    @service.before_start
    async def before_start() -> None:
        broker.note("before_start")

    @service.after_start
    def after_start() -> None:
        broker.note("after_start")

    @service.before_stop
    def before_stop() -> None:
        broker.note("before_stop")

    @service.after_stop
    async def after_stop() -> None:
        broker.note("after_stop")

    return service


START = [
    "connect",
    "lifespan in",
    "before_start",
    "subscribe numbers.$cancel",
    "subscribe numbers.seen",
    "subscribe numbers.echo",
    "flush",
    "after_start",
]
STOP = ["before_stop", "lifespan out", "close", "after_stop"]


async def test_start_and_stop_run_everything_in_order_and_a_second_time_nothing() -> None:
    log: list[str] = []
    service = logged_service(log, Logged(log))
    await service.start()
    await service.start()
    assert log == START
    await service.stop()
    await service.stop()
    assert log == START + STOP


async def test_a_stopped_service_can_be_started_again() -> None:
    log: list[str] = []
    service = logged_service(log, Logged(log))
    for _ in range(3):
        async with service, Client("memory://service") as client:
            assert await client.call("numbers.echo", Number(value=1), Number) == Number(value=1)
    assert log == (START + STOP) * 3


@pytest.mark.parametrize("step", START)
async def test_where_a_start_fails_all_before_it_is_undone(step: str) -> None:
    log: list[str] = []
    broker = Logged(log, fail_at=step)
    service = logged_service(log, broker)
    with pytest.raises(Disconnected, match=step.replace("$", r"\$")):
        await service.start()
    undone = (["lifespan out"] if "before_start" in log else []) + (["close"] if "lifespan in" in log else [])
    assert log == START[: START.index(step) + 1] + undone
    assert not broker.connected
    with pytest.raises(UsageError, match="not started"):
        _ = service.client
    broker.fail_at = ""
    async with service, Client("memory://service") as client:
        assert await client.call("numbers.echo", Number(), Number) == Number()


async def test_a_start_that_is_cancelled_is_undone() -> None:
    log: list[str] = []
    service = logged_service(log, Logged(log))

    @service.before_start
    async def hang() -> None:
        await asyncio.Event().wait()

    starting = asyncio.create_task(service.start())
    while "before_start" not in log:
        await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert log == ["connect", "lifespan in", "before_start", "lifespan out", "close"]


async def test_a_stop_does_everything_though_some_of_it_fails() -> None:
    log: list[str] = []
    service = logged_service(log, Logged(log, fail_at="_stop"))
    await service.start()
    with pytest.raises(ExceptionGroup, match="service 'numbers' stopped with errors") as caught:
        await service.stop()
    assert [str(error) for error in caught.value.exceptions] == ["failed at before_stop", "failed at after_stop"]
    assert log == START + STOP
    await service.stop()


async def test_a_stop_with_one_failure_raises_that() -> None:
    log: list[str] = []
    service = logged_service(log, Logged(log, fail_at="before_stop"))
    await service.start()
    with pytest.raises(Disconnected):
        await service.stop()
    assert log == START + STOP


async def test_a_stop_while_it_starts_waits_for_the_start_and_then_stops() -> None:
    log: list[str] = []
    service = logged_service(log, Logged(log))
    starting, again = asyncio.create_task(service.start()), asyncio.create_task(service.start())
    await asyncio.sleep(0)
    stopping, twice = asyncio.create_task(service.stop()), asyncio.create_task(service.stop())
    await asyncio.gather(starting, again, stopping, twice)
    assert log == START + STOP


def test_a_service_can_be_run_in_one_event_loop_after_the_other() -> None:
    service = Service("numbers", broker="memory://service")
    service.rpc(echo)

    async def twice_at_once() -> None:
        await asyncio.gather(service.start(), service.start())
        await asyncio.gather(service.stop(), service.stop())

    asyncio.run(twice_at_once())
    asyncio.run(twice_at_once())


async def test_what_the_lifespan_yields_is_the_state_of_every_handler(until: Until) -> None:
    log: list[str] = []
    broker = Logged(log)
    service = logged_service(log, broker)
    seen: list[Any] = []

    @service.rpc
    async def state(context: Context) -> str:
        return str(context.state)

    @service.subscribe("numbers.more")
    async def more(context: Context) -> None:
        seen.append(context.state)

    async with service:
        assert await service.call("numbers.state", None, str) == "state"
        await service.publish("numbers.more", Number())
        await until(lambda: seen)
    assert seen == ["state"]


async def test_several_services_in_one_process_call_each_other() -> None:
    async with MemoryBroker("memory://service") as broker:
        services = [Service(f"s{number}", broker=broker) for number in range(5)]
        for service in services:
            service.rpc(name="echo")(echo)
            await service.start()
        for service in services:
            for other in services:
                assert await service.call(f"{other.name}.echo", Number(value=3), Number) == Number(value=3)
        await services[0].stop()
        assert broker.connected  # who opened it closes it
        with pytest.raises(Unavailable):
            await services[1].call("s0.echo", Number(), Number)
        for service in services:
            await service.stop()


async def test_calls_are_shared_by_the_instances_of_a_service() -> None:
    served: list[int] = []

    def instance(number: int) -> Service:
        service = Service("shared", broker="memory://service")

        @service.rpc
        async def take() -> None:
            served.append(number)

        return service

    async with instance(1), instance(2), Client("memory://service") as client:
        for _ in range(10):
            await client.call("shared.take")
    assert served.count(1) == served.count(2) == 5


class Handlers:
    """A service in class form."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    @rpc
    async def echo(self, request: Number) -> Number:
        return request

    @rpc(name="again", timeout=1.0, concurrency=3)
    async def repeat(self, request: Number, extra: Annotated[int, Depends(one)]) -> Number:
        return Number(value=request.value + extra)

    @subscribe(TOPIC)
    @subscribe("numbers.also", name="also")
    async def see(self, event: Number) -> None:
        self.seen.append(event.value)

    async def not_marked(self) -> None: ...


class More(Handlers):
    @rpc
    async def extra(self) -> int:
        return len(self.seen)

    async def echo(self, request: Number) -> Number:
        """Overridden without a mark: no endpoint any more."""
        return request


async def test_the_marked_methods_of_an_object_are_its_endpoints_and_subscribers(until: Until) -> None:
    service, handlers = Service("numbers", broker="memory://service"), Handlers()
    service.add(handlers)
    assert list(service.endpoints) == ["echo", "again"]
    assert list(service.subscribers) == ["also", "see"]
    assert (service.endpoints["again"].timeout, service.endpoints["again"].concurrency) == (1.0, 3)
    async with service:
        assert await service.call("numbers.again", Number(value=1), Number) == Number(value=2)
        await service.publish(TOPIC, Number(value=5))
        await service.publish("numbers.also", Number(value=6))
        await until(lambda: sorted(handlers.seen) == [5, 6])
    assert await handlers.echo(Number(value=1)) == Number(value=1)  # still a plain method


def test_a_subclass_has_the_handlers_of_its_base_and_may_drop_one() -> None:
    service = Service("numbers")
    service.add(More())
    assert list(service.endpoints) == ["again", "extra"]


@pytest.mark.parametrize("target", [Handlers, object(), 7])
def test_what_has_no_marked_methods_cannot_be_added(target: object) -> None:
    with pytest.raises(UsageError, match="no object with methods marked by @rpc or @subscribe"):
        Service("numbers").add(target)


def test_a_name_can_be_taken_once() -> None:
    service = Service("numbers")
    service.rpc(echo)
    with pytest.raises(UsageError, match="service 'numbers' has a handler 'echo' already; give this one a name="):
        service.rpc(echo)
    with pytest.raises(UsageError, match="has a handler 'echo' already"):
        service.subscribe("numbers.x", name="echo")(lambda_like)
    service.rpc(name="echo2")(echo)
    assert list(service.endpoints) == ["echo", "echo2"]


async def lambda_like(event: Number) -> None: ...


@pytest.mark.parametrize("name", ["", "a.b", "a b", "größe"])
def test_a_service_needs_a_name_that_can_be_part_of_a_subject(name: str) -> None:
    with pytest.raises(UsageError, match="service name"):
        Service(name)


@pytest.mark.parametrize("word", ["timeout", "stop_timeout"])
@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "5"])
def test_a_service_has_times_that_end(word: str, seconds: Any) -> None:
    words: dict[str, Any] = {word: seconds}
    with pytest.raises(UsageError, match=f"{word}={seconds!r}: write seconds"):
        Service("numbers", **words)


async def test_before_the_start_there_is_nothing_to_publish_or_call_over() -> None:
    service = Service("numbers", broker="memory://service")
    publisher = service.publisher(TOPIC)
    uses: list[Callable[[], Awaitable[Any]]] = [
        lambda: service.publish(TOPIC, Number()),
        lambda: service.call("numbers.echo", Number(), Number),
        lambda: publisher.publish(Number()),
        lambda: service.flush(),
    ]
    for use in uses:
        with pytest.raises(UsageError, match="service 'numbers' is not started, so it has no connection"):
            await use()


async def no_lifespan() -> None: ...


async def no_middleware(message: Any) -> None: ...


class NoCodec:
    content_type = "x/y"


@pytest.mark.parametrize(
    ("word", "value", "words"),
    [
        ("middleware", 5, r"middleware=5: write a list, middleware=\[log_calls\]"),
        ("middleware", no_middleware, r"middleware=<function no_middleware .*: write a list"),
        (
            "middleware",
            [no_middleware],
            r"middleware no_middleware: write `async def no_middleware\(",
        ),
        ("middleware", [5], r"middleware 5: write `async def"),
        ("codecs", 5, r"codecs=5: write a list, codecs=\[YamlCodec\(\)\]"),
        ("codecs", [NoCodec()], r"NoCodec.* is no codec: write an object with content_type, handles, encoder, decoder"),
        ("codecs", [JsonCodec], r"JsonCodec'> is no codec: write an object"),
        ("lifespan", 5, "lifespan=5: write an `async def` that yields once"),
        ("lifespan", no_lifespan, "lifespan=no_lifespan: write an `async def` that yields once"),
    ],
)
def test_what_a_service_cannot_be_made_of_is_refused_when_it_is_made(word: str, value: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Service("numbers", **{word: value})
    if word != "lifespan":
        with pytest.raises(UsageError, match=words):
            Client("memory://", **{word: value})


def test_the_middleware_of_a_handler_is_refused_when_it_is_declared() -> None:
    service = Service("numbers")

    async def handle(number: int) -> None: ...

    with pytest.raises(UsageError, match="middleware=5: write a list"):
        service.subscribe("numbers", middleware=5)(handle)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="middleware no_middleware: write"):
        service.rpc(middleware=[no_middleware])(handle)  # type: ignore[list-item]


async def test_hooks_and_the_lifespan_may_publish_and_call() -> None:
    log: list[int] = []
    service = Service("numbers", broker="memory://service")
    service.rpc(echo)

    @service.after_start
    @service.before_stop
    async def call_itself() -> None:
        log.append((await service.call("numbers.echo", Number(value=1), Number)).value)

    @service.before_start
    async def publish_early() -> None:
        await service.publish(TOPIC, Number())

    async with service:
        pass
    assert log == [1, 1]


async def test_without_any_broker_the_start_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVENTMICRO_BROKER", raising=False)
    service = Service("numbers")
    with pytest.raises(UsageError, match=r"no broker is set: pass a URL such as .* set EVENTMICRO_BROKER, or start"):
        await service.start()
    monkeypatch.setenv("EVENTMICRO_BROKER", "memory://service")
    async with service:
        assert service.client.broker.url == "memory://service"
    await service.start("memory://given")
    assert service.client.broker.url == "memory://given"
    await service.stop()


CAPABILITIES = [
    (Capabilities(), "numbers.echo needs request_reply, queue_groups, which memory:// lacks"),
    (Capabilities(request_reply=True), "numbers.echo needs queue_groups"),
    (Capabilities(request_reply=True, queue_groups=True), "numbers.every needs broadcast, wildcards"),
    (Capabilities(request_reply=True, queue_groups=True, broadcast=True), "numbers.every needs wildcards"),
]


@pytest.mark.parametrize(("has", "words"), CAPABILITIES)
async def test_what_the_broker_cannot_do_is_refused_before_anything_is_opened(has: Capabilities, words: str) -> None:
    broker = MemoryBroker()
    broker.capabilities = has
    service = Service("numbers", broker=broker)
    service.rpc(echo)

    @service.subscribe("numbers.>", queue=None)
    async def every(event: Number) -> None: ...

    with pytest.raises(Unsupported, match=words):
        await service.start()
    assert not broker.connected


async def test_an_override_holds_from_the_next_start_on() -> None:
    service = Service("numbers", broker="memory://service")

    @service.rpc
    async def value(extra: Annotated[int, Depends(one)]) -> int:
        return extra

    async with service:
        assert await service.call("numbers.value", None, int) == 1
    service.override(one, lambda: 2)
    async with service:
        assert await service.call("numbers.value", None, int) == 2


async def test_a_dependency_that_cannot_be_filled_fails_the_start_and_undoes_it() -> None:
    broker = MemoryBroker("memory://service")
    service = Service("numbers", broker=broker)

    @service.rpc
    async def value(extra: Annotated[int, Depends(one)]) -> int:
        return extra

    def wants(number: int) -> int:
        return number

    service.override(one, wants)
    with pytest.raises(SignatureError, match="'number' is neither a Context nor a dependency"):
        await service.start()
    assert not broker.connected


async def test_a_stop_cuts_off_what_does_not_end_in_time_and_names_it(
    caplog: pytest.LogCaptureFixture, until: Until
) -> None:
    service = Service("numbers", broker="memory://service", stop_timeout=0.02)
    begun = 0

    @service.rpc
    async def hang(request: Number) -> None:
        nonlocal begun
        begun += 1
        await asyncio.Event().wait()

    @service.subscribe(TOPIC)
    async def stuck(event: Number) -> None:
        nonlocal begun
        begun += 1
        await asyncio.Event().wait()

    async with MemoryBroker("memory://service") as broker:
        await service.start()
        for _ in range(3):
            await broker.publish(Message("numbers.hang", b"{}"))
            await service.publish(TOPIC, Number())
        await until(lambda: begun == 4)  # three calls, and one event, as those wait in line
        await service.stop()
    assert "numbers.hang: 3 cut off after 0.02 s" in caplog.text
    assert "numbers.stuck: 1 cut off after 0.02 s" in caplog.text


async def test_a_stop_handles_all_events_that_had_arrived_where_no_broker_keeps_them() -> None:
    seen: list[int] = []
    service = Service("numbers", broker="memory://service")

    @service.subscribe(TOPIC, durable=False)
    async def see(event: Number) -> None:
        await asyncio.sleep(0)
        seen.append(event.value)

    async with service:
        for value in range(50):
            await service.publish(TOPIC, Number(value=value))
    assert seen == list(range(50))


async def test_a_stop_leaves_what_was_not_begun_to_the_durable_queue_and_the_next_start_goes_on(until: Until) -> None:
    seen: list[int] = []
    service = Service("numbers", broker="memory://service")

    @service.subscribe(TOPIC)
    async def see(event: Number) -> None:
        await asyncio.sleep(0)
        seen.append(event.value)

    async with service:
        for value in range(50):
            await service.publish(TOPIC, Number(value=value))
    async with service:
        await until(lambda: len(seen) >= 50)
    assert seen == list(range(50))


async def test_a_handler_may_publish_and_call_while_its_service_stops(until: Until) -> None:
    seen: list[int] = []
    gate = asyncio.Event()
    other, service = Service("other", broker="memory://service"), Service("numbers", broker="memory://service")
    other.rpc(echo)
    begun = False

    @service.subscribe(TOPIC)
    async def see(event: Number) -> None:
        nonlocal begun
        begun = True
        await gate.wait()
        seen.append((await service.call("other.echo", Number(value=7), Number)).value)

    async with other:
        await service.start()
        await service.publish(TOPIC, Number())
        await until(lambda: begun)
        stopping = asyncio.create_task(service.stop())
        await asyncio.sleep(0)
        gate.set()
        await stopping
    assert seen == [7]


STOPS: list[Callable[[Service], Awaitable[None]]] = [
    lambda service: service.stop(),
    lambda service: asyncio.create_task(service.stop()),  # type: ignore[arg-type,return-value]
    lambda service: asyncio.wait_for(service.stop(), 60),
]


@pytest.mark.parametrize("stop", STOPS, ids=["at once", "task", "wait_for"])
@pytest.mark.parametrize("waits", [False, True], ids=["first step", "later"])
@pytest.mark.parametrize("words", [{}, {"order_by": "value"}, {"batch": Batch(1)}], ids=["alone", "key", "batch"])
async def test_a_handler_may_stop_its_service_which_waits_for_all_others_and_leaves_it_alone(
    words: dict[str, Any],
    waits: bool,
    stop: Callable[[Service], Awaitable[None]],
    until: Until,
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = Service("numbers", broker="memory://", stop_timeout=1000)
    ended: list[str] = []
    others = asyncio.Event()

    async def stops(event: Any, context: Context) -> None:
        if waits:
            await asyncio.sleep(0)
        await context.ack()
        await stop(service)
        ended.append("stopper")

    @service.subscribe("others")
    async def other(event: Number) -> None:
        await others.wait()
        ended.append("other")

    @service.rpc
    async def close() -> None:
        others.set()
        await stop(service)
        ended.append("endpoint")

    async def see_one(event: Number, context: Context) -> None:
        await stops(event, context)

    async def see_many(events: list[Number], context: Context) -> None:
        await stops(events, context)

    service.subscribe(TOPIC, **words)(see_many if "batch" in words else see_one)
    async with MemoryBroker() as broker, Client("memory://") as client:
        await service.start()
        await broker.publish(Message("others", b"{}"))
        await broker.publish(Message(TOPIC.name, b"{}"))
        calling = asyncio.create_task(client.call("numbers.close", timeout=60))
        await until(lambda: len(ended) == 3)
        calling.cancel()  # its reply found the connection closed
        await asyncio.wait([calling])
    assert ended[0] == "other"
    assert "cut off" not in caplog.text
    assert "ignored being cancelled" not in caplog.text
    with pytest.raises(UsageError, match="not started"):
        _ = service.client


@pytest.mark.parametrize("where", ["before_start", "after_start", "before_stop", "after_stop", "lifespan"])
async def test_a_hook_that_starts_or_stops_its_own_service_is_told_so_and_does_not_wait_for_itself(where: str) -> None:
    told: list[str] = []

    async def try_both() -> None:
        for change in (service.start, service.stop):
            with pytest.raises(UsageError) as refused:
                await change()
            told.append(str(refused.value))

    async def lifespan() -> AsyncIterator[None]:
        if where == "lifespan":
            await try_both()
        yield

    service = Service("numbers", broker="memory://", lifespan=lifespan)
    if where != "lifespan":
        getattr(service, where)(try_both)
    async with service:
        pass
    assert told == ["service 'numbers' cannot be started or stopped by its own hooks and lifespan"] * 2


async def test_a_stop_ends_though_a_handler_does_not_let_itself_be_cancelled(
    caplog: pytest.LogCaptureFixture, until: Until
) -> None:
    service = Service("numbers", broker="memory://service", stop_timeout=0.01)
    let_go = asyncio.Event()
    task: asyncio.Task[Any] | None = None

    @service.subscribe(TOPIC)
    async def stubborn(event: Number) -> None:
        nonlocal task
        task = asyncio.current_task()
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    await service.start()
    await service.publish(TOPIC, Number())
    await until(lambda: task)
    stopping = asyncio.create_task(service.stop())
    done, _ = await asyncio.wait([stopping], timeout=5)
    let_go.set()
    await stopping
    assert task is not None
    await asyncio.wait([task])
    assert done == {stopping}
    assert "numbers.stubborn" in caplog.text


@pytest.mark.parametrize("where", ["before_stop", "a handler"])
async def test_a_stop_that_is_cancelled_closes_all_the_same(where: str, until: Until) -> None:
    log: list[str] = []
    broker = Logged(log)
    service = Service("numbers", broker=broker)
    waits: list[str] = []

    async def wait(at: str) -> None:
        if at == where:
            waits.append(at)
            await asyncio.Event().wait()

    @service.subscribe(TOPIC)
    async def see(event: Number) -> None:
        await wait("a handler")

    service.before_stop(lambda: wait("before_stop"))
    service.after_stop(lambda: log.append("after_stop"))
    await service.start()
    await service.publish(TOPIC, Number())
    await asyncio.sleep(0)
    stopping = asyncio.create_task(service.stop())
    await until(lambda: waits)
    await asyncio.sleep(0)
    stopping.cancel()
    await asyncio.wait([stopping])
    assert stopping.cancelled()
    assert not broker.connected
    assert log[-2:] == ["close", "after_stop"]


async def test_a_stop_without_time_takes_no_more_from_a_broker_that_stays_connected(until: Until) -> None:
    seen: list[int] = []
    shared = MemoryBroker()
    service = Service("numbers", broker=shared, stop_timeout=0)

    @service.subscribe(TOPIC)
    async def see(event: Number) -> None:
        seen.append(event.value)
        await asyncio.Event().wait()

    async with shared, Client("memory://") as client:
        async with service:
            await client.publish(TOPIC, Number(value=1))
            await until(lambda: seen)
        await client.publish(TOPIC, Number(value=2))
        await asyncio.sleep(0.01)
    assert seen == [1]


async def test_a_stop_lets_handlers_finish_though_a_subscription_fails_to_drain(until: Until) -> None:
    class Broken(MemoryBroker):
        async def subscribe(self, subject: str, receive: Any, **words: Any) -> Any:
            subscription = await super().subscribe(subject, receive, **words)
            if subject == "other":
                subscription.drain = fail  # type: ignore[method-assign]
            return subscription

    async def fail() -> None:
        raise ValueError("failed to drain")

    seen: list[str] = []
    gate = asyncio.Event()
    service = Service("numbers", broker=Broken())

    @service.subscribe("other")
    async def other(event: int) -> None: ...

    @service.subscribe(TOPIC)
    async def see(event: Number) -> None:
        seen.append("begun")
        await gate.wait()
        seen.append("done")

    await service.start()
    await service.publish(TOPIC, Number())
    await until(lambda: seen)
    stopping = asyncio.create_task(service.stop())
    await asyncio.sleep(0.01)
    gate.set()
    with pytest.raises(ValueError, match="failed to drain"):
        await stopping
    assert seen == ["begun", "done"]
