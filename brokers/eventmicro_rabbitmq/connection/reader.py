"""The reader of what a server sends: whole events are read in place, every other frame is left to pamqp and aiormq.

An event is three frames or more: one says where it goes, one has its properties, the others have its body.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from struct import Struct
from typing import Any, Protocol

from pamqp.commands import Basic, Channel
from pamqp.header import ContentHeader

from eventmicro_rabbitmq.connection.content import Content
from eventmicro_rabbitmq.connection.event import Event, EventReader
from eventmicro_rabbitmq.connection.frames import BODY, END, FRAME, METHOD, Properties, read_frame

# A confirm as a whole: the frame, which method it is, the message's number, its flags, the end.
_CONFIRM = Struct(">BHIIQBB")
_MULTIPLE = 1
_ACK, _NACK = Basic.Ack.index, Basic.Nack.index


class Recipient(Protocol):
    """A channel, as far as the reader knows it."""

    def take_events(self, events: list[Event]) -> None:
        """Called with those that came together, in their order."""
        ...

    def take_confirm(self, tag: int, *, multiple: bool, stored: bool) -> None: ...

    def take_return(self, frame: Basic.Return, properties: Properties) -> None: ...


class FrameReader:
    """Reads the chunks of a connection as they come.

    Args:
        channels: those that are open, by number.
        leave: called with every other frame: its length, its channel, what it says.
    """

    def __init__(self, channels: Mapping[int, Recipient | None], leave: Callable[[int, int, Any], None]) -> None:
        self._channels = channels
        self._leave = leave
        self._cut_off: list[bytes] = []  # the beginning of a frame, and how much of it is still to come
        self._missing = 0
        self._contents: dict[int, Content] = {}  # messages that are not whole yet, by channel
        self._came: dict[int, list[Event]] = {}
        self._events = EventReader()

    def feed(self, chunk: bytes) -> None:
        """Read a chunk, then hand over the events that have become whole by it, those of a channel together.

        Raises:
            PAMQPException, ConnectionError: it is no AMQP, so that nothing behind it can be read.
        """
        if self._cut_off:
            self._cut_off.append(chunk)
            self._missing -= len(chunk)
            if self._missing > 0:
                return
            chunk = b"".join(self._cut_off)
        position = 0
        while True:
            position = self._read_events(chunk, position)
            end = _end_of_frame(chunk, position)
            if end > len(chunk):
                break
            self._read_frame(chunk, position, end)
            position = end
        self._cut_off = [chunk[position:]] if position < len(chunk) else []
        self._missing = end - len(chunk)
        if self._came:
            self._hand_over()

    def _read_events(self, data: bytes, position: int) -> int:
        """Read whole events for as long as one follows the other; where the first frame is that is none of theirs."""
        read, came, contents, channels = self._events.read, self._came, self._contents, self._channels
        while (found := read(data, position)) is not None:
            number, event, end = found
            if number in contents or channels.get(number) is None:
                break
            if number in came:
                came[number].append(event)
            else:
                came[number] = [event]
            position = end
        return position

    def _read_frame(self, data: bytes, position: int, end: int) -> None:
        """Read one frame of any kind."""
        kind, number, _ = FRAME.unpack_from(data, position)
        content = self._contents.get(number)
        if content is None:
            if end - position == _CONFIRM.size and self._read_confirm(data, position):
                return
            size, number, frame = read_frame(data[position:end])
            if isinstance(frame, Basic.Deliver | Basic.Return) and self._channels.get(number) is not None:
                self._contents[number] = Content(frame)
            else:
                self._leave(size, number, frame)
        elif kind == BODY and content.properties is not None and data[end - 1] == END:
            content.add(data[position + FRAME.size : end - 1])
            self._look_whether_whole(number, content)
        else:
            self._go_on(content, *read_frame(data[position:end]))

    def _read_confirm(self, data: bytes, position: int) -> bool:
        """Read a confirm; False: it is none."""
        kind, number, _, method, tag, flags, end = _CONFIRM.unpack_from(data, position)
        channel = self._channels.get(number)
        if kind != METHOD or end != END or method not in (_ACK, _NACK) or channel is None:
            return False
        channel.take_confirm(tag, multiple=flags & _MULTIPLE == _MULTIPLE, stored=method == _ACK)
        return True

    def _go_on(self, content: Content, size: int, number: int, frame: Any) -> None:
        """What comes where a message is not whole yet: its properties, or the end of its channel."""
        if isinstance(frame, ContentHeader) and content.properties is None:
            content.begin(frame)
            self._look_whether_whole(number, content)
        elif isinstance(frame, Channel.Close | Channel.CloseOk):
            del self._contents[number]
            self._leave(size, number, frame)
        else:
            raise ConnectionError(f"unexpected frame {frame!r}")

    def _look_whether_whole(self, number: int, content: Content) -> None:
        if not content.is_whole:
            return
        del self._contents[number]
        method, properties, channel = content.method, content.properties, self._channels.get(number)
        if channel is None or properties is None:
            return
        if isinstance(method, Basic.Return):
            channel.take_return(method, properties)
            return
        name = method.exchange or "", method.routing_key
        event = Event(method.delivery_tag, bool(method.redelivered), *name, properties, content.body)
        self._came.setdefault(number, []).append(event)

    def _hand_over(self) -> None:
        came, self._came = self._came, {}
        for number, events in came.items():
            channel = self._channels.get(number)
            if channel is not None:
                channel.take_events(events)


def _end_of_frame(data: bytes, position: int) -> int:
    """Where the frame ends that begins here, as far as that is known; it is not whole where that is behind all.

    It may be over the frame_max that was agreed: RabbitMQ adds headers of its own to what just fitted.
    """
    if position + FRAME.size > len(data):
        return position + FRAME.size + 1
    size: int = FRAME.unpack_from(data, position)[2]
    return position + FRAME.size + size + 1
