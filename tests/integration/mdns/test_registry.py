"""A registry over multicast DNS and what does not fit into it, processes that die, and garbage on the network."""

from __future__ import annotations

import asyncio
import random
import secrets
import signal
import string
import subprocess
import sys
from pathlib import Path

import pytest
from eventmicro_mdns import MdnsRegistry, listening
from eventmicro_mdns.listening import LATE, Listening, plan
from eventmicro_mdns.packing import LABEL, LONGEST, label_of, pack, unpack
from eventmicro_mdns.settings import read_url
from zeroconf import IPVersion, ServiceInfo, Zeroconf
from zeroconf.asyncio import AsyncZeroconf

from eventmicro.errors import UsageError
from eventmicro.registry import EndpointRecord, NodeRecord, ServiceRecord
from tests.conftest import Until
from tests.integration.registries import record, watched
from tests.processes import environment

pytestmark = pytest.mark.timeout_seconds(90)

NODE = """
import asyncio, sys
from eventmicro.registry import NodeRecord, ServiceRecord
from eventmicro_mdns import MdnsRegistry

async def main():
    async with MdnsRegistry(sys.argv[1]) as registry:
        while True:
            await registry.register(ServiceRecord(name="orders", nodes=[NodeRecord(id="killed")]), ttl=3)
            await asyncio.sleep(1)

asyncio.run(main())
"""


@pytest.fixture
def url(mdns_url: str) -> str:
    """A type of service of this test alone."""
    return f"{mdns_url}?type=_t{secrets.token_hex(5)}._tcp"


