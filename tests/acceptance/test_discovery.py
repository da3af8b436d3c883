"""Services come, go, are killed and replaced under calls; the command line shows who is there and how they are."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import pytest

from eventmicro import Client, NotFound, Service
from eventmicro.discovery.strategies import STRATEGIES
from tests.conformance.servers import Restartable
from tests.processes import LIMIT, Program, environment, wait_until
from tests.servers import NatsServer

Until = Callable[[Callable[[], object]], Awaitable[None]]

PROGRAM = """
import os, sys
from eventmicro import BadRequest, Service

service = Service("orders", version=sys.argv[2], id=sys.argv[1], broker=os.environ["URL"], description="Takes orders.")

@service.rpc
async def who(number: int | None) -> str:
    if number is not None:
        raise BadRequest("no number is needed")
    return sys.argv[1]

@service.subscribe("orders.placed")
async def bill(number: int) -> None: ...

service.run()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "orders.py").write_text(PROGRAM)
    return tmp_path


@pytest.fixture
def server() -> Iterator[NatsServer]:
    with NatsServer(jetstream=True) as server:
        yield server


def start(folder: Path, url: str, id: str, version: str = "1.0.0", **env: str) -> Program:
    return Program(folder, "orders.py", id, version, env={"URL": url} | env, python=True)


def answering(name: str, number: int, url: str) -> Service:
    service = Service(name, id=f"n{number}", broker=url)

    @service.rpc
    async def who() -> int:
        await asyncio.sleep(0.005)
        return number

    return service


@pytest.mark.parametrize("selector", [None, *STRATEGIES])
@pytest.mark.parametrize("broker", ["memory", "nats"])
async def test_a_rolling_restart_under_calls_fails_none(
    broker: str, selector: str | None, request: pytest.FixtureRequest
) -> None:
    url = (
        "memory://rolling"
        if broker == "memory"
        else request.getfixturevalue("jetstream_url").replace("jetstream", "nats")
    )
    name = f"rolling-{selector or 'queue'}"
    services = [answering(name, number, url) for number in range(3)]
    answered, stopped = Counter[int](), asyncio.Event()

    async def call(client: Client, worker: int) -> None:
        turn = 0
        while not stopped.is_set():
            key = None if selector is None else f"customer-{worker}-{turn % 7}"
            answered[await client.call(f"{name}.who", None, int, selector=selector, key=key)] += 1
            turn += 1
            await asyncio.sleep(0.02)

    async with AsyncExitStack() as stack:
        for service in services:
            await stack.enter_async_context(service)
        client = await stack.enter_async_context(Client(url))
        calling = [asyncio.create_task(call(client, worker)) for worker in range(4)]
        for service in services * 2:
            before = answered.total()
            while answered.total() < before + 10:
                await asyncio.sleep(0.005)
            await service.stop()
            before = answered.total()
            while answered.total() < before + 10:
                await asyncio.sleep(0.005)
            await service.start()
        stopped.set()
        await asyncio.gather(*calling)
    assert answered.total() > 100


async def test_one_that_is_killed_is_passed_over_at_once_and_then_forgotten(folder: Path, server: NatsServer) -> None:
    with ExitStack() as stack:
        programs = [
            stack.enter_context(start(folder, server.url, letter, EVENTMICRO_REGISTER_TTL="2")) for letter in "abc"
        ]
        async with Client(server.url, selector="round-robin") as client:
            await client.ready("orders")
            assert client.registry is not None
            await asyncio.to_thread(lambda: [program.line_with("orders", "is running") for program in programs])
            changes = client.watch("orders")
            here: set[str] = set()
            async with asyncio.timeout(LIMIT):
                while len(here) < 3:
                    change = await anext(changes)
                    here |= {node.id for node in change.service.nodes} if change.service else set()
                assert Counter([await client.call("orders.who", None, str) for _ in range(30)]) == dict.fromkeys(
                    "abc", 10
                )
                programs[0].process.kill()
                programs[0].process.wait()
                asked = Counter([await client.call("orders.who", None, str) for _ in range(30)])
                assert set(asked) <= {"b", "c"}
                while (change := await anext(changes)).action != "delete":
                    pass
            assert change.service is not None
            assert change.service.nodes[0].id == "a"
            await changes.aclose()  # type: ignore[attr-defined]


