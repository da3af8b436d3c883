"""What goes out to a NATS server to publish a message."""

from __future__ import annotations

from eventmicro.errors import MessageTooLarge, UsageError
from eventmicro.message import Message
from eventmicro_nats.connection.headers import VERSION, write_headers


def publish_command(message: Message, max_payload: int) -> bytes:
    """The command that publishes a message.

    nats-py would write it in twice the time.

    Args:
        max_payload: how many bytes the server takes, headers and body together; it closes the connection over more.

    Raises:
        UsageError: the subject, or the reply subject, would end in the middle of the command.
        MessageTooLarge: it has more bytes than that.
    """
    body, size = message.body, len(message.body)
    subject, reply = _one_word(message.subject), _one_word(message.reply) if message.reply else b""
    if not message.headers:
        if size > max_payload:
            raise too_large(message.subject, f"{size} bytes", max_payload)
        return b"PUB %b %b %d\r\n%b\r\n" % (subject, reply, size, body)
    headers = b"%b\r\n%b\r\n" % (VERSION, write_headers(message.headers))
    size += len(headers)
    if size > max_payload:
        raise too_large(message.subject, f"{size} bytes with headers", max_payload)
    return b"HPUB %b %b %d %d\r\n%b%b\r\n" % (subject, reply, len(headers), size, headers, body)


def _one_word(subject: str) -> bytes:
    word = subject.encode()
    if word.split() != [word]:
        raise UsageError(
            f"{subject!r}: NATS does not take this subject: write tokens with dots between, without spaces"
        )
    return word


def too_large(subject: str, size: str, max_payload: int) -> MessageTooLarge:
    """The error for a message that the server would not take."""
    return MessageTooLarge(f"{subject}, {size}: over the server's max_payload of {max_payload}")
