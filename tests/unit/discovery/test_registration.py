"""A node is registered while its check passes, whatever becomes of the registry."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

import pytest

from eventmicro import NotFound, Service, Unavailable, UsageError
from eventmicro.discovery import registration as module
from eventmicro.discovery.registering import Registering
from eventmicro.discovery.registration import Registration
from eventmicro.registry import EndpointRecord, ServiceRecord
from tests.unit.discovery.kit import Steered, record

Until = Callable[[Callable[[], object]], Awaitable[None]]


async def is_there(registry: Steered) -> bool:
    try:
        return bool(await registry.get_service("orders"))
    except NotFound:
        return False


def registration(registry: Steered, **words: object) -> Registration:
    how = Registering(**({"ttl": 30.0, "interval": 0.01} | words))  # type: ignore[arg-type]
    return Registration(registry, "orders 1", record, how)


async def test_it_is_there_from_start_to_stop() -> None:
    registry = Steered("life")
    registered = registration(registry)
    await registered.start()
    assert registered.registered
    assert await is_there(registry)
    await registered.stop()
    assert not await is_there(registry)
    assert not registered.registered
    calls = len(registry.calls)
    await registered.stop()
    assert len(registry.calls) == calls


async def test_heartbeats_renew_it(until: Until) -> None:
    registry = Steered("beats")
    registered = registration(registry)
    await registered.start()
    await until(lambda: registry.calls.count("register") >= 5)
    await registered.stop()
    assert registry.calls[-1] == "deregister"


async def test_one_whose_check_fails_is_absent_until_it_passes(until: Until, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "eventmicro")
    registry, looks, well = Steered("check"), [0], [False]

    def check() -> None:
        looks[0] += 1
        if not well[0]:
            raise RuntimeError("the disk is full")

    registered = registration(registry, check=check)
    await registered.start()
    await until(lambda: looks[0] >= 4)
    assert registry.calls == []
    well[0] = True
    await until(lambda: registered.registered)
    assert await is_there(registry)
    well[0] = False
    await until(lambda: not registered.registered)
    assert not await is_there(registry)
    beat = looks[0] + 4
    await until(lambda: looks[0] >= beat)
    assert registry.calls.count("deregister") == 1
    assert not await is_there(registry)
    well[0] = True
    await until(lambda: registered.registered)
    await registered.stop()
    said = [r.getMessage() for r in caplog.records if "check" in r.getMessage()]
    assert said == [
        "orders 1 is not registered while its check fails: RuntimeError: the disk is full",
        "orders 1: its check passes again",
        "orders 1 is not registered while its check fails: RuntimeError: the disk is full",
        "orders 1: its check passes again",
    ]


async def test_an_async_check_and_one_that_returns_false() -> None:
    async def well() -> bool:
        return False

    registry = Steered("false")
    registered = registration(registry, check=well)
    await registered.start()
    assert not registered.registered
    await registered.stop()
    assert registry.calls == []


async def test_a_registry_that_is_away_at_the_start_stops_nobody(
    until: Until, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.001)
    registry = Steered("away")
    registry.away = True
    registered = registration(registry)
    await registered.start()
    await until(lambda: len(registry.calls) >= 5)
    assert not registered.registered
    registry.away = False
    await until(lambda: registered.registered)
    await registered.stop()
    lines = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert lines == [
        f"orders 1 serves on, but registry {registry.url} cannot be reached, and is tried again: it is away"
    ]


async def test_a_registry_that_is_required_has_to_be_there() -> None:
    registry = Steered("required")
    registry.away = True
    with pytest.raises(Unavailable, match=r"registry memory://required is required: it is away"):
        await registration(registry, required=True).start()


async def test_one_that_is_away_at_the_stop_is_told_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    registry = Steered("stop")
    registered = registration(registry, interval=20.0)
    await registered.start()
    registry.away = True
    await registered.stop()
    assert "could not be deregistered, and is forgotten within 30 s" in caplog.text


async def test_what_an_adapter_raises_by_mistake_ends_no_heartbeats(
    until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Steered("mistake")
    registered = registration(registry)
    await registered.start()
    registry.refusal = ZeroDivisionError()
    beats = len(registry.calls) + 3
    await until(lambda: len(registry.calls) >= beats)
    registry.refusal = None
    beats = len(registry.calls) + 2
    await until(lambda: len(registry.calls) >= beats)
    await registered.stop()
    assert "could not be registered" in caplog.text


async def test_a_record_that_is_too_large_is_registered_without_what_makes_it_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Small(Steered):
        async def register(self, service: ServiceRecord, *, ttl: float) -> None:
            if len(service.model_dump_json()) > 300:
                raise UsageError("it is too large")
            await super().register(service, ttl=ttl)

    def large() -> ServiceRecord:
        return record(endpoints=[EndpointRecord(name="quote", request={"title": "x" * 500})])

    registry = Small("small")
    registered = Registration(registry, "orders 1", large, Registering())
    await registered.start()
    (found,) = await registry.get_service("orders")
    assert found.endpoints == [EndpointRecord(name="quote")]
    assert "orders 1 is registered without its schemas: it is too large" in caplog.text
    await registered.stop()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({"register_ttl": 10, "register_interval": 10}, r"register_interval=10 is not shorter than register_ttl=10"),
        ({"register_interval": 90}, r"register_interval=90 is not shorter than register_ttl=90"),
        ({"register_ttl": 0}, r"register_ttl=0: write seconds"),
        ({"register_check": 7}, r"register_check: 7 is no function"),
        ({"register_required": 1}, r"register_required=1: write True or False"),
        ({"registry": 7}, r"registry=7: write a name or a URL"),
        ({"registry": "pigeon://x"}, r"no registry 'pigeon' is installed"),
        ({"id": "a b"}, r"node name 'a b'"),
        ({"id": "a" * 129}, r"node id .* has 129 characters"),
        ({"metadata": {"zone": 1}}, r"metadata=.*write a dict of strings"),
        ({"needs": "payments"}, r"needs='payments': write a list"),
        ({"needs": ["pay ments"]}, r"service name 'pay ments'"),
        ({"needs": ["payments", "orders"]}, r"needs='orders' is the service itself"),
        ({"version": "1.0"}, r"version='1\.0': write '1\.0\.0'"),
        ({"selector": "best"}, r"selector='best': there are random"),
    ],
)
def test_words_of_a_service_that_cannot_be(words: dict[str, object], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        Service("orders", **words)  # type: ignore[arg-type]


def test_a_name_of_three_hundred_characters_is_refused() -> None:
    with pytest.raises(UsageError, match="has 300 characters: write 128 at most"):
        Service("a" * 300)


def test_the_environment_says_what_the_code_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTMICRO_REGISTER_TTL", "12")
    monkeypatch.setenv("EVENTMICRO_REGISTER_INTERVAL", "5")
    assert Registering().with_environment() == Registering(12.0, 5.0)
    assert Registering(60.0).with_environment() == Registering(60.0, 5.0)
    assert Registering(6.0).pause == 2.0
    assert Registering(1000.0).pause == 30.0
    monkeypatch.setenv("EVENTMICRO_REGISTER_TTL", "soon")
    with pytest.raises(UsageError, match="EVENTMICRO_REGISTER_TTL='soon': write seconds"):
        Registering().with_environment()


class Slow(Steered):
    """Keeps at once what it is told, and answers when it is let."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.answer = asyncio.Event()
        self.kept = 0

    async def register(self, service: ServiceRecord, *, ttl: float) -> None:
        await super().register(service, ttl=ttl)
        self.kept += 1
        await self.answer.wait()


