"""The first connection: it is given up in time, whatever nats-py does with a cancellation."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

pytest.importorskip("nats")

from eventmicro_nats.connection import connecting
from eventmicro_nats.settings import NatsSettings
from nats.errors import Error

from eventmicro.errors import ConnectionFailed


async def test_it_is_given_up_in_time_where_the_timeouts_cancellation_is_swallowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries: list[str] = []

    async def try_once(settings: NatsSettings, options: object, server: str) -> None:
        tries.append(server)
        if len(tries) == 1:
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        raise OSError("maximum connections exceeded")

    monkeypatch.setattr(connecting, "_try_once", try_once)
    settings = NatsSettings(connect_timeout=0.01, reconnect_wait=0.01)
    with pytest.raises(ConnectionFailed, match="maximum connections exceeded"):
        await asyncio.wait_for(connecting.connect(settings, "nats://here"), 5)


async def test_what_the_server_has_said_is_told_though_the_last_try_has_read_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    errors: list[Exception] = [OSError("refused"), Error("maximum connections exceeded"), OSError("Connection lost")]

    async def try_once(settings: NatsSettings, options: object, server: str) -> None:
        raise errors.pop(0) if len(errors) > 1 else errors[0]

    monkeypatch.setattr(connecting, "_try_once", try_once)
    settings = NatsSettings(connect_timeout=0.2, reconnect_wait=0.01)
    with pytest.raises(ConnectionFailed, match="maximum connections exceeded"):
        await connecting.connect(settings, "nats://here")
