"""Whether a service lives and is ready: named checks, what `health` and `stats` answer, and the health port."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from eventmicro import BadRequest, Client, MemoryBroker, Reject, Service, ServiceError, Topic, UsageError
from eventmicro.discovery import checking
from eventmicro.discovery.checking import find_fault
from eventmicro.discovery.health import Health
from eventmicro.discovery.report import NodeStatistics
from eventmicro.handlers.statistics import BUCKETS, MAX_CODES, Statistics
from eventmicro.running.health_port import health_port
from tests.unit.discovery.kit import ask

Until = Callable[[Callable[[], object]], Awaitable[None]]
URL = "memory://health"


def shop(**words: Any) -> Service:
    return Service("shop", id="one", broker=URL, **words)


async def test_a_service_says_how_it_is() -> None:
    service = shop()

    @service.health_check
    async def database() -> None: ...

    @service.health_check(name="disk", critical=False)
    def disk_space() -> bool:
        return False

    async with service, Client(URL) as client:
        health = await client.call("shop.health", None, Health)
    assert (health.status, health.live, health.ready) == ("degraded", True, True)
    assert (health.service, health.node, health.version) == ("shop", "one", "0.0.0")
    assert [(check.name, check.ok, check.critical, check.detail) for check in health.checks] == [
        ("broker", True, True, ""),
        ("subscriptions", True, True, ""),
        ("registered", True, False, ""),
        ("database", True, True, ""),
        ("disk", False, False, "it returned False"),
    ]


@pytest.mark.parametrize(("vital", "live"), [(False, True), (True, False)])
async def test_a_check_that_fails_makes_it_not_ready_and_a_vital_one_not_alive(vital: bool, live: bool) -> None:
    service = shop()

    @service.health_check(vital=vital)
    def database() -> None:
        raise ConnectionError("no route")

    async with service:
        health = await service.health()
    assert (health.status, health.live, health.ready) == ("failing", live, False)
    assert health.checks[-1].detail == "ConnectionError: no route"


async def test_checks_run_together_and_none_takes_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking.find_fault, "__defaults__", (0.05,))
    together = asyncio.Barrier(2)
    service = shop()

    @service.health_check
    async def one() -> None:
        await together.wait()

    @service.health_check
    async def other() -> None:
        await together.wait()

    @service.health_check
    async def stuck() -> None:
        await asyncio.Event().wait()

    async with service:
        health = await service.health()
    assert [check.name for check in health.checks if not check.ok] == ["stuck"]
    assert health.checks[-1].detail == "it took longer than 0.05 s"


async def test_a_check_is_cancelled_with_who_asks() -> None:
    looking = asyncio.create_task(find_fault(asyncio.Event().wait))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking


def test_a_check_that_cannot_be_is_refused() -> None:
    service = shop()
    with pytest.raises(UsageError, match="health_check: 7 is no function"):
        service.health_check(7)  # type: ignore[type-var]
    service.health_check(name="disk")(lambda: None)
    for taken in ("disk", "broker"):
        with pytest.raises(UsageError, match=f"has a health check '{taken}' already"):
            service.health_check(name=taken)(lambda: None)


async def test_a_lost_broker_and_an_ended_subscription_are_seen() -> None:
    class Lost(MemoryBroker):
        online = True

    broker = Lost(URL)
    service = Service("shop", broker=broker)

    @service.subscribe("orders")
    async def see(event: int) -> None: ...

    async with service:
        broker.online = False
        health = await service.health()
        assert (health.live, health.ready) == (True, False)
        assert health.checks[0].detail == "ConnectionError: memory://health is away"
        broker.online = True
        await service._node._parts.subscriptions[0].drain()  # type: ignore[union-attr]
        health = await service.health()
        assert (health.live, health.ready) == (False, False)
        assert health.checks[1].detail == "RuntimeError: shop.see: the subscription has ended"


async def test_a_services_own_endpoints_of_these_names_are_its_own() -> None:
    service = shop()

    @service.rpc
    async def health() -> str:
        return "fine"

    @service.subscribe("orders")
    async def stats(event: int) -> None: ...

    async with service, Client(URL) as client:
        assert await client.call("shop.health", None, str) == "fine"
        assert (await service.health()).ready


async def test_figures_of_endpoints_and_subscribers(until: Until, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "eventmicro")
    topic, gate = Topic("orders.placed", int), asyncio.Event()
    service = shop()

    @service.rpc
    async def double(number: int) -> int:
        if number < 0:
            raise BadRequest("below 0")
        return 2 * number

    @service.rpc
    async def wait() -> None:
        await gate.wait()

    @service.subscribe(topic)
    async def bill(number: int) -> None:
        if number == 7:
            raise Reject("no seven")

    async with service, Client(URL) as client:
        waiting = asyncio.create_task(client.call("shop.wait"))
        for number in range(10):
            await client.publish(topic, number)
            assert await client.call("shop.double", number, int) == 2 * number
        with pytest.raises(BadRequest):
            await client.call("shop.double", -1, int)
        await client.publish("dead.shop.bill", 1)
        figures = await client.call("shop.stats", None, NodeStatistics)
        await until(lambda: service._node._parts.handlers[0].inflight.statistics.count == 10)  # type: ignore[union-attr]
        figures = await client.call("shop.stats", None, NodeStatistics)
        gate.set()
        await waiting
        after = await client.call("shop.stats", None, NodeStatistics)
    by_name = {each.name: each for each in (*figures.endpoints, *figures.subscribers)}
    assert (by_name["double"].count, by_name["double"].errors) == (11, {400: 1})
    assert by_name["double"].last_error == "400:below 0"
    assert sum(by_name["double"].latency.values()) == 11
    assert (by_name["wait"].count, by_name["wait"].in_flight) == (0, 1)
    assert (by_name["bill"].count, by_name["bill"].errors, by_name["bill"].dead_letters) == (10, {500: 1}, 1)
    waited = next(each for each in after.endpoints if each.name == "wait")
    assert (waited.count, waited.in_flight) == (1, 0)


def test_statistics_are_counted_by_run_and_bounded() -> None:
    statistics = Statistics()
    statistics.handled(4, 0.4)
    statistics.handled(1, 100.0)
    assert (statistics.count, statistics.seconds) == (5, 100.4)
    assert {bound: n for bound, n in zip((*BUCKETS, "more"), statistics.latency, strict=True) if n} == {
        0.1: 4,
        "more": 1,
    }
    for code in range(400, 400 + 3 * MAX_CODES):
        statistics.failed(code, "x" * 1000)
    assert len(statistics.errors) == MAX_CODES + 1
    assert sum(statistics.errors.values()) == 3 * MAX_CODES
    assert len(statistics.last_error) < 300


# -- the health port -------------------------------------------------------------------------------------------


async def test_the_port_tells_whether_all_live_and_are_ready() -> None:
    well, ill = shop(), Service("ill", broker=URL)

    @ill.health_check
    def database() -> bool:
        return False

    async with health_port([well, ill], "127.0.0.1", 0) as port:
        assert await ask(port, b"GET /health/live HTTP/1.1\r\n\r\n") == (503, {"shop": None, "ill": None})
        async with well, ill:
            status, forms = await ask(port, b"GET /health/live?x=1 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (status, forms["shop"]["ready"], forms["ill"]["ready"]) == (200, True, False)
            assert (await ask(port, b"GET /health/ready HTTP/1.1\r\n\r\n"))[0] == 503
            assert await ask(port, b"HEAD /health HTTP/1.1\r\n\r\n") == (503, None)


async def test_what_is_asked_otherwise_is_refused_and_harms_nobody() -> None:
    async with shop() as service, health_port([service], "127.0.0.1", 0) as port:
        assert (await ask(port, b"GET /other HTTP/1.1\r\n\r\n"))[0] == 404
        assert (await ask(port, b"POST /health HTTP/1.1\r\n\r\n"))[0] == 405
        assert (await ask(port, b"GET /" + b"x" * 100_000))[0] == 0
        assert (await ask(port, b"\xff\xfe\r\n\r\n"))[0] == 405
        assert (await ask(port, b"GET /health HTTP/1.1\r\n\r\n"))[0] == 200


async def test_a_port_that_is_taken_is_told() -> None:
    async with health_port([], "127.0.0.1", 0) as port:
        with pytest.raises(
            UsageError, match=f"--health-port {port}: another process listens at 127.0.0.1:{port}; name"
        ):
            async with health_port([], "127.0.0.1", port):
                pass


async def test_who_is_being_started_lives_and_is_not_ready() -> None:
    changing, service = [True], shop()
    async with health_port([service], "127.0.0.1", 0, lambda: changing[0]) as port:
        assert await ask(port, b"GET /health/live HTTP/1.1\r\n\r\n") == (200, {"shop": None})
        assert await ask(port, b"GET /health/ready HTTP/1.1\r\n\r\n") == (503, {"shop": None})
        assert (await ask(port, b"GET /health HTTP/1.1\r\n\r\n"))[0] == 503
        changing[0] = False
        assert (await ask(port, b"GET /health/live HTTP/1.1\r\n\r\n"))[0] == 503


async def test_a_connection_that_is_silent_holds_up_no_stop() -> None:
    async with asyncio.timeout(20):
        async with health_port([], "127.0.0.1", 0) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await ask(port, b"GET /health HTTP/1.1\r\n\r\n")  # the first is served, too
        with suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("no answer from postgres://shop:s3:cr@t@db:5432/shop", "no answer from postgres://shop:***@db:5432/shop"),
        ("amqp://:hidden@mq", "amqp://:***@mq"),
        ("host=db password=hidden user=x", "host=db password=*** user=x"),
        ("{'api_token': 'hid den', 'x': 1}", "{'api_token': ***, 'x': 1}"),
        ("http://db:5432/a@b is away", "http://db:5432/a@b is away"),
        ("the disk is full: 3 tokens left", "the disk is full: 3 tokens left"),
    ],
)
async def test_what_a_check_says_holds_no_passwords(text: str, told: str) -> None:
    def check() -> None:
        raise ConnectionError(text)

    assert await find_fault(check) == f"ConnectionError: {told}"
    assert await find_fault(lambda: bool([][0])) == "IndexError: list index out of range"


async def test_the_last_error_of_an_endpoint_names_its_kind_and_nothing_it_says() -> None:
    service = Service("shop", broker="memory://last-error")

    @service.rpc
    async def quote(sku: int) -> int:
        raise ConnectionError("password=secret")

    async with service, Client("memory://last-error") as client:
        with pytest.raises(ServiceError):
            await client.call("shop.quote", 1)
        node = (await client.services("shop"))[0].nodes[0]
        said = await client.call(f"{node.address}.stats", None, NodeStatistics)
    assert {each.name: each.last_error for each in said.endpoints}["quote"] == "500:ConnectionError"
