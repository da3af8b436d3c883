"""`eventmicro check` without a server, and `eventmicro declare` on each broker that makes queues."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import pytest

from eventmicro import Client, Service, UsageError
from tests.processes import eventmicro

SHOP = """
from eventmicro import Service, Topic
PLACED, PAID = Topic("orders.placed", int), Topic("orders.paid", int)
service = Service("shop")

@service.subscribe(PLACED)
async def bill(event: int) -> None: ...
"""
MORE = """
@service.rpc
async def quote(sku: str) -> int:
    return 1

@service.subscribe("orders.>", name="all")
async def watch(event: int) -> None: ...

@service.subscribe("orders.$odd", dedupe=10.0)
async def odd(event: int) -> None: ...
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "more.py").write_text(SHOP + MORE)
    (tmp_path / "spaced.py").write_text(SHOP.replace('"orders.paid"', '"orders.pa$id"'))
    return tmp_path


def test_check_says_that_a_service_would_start(folder: Path) -> None:
    done = eventmicro(folder, "check", "shop", "--broker", "kafka://")
    assert (done.returncode, done.stdout) == (
        0,
        "shop: 0 endpoints, 1 subscriber: nothing that kafka:// would refuse\n",
    )


def test_check_says_all_that_would_be_refused_and_what_mends_it(folder: Path) -> None:
    done = eventmicro(folder, "check", "more", "--broker", "kafka://")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert [line.partition("shop: refused: ")[2].split()[0] for line in lines] == [
        "shop.quote", "shop.odd", "shop.odd:"
    ]  # fmt: skip
    for words in ("--rpc-broker", "needs dedupe", "a Kafka topic has"):
        assert words in done.stderr
    assert eventmicro(folder, "check", "more", "--broker", "memory://").returncode == 0


@pytest.mark.parametrize("target", [(), (".",), ("eventmicro.toml",), ("../here",)], ids=str)
def test_check_takes_all_services_of_a_folder_and_its_settings(target: tuple[str, ...], tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "shop.py").write_text(SHOP)
    (here / "more.py").write_text(SHOP.replace('"shop"', '"more"') + MORE)
    services = '[services.shop]\ntarget = "shop:service"\n[services.more]\ntarget = "more.py"\n'
    (here / "eventmicro.toml").write_text(f'broker = "kafka://"\n{services}')
    done = eventmicro(here, "check", *target)
    assert (done.returncode, done.stdout) == (
        1,
        "shop: 0 endpoints, 1 subscriber: nothing that kafka:// would refuse\n",
    )
    assert done.stderr.count("more: refused:") == 3


def test_declare_takes_a_folder_from_elsewhere_and_its_broker(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "shop.py").write_text(SHOP)
    (tmp_path / "here" / "eventmicro.toml").write_text('broker = "memory://"\n[services.shop]\ntarget = "shop"\n')
    (tmp_path / "eventmicro.toml").write_text('broker = "kafka://127.0.0.1:1"\n')
    done = eventmicro(tmp_path, "declare", "here")
    assert (done.returncode, done.stdout) == (0, "shop: nothing is to be made on memory://\n")
    assert eventmicro(tmp_path, "check", "here").stdout.endswith("nothing that memory:// would refuse\n")
    done = eventmicro(tmp_path, "declare")
    assert (done.returncode, "has no services" in done.stderr) == (2, True)


def test_check_looks_at_names_of_topics_options_of_the_url_and_types(folder: Path) -> None:
    done = eventmicro(folder, "check", "spaced", "--broker", "kafka://")
    assert (done.returncode, "orders.pa$id" in done.stderr) == (1, True)
    done = eventmicro(folder, "check", "shop", "--broker", "kafka://x?retires=1")
    assert (done.returncode, "retires" in done.stderr) == (1, True)
    (folder / "typed.py").write_text(SHOP.replace("event: int", "event: str"))
    done = eventmicro(folder, "check", "typed", "--broker", "kafka://")
    assert (done.returncode, "carries int" in done.stderr) == (1, True)


