"""What every envelope of calls must do; `eventmicro.codec.Envelope` is the specification."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from eventmicro.codec import Envelope, Opened
from eventmicro.conformance.specimens import ERROR, HOSTILE
from eventmicro.errors import DecodeError, NotFound, ServiceError
from eventmicro.wire import BSON, JSON, PROTOBUF

METHOD = "orders.quote"
# Messages in some content types, and no message.
MESSAGES: dict[str, list[bytes]] = {
    JSON: [b'{"sku":"a","price":1.00000000000000000001}', b"[1,[2]]", b'"x"', b"7"],
    PROTOBUF: [b"\x0a\x01a\x10\x02", b"\x00\xff"],
    BSON: [b"\x0c\x00\x00\x00\x10x\x00\x03\x00\x00\x00\x00"],
}
DAMAGED = 500

ENVELOPE_CASES: list[Callable[[Envelope, list[bytes]], None]] = []


def _case(function: Callable[[Envelope, list[bytes]], None]) -> Callable[[Envelope, list[bytes]], None]:
    ENVELOPE_CASES.append(function)
    return function


@_case
def a_request_comes_out_as_it_was_put_in(envelope: Envelope, messages: list[bytes]) -> None:
    for message in _messages(envelope, messages):
        opened = envelope.open_request(envelope.request(METHOD, message))
        assert opened.wrong is None, opened.wrong
        assert (opened.method, opened.body) == (METHOD, message)
        assert opened.id is not None, "nobody would answer it"


@_case
def a_request_without_a_message_has_none(envelope: Envelope, messages: list[bytes]) -> None:
    opened = envelope.open_request(envelope.request(METHOD, b""))
    assert opened.wrong is None, opened.wrong
    assert opened.method == METHOD


@_case
def a_reply_comes_out_as_it_was_put_in(envelope: Envelope, messages: list[bytes]) -> None:
    for message in _messages(envelope, messages):
        opened = envelope.open_request(envelope.request(METHOD, message))
        assert envelope.open_reply(envelope.reply(opened, message), METHOD) == message
        envelope.open_reply(envelope.reply(opened, b""), METHOD)


@_case
def an_error_comes_out_with_all_that_it_says(envelope: Envelope, messages: list[bytes]) -> None:
    error = NotFound("no such thing as ä", id=METHOD, errors=ERROR["errors"])
    opened = envelope.open_request(envelope.request(METHOD, b""))
    for request in (opened, Opened(wrong=error), Opened()):
        told = _raised(envelope, envelope.error(request, error, json.loads(error.to_json())))
        assert isinstance(told, NotFound), f"{told!r} for {error!r}"
        assert (told.detail, told.id, list(told.errors)) == (error.detail, METHOD, ERROR["errors"])


@_case
def a_hostile_request_is_said_to_be_wrong_and_can_be_answered(envelope: Envelope, messages: list[bytes]) -> None:
    for name, body in HOSTILE.items():
        opened = envelope.open_request(body)
        assert opened.wrong is not None or opened.body is not None, name
        _answer(envelope, opened)


@_case
def a_hostile_reply_is_a_decode_error_or_a_service_error(envelope: Envelope, messages: list[bytes]) -> None:
    for body in HOSTILE.values():
        _open_reply(envelope, body)


@_case
def what_is_damaged_is_said_to_be_wrong_or_read(envelope: Envelope, messages: list[bytes]) -> None:
    dice = random.Random(7)  # noqa: S311
    for message in _messages(envelope, messages):
        request = envelope.request(METHOD, message)
        reply = envelope.reply(envelope.open_request(request), message)
        for _ in range(DAMAGED):
            _answer(envelope, envelope.open_request(_damage(request, dice)))
            _open_reply(envelope, _damage(reply, dice))


@_case
def what_ends_too_early_is_wrong(envelope: Envelope, messages: list[bytes]) -> None:
    message = _messages(envelope, messages)[0]
    request = envelope.request(METHOD, message)
    for end in range(len(request)):
        opened = envelope.open_request(request[:end])
        assert opened.wrong is not None or opened.body != message, f"{request[:end]!r} was read as if it were whole"
        _answer(envelope, opened)


def _messages(envelope: Envelope, messages: list[bytes]) -> list[bytes]:
    found = [*messages, *MESSAGES.get(envelope.inner, [])]
    assert found, f"there are no messages in {envelope.inner}: give some, by specimens="
    return found


def _damage(body: bytes, dice: random.Random) -> bytes:
    damaged = bytearray(body)
    damaged[dice.randrange(len(body))] = dice.randrange(256)
    return bytes(damaged)


def _answer(envelope: Envelope, opened: Opened) -> None:
    """Whatever came in, there is an answer to it."""
    error = opened.wrong or NotFound("no such thing")
    _raised(envelope, envelope.error(opened, error, json.loads(error.to_json())))
    if opened.wrong is None:
        envelope.reply(opened, b"")


def _raised(envelope: Envelope, reply: bytes) -> ServiceError:
    try:
        read = envelope.open_reply(reply, METHOD)
    except ServiceError as error:
        return error
    raise AssertionError(f"an error was read as the reply {read!r}")


def _open_reply(envelope: Envelope, reply: bytes) -> Any:
    try:
        return envelope.open_reply(reply, METHOD)
    except (DecodeError, ServiceError):
        return None
