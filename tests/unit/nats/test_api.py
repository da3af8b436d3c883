"""Calls of JetStream's management: what a cluster cannot do just now is asked for again."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

pytest.importorskip("nats")

from eventmicro_nats.jetstream.api import Api, ApiError

from tests.unit.nats.kit import Server


class Answers:
    """Gives these errors, by their numbers, and then the answer."""

    def __init__(self, *errors: int) -> None:
        self.errors = list(errors)

    def expect(self, subject: str, deadline: float) -> tuple[bytes, asyncio.Future[Any]]:
        future = asyncio.get_running_loop().create_future()
        error = {"error": {"err_code": self.errors.pop(0), "description": "no"}} if self.errors else {}
        future.set_result(json.dumps(error).encode())
        return b"_INBOX.1", future


def api(*errors: int) -> Api:
    return Api(Server, Answers(*errors))  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [10005, 10008])
async def test_what_a_cluster_cannot_do_yet_is_asked_for_again(number: int) -> None:
    deadline = asyncio.get_running_loop().time() + 5
    assert await api(number, number).call("STREAM.CREATE.A", deadline=deadline) == {}


@pytest.mark.parametrize(("number", "seconds"), [(10005, 0.0), (10058, 5.0)])
async def test_what_lasts_until_the_deadline_or_for_ever_is_an_error(number: int, seconds: float) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    with pytest.raises(ApiError, match=str(number)):
        await api(number).call("STREAM.CREATE.A", deadline=deadline)
