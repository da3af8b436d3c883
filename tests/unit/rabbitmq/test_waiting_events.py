"""RabbitMQ: whether a queue has events, where that cannot be told."""

from __future__ import annotations

from typing import Any

import pytest
from aiormq import exceptions
from eventmicro_rabbitmq.connection.kept import KeptChannel
from eventmicro_rabbitmq.declare import Declarer
from eventmicro_rabbitmq.settings import RabbitSettings

from eventmicro.errors import Disconnected, UsageError

LOST: list[tuple[Exception, type[Exception]]] = [
    (exceptions.ConnectionClosed(320, "CONNECTION_FORCED"), Disconnected),
    (exceptions.ChannelInvalidStateError("closed"), Disconnected),
    (OSError("lost"), Disconnected),
    (Disconnected("no answer"), Disconnected),
    (exceptions.ChannelNotFoundEntity("no queue"), UsageError),
]


@pytest.mark.parametrize(("met", "raised"), LOST, ids=[type(met).__name__ for met, _ in LOST])
async def test_a_server_that_does_not_say_what_a_queue_has_is_away_or_refuses(
    met: Exception, raised: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the watchdog takes a lost connection for no defect of ours."""

    async def lost(*_: object) -> int:
        raise met

    monkeypatch.setattr(KeptChannel, "count", lost)
    connection: Any = object()
    with pytest.raises(raised):
        await Declarer(RabbitSettings()).has_events(connection, "q")
