"""What travels: a Message on its way out, a Delivery on its way in."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Message:
    """One message for a broker: encoded, addressed, ready to send."""

    subject: str
    body: bytes = b""
    headers: dict[str, str] | None = None
    reply: str = ""
    """Where an answer is awaited; empty where none is."""


@dataclass(slots=True)
class Delivery:
    """One message as a broker hands it over, on the subject that it was sent to."""

    subject: str
    body: bytes = b""
    headers: dict[str, str] | None = None
    reply: str = ""
    attempt: int = 1
    """How many times the broker has delivered this message, this time included."""
    arrived: float | None = field(default=None, compare=False)
    """When it came, in `time.monotonic()` seconds, if it had to wait in line on this side; None if it did not."""
