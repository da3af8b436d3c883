"""Event: what a server delivers, read in place where all its frames are there one behind the other."""

from __future__ import annotations

from struct import Struct

from eventmicro_rabbitmq.connection.frames import BODY, DELIVER, END, FRAME, HEADER, METHOD, Properties
from eventmicro_rabbitmq.connection.properties import read_properties

# Of how many pairs of exchange and routing key the text is remembered.
REMEMBERED = 1024

# A delivery as far as its consumer's name: the frame, which method it is, how long the name is. Then the event's number
# on the channel, and whether it comes again. Then exchange and routing key, each with its length before it.
_DELIVERY, _TAG = Struct(">BHIIB"), Struct(">qB")
_SHORTEST_NAMES = 2
# A header: the frame, class and weight, how long the body is, which properties there are.
_CONTENT = Struct(">BHIIQH")


class Event:
    """An event before anything is made of it; what is None could not be read."""

    __slots__ = ("body", "delivery_tag", "exchange", "properties", "redelivered", "routing_key")

    def __init__(
        self,
        delivery_tag: int | None,
        redelivered: bool,
        exchange: str,
        routing_key: str | None,
        properties: Properties,
        body: bytes,
    ) -> None:
        self.delivery_tag = delivery_tag
        self.redelivered = redelivered
        self.exchange = exchange
        self.routing_key = routing_key
        self.properties = properties
        self.body = body


class EventReader:
    """Reads events in place; one for each connection, which has the same exchanges and routing keys again and again."""

    def __init__(self) -> None:
        self._names: dict[bytes, tuple[str, str]] = {}

    def read(self, data: bytes, position: int) -> tuple[int, Event, int] | None:
        """An event with its channel, and where it ends; None where no event begins here, or it is not whole, or there
        is anything in it that is not as in most.
        """
        last = len(data) - _CONTENT.size  # where its header may begin
        if position + _DELIVERY.size > last:
            return None
        kind, channel, size, method, name_size = _DELIVERY.unpack_from(data, position)
        tag_at = position + _DELIVERY.size + name_size
        names_at = tag_at + _TAG.size
        header_at = position + FRAME.size + size + 1
        if method != DELIVER or kind != METHOD or header_at > last or names_at + _SHORTEST_NAMES >= header_at:
            return None
        tag, flags = _TAG.unpack_from(data, tag_at)
        names = data[names_at : header_at - 1]
        kind, its_channel, size, _, length, present = _CONTENT.unpack_from(data, header_at)
        body_at = header_at + FRAME.size + size + 1
        end = body_at + FRAME.size + length + 1 if length else body_at
        if kind != HEADER or its_channel != channel or end > len(data):
            return None
        if data[header_at - 1] != END or data[body_at - 1] != END or data[end - 1] != END:
            return None
        if length and FRAME.unpack_from(data, body_at) != (BODY, channel, length):
            return None
        name = self._names.get(names) or self._remember(names)
        properties = read_properties(data, header_at + _CONTENT.size, body_at - 1, present)
        if name is None or properties is None:
            return None
        exchange, key = name
        body = data[body_at + FRAME.size : end - 1] if length else b""
        return channel, Event(tag, flags & 1 == 1, exchange, key, properties, body), end

    def _remember(self, names: bytes) -> tuple[str, str] | None:
        """Exchange and routing key; None where they are not just that, or no text."""
        key_at = names[0] + _SHORTEST_NAMES
        if len(names) < key_at or len(names) != key_at + names[key_at - 1]:
            return None
        try:
            name = names[1 : key_at - 1].decode(), names[key_at:].decode()
        except UnicodeDecodeError:
            return None
        if len(self._names) >= REMEMBERED:
            self._names.clear()
        self._names[names] = name
        return name
