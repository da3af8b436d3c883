"""What a new user gets wrong is said where it is, in words that name the mend."""

from __future__ import annotations

import logging
from typing import Any, cast

import pytest
from pydantic import BaseModel

from eventmicro.client import Client
from eventmicro.errors import BadRequest, InternalError, MessageTooLarge, NotFound, UnknownOption, UsageError
from eventmicro.memory import MemoryBroker
from eventmicro.plugins import BrokerNotFound, check_broker
from eventmicro.service import Service
from eventmicro.settings import split_url
from eventmicro.testing import World

URL = "memory://told-mends"


class Ride(BaseModel):
    rider: str


async def taking(event: Any) -> None: ...


@pytest.mark.parametrize(
    ("declare", "error"),
    [
        (lambda service: service.rpc(name=""), "endpoint name '': write letters"),
        (lambda service: service.subscribe("rides", name=""), "subscriber name '': write letters"),
        (
            lambda service: service.before_start(taking),
            "before_start: it is called with nothing, and cannot be: missing",
        ),
        (
            lambda service: service.health_check(taking),
            "health_check: it is called with nothing, and cannot be: missing",
        ),
        (lambda _: Service("größe"), "service name 'größe': write letters of ASCII"),
        (lambda service: cast("Any", World(service)).run(7), "run: 7 is no function"),
    ],
)
def test_what_cannot_be_declared_is_refused_where_it_is(declare: Any, error: str) -> None:
    with pytest.raises(UsageError) as refused:
        declare(Service("told"))
    assert str(refused.value).startswith(error)


def test_a_hook_may_have_defaults_and_need_no_signature() -> None:
    service = Service("told")

    async def opening(times: int = 1) -> None: ...

    assert service.before_start(opening) is opening
    assert service.after_stop(dict) is dict


def test_an_option_that_a_world_does_not_have_is_told_with_the_one_that_is_meant() -> None:
    with pytest.raises(UnknownOption, match=r"World\(\) got an unexpected .*; did you mean 'broker'"):
        World(Service("told"), brokr="memory://")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def test_a_broker_by_its_own_name_is_told_with_its_scheme() -> None:
    with pytest.raises(BrokerNotFound, match="no broker 'rabbitmq' is installed; did you mean 'amqp'"):
        check_broker("broker", "rabbitmq://127.0.0.1")


def test_an_empty_path_is_none() -> None:
    assert (
        split_url("acme://h:1/", "Acme", "acme://host").servers
        == split_url("acme://h:1", "Acme", "acme://host").servers
    )
    with pytest.raises(UsageError, match="too many parts"):
        split_url("acme://h:1/x", "Acme", "acme://host")


async def test_an_error_without_a_detail_comes_without_one() -> None:
    service = Service("told", broker=URL)

    @service.rpc
    async def find(ride: Ride) -> Ride:
        raise NotFound

    async with service, Client(URL) as client:
        with pytest.raises(NotFound) as caught:
            await client.call("told.find", Ride(rider="ann"), Ride)
    assert (caught.value.detail, str(caught.value)) == ("", "told.find: 404 Not Found")


async def test_an_error_that_is_returned_is_told_with_the_mend(caplog: pytest.LogCaptureFixture) -> None:
    service = Service("told", broker=URL)

    @service.rpc
    async def find(ride: Ride) -> Ride:
        return NotFound("no ride")  # type: ignore[return-value]  # pyright: ignore[reportReturnType]

    async with service, Client(URL) as client:
        with caplog.at_level(logging.ERROR), pytest.raises(InternalError):
            await client.call("told.find", Ride(rider="ann"), Ride)
    assert [record.getMessage() for record in caplog.records] == [
        "told.find: its handler returned an error, a NotFound: write `raise` in place of `return`"
    ]


@pytest.mark.parametrize(
    ("words", "options", "error", "text"),
    [
        ((), {}, BadRequest, "(the body: Invalid JSON: it is empty)"),
        ((Ride(rider="a"), "Ride"), {}, UsageError, "'Ride' is a text, and no message's type: write the class itself"),
        ((Ride(rider="a"), Ride), {"filters": ["^1"]}, UsageError, "'^1' is no function: write filters.version('^1')"),
        ((Ride(rider="a" * 2000), Ride), {}, MessageTooLarge, "allowed; large='stream' sends it in pieces"),
    ],
)
async def test_a_call_that_cannot_be_made_so_says_how(words: Any, options: Any, error: Any, text: str) -> None:
    service = Service("told", broker=URL)

    @service.rpc
    async def same(ride: Ride) -> Ride:
        return ride

    async with service, Client(MemoryBroker(URL, max_payload=1000)) as client:
        with pytest.raises(error) as caught:
            await client.call("told.same", *words, **options)
    assert text in str(caught.value)
