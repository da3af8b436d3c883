"""What is said of a transaction that fails in more than one way."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import CoordinatorNotAvailableError, IllegalGenerationError, KafkaConnectionError, KafkaError
from eventmicro_kafka.consuming import transactions
from eventmicro_kafka.consuming.transactions import Transactions
from eventmicro_kafka.producing import transactor
from eventmicro_kafka.producing.transactor import Transactor
from eventmicro_kafka.settings import KafkaSettings

from eventmicro.errors import Disconnected


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


async def test_where_no_transaction_can_be_made_it_is_said_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """The producer asks for the coordinator for ever, and tells nobody what it is answered."""
    monkeypatch.setattr(transactions, "OPEN_TIMEOUT", 0.05)
    answers: list[BaseException] = [CoordinatorNotAvailableError()]

    async def lookup(*_: Any) -> int:
        if answers:
            raise answers[0]
        return 1

    class Inner:
        def __init__(self) -> None:
            self.client = SimpleNamespace(coordinator_lookup=lookup)

        async def start(self) -> None:
            while True:
                with suppress(KafkaError):
                    await self.client.coordinator_lookup(1, "q")
                await asyncio.sleep(0)

        async def flush(self) -> None:
            """It has nothing."""

    async def stop(*_: Any) -> None:
        """It has nothing."""

    async def online() -> None:
        """It is."""

    monkeypatch.setattr(transactor, "make_producer", lambda *_: Inner())
    monkeypatch.setattr("eventmicro_kafka.producing.producer.stop_producer", stop)
    missing: Any = SimpleNamespace(wait_online=online)
    made = Transactor(KafkaSettings(connect_timeout=0.01), missing, missing, "q", "t")
    subject = Transactions(made, "q", missing, dict, lambda: None, 1.0)
    with pytest.raises(Disconnected, match=r"__transaction_state .*transaction\.state\.log\.replication\.factor"):
        await subject.open()
    answers.clear()
    with pytest.raises(Disconnected, match=r"within 0\.05 s$"):
        await subject.open()