def with_schema(size: int) -> ServiceRecord:
    schema = {"type": "object", "description": secrets.token_hex(size // 2)}
    return record().model_copy(update={"endpoints": [EndpointRecord(name="quote", request=schema)]})


async def test_a_connect_that_is_cancelled_can_be_made_again(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(self: Zeroconf, timeout: float = 9.0) -> None:
        if timeout == 9.0:  # its end waits for its start, too, for less
            await asyncio.Event().wait()

    registry = MdnsRegistry(url)
    with monkeypatch.context() as patched:
        patched.setattr(Zeroconf, "async_wait_for_start", hang)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await registry.connect()
    async with registry:
        assert await registry.list_services() == []


async def test_a_process_that_is_killed_is_noticed(url: str, tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", NODE, url], env=environment(tmp_path))
    try:
        async with MdnsRegistry(url) as registry, watched(registry) as told:
            await registry.register(record("alive"), ttl=3)
            while told.nodes != {"killed", "alive"}:  # it may take longer than that to start
                await registry.register(record("alive"), ttl=3)
                await asyncio.sleep(0.05)
            process.send_signal(signal.SIGKILL)
            while told.nodes != {"alive"}:
                await registry.register(record("alive"), ttl=3)
                await asyncio.sleep(0.5)
            assert told.count("delete") == 1
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("ttl", [1, 2, 5, 15, 90, 3600])
@pytest.mark.parametrize("age", [0.0, 0.4, 0.9, 2.0])
def test_who_has_died_is_asked_in_time_to_be_gone_when_its_time_is_over(ttl: float, age: float) -> None:
    """Heard so many times its ttl ago: asked anew before the end, and gone within a second of it."""
    pause, within = plan(ttl, age * ttl)
    left = ttl - age * ttl
    assert pause <= max(left, 0)
    assert pause + within < max(left, 0) + 1
    assert within > min(ttl / 2, 3) or left < min(ttl / 2, 3)
    assert within >= LATE


async def test_one_that_lives_is_never_out_and_its_record_is_asked_for_at_the_node(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten = list[str]()
    forget = Listening._forget_answer

    def count(self: Listening, name: str) -> None:
        forgotten.append(name)
        forget(self, name)

    monkeypatch.setattr(Listening, "_forget_answer", count)
    async with MdnsRegistry(url) as one, MdnsRegistry(url) as other, watched(other) as told:
        await one.register(record(), ttl=3)  # so that a machine that is busy for two seconds answers yet
        while len(forgotten) < 4:  # of two that listen, each of whom had an answer before it asks again
            await one.register(record(), ttl=3)
            await asyncio.sleep(0.05)
        assert [change.action for change in told] == ["synced", "create"]


async def test_schemas_that_do_not_fit_are_left_out_and_told_once(url: str, caplog: pytest.LogCaptureFixture) -> None:
    large = with_schema(100_000)
    async with MdnsRegistry(url) as one, MdnsRegistry(url) as other, watched(other) as told:
        for _ in range(3):
            await one.register(large, ttl=60)
        while told.nodes != {"1"}:
            await asyncio.sleep(0.05)
        (found,) = await other.get_service("orders")
        assert found.endpoints[0].request is None
        assert found.endpoints[0].name == "quote"
    assert caplog.text.count("without its schemas") == 1


async def test_the_largest_record_that_is_taken_is_found_by_others(url: str) -> None:
    size = int(LONGEST / 0.6)  # hexadecimal digits are compressed to a little more than half
    async with MdnsRegistry(url) as one, MdnsRegistry(url) as other, watched(other) as told:
        await one.register(record(note=secrets.token_hex(size // 2)), ttl=60)
        while told.nodes != {"1"}:
            await asyncio.sleep(0.05)
        with pytest.raises(UsageError, match="too large"):
            await one.register(record(note=secrets.token_hex(size)), ttl=60)


async def test_garbage_on_the_network_is_left_out(url: str) -> None:
    kind = f"{read_url(url).type}.local."
    foreign = AsyncZeroconf(["127.0.0.1"], ip_version=IPVersion.V4Only)
    good, _ = pack(record("9"), 60)
    for label, properties in {
        "orders.2": {b"r0": b"garbage", b"ttl": b"60"},
        "orders.3": {b"ttl": b"x"},
        "orders.4": good,
        "a printer (2)": {b"note": b"x"},
    }.items():
        info = ServiceInfo(kind, f"{label}.{kind}", port=9, properties=properties, parsed_addresses=["127.0.0.1"])
        await (await foreign.async_register_service(info, cooperating_responders=True))
    async with MdnsRegistry(url) as registry, watched(registry) as told:
        await registry.register(record(), ttl=60)
        while told.nodes != {"1"}:
            await asyncio.sleep(0.05)
        assert [change.action for change in told] == ["synced", "create"]
    await foreign.async_close()


async def test_names_beyond_those_that_are_kept_are_left_out(
    url: str, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    """Whoever is on the network may announce any number of them; each that is taken in costs a task."""
    monkeypatch.setattr(listening, "NODES", 2)
    async with MdnsRegistry(url) as one, MdnsRegistry(url) as other, watched(other) as told:
        assert other._listening is not None
        heard = other._listening
        for node in ("1", "2"):
            await one.register(record(node), ttl=60)
        await until(lambda: told.nodes == {"1", "2"})
        for node in ("3", "4"):
            await one.register(record(node), ttl=60)
        await until(lambda: heard.table._is_told)
        assert len(heard._minders) == 2
        assert told.nodes == {"1", "2"}


async def test_capitals_are_told_from_small_letters(url: str) -> None:
    async with MdnsRegistry(url) as one, MdnsRegistry(url) as other, watched(other, "Orders") as told:
        await one.register(record("n", "orders"), ttl=60)
        await one.register(record("N", "orders"), ttl=60)
        await one.register(record("n", "Orders"), ttl=60)
        while told.nodes != {"n"}:
            await asyncio.sleep(0.05)
        while len((await other.list_services())[-1].nodes) < 2:
            await asyncio.sleep(0.05)
        assert [service.name for service in await other.list_services()] == ["Orders", "orders"]


def test_labels_are_short_and_differ() -> None:
    names = [("orders", "1"), ("Orders", "1"), ("orders", "1" * 128), ("o" * 128, "1"), ("o" * 127, "1"), ("a-b", "c")]
    labels = [label_of(*name) for name in names]
    assert labels[0] == "orders.1"
    assert max(map(len, labels)) <= LABEL
    assert len({label.lower() for label in labels}) == len(names)


@pytest.mark.parametrize("size", [1, 239, 240, 241, 480, 3000])
def test_what_is_packed_is_unpacked(size: int) -> None:
    service = ServiceRecord(name="orders", nodes=[NodeRecord(id="1", metadata={"x": secrets.token_hex(size)})])
    properties, whole = pack(service, 2.5)
    body, ttl = unpack({bytes(k): v for k, v in properties.items()})  # type: ignore[arg-type, misc]
    assert whole
    assert ttl == 2.5
    assert ServiceRecord.model_validate_json(body) == service


def test_a_body_of_a_whole_number_of_parts_is_unpacked_and_a_cut_one_is_none() -> None:
    signs = random.Random(7).choices(string.ascii_letters, k=1000)
    for size in range(300, 1000):
        properties, _ = pack(record(note="".join(signs[:size])), 1)
        body, _ = unpack({bytes(k): v for k, v in properties.items()})  # type: ignore[arg-type, misc]
        assert body.endswith(b"}")
    del properties[b"r1"]
    assert unpack({bytes(k): v for k, v in properties.items()})[0].endswith(b"}") is False  # type: ignore[arg-type, misc]


def test_a_url_says_all_settings() -> None:
    assert read_url("mdns://").interface == ""
    assert read_url("mdns://?type=_shop._tcp").type == "_shop._tcp"
    assert read_url("mdns://10.0.0.1?type=_shop._udp").interface == "10.0.0.1"
    for wrong in ("mdns://eth0", "mdns://a,b", "mdns://?type=shop", "mdns://u:p@10.0.0.1", "mdns://?what=1"):
        with pytest.raises(UsageError):
            read_url(wrong)
