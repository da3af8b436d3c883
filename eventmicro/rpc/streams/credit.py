"""Credit: how much one side of a stream lets the other send before it has read what it has.

As in QUIC it is a limit counted from the beginning of the stream, in messages and in bytes: a side may send one more as
long as it has sent fewer than both. So nothing adds up wrongly, and a message of any size gets through.
"""

from __future__ import annotations

from eventmicro.errors import StreamBroken

# How many messages of a stream, and how many bytes of them, may be on their way or wait to be read.
WINDOW_ITEMS = 1024
WINDOW_BYTES = 1024 * 1024
# All streams of a connection together share so many bytes, as long as each has the least.
SHARED_BYTES = 32 * 1024 * 1024
LEAST_BYTES = 16 * 1024
# More than so many at a time nobody gives who means it.
HIGHEST_ITEMS = 1 << 20
HIGHEST_BYTES = 1 << 30


def window_bytes(streams: int) -> int:
    """How many bytes each of so many streams of one connection may have on their way."""
    return max(LEAST_BYTES, min(WINDOW_BYTES, SHARED_BYTES // max(streams, 1)))


class Given:
    """The credit that this side has given, and what has come of it.

    Args:
        window: how many bytes may be on their way.

    low_items, low_bytes: when so much was read it is time to give more: half of it is used up.
    """

    __slots__ = (
        "byte_limit",
        "bytes",
        "item_limit",
        "items",
        "low_bytes",
        "low_items",
        "read_bytes",
        "read_items",
    )

    def __init__(self, window: int) -> None:
        self.item_limit = self.byte_limit = 0
        self.items = self.bytes = 0
        self.read_items = self.read_bytes = 0
        self.renew(window)

    def take(self, items: list[bytes]) -> None:
        """Count what has come.

        Raises:
            StreamBroken: it is more than there was credit for.
        """
        self.items += len(items)
        self.bytes += sum(map(len, items))
        if self.items > self.item_limit or self.bytes - len(items[-1]) >= self.byte_limit:
            raise StreamBroken("more came than there was credit for")

    def renew(self, window: int) -> tuple[int, int]:
        """Give so much beyond what was read, but never less than before; the new limits."""
        self.item_limit = self.read_items + WINDOW_ITEMS
        self.byte_limit = max(self.byte_limit, self.read_bytes + window)
        self.low_items = self.item_limit - WINDOW_ITEMS // 2
        self.low_bytes = self.byte_limit - window // 2
        return self.item_limit, self.byte_limit


class Got:
    """The credit that this side has got, and what it has used."""

    __slots__ = ("byte_limit", "bytes", "item_limit", "items")

    def __init__(self) -> None:
        self.items = self.bytes = self.item_limit = self.byte_limit = 0

    def renew(self, item_limit: int, byte_limit: int) -> None:
        """Take more of it.

        Raises:
            StreamBroken: it is less than before, or more than anybody may mean.
        """
        if item_limit < self.item_limit or byte_limit < self.byte_limit:
            raise StreamBroken("credit became less")
        if item_limit > self.items + HIGHEST_ITEMS or byte_limit > self.bytes + HIGHEST_BYTES:
            raise StreamBroken(f"credit is over {HIGHEST_ITEMS} messages or {HIGHEST_BYTES} bytes at a time")
        self.item_limit, self.byte_limit = item_limit, byte_limit
