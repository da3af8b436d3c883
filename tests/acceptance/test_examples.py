"""Every numbered example runs as a newcomer runs it, in memory and over NATS, and prints what it promises."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from eventmicro_nats.embedded import EmbeddedServer
from pydantic import BaseModel

from eventmicro import Client, Unavailable
from eventmicro.generating.protoc import generate
from tests.conftest import PATIENCE

EXAMPLES = Path(__file__).parents[2] / "examples"

TESTS = {"09_testing_your_service": "3 passed", "27_testing_several_services": "4 passed"}
OUTPUT = {
    "01_hello": ["Hello, world!"],
    "02_typed_events": [
        "10 orders placed, 1 shipped, 2 instances: {'audited': 11, 'billed': 10, 'caches refreshed': 20}"
    ],
    "03_rpc_errors": [
        "reply        3.0",
        "NotFound     no article 'kiwi'",
        "BadRequest   ['quantity'] Input should be greater than or equal to 1",
        "ServiceError 423 this one is spoken for",
        "Internal     the endpoint failed; the log of its service says why",
        "CallTimeout  grocer.slow",
        "Unavailable  nobody.home retryable",
    ],
    "04_dependencies_and_lifespan": ["database open", "notes: ['buy milk', 'write tests']", "database closed"],
    "05_middleware": [
        "> client     parcels.order",
        "> endpoint   parcels.order",
        "> publisher  parcels.ordered",
        "< publisher  parcels.ordered",
        "< endpoint   parcels.order",
        "> subscriber parcels.ordered",
        "  packing pear",
        "< subscriber parcels.ordered",
        "< client     parcels.order",
        "  receipt 1",
    ],
    "06_class_service": ["apples: 7", "pears: 0"],
    "07_protobuf": [
        "called in application/protobuf",
        "archived: Oslo -3.5 °C",
        "reply: Oslo -3.5 °C",
        "called in application/json",
        "archived: Rome 12.0 °C",
        "{'place': 'Rome', 'celsius': 12.0}",
    ],
    "08_plain_nats_peer": [
        'peer: asked {"sku":"pear"}',
        'peer: reply {"euros":0.75}',
        'peer: event {"euros":0.75}',
        "peer: refused 400 the request is not a valid Article",
        "service: somebody wants kiwi",
    ],
    "10_retry_and_dead_letters": [
        "booked plain at attempt 1",
        "booked flaky at attempt 3",
        "dead: wrong: rejected: nobody pays less than nothing",
        "dead: broken: failed 3 times, the last time by ValueError: no such account",
    ],
    "11_order_by_key": [f"{order} placed packed sent" for order in "abcde"],
    "12_batch_into_database": ["1000 readings are in the database"],
    "13_replay": ["now: 30 euros", "history: 30 euros", "afternoon: 20 euros"],
    "14_balancing": [
        "in turn: {'north': 10, 'south': 10, 'west': 10}",
        "one customer: 1 node",
        "one less: {'north': 15, 'west': 15}",
    ],
    "15_canary": [
        "stable: 0.19",
        "canary: 0.21",
        "newest: 0.21",
        "in the eu: 0.19",
        "second: none of the 2 nodes of 'tax' passes the filters of this call: "
        "no version is in '^2', there are 1.10.0, 1.9.0",
    ],
    "16_start_order": [
        "the till is waiting for the mint",
        "change: [2, 2, 2]",
        "the till is ok ['broker', 'subscriptions', 'registered', 'has_coins']",
    ],
    "17_four_kinds_of_calls": [
        "call: cents=410",
        "server stream: [410, 412, 409, 410]",
        "server: nobody watches tea any more",
        "client stream: cents=5050",
        "bidirectional: cents=95",
        "bidirectional: cents=9500",
        "bidirectional: []",
        "error: nobody trades in gold",
    ],
    "18_chat": [
        "ann hears the room: ann comes in, so we are 1",
        "ann hears the room: bob comes in, so we are 2",
        "bob hears the room: bob comes in, so we are 2",
        "ann hears ann: hello bob",
        "bob hears ann: hello bob",
        "ann hears bob: hello ann, I cannot stay",
        "bob hears bob: hello ann, I cannot stay",
        "ann hears the room: bob has left",
    ],
    "19_file_upload": [
        "stored 5000000 bytes, the same",
        "stored 65536 bytes, and then left",
        "kept: ['photo']",
    ],
    "20_breaker": [
        "well    sunny in Oslo",
        "broken  1 the sensors are down, 2 attempts",
        "broken  2 the sensors are down, 2 attempts",
        "        lighthouse.forecast is open",
        "broken  3 the sensors are down, 2 attempts",
        "open    as yesterday in Oslo",
        "        lighthouse.forecast is half-open",
        "        lighthouse.forecast is closed",
        "mended  sunny in Oslo",
        "circuits [('lighthouse.forecast', 'closed')] runs 8",
    ],
    "21_codecs": [
        "JSON        {'celsius': 21.5}",
        "MessagePack celsius=21.5",
        """JSON-RPC    b'{"jsonrpc":"2.0","id":"a","result":{"celsius":21.5}}'""",
        "JSON-RPC    the request is not a valid Fahrenheit",
        "a Struct, compressed: 9000 numbers",
    ],
    "22_contract": [
        "Moby-Dick has 3 pages: ['page 1', 'page 2', 'page 3']",
        "stored: books=3 pages=60",
        "at once: 3",
        "Forgetful does not implement Library:",
        "  find: returns Shelf, and the contract says Book",
        "  read: is missing",
        "  store: is missing",
    ],
    "23_proto_services": [
        "check: SERVING",
        "watch: SERVING NOT_SERVING",
        "count: 4",
        "top: [('Dune', 3), ('Solaris', 1)]",
        "follow: Dune Dune Solaris",
    ],
    "24_publisher_and_wrappers": [
        "[subscriber] collect",
        "[subscriber] collect",
        "read: 1 2 3 4 5 6 7 8 9 10",
        "[endpoint] answer",
        "nothing new about gophers, readers",
    ],
    "25_proto_round_trip": [
        "rpc Length(.trips.Trip) returns (.trips.Distance);",
        "rpc Legs(.trips.Trip) returns (stream .trips.Leg);",
        "the same again: True",
        "length: 7",
        "legs: ['Rome', 'Oslo']",
    ],
    "26_shapes_of_handlers": [
        "to be ordered: 6 tea",
        "in the south: 4",
        "all: ['north: 12 tea', 'south: 4 tea']",
    ],
}
NEEDS_DURABLE = {"10_retry_and_dead_letters", "11_order_by_key", "13_replay"}  # refused on core NATS


@pytest.fixture(scope="module")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = EmbeddedServer(tmp_path_factory.mktemp("nats"))
    server.start()
    yield server.url
    server.stop()


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Ours without the settings of who runs the tests; the state of an embedded server in a folder of its own."""
    ours = {name: value for name, value in os.environ.items() if name != "BROKER" and "EVENTMICRO" not in name}
    return ours | {"EVENTMICRO_STATE_DIR": str(folder / "state"), "PYTHONUTF8": "1"} | more


