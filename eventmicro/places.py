"""Places: where a topic's events go and where a subscriber's are kept, as one broker's adapter describes it.

The core carries them to the broker and reads nothing but their names. A broker that does not know them is not asked:
who names them is refused, see `eventmicro.broker.HasPlaces`.
"""

from __future__ import annotations

from typing import ClassVar, Self

from eventmicro.errors import UsageError


class Place:
    """A base for what an adapter lets its users name in a topic or a subscriber.

    product: what it is of, for the errors, such as RabbitMQ.
    scheme: that of its broker's URL, by which it is told in documents where no broker is named.
    name: what the broker calls it.
    """

    __slots__ = ()

    product: ClassVar[str]
    scheme: ClassVar[str] = ""
    name: str


class Exchange(Place):
    """What events are published to, and from which the broker routes them to queues."""

    __slots__ = ()

    @classmethod
    def of_others(cls, name: str, kind: str | None, *, checked: bool) -> Self:
        """One that is there already and is left as it is, as the command line names it.

        Args:
            kind: its type; None: what most are.
            checked: whether one of another type is refused.

        Raises:
            UsageError: there can be none such.
        """
        raise UsageError(f"{cls.__name__}: the command line knows none")


class Queue(Place):
    """What keeps the events of a subscriber, shared by its instances."""

    __slots__ = ()
