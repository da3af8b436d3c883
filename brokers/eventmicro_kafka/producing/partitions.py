"""Partitions: which of a topic's partitions a message goes to."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from aiokafka.partitioner import murmur2  # type: ignore[import-untyped]


class Partitions:
    """The partitions of a topic.

    What has a key goes where its key says. What has none goes by the burst: into the batch that is being filled, and
    else to the next partition, so that few batches are sent, and all partitions get as much.
    """

    def __init__(self, places: Sequence[Any]) -> None:
        self.places = places
        self._turn = random.randrange(len(places))  # noqa: S311  many who publish little begin anywhere
        self.filling: Any = None
        """Where the latest message without a key went."""

    def of_key(self, key: bytes) -> Any:
        """The partition of a key."""
        return self.places[partition_of(key, len(self.places))]

    def next(self, is_idle: Callable[[Any], bool]) -> Any:
        """The next one that is idle, or else just the next: a leader that is slow or away gets no more than others."""
        turns = range(self._turn, self._turn + len(self.places))
        chosen = next((turn for turn in turns if is_idle(self._at(turn))), self._turn)
        self._turn = (chosen + 1) % len(self.places)
        return self._at(chosen)

    def _at(self, turn: int) -> Any:
        return self.places[turn % len(self.places)]


def partition_of(key: bytes, partitions: int) -> int:
    """Where the events of a key go; the same as with Kafka's own clients."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)
