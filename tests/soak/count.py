"""Counts what the facts of a run say: lost, handled twice, out of order, how long nothing went on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from tests.soak.facts import Facts, Handled, Queue, key

NEVER = float("inf")


@dataclass(frozen=True, order=True)
class Standstill:
    """Events were waiting, most of the nodes were there, and none was handled: for how long, since when, where."""

    seconds: float
    since: float
    queue: str


def lost(facts: Facts, queue: Queue) -> set[int]:
    """The events that were confirmed, and neither handled nor kept in the dead letters."""
    return facts.confirmed.keys() - queue.done


def doubled(queue: Queue) -> list[Handled]:
    """Each time that an event was handled that had been handled before."""
    seen: set[int] = set()
    again = []
    for each in sorted(queue.handled):
        if each.value in seen:
            again.append(each)
        seen.add(each.value)
    return again


def out_of_order(queue: Queue) -> list[int]:
    """The events that were handled for the first time after a later one of their key had been."""
    latest: dict[str, int] = {}
    misplaced = []
    for value in first_handled(queue):
        if value < latest.get(key(value), -1):
            misplaced.append(value)
        else:
            latest[key(value)] = value
    return misplaced


def first_handled(queue: Queue) -> dict[int, float]:
    """When each event was handled for the first time, by its number, the first one first."""
    first: dict[int, float] = {}
    for each in sorted(queue.handled):
        first.setdefault(each.value, each.at)
    return first


def standstills(facts: Facts, least: float) -> list[Standstill]:
    """Those of at least so many seconds, in all queues, the longest one first."""
    found = [
        Standstill(until - since, since, name)
        for name, queue in facts.queues.items()
        for gap in _idle(facts, queue)
        for since, until in without(gap, facts.away)
        if until - since >= least
    ]
    return sorted(found, reverse=True)


def longest_wait(facts: Facts, queue: Queue) -> tuple[float, int]:
    """How long an event has waited to be handled, the longest of all, in seconds, and its number."""
    first = first_handled(queue)
    return max(((first[value] - at, value) for value, at in facts.confirmed.items() if value in first), default=(0, -1))


def without(gap: tuple[float, float], away: Iterable[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """What is left of a time when these times are taken out of it."""
    since, until = gap
    for start, end in sorted(away):
        if end > since and start < until:
            if start > since:
                yield since, start
            since = max(since, end)
    if since < until:
        yield since, until


def _idle(facts: Facts, queue: Queue) -> Iterator[tuple[float, float]]:
    """From when until when events were waiting and none was handled."""
    first = first_handled(queue)
    waiting = [(first.get(value, NEVER), at) for value, at in facts.confirmed.items() if value not in queue.given_up]
    waiting.sort()
    begin = min(facts.confirmed.values(), default=facts.end)
    times = sorted([begin, facts.end, *(each.at for each in queue.handled)])
    oldest = NEVER
    for start, end in reversed(list(pairwise(times))):
        while waiting and waiting[-1][0] >= end:
            oldest = min(oldest, waiting.pop()[1])
        if max(start, oldest) < end:
            yield max(start, oldest), end
