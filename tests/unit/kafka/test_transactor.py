"""What is said of a transaction that fails in more than one way."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import IllegalGenerationError, KafkaConnectionError
from eventmicro_kafka.producing import transactor
from eventmicro_kafka.producing.transactor import Transactor
from eventmicro_kafka.settings import KafkaSettings


async def test_one_whose_messages_are_not_stored_is_not_said_to_have_failed_by_its_commit_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who hears of that alone may end it as if all of them were."""
    missing: Any = SimpleNamespace()
    subject = Transactor(KafkaSettings(), missing, missing, "q", "t")

    async def fill(_: Any) -> tuple[Any, list[Any]]:
        return object(), []

    async def nothing(*_: Any) -> None:
        """It is added."""

    async def commit(_: Any) -> None:
        raise IllegalGenerationError

    async def send(*_: Any) -> None:
        await asyncio.sleep(0)
        raise KafkaConnectionError

    monkeypatch.setattr(subject, "_fill", fill)
    monkeypatch.setattr(subject, "_send", send)
    monkeypatch.setattr(transactor, "begin", lambda *_: None)
    monkeypatch.setattr(transactor, "add_partitions", nothing)
    monkeypatch.setattr(transactor, "add_group", nothing)
    with pytest.raises(KafkaConnectionError):
        await subject.run([], commit)
    assert (subject.is_open, subject.is_deciding) == (True, False)