async def test_calls_go_on_while_the_registry_is_away_and_it_is_up_to_date_when_it_is_back(
    nats_url: str, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "eventmicro")
    with Restartable(NatsServer(jetstream=True)) as registry:
        url = registry.server.url

        def service(id: str) -> Service:
            service = Service("kept", id=id, broker=nats_url, registry=url, register_interval=0.1)

            @service.rpc
            async def who() -> str:
                return id

            return service

        async with service("one"), Client(nats_url, registry=url, selector="round-robin") as client:
            assert await client.call("kept.who", None, str) == "one"
            await registry.kill()
            await until(lambda: "is away: of kept what it said last is used" in caplog.text)
            for _ in range(10):
                assert await client.call("kept.who", None, str) == "one"
            async with service("two"):
                await registry.start()
                async with asyncio.timeout(LIMIT):
                    while await client.call("kept.who", None, str) != "two":
                        await asyncio.sleep(0.02)
        assert "serves on, but registry" in caplog.text
        assert "is back" in caplog.text


async def test_a_service_whose_registry_is_required_and_away_does_not_start(nats_url: str) -> None:
    from eventmicro import Unavailable

    service = Service("kept", broker=nats_url, registry="nats://127.0.0.1:1", register_required=True)
    with pytest.raises(Unavailable, match=r"registry nats://127\.0\.0\.1:1 is required"):
        await service.start()
    async with Client(nats_url) as client:
        with pytest.raises((Unavailable, NotFound)):
            await client.call("kept.health")


# -- the command line ------------------------------------------------------------------------------------------


def eventmicro(folder: Path, url: str, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "eventmicro", *arguments, "--broker", url]
    done = subprocess.run(
        command, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout + done.stderr


def completed(folder: Path, url: str, function: str, begun: str) -> list[str]:
    """What the shell is offered: in time, which on a machine that is busy is nothing at first."""
    code = f"from eventmicro.cli.connecting import {function} as f; print(*f({begun!r}))"
    env = environment(folder) | {"EVENTMICRO_BROKER": url}
    return subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=True
    ).stdout.split()


def test_the_command_line_shows_who_is_there_and_how_they_are(folder: Path, server: NatsServer) -> None:
    url = server.url
    assert eventmicro(folder, url, "services") == (0, "nobody answers\n")
    with start(folder, url, "a") as one, start(folder, url, "b", "1.1.0") as other:
        for program in (one, other):
            program.line_with("orders", "is running")
        eventmicro(folder, url, "call", "orders.who", "7")
        code, said = eventmicro(folder, url, "services")
        assert code == 0
        assert [line.split() for line in said.splitlines()] == [
            ["SERVICE", "VERSION", "NODES", "ENDPOINTS", "SUBSCRIBERS", "FRAMEWORK"],
            ["orders", "1.0.0", "1", "who", "bill", "(orders.placed)", "eventmicro"],
            ["orders", "1.1.0", "1", "who", "bill", "(orders.placed)", "eventmicro"],
        ]
        records = json.loads(eventmicro(folder, url, "services", "--json")[1])
        assert [(each["version"], [node["id"] for node in each["nodes"]]) for each in records] == [
            ("1.0.0", ["a"]),
            ("1.1.0", ["b"]),
        ]
        wait_until(lambda: completed(folder, url, "complete_service", "or") == ["orders"])
        wait_until(lambda: completed(folder, url, "complete_endpoint", "orders.") == ["orders.who"])
        assert completed(folder, "nats://127.0.0.1:1", "complete_endpoint", "") == []
        code, said = eventmicro(folder, url, "describe", "orders")
        assert code == 0
        for words in (
            "orders 1.0.0",
            "who",
            "integer | null",
            "string",
            "orders.placed",
            "orders.bill",
            "orders.$node.a",
        ):
            assert words in said
        assert eventmicro(folder, url, "describe", "ordres") == (
            2,
            "eventmicro: there is no service 'ordres'; did you mean 'orders'?; see `eventmicro services`\n",
        )
        code, said = eventmicro(folder, url, "describe", "two words")
        assert (code, "service name 'two words'" in said) == (2, True)
        _, said = eventmicro(folder, url, "nodes", "orders")
        assert [line.split()[:4] for line in said.splitlines()[1:]] == [
            ["orders", "1.0.0", "a", "orders.$node.a"],
            ["orders", "1.1.0", "b", "orders.$node.b"],
        ]
        code, said = eventmicro(folder, url, "health")
        assert (code, [line.split() for line in said.splitlines()[1:]]) == (
            0,
            [["orders", "a", "ok"], ["orders", "b", "ok"]],
        )
        code, said = eventmicro(folder, url, "stats", "orders", "--json")
        figures = json.loads(said)
        assert sum(each["count"] for node in figures for each in node["endpoints"] if each["name"] == "who") == 1
        assert "400:1" in eventmicro(folder, url, "stats")[1]
        os.kill(other.process.pid, signal.SIGSTOP)
        try:
            code, said = eventmicro(folder, url, "health", "orders")
        finally:
            os.kill(other.process.pid, signal.SIGCONT)
        assert code in (0, 1)
        assert ["orders", "a", "ok"] in [line.split() for line in said.splitlines()]


