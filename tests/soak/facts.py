"""What is known of a run when it is over: when each event was confirmed, and when and by whom it was handled."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

# Events are of so many keys, in turn.
KEYS = 50


def key(value: int) -> str:
    """The key of the event of this number. Of one key, one event is confirmed before the next is published."""
    return f"k{value % KEYS}"


@dataclass(frozen=True, order=True)
class Handled:
    """A handler has returned: at this time, for the event of this number."""

    at: float
    value: int


@dataclass
class Queue:
    """What became of the events of one queue.

    ordered: whether it is handled in order by key.
    handled: each time that a handler returned, of all processes.
    given_up: the events that are in its dead letters.
    """

    ordered: bool = False
    handled: list[Handled] = field(default_factory=list)
    given_up: set[int] = field(default_factory=set)

    @property
    def done(self) -> set[int]:
        """The events that are dealt with."""
        return {each.value for each in self.handled} | self.given_up


@dataclass
class Facts:
    """A run. Times are those of one clock for all processes, in seconds.

    confirmed: when each event was, by its number.
    queues: by name.
    faults: when each began, and what it was.
    away: from when until when no majority of the nodes was to be reached.
    published_again: how often an event was, since it was not confirmed.
    end: when the run was over.
    """

    confirmed: dict[int, float] = field(default_factory=dict)
    queues: dict[str, Queue] = field(default_factory=dict)
    faults: list[tuple[float, str]] = field(default_factory=list)
    away: list[tuple[float, float]] = field(default_factory=list)
    published_again: int = 0
    end: float = 0.0


class Notes:
    """Reads what a subscriber writes, line by line: queue, number and time of each event that it has handled."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read = 0

    def take(self, facts: Facts) -> None:
        """Add what was written since the last time; a line that is not finished yet is left for the next."""
        with self._file.open("rb") as stream:
            stream.seek(self._read)
            lines, _, _ = stream.read().rpartition(b"\n")
        self._read += len(lines) + (1 if lines else 0)
        for line in lines.decode().splitlines():
            queue, value, at = line.split()
            facts.queues[queue].handled.append(Handled(float(at), int(value)))
