"""A delivery of core NATS: it keeps the headers as they came, for whoever asks for more than is handed over."""

from __future__ import annotations

from eventmicro.message import Delivery


class NatsDelivery(Delivery):
    """A message of NATS, here one without headers.

    Attributes:
        raw_headers: the headers as they were on the wire.
    """

    __slots__ = ()
    raw_headers = b""


class HeadedDelivery(NatsDelivery):
    """One with headers."""

    __slots__ = ("raw_headers",)

    def __init__(self, subject: str, body: bytes, headers: dict[str, str] | None, reply: str, raw: bytes) -> None:
        super().__init__(subject, body, headers, reply)
        self.raw_headers = raw
