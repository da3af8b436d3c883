"""What goes out to a NATS server to publish a message."""

from __future__ import annotations

from collections.abc import Mapping

from eventmicro.errors import MessageTooLarge, UsageError
from eventmicro.message import Message
from eventmicro_nats.connection.headers import VERSION, write_headers


def publish_command(message: Message, max_payload: int) -> bytes:
    """The command that publishes a message; see `command`."""
    return command(message.subject, message.reply, message.body, message.headers, max_payload)


def command(subject: str, reply: str, body: bytes, headers: Mapping[str, str] | None, max_payload: int) -> bytes:
    """The command that publishes a message, in its parts.

    nats-py would write it in several times the time.

    Args:
        max_payload: how many bytes the server takes, headers and body together; it closes the connection over more.

    Raises:
        UsageError: the subject, or the reply subject, would end in the middle of the command.
        MessageTooLarge: it has more bytes than that.
    """
    if not subject.isprintable() or " " in subject or not subject:
        _check_word(subject)
    if not reply.isprintable() or " " in reply:
        _check_word(reply)
    size = len(body)
    if headers:
        lines = b"%b\r\n%b\r\n" % (VERSION, write_headers(headers))
        size += len(lines)
        if size > max_payload:
            raise too_large(subject, f"{size} bytes with headers", max_payload)
        return b"%b%b%b\r\n" % (f"HPUB {subject} {reply} {len(lines)} {size}\r\n".encode(), lines, body)
    if size > max_payload:
        raise too_large(subject, f"{size} bytes", max_payload)
    return b"%b%b\r\n" % (f"PUB {subject} {reply} {size}\r\n".encode(), body)


def _check_word(subject: str) -> None:
    """See that it is one word: a few signs that cannot be printed are none that end it."""
    word = subject.encode()
    if word.split() != [word]:
        raise UsageError(
            f"{subject!r}: NATS does not take this subject: write tokens with dots between, without spaces"
        )


def too_large(subject: str, size: str, max_payload: int) -> MessageTooLarge:
    """The error for a message that the server would not take."""
    return MessageTooLarge(f"{subject}, {size}: over the server's max_payload of {max_payload}")
