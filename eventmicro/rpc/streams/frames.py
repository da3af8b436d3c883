"""Frames: what the two sides of a stream send each other, in protobuf's wire format, written and read without it.

Their specification is schemas/eventmicro_schemas/v1/stream.proto. One frame carries all the messages that a side has
made in one turn of its event loop, which costs a fraction of a message of the broker for each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

# How many messages one frame may carry.
MAX_ITEMS = 4096
# The longest texts of a frame, in bytes: a subject, a content type, what is broken.
MAX_TEXT = 512
# Numbers from here on are none; a negative one is written as one of these.
TOO_HIGH = 1 << 62

# A field's number and its kind, as the byte in front of its value.
STREAM, NUMBER, ITEM, ITEM_LIMIT, BYTE_LIMIT = b"\x08", b"\x10", b"\x1a", b"\x20", b"\x28"
CONTENT_TYPE, END, ERROR, CANCEL, BROKEN, ADDRESS, PEER_STREAM = (
    b"\x32",
    b"\x38",
    b"\x42",
    b"\x48",
    b"\x52",
    b"\x5a",
    b"\x60",
)

_ITEM = ITEM[0]
_NUMBERS = {
    STREAM[0]: "stream",
    NUMBER[0]: "number",
    ITEM_LIMIT[0]: "item_limit",
    BYTE_LIMIT[0]: "byte_limit",
    PEER_STREAM[0]: "peer_stream",
}
_FLAGS = {END[0]: "end", CANCEL[0]: "cancel"}
_TEXTS = {CONTENT_TYPE[0]: "content_type", BROKEN[0]: "broken", ADDRESS[0]: "address"}
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5


class FrameError(ValueError):
    """Bytes that are no frame."""


@dataclass(slots=True)
class Frame:
    """One frame; see stream.proto for what its fields say."""

    stream: int = 0
    number: int = 0
    items: list[bytes] = field(default_factory=list)
    item_limit: int = 0
    byte_limit: int = 0
    content_type: str = ""
    end: bool = False
    error: bytes | None = None
    cancel: bool = False
    broken: str = ""
    address: str = ""
    peer_stream: int = 0

    @property
    def is_last(self) -> bool:
        """Whether the stream is over after it, where the side has sent it that serves."""
        return self.end or self.error is not None or self.cancel or bool(self.broken)


def write_frame(frame: Frame) -> bytes:
    """The frame as it travels."""
    parts = [_stream_head(frame.stream), NUMBER, _varint(frame.number)]
    for item in frame.items:
        parts.append(_item_head(len(item)))
        parts.append(item)
    if frame.item_limit:
        parts += (ITEM_LIMIT, _varint(frame.item_limit), BYTE_LIMIT, _varint(frame.byte_limit))
    if frame.content_type:
        parts += _text(CONTENT_TYPE, frame.content_type)
    if frame.end:
        parts += (END, b"\x01")
    if frame.error is not None:
        parts += (ERROR, _varint(len(frame.error)), frame.error)
    if frame.cancel:
        parts += (CANCEL, b"\x01")
    if frame.broken:
        parts += _text(BROKEN, frame.broken)
    if frame.address:
        parts += (*_text(ADDRESS, frame.address), PEER_STREAM, _varint(frame.peer_stream))
    return b"".join(parts)


def read_frame(data: bytes) -> Frame:
    """Read a frame, whatever a peer has sent; fields that are not known are passed over.

    Raises:
        FrameError: it is none, or has more in it than a frame may have.
    """
    frame = Frame()
    items = frame.items
    position, length = 0, len(data)
    try:
        while position < length:
            tag = data[position]
            position += 1
            if tag == _ITEM:
                size = data[position]
                position += 1
                if size > 127:
                    size, position = _read_varint(data, position - 1)
                end = position + size
                if end > length:
                    raise FrameError("it is cut off")
                items.append(data[position:end])
                position = end
            else:
                position = _read_field(frame, data, tag, position)
    except IndexError:
        raise FrameError("it is cut off") from None
    if len(items) > MAX_ITEMS:
        raise FrameError(f"it has {len(items)} messages, and {MAX_ITEMS} at most may be in one")
    return frame


def _read_field(frame: Frame, data: bytes, tag: int, position: int) -> int:
    """Read one field into the frame; where the next one begins."""
    if (name := _NUMBERS.get(tag)) is not None:
        number, position = _read_varint(data, position)
        setattr(frame, name, number)
        return position
    if tag in _FLAGS:
        number, position = _read_varint(data, position)
        setattr(frame, _FLAGS[tag], number != 0)
        return position
    if tag == ERROR[0]:
        frame.error, position = _read_bytes(data, position)
        return position
    if tag in _TEXTS:
        text, position = _read_bytes(data, position)
        setattr(frame, _TEXTS[tag], _as_text(text))
        return position
    return _pass_over(data, tag, position)


def _pass_over(data: bytes, tag: int, position: int) -> int:
    """Where the field ends that begins with this byte, and is not known here."""
    if tag > 127:  # the number of the field goes on
        _, position = _read_varint(data, position)
    kind = tag & 7
    if kind == _VARINT:
        _, position = _read_varint(data, position, TOO_HIGH << 2)
    elif kind == _BYTES:
        _, position = _read_bytes(data, position)
    elif kind in (_FIXED_64, _FIXED_32):
        position += 8 if kind == _FIXED_64 else 4
        if position > len(data):
            raise FrameError("it is cut off")
    else:
        raise FrameError("it is not written as protobuf writes")
    return position


def _read_varint(data: bytes, position: int, beyond: int = TOO_HIGH) -> tuple[int, int]:
    """A number, and where the next field begins."""
    byte = data[position]
    if byte < 128:
        return byte, position + 1
    number, shift = byte & 127, 7
    position += 1
    while True:
        byte = data[position]
        position += 1
        number |= (byte & 127) << shift
        if byte < 128:
            break
        shift += 7
        if shift > 63:
            raise FrameError("a number has no end")
    if number >= beyond:
        raise FrameError("a number is negative, or too high")
    return number, position


def _read_bytes(data: bytes, position: int) -> tuple[bytes, int]:
    size, position = _read_varint(data, position)
    end = position + size
    if end > len(data):
        raise FrameError("it is cut off")
    return data[position:end], end


def _as_text(value: bytes) -> str:
    if len(value) > MAX_TEXT:
        raise FrameError(f"a text in it has {len(value)} bytes, and {MAX_TEXT} at most are taken")
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise FrameError("a text in it is not UTF-8") from None


def _text(tag: bytes, text: str) -> tuple[bytes, bytes, bytes]:
    value = text.encode()
    return tag, _varint(len(value)), value


@lru_cache(4096)
def _stream_head(stream: int) -> bytes:
    return STREAM + _varint(stream)


@lru_cache(4096)
def _item_head(size: int) -> bytes:
    return ITEM + _varint(size)


def _varint(number: int) -> bytes:
    if number < 128:
        return _SMALL[number]
    digits = bytearray()
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    digits.append(number)
    return bytes(digits)


_SMALL = tuple(bytes((number,)) for number in range(128))
