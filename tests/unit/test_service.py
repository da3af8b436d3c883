"""A service: what is declared on it, and what cannot be."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any

import pytest

from eventmicro import Client, Depends, MemoryBroker, Service, rpc, subscribe
from eventmicro.broker import Capabilities
from eventmicro.codecs.json import JsonCodec
from eventmicro.errors import SignatureError, Unsupported, UsageError
from tests.unit.services import TOPIC, Number, Until, echo


def one() -> int:
    return 1


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


async def needy_lifespan(service: object) -> AsyncIterator[None]:
    yield


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
        ("lifespan", needy_lifespan, "lifespan=needy_lifespan takes service, and is called without arguments"),
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


async def test_dead_letters_that_are_taken_by_another_queue_than_the_one_that_keeps_them_are_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = Service("looks", broker=MemoryBroker())

    @service.subscribe("looks.placed", dead_letter="looks.lost")
    async def bill(number: int) -> None: ...

    @service.subscribe("looks.lost")
    async def lost(number: int) -> None: ...

    @service.subscribe("dead.orders.bill")
    async def dead(number: int) -> None: ...

    @service.subscribe("dead.orders.bill", queue="dead.orders.bill")
    async def right(number: int) -> None: ...

    @service.subscribe("dead.orders.bill", queue=None)
    async def alert(number: int) -> None: ...

    @service.subscribe("dead.>")
    async def watch(number: int) -> None: ...

    async with service:
        pass
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said == [
        f"looks.{name} takes dead letters by a queue of its own, which gets none of before it was made, and settles "
        f"none of those that are kept: write queue='{subject}'"
        for name, subject in (("lost", "looks.lost"), ("dead", "dead.orders.bill"))
    ]


async def test_the_broker_that_start_is_given_is_taken_whatever_the_code_names() -> None:
    service = Service("numbers", broker="nats://127.0.0.1:1", rpc_broker="nats://127.0.0.1:1")

    @service.rpc
    async def double(number: int) -> int:
        return 2 * number

    await service.start("memory://given", rpc_broker="memory://given")
    try:
        assert (service.client.broker.url, service.client.rpc_broker.url) == ("memory://given", "memory://given")
        async with Client("memory://given") as client:
            assert await client.call("numbers.double", 21, int) == 42
    finally:
        await service.stop()
    await service.start(broker := MemoryBroker("memory://object"), rpc_broker=broker)
    assert service.client.broker is service.client.rpc_broker is broker
    await service.stop()


async def test_an_override_is_undone_behind_its_block() -> None:
    def real() -> str:
        return "real"

    service = Service("overridden", broker="memory://overridden")

    @service.rpc
    async def ask(which: str = Depends(real)) -> str:
        return which

    async def asked() -> str:
        async with service, Client("memory://overridden") as client:
            return await client.call("overridden.ask", None, str)

    with service.override(real, by=lambda: "first"):
        with service.override(real, by=lambda: "second"):
            assert await asked() == "second"
        assert await asked() == "first"
    assert await asked() == "real"
    service.override(real, by=lambda: "for good")
    assert await asked() == "for good"