def lines(name: str, folder: Path, **more: str) -> list[str]:
    """What an example prints, sorted: where a subscriber runs meanwhile, the order is not promised."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py"],
        cwd=folder,
        env=environment(folder, **more),
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return sorted(done.stdout.splitlines())


def test_every_example_is_tested() -> None:
    assert {file.stem for file in EXAMPLES.glob("[0-9]*.py")} == {*OUTPUT, *TESTS}


def test_the_index_lists_every_example_in_order() -> None:
    listed = re.findall(r"^\| \[\w+\]\((.+?)\) \|", (EXAMPLES / "README.md").read_text(), re.M)
    assert listed == [*sorted(file.name for file in EXAMPLES.glob("[0-9]*.py")), "quakes/", "shop/"]


@pytest.mark.parametrize("name", OUTPUT)
def test_by_itself(name: str, tmp_path: Path) -> None:
    assert lines(name, tmp_path) == sorted(OUTPUT[name])


@pytest.mark.parametrize("broker", ["jetstream_url", "rabbitmq_url", "kafka_url"])
@pytest.mark.parametrize("name", [*sorted(NEEDS_DURABLE), "12_batch_into_database"])
def test_over_a_broker_that_keeps_events(
    name: str, broker: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if (name, broker) == ("13_replay", "rabbitmq_url"):
        pytest.skip("RabbitMQ keeps no event that was dealt with")
    assert lines(name, tmp_path, BROKER=request.getfixturevalue(broker)) == sorted(OUTPUT[name])


@pytest.mark.parametrize("name", sorted(set(OUTPUT) - NEEDS_DURABLE))
def test_over_nats(name: str, tmp_path: Path, server_url: str) -> None:
    assert lines(name, tmp_path, BROKER=server_url) == sorted(OUTPUT[name])


@pytest.mark.timeout_seconds(240)
def test_all_run_on_one_server_that_keeps_their_events_one_after_the_other_and_again(
    tmp_path: Path, server_url: str
) -> None:
    """Again those that find events of the first time there."""
    keeping = server_url.replace("nats://", "jetstream://")
    again = [name for name in OUTPUT if "subscribe" in (EXAMPLES / f"{name}.py").read_text()]
    for name in [*OUTPUT, *again]:
        url = server_url if name == "08_plain_nats_peer" else keeping  # nats-py takes its own scheme only
        assert lines(name, tmp_path, BROKER=url) == sorted(OUTPUT[name]), name


def test_no_two_share_a_name_with_one_another_or_with_the_readme() -> None:
    places = [*EXAMPLES.glob("[0-9]*.py"), EXAMPLES.parent / "README.md"]
    named = {place.name: names(place.read_text()) for place in places}
    for folder in ("quakes", "shop"):
        named[folder] = names("".join(file.read_text() for file in (EXAMPLES / folder).glob("*.py")))
    assert all(named.values())
    counted = Counter(name for each in named.values() for name in each)
    assert [name for name, count in counted.items() if count > 1] == []


def names(source: str) -> set[str]:
    """The first words of its services and of its topics' subjects."""
    return set(re.findall(r'\b(?:Service|Topic|counter)\(\s*f?"([\w-]+)', source))


