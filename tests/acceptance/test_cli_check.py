"""`eventmicro check` without a server, and `eventmicro declare` on each broker that makes queues."""

from __future__ import annotations

from pathlib import Path

import pytest

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
        "shop: 0 endpoints, 1 subscribers: nothing that kafka:// would refuse\n",
    )


def test_check_says_all_that_would_be_refused_and_what_mends_it(folder: Path) -> None:
    done = eventmicro(folder, "check", "more", "--broker", "kafka://")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert [line.partition("shop: refused: ")[2].split()[0] for line in lines] == [
        "shop.quote", "shop.all", "shop.odd", "shop.all:", "shop.odd:"
    ]  # fmt: skip
    for words in ("--rpc-broker", "needs wildcards", "needs dedupe", "a Kafka topic has"):
        assert words in done.stderr
    assert eventmicro(folder, "check", "more", "--broker", "memory://").returncode == 0


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


async def declared(folder: Path, url: str, made: list[str]) -> None:
    missing = eventmicro(folder, "declare", "shop", "--broker", url, "--dry-run")
    assert (missing.returncode, "refused:" in missing.stderr, "made:" in missing.stdout) == (1, True, False)
    first = eventmicro(folder, "declare", "shop", "--broker", url)
    assert (first.returncode, first.stderr) == (0, "")
    assert [line for line in made if not any(f"made: {line}" in said for said in first.stdout.splitlines())] == []
    again = eventmicro(folder, "declare", "shop", "--broker", url)
    assert (again.returncode, "made:" in again.stdout, "there:" in again.stdout) == (0, False, True)
    assert eventmicro(folder, "declare", "shop", "--broker", url, "--dry-run").returncode == 0


async def test_declare_makes_streams_and_queues_of_jetstream(folder: Path, jetstream_url: str) -> None:
    made = ["subject orders.placed in stream", "queue shop.bill", "queue dead.shop.bill", "subject orders.paid in"]
    await declared(folder, f"{jetstream_url}?stream=DECLARED", made)


async def test_declare_makes_queues_of_rabbitmq(folder: Path, rabbitmq_url: str) -> None:
    made = ["exchange declared", "queue shop.bill", "queue dead.shop.bill"]
    await declared(folder, f"{rabbitmq_url}?exchange=declared", made)


async def test_declare_makes_topics_and_groups_of_kafka(folder: Path, kafka_url: str) -> None:
    made = ["topic orders.placed", "topic shop.bill.orders.placed.retry", "topic dead.shop.bill", "group shop.bill"]
    await declared(folder, kafka_url, [*made, "topic orders.paid"])
