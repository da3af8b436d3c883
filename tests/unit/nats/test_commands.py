"""The command that publishes a message on NATS."""

from __future__ import annotations

import pytest

pytest.importorskip("nats")

from eventmicro_nats.connection.commands import publish_command

from eventmicro.errors import MessageTooLarge, UsageError
from eventmicro.message import Message

COMMANDS = [
    (Message("a.b", b"12345"), b"PUB a.b  5\r\n12345\r\n"),
    (Message("a", b"", reply="r.1"), b"PUB a r.1 0\r\n\r\n"),
    (Message("a", b"x\r\ny", {}), b"PUB a  4\r\nx\r\ny\r\n"),
    (Message("größe", b"1"), "PUB größe  1\r\n1\r\n".encode()),
    (Message("a", b"123", {"One": "ä"}), "HPUB a  21 24\r\nNATS/1.0\r\nOne: ä\r\n\r\n123\r\n".encode()),
    (Message("a", b"", {"A": "1", "B": "2"}, "r"), b"HPUB a r 24 24\r\nNATS/1.0\r\nA: 1\r\nB: 2\r\n\r\n\r\n"),
]


@pytest.mark.parametrize(("message", "command"), COMMANDS)
def test_a_command_is_as_the_protocol_says(message: Message, command: bytes) -> None:
    assert publish_command(message, 100) == command


@pytest.mark.parametrize("subject", ["", " ", "a b", " a", "a ", "a\t", "a\r\nPUB evil 0\r\n", "a\n"])
def test_a_subject_cannot_end_its_command(subject: str) -> None:
    with pytest.raises(UsageError, match="NATS does not take this subject"):
        publish_command(Message(subject, b""), 100)
    with pytest.raises(UsageError, match="NATS does not take this subject"):
        publish_command(Message(subject, b"", {"A": "1"}), 100)


@pytest.mark.parametrize("reply", [" ", "a b", "a\r\nPUB evil 0\r\n"])
def test_a_reply_subject_cannot_either(reply: str) -> None:
    with pytest.raises(UsageError, match="NATS does not take this subject"):
        publish_command(Message("a", b"", reply=reply), 100)


def test_a_header_cannot_end_its_line() -> None:
    command = publish_command(Message("a", b"", {"One": "1\r\nTwo: 2"}), 100)
    assert b"\r\nOne: 1  Two: 2\r\n" in command
    with pytest.raises(UsageError, match="cannot be the name of a header"):
        publish_command(Message("a", b"", {"One\r\nTwo": "2"}), 100)


@pytest.mark.parametrize("headers", [None, {"One": "ä"}])
def test_what_the_server_takes_is_counted_with_its_headers(headers: dict[str, str] | None) -> None:
    size = 10 if headers is None else 10 + len("NATS/1.0\r\nOne: ä\r\n\r\n".encode())
    message = Message("a", b"0123456789", headers)
    publish_command(message, size)
    with pytest.raises(MessageTooLarge, match=f"{size} bytes.* over the server's max_payload of {size - 1}"):
        publish_command(message, size - 1)