def test_a_broker_in_which_nothing_is_made_is_said(folder: Path) -> None:
    done = eventmicro(folder, "declare", "shop", "--broker", "memory://")
    assert (done.returncode, done.stdout) == (0, "shop: nothing is to be made on memory://\n")
    done = eventmicro(folder, "declare", "shop")
    assert (done.returncode, "--broker" in done.stderr) == (2, True)


@pytest.mark.parametrize("kind", ["jetstream", "rabbitmq", "kafka"])
def test_declare_makes_what_services_need_and_says_what_it_did(
    folder: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    name = f"t{secrets.token_hex(4)}"
    own = {"jetstream": f"?stream={name}", "rabbitmq": f"?exchange={name}", "kafka": ""}
    url = request.getfixturevalue(f"{kind}_url") + own[kind]
    (folder / "shop.py").write_text(SHOP.replace("orders.", f"{name}.").replace('"shop"', f'"{name}"'))
    missing = eventmicro(folder, "declare", "shop", "--broker", url, "--dry-run")
    lines = missing.stderr.splitlines()
    assert (missing.returncode, missing.stdout, {line.partition(":")[0] for line in lines}) == (3, "", {"missing"})
    first = eventmicro(folder, "declare", "shop", "--broker", url)
    assert (first.returncode, first.stderr) == (0, "")
    made = [line.partition(" (")[0].partition(" in stream")[0] for line in first.stdout.splitlines()]
    assert set(made) == {f"made: {each}".format(name=name) for each in MADE[kind]}
    again = eventmicro(folder, "declare", "shop", "--broker", url, "--dry-run")
    assert (again.returncode, again.stdout) == (0, first.stdout.replace("made:", "there:"))


MADE = {
    "jetstream": ["subject {name}.placed", "queue {name}.bill", "queue dead.{name}.bill", "subject {name}.paid"],
    "rabbitmq": [
        "exchange {name}",
        "exchange {name}.dead",
        "exchange {name}.calls",
        "queue {name}.bill",
        "queue dead.{name}.bill",
    ],
    "kafka": [
        "topic {name}.placed",
        "topic {name}.bill.{name}.placed.retry",
        "topic dead.{name}.bill",
        "group {name}.bill",
        "topic {name}.paid",
    ],
}


async def test_a_live_stream_and_the_order_of_a_live_queue_are_changed_by_a_command(
    folder: Path, jetstream_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"t{secrets.token_hex(4)}"
    url = f"{jetstream_url}?stream={name}"
    caplog.set_level("INFO")
    topic, seen, done = f"{name}.placed", list[int](), asyncio.Event()

    async def bill(event: int) -> None:
        seen.append(event)
        if len(seen) == 4:
            done.set()

    plain = Service(name, broker=url)
    plain.subscribe(topic)(bill)
    async with plain:
        for number in (1, 2):
            await plain.publish(topic, number)
        while len(seen) < 2:
            await asyncio.sleep(0.01)
    assert caplog.text.count(f"stream {name} keeps all events for ever") == 1
    async with Client(url) as client:
        for number in (3, 4):
            await client.publish(topic, number)
    bounded = f"{url}&max_age=3600"
    ordered = Service(name, broker=bounded)
    ordered.subscribe(topic, order_by=str)(bill)
    with pytest.raises(UsageError, match=r"max_age=0, not 3600 s: .*eventmicro declare --change"):
        await ordered.start()
    (folder / "shop.py").write_text(
        f"from eventmicro import Service\nservice = Service({name!r})\n"
        f"@service.subscribe({topic!r}, order_by=str)\nasync def bill(event: int) -> None: ...\n"
    )
    changed = eventmicro(folder, "declare", "shop", "--broker", bounded, "--change")
    assert changed.returncode == 0
    assert f"made: stream {name}: max_age=0 is now max_age=3600 s" in changed.stdout
    assert f"made: queue {name}.bill is ordered now" in changed.stdout
    async with ordered:
        await done.wait()
    assert seen == [1, 2, 3, 4]
