"""Frames of AMQP 0-9-1 as bytes: those that are sent once a message."""

from __future__ import annotations

from struct import Struct

from pamqp import commands, frame, header

from eventmicro.errors import MessageTooLarge

Properties = commands.Basic.Properties

_METHOD, _BODY, _END = 1, 3, 0xCE
_FRAME = Struct(">BHI")
_SETTLE = Struct(">BHIHHQBB")
_BASIC, _ACK, _NACK = 60, 80, 120
_MULTIPLE, _REQUEUE = 1, 2


def publish_frames(
    channel: int, exchange: str, key: str, properties: Properties, body: bytes, mandatory: bool, frame_max: int
) -> bytes:
    """All frames of one message.

    Raises:
        MessageTooLarge: its headers do not fit into a frame, and only a body may have several.
    """
    head = frame.marshal(header.ContentHeader(0, len(body), properties), channel)
    if len(head) > frame_max:
        raise MessageTooLarge(f"{key}: headers of {len(head)} bytes, over the {frame_max} of RabbitMQ's frame_max")
    method = commands.Basic.Publish(exchange=exchange, routing_key=key, mandatory=mandatory)
    parts = [frame.marshal(method, channel), head]
    largest = frame_max - _FRAME.size - 1
    for start in range(0, len(body), largest):
        part = body[start : start + largest]
        parts += (_FRAME.pack(_BODY, channel, len(part)), part, b"\xce")
    return b"".join(parts)


def ack_frame(channel: int, tag: int, *, multiple: bool = False) -> bytes:
    """It is dealt with; with `multiple`, so are all before it."""
    return _SETTLE.pack(_METHOD, channel, 13, _BASIC, _ACK, tag, _MULTIPLE if multiple else 0, _END)


def nack_frame(channel: int, tag: int) -> bytes:
    """It is to be delivered again."""
    return _SETTLE.pack(_METHOD, channel, 13, _BASIC, _NACK, tag, _REQUEUE, _END)


def close_frame(channel: int) -> bytes:
    """Nothing more comes on this channel."""
    return frame.marshal(commands.Channel.Close(reply_code=200, reply_text="", class_id=0, method_id=0), channel)