@pytest.mark.parametrize("name", TESTS)
def test_the_example_of_tests_passes(name: str, tmp_path: Path) -> None:
    assert any(TESTS[name] in line for line in lines(name, tmp_path))


@pytest.mark.parametrize("name", ["weather", "protobuf/health", "protobuf/popular"])
def test_the_types_of_the_protobuf_examples_are_those_of_their_source(name: str, tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools")
    folder = EXAMPLES if "/" in name else EXAMPLES / "protobuf"
    options = [f"-I{folder}", f"-I{EXAMPLES.parent / 'schemas'}", f"--python_out={tmp_path}", f"{name}.proto"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *options], check=True, timeout=60)
    assert descriptor(folder / f"{name}_pb2.py") == descriptor(tmp_path / f"{name}_pb2.py")


def test_the_contracts_of_the_protobuf_examples_are_those_of_their_source(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools")
    names = ["protobuf/health", "protobuf/popular"]
    generate([EXAMPLES / f"{name}.proto" for name in names], tmp_path, [EXAMPLES])
    for name in names:
        written = (EXAMPLES / f"{name}_contracts.py").read_text()
        assert written == (tmp_path / f"{name}_contracts.py").read_text()


def descriptor(generated: Path) -> str:
    """The types in a generated module, which are the same whatever the version of the generator."""
    (line,) = [line for line in generated.read_text().splitlines() if line.startswith("DESCRIPTOR = ")]
    return line


class Hello(BaseModel):
    name: str


class Greeting(BaseModel):
    text: str


@pytest.mark.timeout_seconds(60)
async def test_the_first_example_is_served_by_eventmicro_run(tmp_path: Path, server_url: str) -> None:
    command = [sys.executable, "-m", "eventmicro", "run", str(EXAMPLES / "01_hello.py"), "--broker", server_url]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.DEVNULL)
    try:
        async with Client(server_url) as client:
            assert await greeting(client, process) == "Hello, Ada!"
    finally:
        process.terminate()
        assert process.wait(30) == 0


async def greeting(client: Client, process: subprocess.Popen[bytes]) -> str:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            return (await client.call("greeter.hello", Hello(name="Ada"), Greeting)).text
        except Unavailable:
            await asyncio.sleep(0.05)
    raise AssertionError("eventmicro run did not serve the example")
