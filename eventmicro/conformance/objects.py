"""Objects: a body that is kept apart comes back whole, on every connection; what is not there is said to be missing."""

from __future__ import annotations

import secrets
from hashlib import sha256
from typing import cast

from eventmicro.broker import StoresObjects
from eventmicro.conformance.bench import Bench, raises
from eventmicro.conformance.case import case
from eventmicro.errors import BodyMissing
from eventmicro.large import StoredObject
from eventmicro.message import Message

# Bodies of all sorts of lengths, in bytes: none, one, several megabytes that are no multiple of anything.
SIZES = (0, 1, 3_000_001)
# A body that no broker takes as an event, in bytes.
TOO_LARGE = 64 * 1024 * 1024


@case("objects")
async def an_object_comes_back_whole_on_another_connection(bench: Bench) -> None:
    bodies = [secrets.token_bytes(size) for size in SIZES]
    stored = [await _store(await _keeper(bench), body) for body in bodies]
    assert len({(each.bucket, each.name) for each in stored}) == len(stored), "two objects have one name"
    assert [(each.size, each.digest) for each in stored] == [(len(body), _digest(body)) for body in bodies]
    other = await _keeper(bench)
    assert [await other.fetch_object(each) for each in stored] == bodies
    assert [await other.fetch_object(each) for each in stored] == bodies, "it was gone after the first had read it"


@case("objects")
async def an_object_that_is_not_there_is_missing(bench: Bench) -> None:
    keeper = await _keeper(bench)
    stored = await _store(keeper, b"body")
    for bucket, name in ((stored.bucket, "another"), ("another", stored.name), ("no.bucket", "no name"), ("*", ">")):
        await raises(BodyMissing, keeper.fetch_object(StoredObject(bucket, name, stored.size, stored.digest)))
    assert await keeper.fetch_object(stored) == b"body"


@case("objects")
async def what_fits_can_be_published(bench: Bench) -> None:
    broker = await bench.broker()
    keeper = cast("StoresObjects", broker)
    assert not keeper.fits(Message(bench.subject, bytes(TOO_LARGE)))
    largest = next(size for size in (2**power for power in range(25, 8, -1)) if keeper.fits(_message(bench, size)))
    listener = await bench.listen()
    await broker.publish(_message(bench, largest))
    await bench.all_arrive([bytes(largest)], listener)


@case("objects", "persistent", restarts=True)
async def an_object_survives_a_server_that_is_killed(bench: Bench) -> None:
    body = secrets.token_bytes(1_000_000)
    stored = await _store(await _keeper(bench), body)
    async with bench.server_away():
        pass
    assert await (await _keeper(bench)).fetch_object(stored) == body


@case(lacks=["objects"])
async def objects_are_not_to_be_had(bench: Bench) -> None:
    assert not isinstance(bench.make_broker(), StoresObjects), "it stores objects, and objects is not declared"


async def _keeper(bench: Bench) -> StoresObjects:
    broker = await bench.broker()
    assert isinstance(broker, StoresObjects), "objects is declared, and it is none that StoresObjects"
    return broker


async def _store(keeper: StoresObjects, body: bytes) -> StoredObject:
    return await keeper.store_object(body, _digest(body), timeout=20.0)


def _message(bench: Bench, size: int) -> Message:
    return Message(bench.subject, bytes(size), {"Name": "value"}, key="key", id="id")


def _digest(body: bytes) -> str:
    return sha256(body).hexdigest()
