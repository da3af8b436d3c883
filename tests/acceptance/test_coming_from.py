"""What docs/coming-from shows of ours does what its pages say, and is no longer than theirs."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from faststream import TestApp
from faststream.nats import NatsBroker, TestNatsBroker

from eventmicro import BadRequest, Client, NotFound, Service, SyncClient
from tests.conftest import PATIENCE

FOLDER = Path(__file__).parents[2] / "docs/coming-from"
PAGES = {path.stem: path.read_text() for path in sorted(FOLDER.glob("*.md"))}
PEERS = sorted(PAGES.keys() - {"README"})
HEADINGS = ["Words", "The same service", "What is other", "No equivalent yet"]


def python(page: str) -> dict[str, str]:
    """The blocks of Python of a page, by what their first line says that they are."""
    blocks = re.findall(r"```python\n# ([^\n]+)\n(.*?)```", PAGES[page], re.DOTALL)
    return {name.removesuffix(".py"): code for name, code in blocks}


def module(page: str, name: str) -> ModuleType:
    made = sys.modules[name] = ModuleType(name)
    exec(compile(python(page)[name], f"{page}.md: {name}.py", "exec"), made.__dict__)
    return made


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if sys.modules[name].__spec__ is None:
            del sys.modules[name]


async def until(seen: list[Any], count: int) -> list[Any]:
    async with asyncio.timeout(PATIENCE):
        while len(seen) < count:
            await asyncio.sleep(0.001)
    return seen


def stock(url: str, price: Any) -> Service:
    service = Service("stock", broker=url)
    service.rpc(name="price")(price)
    return service


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    for link, _, anchor in re.findall(r"\]\(([^)#\s]*)(#?)([^)]*)\)", PAGES[page]):
        target = FOLDER / link if link else FOLDER / f"{page}.md"
        assert target.is_file(), link
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}
        assert not anchor or anchor in anchors, f"{link}#{anchor}"


def test_the_index_has_every_page() -> None:
    assert sorted(re.findall(r"^\| \[.*?\]\((.*?)\.md\)", PAGES["README"], re.MULTILINE)) == PEERS


@pytest.mark.parametrize("page", PEERS)
def test_each_page_says_the_same_things_in_the_same_order(page: str) -> None:
    headings = re.findall(r"^## (.*)$", PAGES[page], re.MULTILINE)
    assert [each for each in headings if each in HEADINGS] == HEADINGS


@pytest.mark.parametrize("page", PEERS)
def test_ours_is_no_longer_than_theirs(page: str) -> None:
    service = PAGES[page].partition("## The same service")[2]
    theirs, ours = (
        re.sub(r"\n\s*(?=\n)", "", code) for code in re.findall(r"```\w+\n(.*?)```", service, re.DOTALL)[:2]
    )
    assert len(ours.splitlines()) <= len(theirs.splitlines())


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_python_is_python(page: str) -> None:
    for name, code in python(page).items():
        compile(code, name, "exec")


async def test_from_faststream() -> None:
    logs, seen = module("faststream", "logs_worker"), list[Any]()
    watch = Service("watch", broker="memory://faststream")
    watch.subscribe("alarms")(note_in(seen))
    await logs.service.start("memory://faststream")
    async with watch, Client("memory://faststream") as client:
        await client.publish("logs.error", {"text": "ab"})
        assert await until(seen, 1) == [{"level": "error", "text": "ababab"}]
        assert await client.call("logs-worker.add", {"a": 1, "b": 2}, int) == 3
        assert await client.call("logs-worker.admin_close", "Monday", str) == "closed on Monday"
    await logs.service.stop()


async def test_what_is_shown_of_faststream_does_the_same_there() -> None:
    theirs = ModuleType("theirs")
    exec(compile(python("faststream")["FastStream"], "theirs.py", "exec", dont_inherit=True), theirs.__dict__)
    broker: NatsBroker = theirs.broker
    asked = {"logs.error": {"text": "ab"}, "sums": {"a": 1, "b": 2}, "admin.close": "Monday"}
    async with TestNatsBroker(broker), TestApp(theirs.app):
        told = {subject: await (await broker.request(body, subject)).decode() for subject, body in asked.items()}
    assert told == {"logs.error": {"level": "error", "text": "ababab"}, "sums": 3, "admin.close": "closed on Monday"}


async def test_from_nameko(capsys: pytest.CaptureFixture[str]) -> None:
    orders, url, seen = module("nameko", "orders_service"), "memory://nameko", list[Any]()

    def price(sku: str, warehouse: str) -> float:
        return {"north": 1.5}[warehouse]

    watch = stock(url, price)
    watch.subscribe("orders.quoted")(note_in(seen))
    await orders.service.start(url)
    async with watch, Client(url) as client:
        told = await client.call("orders.quote", {"sku": "tea", "quantity": 2}, dict[str, Any])
        assert told == {"total": 3.0, "currency": "EUR"}
        assert await until(seen, 1) == [{"sku": "tea", "total": 3.0}]
        with pytest.raises(BadRequest, match="quantity"):
            await client.call("orders.quote", {"sku": "tea", "quantity": 0}, dict[str, Any])
        assert await client.call("orders.cancel", {"order_id": 7, "reason": "late"}, str) == "7: late"
        await client.publish("payments.paid", {"order_id": 7})
        await client.flush()
    await orders.service.stop()
    assert capsys.readouterr().out == "7\n"


def test_beside_nameko_it_takes_the_exchange_as_nameko_made_it() -> None:
    beside = module("nameko", "beside_nameko")
    options = beside.service.subscribers["on_paid"].options
    assert (options.exchange.name, options.exchange.declare) == ("payments.events", "check")


def note_in(seen: list[Any]) -> Any:
    async def note(event: dict[str, Any]) -> None:
        seen.append(event)

    return note


def test_from_celery(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("EVENTMICRO_BROKER", "memory://celery")
    mailer = module("celery", "mailer")
    client: SyncClient = mailer.client
    client.run(lambda _: mailer.service.start("memory://celery"))  # in its event loop: memory is shared within one
    assert mailer.caller() == 3
    client.run(lambda _: mailer.service.stop())
    client.close()
    assert capsys.readouterr().out == "mail a@b hi\n" * 2
    assert mailer.send("a@b", "hi", "four") == 4


async def test_what_is_due_later_is_put_off(capsys: pytest.CaptureFixture[str]) -> None:
    reminders = module("celery", "reminders")
    await reminders.service.start("memory://reminders")
    async with Client("memory://reminders") as client:
        due = time.time() + 0.5
        await client.publish("reminders", {"text": "later", "due": due})
        await client.publish("reminders", {"text": "now", "due": 0})
        said = list[str]()
        async with asyncio.timeout(PATIENCE):
            while len(said) < 2:
                await asyncio.sleep(0.01)
                said += capsys.readouterr().out.splitlines()
    await reminders.service.stop()
    assert said == ["now", "later"]
    assert time.time() >= due


async def test_from_go_micro(capsys: pytest.CaptureFixture[str]) -> None:
    orders, url, seen = module("go-micro", "orders"), "memory://go-micro", list[Any]()

    async def price(request: dict[str, Any]) -> dict[str, float]:
        return {"each": 1.5}

    watch = stock(url, price)
    watch.subscribe("orders.quoted")(note_in(seen))
    await orders.service.start(url)
    async with watch, Client(url) as client:
        assert await client.call("orders.quote", {"sku": "tea", "quantity": 2}, orders.Quote) == orders.Quote(total=3)
        assert await until(seen, 1) == [{"total": 3.0}]
        with pytest.raises(BadRequest, match="quantity"):
            await client.call("orders.quote", {"sku": "tea", "quantity": 0}, orders.Quote)
        await client.publish("payments.paid", {"order_id": 7})
        await client.flush()
    await orders.service.stop()
    assert capsys.readouterr().out == "7\n"


async def test_from_moleculer(capsys: pytest.CaptureFixture[str]) -> None:
    orders, url, seen = module("moleculer", "orders"), "memory://moleculer", list[Any]()

    async def price(sku: str, quantity: int) -> float:
        return 0 if sku == "none" else 1.5

    watch = stock(url, price)
    watch.subscribe("orders.quoted")(note_in(seen))
    async with watch, Client(url) as client:
        await orders.service.start(url)  # it needs the other
        assert await client.call("orders.quote", {"sku": "tea", "quantity": 2}, dict[str, float]) == {"total": 3.0}
        assert await until(seen, 1) == [{"sku": "tea", "total": 3.0}]
        with pytest.raises(NotFound, match="no none"):
            await client.call("orders.quote", {"sku": "none"}, dict[str, float])
        with pytest.raises(BadRequest):
            await client.call("orders.quote", {"sku": "tea", "quantity": 0}, dict[str, float])
        await client.publish("payments.paid", {"order_id": 7})
        await client.flush()
        await orders.service.stop()
    assert capsys.readouterr().out == "7\n"


async def test_a_timer_goes_on_until_its_service_stops(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cleaning, seen, failures = module("README", "cleaning"), list[Any](), iter([RuntimeError("once")])
    tidy, every = cleaning.tidy, cleaning.every

    async def once_badly() -> None:
        for failure in failures:
            raise failure
        await tidy()

    monkeypatch.setattr(cleaning, "tidy", once_badly)
    monkeypatch.setattr(cleaning, "every", lambda _: every(0.001))
    watch = Service("watch", broker="memory://timer")

    @watch.subscribe("cleaning.done")
    async def done(what: str) -> None:
        seen.append(what)

    async with watch:
        await cleaning.service.start("memory://timer")
        assert set(await until(seen, 3)) == {"all"}
        await cleaning.service.stop()
    assert [record.message for record in caplog.records].count("it was not tidied") == 1
    assert not [task for task in asyncio.all_tasks() if task.get_coro().__name__ == "every"]  # type: ignore[union-attr]
