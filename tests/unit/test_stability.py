"""What docs/stability.md promises and no other test holds: what is pinned, and what of a later version is kept."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from eventmicro import Client, Context, MemoryBroker, Retry, Service, ServiceError, Topic
from eventmicro.cli.projects.plan import SINCE
from eventmicro.events.letters import DeadLetters
from eventmicro.message import Delivery, Message
from eventmicro.registry import ServiceRecord

Until = Callable[[Callable[[], object]], Awaitable[None]]
ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "stability.md").read_text()
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_new_projects_pin_as_the_page_advises_and_that_is_this_version() -> None:
    [advised] = re.findall(r"`eventmicro(>=[^`]*)`", PAGE)
    assert advised == SINCE
    assert Version(VERSION) in SpecifierSet(advised)
    major, minor, _ = VERSION.split(".")
    assert f"{major}.{int(minor) + 1}.0" not in SpecifierSet(advised)


def test_fields_of_a_later_versions_record_are_kept_where_it_is_passed_on() -> None:
    later = {"name": "shop", "since": 7, "endpoints": [{"name": "quote", "cost": {"a": [1]}}], "nodes": []}
    told = json.loads(ServiceRecord.model_validate(later).model_dump_json())
    assert told["since"] == 7
    assert told["endpoints"][0]["cost"] == {"a": [1]}


async def test_headers_and_fields_that_are_not_known_hinder_no_handler_and_are_in_the_dead_letter(until: Until) -> None:
    broker, seen = MemoryBroker("memory://later"), list[Delivery]()
    service = Service("shop", broker="memory://later")

    @service.subscribe(Topic("orders", dict[str, int]), retry=Retry(attempts=1))
    async def bill(order: dict[str, int], context: Context) -> None:
        raise ValueError("no")

    async with service, broker:
        await broker.subscribe("orders", seen.append)
        await broker.publish(Message("orders", b'{"later": 1}', {"Later": "7"}))
        letters = DeadLetters(broker, "shop.bill")
        await until(lambda: service.statistics().subscribers[0].dead_letters)
        [letter] = [letter async for letter in letters.read()]
        assert letter.headers["Later"] == "7"
        await letters.replay()
        await until(lambda: len(seen) == 2)
    assert (seen[1].headers or {})["Later"] == "7"


async def test_an_error_of_a_later_version_is_read_as_far_as_it_is_known() -> None:
    later = {
        "id": "shop.quote",
        "code": 460,
        "detail": "later",
        "hints": [1],
        "errors": [{"loc": ["a"], "more": 1}],
    }

    def answer(asked: Delivery) -> None:
        headers = {"Nats-Service-Error": "later", "Nats-Service-Error-Code": "460", "Later": "7"}
        broker.try_send(asked.reply or "", json.dumps(later).encode(), headers)

    async with MemoryBroker("memory://errors") as broker, Client("memory://errors") as client:
        await broker.subscribe("shop.quote", answer, queue="q")
        with pytest.raises(ServiceError) as told:
            await client.call("shop.quote", 1, int)
    assert (told.value.code, told.value.detail, told.value.errors[0]["loc"]) == (460, "later", ["a"])
