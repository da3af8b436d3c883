"""Frames of AMQP 0-9-1 as bytes: those that are sent once a message, and those that come."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from struct import Struct
from typing import Any

from pamqp import commands, frame, header

from eventmicro.errors import MessageTooLarge

Properties = commands.Basic.Properties

METHOD, HEADER, BODY, END = 1, 2, 3, 0xCE
# What a frame begins with: its kind, channel and size; behind so many bytes it has one that ends it.
FRAME = Struct(">BHI")
DELIVER = commands.Basic.Deliver.index
_END = b"\xce"
# A header as far as the properties: the frame, class and weight, how long the body is.
_CONTENT = Struct(">BHIHHQ")
_CONTENT_SIZE = _CONTENT.size - FRAME.size
_SETTLE = Struct(">BHIHHQBB")
_BASIC, _ACK, _NACK = 60, 80, 120
_MULTIPLE, _REQUEUE = 1, 2
_DELIVER = DELIVER.to_bytes(4, "big")


def publish_frames(
    channel: int, exchange: str, key: str, properties: Properties, body: bytes, mandatory: bool, frame_max: int
) -> bytes:
    """All frames of one message.

    Raises:
        MessageTooLarge: its headers do not fit into a frame, and only a body may have several.
    """
    return message_frames(channel, exchange, key, properties.marshal(), body, mandatory, frame_max)


def message_frames(
    channel: int, exchange: str, key: str, described: bytes, body: bytes, mandatory: bool, frame_max: int
) -> bytes:
    """The same where its properties are written already."""
    head = _CONTENT.pack(HEADER, channel, _CONTENT_SIZE + len(described), _BASIC, 0, len(body))
    size = len(head) + len(described) + 1
    if size > frame_max:
        raise MessageTooLarge(f"{key}: headers of {size} bytes, over the {frame_max} of RabbitMQ's frame_max")
    parts = [_publish_frame(channel, exchange, key, mandatory), head, described, _END]
    largest = frame_max - FRAME.size - 1
    for start in range(0, len(body), largest):
        part = body[start : start + largest]
        parts += (FRAME.pack(BODY, channel, len(part)), part, _END)
    return b"".join(parts)


@lru_cache(maxsize=4096)
def _publish_frame(channel: int, exchange: str, key: str, mandatory: bool) -> bytes:
    """Where a message goes; it is the same for all of a subject."""
    return frame.marshal(commands.Basic.Publish(exchange=exchange, routing_key=key, mandatory=mandatory), channel)


def ack_frame(channel: int, tag: int, *, multiple: bool = False) -> bytes:
    """It is dealt with; with `multiple`, so are all before it."""
    return _SETTLE.pack(METHOD, channel, 13, _BASIC, _ACK, tag, _MULTIPLE if multiple else 0, END)


def nack_frame(channel: int, tag: int) -> bytes:
    """It is to be delivered again."""
    return _SETTLE.pack(METHOD, channel, 13, _BASIC, _NACK, tag, _REQUEUE, END)


def close_frame(channel: int) -> bytes:
    """Nothing more comes on this channel."""
    return frame.marshal(commands.Channel.Close(reply_code=200, reply_text="", class_id=0, method_id=0), channel)


def read_frame(data: bytes) -> tuple[int, int, Any]:
    """A whole frame: how long it is, its channel, and what it says.

    pamqp raises where a property of an event has a time far in the future, or is not UTF-8. That would end the
    connection, again each time the event is delivered: it is taken with what can be read of it.
    """
    try:
        return frame.unmarshal(data)
    except Exception:
        kind, channel, size = FRAME.unpack_from(data)
        payload = data[FRAME.size : FRAME.size + size]
        event: Any = commands.Basic.Deliver() if kind == METHOD else header.ContentHeader()
        if kind == METHOD and payload.startswith(_DELIVER):
            payload = payload[len(_DELIVER) :]
        elif kind != HEADER:
            raise
        with suppress(Exception):  # what comes before it has been read by then
            event.unmarshal(payload)
        return len(data), channel, event
