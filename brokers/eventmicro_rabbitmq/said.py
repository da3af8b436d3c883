"""RabbitProperties: what an event says in properties of RabbitMQ that no other broker has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

from eventmicro.checks import check_kind
from eventmicro.context import find_context
from eventmicro.errors import UsageError
from eventmicro_rabbitmq.topology import SAID, check_length

# What pamqp calls them, where it is another name.
PROPERTIES = {"type": "message_type"}
# Properties that a topic says, with what says them; as metadata RabbitMQ would take them for text that concerns nobody.
OF_TOPICS = {"priority": "Topic(..., priority=…)", "expiration": "Topic(..., ttl=seconds)"}


@dataclass(frozen=True, kw_only=True)
class RabbitProperties(Mapping[str, str]):
    """Properties of an event, as metadata: `metadata={**RabbitProperties(type="order.placed", app_id="shop"), ...}`.

    Raises:
        UsageError: one is no text, or too long for RabbitMQ.
    """

    type: str | None = None
    """What kind of event it is, in the words of whoever reads it."""
    app_id: str | None = None
    """Which application publishes it."""
    reply_to: str | None = None
    """Where the reader is to answer; nobody here waits for that: `client.call` does."""
    user_id: str | None = None
    """Who publishes it: RabbitMQ refuses any other than the user of the connection."""

    def __post_init__(self) -> None:
        for each in fields(self):
            check_kind(f"RabbitProperties: {each.name}", value := getattr(self, each.name), str | None, "a text")
            check_length(value or "")

    def __getitem__(self, name: str) -> str:
        value = getattr(self, SAID[name])
        if value is None:
            raise KeyError(name)
        return str(value)

    def __iter__(self) -> Iterator[str]:
        return (name for name, field in SAID.items() if getattr(self, field) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def take_said(headers: dict[str, str]) -> dict[str, str]:
    """The properties that are said among the headers of an event, out of which they are taken.

    Raises:
        UsageError: one is too long.
    """
    for name in SAID.keys() & headers.keys():
        check_length(headers[name])
    return {PROPERTIES.get(field, field): headers.pop(name) for name, field in SAID.items() if name in headers}


def check_meant(subject: str, headers: dict[str, str]) -> None:
    """Refuse metadata that can only be meant for RabbitMQ, which does not look for it there.

    A handler may hand on what came with its message: a header of somebody else's, who meant it as one.

    Raises:
        UsageError: there is some; the text says what says it.
    """
    for name, mend in OF_TOPICS.items():
        if headers.get(name, "").isdecimal() and not _came(name, headers[name]):
            raise UsageError(
                f"{subject}: metadata {name}={headers[name]!r} would be a header, which RabbitMQ does not obey: write "
                f"{mend}, or name it otherwise"
            )


def _came(name: str, value: str) -> bool:
    context = find_context()
    return context is not None and context.metadata.get(name) == value