def test_a_call_from_the_command_line_goes_to_the_node_that_is_asked_for(folder: Path, server: NatsServer) -> None:
    with start(folder, server.url, "a") as one, start(folder, server.url, "b", "1.1.0") as other:
        for program in (one, other):
            program.line_with("orders", "is running")
        for options, node in (
            (("--node", "a"), "a"),
            (("--node", "b"), "b"),
            (("--version", "^1.1"), "b"),
            (("--selector", "newest"), "b"),
            (("--version", "<1.1", "--selector", "random", "--key", "k"), "a"),
        ):
            assert eventmicro(folder, server.url, "call", "orders.who", *options) == (0, f'"{node}"\n')
        wait_until(lambda: completed(folder, server.url, "complete_node", "") == ["a", "b"])
        assert eventmicro(folder, server.url, "call", "orders.who", "--label", "zone=eu") == (
            1,
            "orders: 503 Service Unavailable\n  none of the 2 nodes of 'orders' passes the filters of this call: "
            "none has a label 'zone', there are broker, framework\n",
        )
        for options, words in (
            (("--label", "=eu"), "--label '=eu': write NAME or NAME=VALUE"),
            (("--selector", "newst"), "did you mean 'newest'?"),
            (("--version", "new"), "'new'"),
        ):
            code, said = eventmicro(folder, server.url, "call", "orders.who", *options)
            assert (code, words in said) == (2, True), said


def test_the_health_port_is_for_orchestrators(folder: Path, server: NatsServer) -> None:
    import urllib.error
    import urllib.request

    (folder / "app.py").write_text(
        "from eventmicro import Service\n"
        "service = Service('shop')\n"
        "state = {'well': False}\n"
        "@service.health_check\n"
        "def stock() -> bool: return state['well']\n"
        "@service.rpc\n"
        "async def heal() -> None: state['well'] = True\n"
    )

    def get(port: str, path: str) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    with Program(folder, "run", "app", "--broker", server.url, "--health-port", "0") as program:
        port = program.line_with("health is told at").rpartition(":")[2].partition("/")[0]
        program.line_with("shop", "on nats://")
        assert get(port, "/health/live")[0] == 200
        status, forms = get(port, "/health/ready")
        assert (status, forms["shop"]["checks"][-1]["name"]) == (503, "stock")
        eventmicro(folder, server.url, "call", "shop.heal")
        assert get(port, "/health/ready")[0] == 200


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--registry", "pigeon://x"], "no registry 'pigeon' is installed"),
        (["--register-ttl", "0"], "register_ttl=0"),
        (["--register-ttl", "5", "--register-interval", "5"], "register_interval=5 is not shorter than register_ttl=5"),
        (["--health-port", "7000", "--workers", "2"], "--health-port is one port"),
    ],
)
def test_options_of_run_that_cannot_be(folder: Path, arguments: list[str], words: str) -> None:
    (folder / "app.py").write_text("from eventmicro import Service\nservice = Service('shop')\n")
    code, said = eventmicro(folder, "memory://", "run", "app", *arguments)
    assert code == 2 or "register" in words
    assert code != 0
    assert words in said