async def test_one_that_was_registered_without_an_answer_is_deregistered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    registry = Slow("no answer")
    registered = registration(registry, interval=10.0)
    await registered.start()
    assert not registered.registered
    assert await is_there(registry)
    await registered.stop()
    assert not await is_there(registry)


async def test_a_start_that_is_cancelled_leaves_nobody_registered(until: Until) -> None:
    registry = Slow("cancelled")
    service = Service("orders", broker="memory://cancelled", registry=registry)

    @service.rpc
    async def quote() -> None: ...

    starting = asyncio.create_task(service.start())
    await until(lambda: registry.kept)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await registry.connect()
    assert not await is_there(registry)


async def test_a_heartbeat_on_its_way_does_not_come_after_the_goodbye(until: Until) -> None:
    class Queued(Steered):
        """What is sent arrives, also where who sent it waits no more; as over HTTP, in any order."""

        def __init__(self, name: str) -> None:
            super().__init__(name)
            self.deliver = asyncio.Event()
            self.sent: list[asyncio.Task[None]] = []

        async def register(self, service: ServiceRecord, *, ttl: float) -> None:
            if "register" not in self.calls:
                await super().register(service, ttl=ttl)
            else:
                self.sent.append(asyncio.create_task(self.arrive(service, ttl)))
                await asyncio.shield(self.sent[-1])

        async def arrive(self, service: ServiceRecord, ttl: float) -> None:
            await self.deliver.wait()
            await super().register(service, ttl=ttl)

    registry = Queued("queued")
    registered = registration(registry)
    await registered.start()
    await until(lambda: registry.sent)
    stopping = asyncio.create_task(registered.stop())
    for _ in range(20):  # as many turns as a goodbye takes that waits for nothing
        await asyncio.sleep(0)
    registry.deliver.set()
    await stopping
    await asyncio.wait(registry.sent)
    assert not await is_there(registry)


