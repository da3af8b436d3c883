"""Frames of AMQP 0-9-1 as bytes: those that are sent once a message."""

from __future__ import annotations

from struct import Struct

from pamqp import commands, frame, header

Properties = commands.Basic.Properties

_METHOD, _BODY, _END = 1, 3, 0xCE
_FRAME = Struct(">BHI")
_SETTLE = Struct(">BHIHHQBB")
_BASIC, _ACK, _NACK = 60, 80, 120
_MULTIPLE, _REQUEUE = 1, 2


def publish(
    channel: int, exchange: str, key: str, properties: Properties, body: bytes, mandatory: bool, frame_max: int
) -> bytes:
    """All frames of one message."""
    parts = [
        frame.marshal(commands.Basic.Publish(exchange=exchange, routing_key=key, mandatory=mandatory), channel),
        frame.marshal(header.ContentHeader(0, len(body), properties), channel),
    ]
    largest = frame_max - _FRAME.size - 1
    for start in range(0, len(body), largest):
        part = body[start : start + largest]
        parts += (_FRAME.pack(_BODY, channel, len(part)), part, b"\xce")
    return b"".join(parts)


def ack(channel: int, tag: int, *, multiple: bool = False) -> bytes:
    """It is dealt with; with `multiple`, so are all before it."""
    return _SETTLE.pack(_METHOD, channel, 13, _BASIC, _ACK, tag, _MULTIPLE if multiple else 0, _END)


def nack(channel: int, tag: int) -> bytes:
    """It is to be delivered again."""
    return _SETTLE.pack(_METHOD, channel, 13, _BASIC, _NACK, tag, _REQUEUE, _END)
