"""Golden files: what an app sends is held to what is on record, byte for byte, and what is on record can be read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eventmicro import Conflict, InternalError, Service, Topic
from eventmicro.testing import World
from tests.unit.testing.shop import PLACED, Order, Reserved, Shop


async def a_day(world: World, sku: str = "tea") -> None:
    await world.client.call("orders.place", Order(sku=sku), Reserved, metadata={"traceparent": "00-1-2-01"})
    with pytest.raises(Conflict):
        await world.client.call("stock.reserve", Order(sku="salt", quantity=2), Reserved, metadata={"id": "7"})
    await world.client.publish("blobs.made", b"\x00\xff")
    await world.idle()


async def test_a_file_is_written_compared_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "golden" / "shop.json"
    async with World(*Shop().all) as world:
        await a_day(world)
        with pytest.raises(AssertionError, match="is not there yet: write it by `pytest --eventmicro-update-golden`"):
            world.golden(path)
        world.golden(path, without=["ID"], update=True)
        world.golden(path, without=["id"])
    record = json.loads(path.read_text())
    assert list(record) == [
        "blobs.made",
        "orders.place",
        "shop.billed",
        "shop.placed",
        "shop.reserved",
        "stock.reserve",
    ]
    assert record["shop.billed"] == [{"kind": "event", "headers": {"kind": "new"}, "body": '{"sku":"tea","cents":100}'}]
    assert record["blobs.made"][0]["base64"] == "AP8="
    assert [each["kind"] for each in record["stock.reserve"]] == ["request", "reply", "request", "error"]
    assert record["stock.reserve"][1] == {"kind": "reply", "body": '{"sku":"tea","left":9}'}
    assert record["stock.reserve"][3]["headers"]["Nats-Service-Error-Code"] == "409"
    assert "headers" not in record["orders.place"][0]


async def test_other_bytes_are_shown_as_a_difference(tmp_path: Path) -> None:
    path = tmp_path / "shop.json"
    async with World(*Shop().all) as world:
        await a_day(world)
        world.golden(path, PLACED, "stock.reserve", without=["id"], update=True)
    async with World(*Shop().all) as world:
        world.fail("stock.reserve", Conflict("none"), times=1)
        with pytest.raises(InternalError):
            await a_day(world, "salt")
        with pytest.raises(AssertionError) as differs:
            world.golden(path, PLACED)
        lines = str(differs.value).splitlines()
        assert '-      "body": "{\\"sku\\":\\"tea\\",\\"quantity\\":1}"' in lines
        assert '+      "body": "{\\"sku\\":\\"salt\\",\\"quantity\\":1}"' in lines


async def test_a_message_that_can_be_read_no_more_is_told_before_all_else(tmp_path: Path) -> None:
    path = tmp_path / "shop.json"
    async with World(*Shop().all) as world:
        await a_day(world)
        world.golden(path, PLACED, update=True)
        path.write_text(path.read_text().replace("quantity", "amount_in_words").replace(":1}", ":2}"))
        with pytest.raises(AssertionError, match="other bytes"):  # another field, and all that are needed are there
            world.golden(path, PLACED)
        path.write_text(path.read_text().replace("sku", "article"))
        with pytest.raises(AssertionError, match=r"the event on shop\.placed in .* can be read no more.*sku"):
            world.golden(path, PLACED)


@pytest.mark.parametrize("text", ["", "[]", '{"a": [1]}', '{"a": [{"kind": "event", "base64": "?"}]}', '{"a": 7}'])
async def test_what_is_no_golden_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "shop.json"
    path.write_text(text)
    async with World(Service("alone")) as world:
        with pytest.raises(AssertionError, match=r"is no golden file .* write it anew"):
            world.golden(path)


async def test_other_content_types_are_on_record_too(tmp_path: Path) -> None:
    path, packed, service = tmp_path / "packed.json", Topic("packed.order", Order, content_type="msgpack"), Service("p")

    @service.subscribe(packed)
    async def take(order: Order) -> None: ...

    async with World(service) as world:
        await world.client.publish(packed, Order(sku="tea"))
        await world.idle()
        assert world.published(packed) == [Order(sku="tea")]
        world.golden(path, update=True)
        world.golden(path)
    assert json.loads(path.read_text())["packed.order"][0]["headers"] == {"Content-Type": "application/msgpack"}