async def test_a_check_whose_own_work_is_cancelled_or_too_late_ends_no_heartbeats(until: Until) -> None:
    registry, faults = Steered("own faults"), [asyncio.CancelledError(), TimeoutError("the pool is full")]

    async def check() -> None:
        if faults:
            raise faults.pop()

    registered = registration(registry, check=check)
    await registered.start()
    assert registered._failing == "TimeoutError: the pool is full"
    await until(lambda: registered.registered)
    assert faults == []
    await registered.stop()


async def test_a_record_that_is_refused_as_a_whole_is_registered_whole_when_it_is_taken_again(
    until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    whole = record(endpoints=[EndpointRecord(name="quote", request={"title": "Quote"})])
    registry = Steered("permission")
    registered = Registration(registry, "orders 1", lambda: whole, Registering(ttl=30.0, interval=0.01))
    await registered.start()
    registry.refusal = UsageError("permission denied")
    beats = len(registry.calls) + 9
    await until(lambda: len(registry.calls) >= beats)
    assert registered.why == "the registry does not take it: UsageError: permission denied"
    registry.refusal = None
    beats = len(registry.calls) + 2
    await until(lambda: len(registry.calls) >= beats)
    assert (await registry.get_service("orders"))[0].endpoints == whole.endpoints
    await registered.stop()
    said = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert said == ["orders 1 could not be registered, and it is tried again: UsageError: permission denied"]
    assert not any(r.exc_info for r in caplog.records)


async def test_a_renewal_whose_check_takes_long_does_not_come_after_the_goodbye(until: Until) -> None:
    well, looks = asyncio.Event(), [0]
    well.set()

    async def check() -> None:
        looks[0] += 1
        await well.wait()

    registry = Steered("slow check")
    registered = registration(registry, interval=20.0, check=check)
    await registered.start()
    well.clear()
    renewing = asyncio.create_task(registered.renew())
    await until(lambda: looks[0] == 2)
    await registered.stop()
    well.set()
    await renewing
    assert registry.calls == ["register", "deregister"]
    assert not registered.registered


async def test_it_counts_as_registered_no_longer_than_the_registry_keeps_it(
    until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Steered("forgotten")
    registered = registration(registry, ttl=30.0)
    await registered.start()
    registry.away = True
    tries = len(registry.calls) + 1
    await until(lambda: len(registry.calls) >= tries)
    assert registered.registered
    later = time.monotonic() + 31
    with monkeypatch.context() as patched:
        patched.setattr(module.time, "monotonic", lambda: later)
        assert not registered.registered
        assert registered.why == "the registry is away: it is away"
    registry.away = False
    await registered.stop()
