"""What goes out to a NATS server to publish a message; nats-py would write it in several times the time."""

from __future__ import annotations

from collections.abc import Mapping

from eventmicro.errors import MessageTooLarge, UsageError
from eventmicro.message import Message
from eventmicro_nats.connection.headers import VERSION, write_headers

# How many subjects are remembered as they are written.
SUBJECTS = 10_000
_words: dict[str, bytes] = {}


def publish_command(message: Message, max_payload: int) -> bytes:
    """The command that publishes a message; see `command`."""
    return command(message.subject, message.reply, message.body, message.headers, max_payload)


def command(
    subject: str, reply: str, body: bytes, headers: Mapping[str, str] | None, max_payload: int, once: bool = False
) -> bytes:
    """The command that publishes a message, in its parts.

    Args:
        max_payload: how many bytes the server takes, headers and body together; it closes the connection over more.
        once: whether the subject is used but once, as that of an answer, and not worth being remembered.

    Raises:
        UsageError: the subject, or the reply subject, would end in the middle of the command.
        MessageTooLarge: it has more bytes than that.
    """
    word = _word(subject) if once else _words.get(subject) or _remember(subject)
    answer = reply.encode()
    if answer and answer.split() != [answer]:
        raise _no_word(reply)
    size = len(body)
    if headers:
        lines = b"%b\r\n%b\r\n" % (VERSION, write_headers(headers))
        size += len(lines)
        if size > max_payload:
            raise too_large(subject, f"{size} bytes with headers", max_payload)
        return b"HPUB %b %b %d %d\r\n%b%b\r\n" % (word, answer, len(lines), size, lines, body)
    if size > max_payload:
        raise too_large(subject, f"{size} bytes", max_payload)
    return b"PUB %b %b %d\r\n%b\r\n" % (word, answer, size, body)


def too_large(subject: str, size: str, max_payload: int) -> MessageTooLarge:
    """The error for a message that the server would not take."""
    return MessageTooLarge(f"{subject}, {size}: over the server's max_payload of {max_payload}", limit=max_payload)


def _word(subject: str) -> bytes:
    """A subject, which is to be one word."""
    word = subject.encode()
    if word.split() != [word]:
        raise _no_word(subject)
    return word


def _remember(subject: str) -> bytes:
    """The same, kept for the next time."""
    word = _word(subject)
    if len(_words) >= SUBJECTS:
        _words.clear()
    _words[subject] = word
    return word


def _no_word(subject: str) -> UsageError:
    return UsageError(f"{subject!r}: NATS does not take this subject: write tokens with dots between, without spaces")
