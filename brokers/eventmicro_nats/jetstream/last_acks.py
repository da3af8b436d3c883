"""The last acks of a subscription: an ack has no answer, so nobody knows whether a server that is lost had noted it."""

from __future__ import annotations

from collections import deque

from eventmicro_nats.jetstream.deliveries import read_settle_subject


class LastAcks:
    """What was acked last, to be said again where it may be lost; the server takes an ack twice.

    Args:
        most: how many are remembered.

    Attributes:
        events: of those that may come again, each by its sequence and when it was stored.
        in_doubt: whether a connection, or the server that leads the queue, was lost since they were said.
        note: remember a command that acks.
    """

    def __init__(self, most: int) -> None:
        self._commands: deque[bytes] = deque(maxlen=most)
        self.events: set[tuple[int, bytes]] = set()
        self.in_doubt = False
        self.note = self._commands.append

    def remember(self, event: tuple[int, bytes]) -> None:
        """This one was acked, and nobody was told."""
        self.events.add(event)

    def remember_events(self) -> None:
        """They may come again, from the queue or from one that was made in its place."""
        self.events.update(map(_event_of, self._commands))

    def forget_commands(self) -> None:
        """What acked an event of a queue that is gone would in another one ack what nobody has handled."""
        self.remember_events()
        self._commands.clear()

    def forget_before(self, sequence: int) -> None:
        """Of those before this one the server knows."""
        if self.events:
            self.events = {event for event in self.events if event[0] >= sequence}

    def to_say_again(self, first: int = 0) -> list[bytes]:
        """The commands for the events from this sequence on."""
        return [command for command in self._commands if _event_of(command)[0] >= first]


def _event_of(command: bytes) -> tuple[int, bytes]:
    """The sequence of the event that a command settles, and when that was stored."""
    _, sequence, stored = read_settle_subject(command.split(b" ", 2)[1])
    return sequence, stored
