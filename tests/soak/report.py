"""What a run has come to: a line of the table, and what is worth a look."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tests.soak.count import doubled, longest_wait, lost, out_of_order, standstills
from tests.soak.facts import Facts

HEAD = """\
| broker | confirmed | lost | out of order | handled twice | longest standstill | published again |
| --- | --- | --- | --- | --- | --- | --- |"""
# Standstills of so many seconds are told one by one.
LONG = 5.0


def row(title: str, facts: Facts) -> str:
    """The broker's line of the table."""
    twice = sum(doubled(queue) for queue in facts.queues.values())
    longest = max((each.seconds for each in standstills(facts, 0)), default=0.0)
    counts = [len(facts.confirmed), len(all_lost(facts)), len(all_out_of_order(facts)), twice]
    return f"| {title} | {' | '.join(f'{n:,}' for n in counts)} | {longest:.1f} s | {facts.published_again:,} |"


def all_lost(facts: Facts) -> list[str]:
    """The events that were lost: `queue value`."""
    return [f"{name} {value}" for name, queue in facts.queues.items() for value in sorted(lost(facts, queue))]


def all_out_of_order(facts: Facts) -> list[str]:
    """The events that were handled too late, of the queues that are handled in order: `queue value`."""
    return [f"{name} {value}" for name, queue in facts.queues.items() if queue.ordered for value in out_of_order(queue)]


def details(facts: Facts, begun: float) -> Iterator[str]:
    """What was lost and out of order, and where it stood still; times count from `begun`."""
    for name, queue in facts.queues.items():
        seconds, value = longest_wait(facts, queue)
        yield f"{name}: handled {len(queue.handled)}, {doubled(queue)} of them again; {len(queue.given_up)} dead letters"
        yield f"{name}: event {value} waited for {seconds:.1f} s, the longest of all"
    for each in standstills(facts, LONG):
        yield f"{each.queue}: stood still for {each.seconds:.1f} s, from {each.since - begun:.1f} s on"
    for what, events in (("lost", all_lost(facts)), ("out of order", all_out_of_order(facts))):
        if events:
            yield f"{what}: {', '.join(events[:20])}{', ...' if len(events) > 20 else ''}"


def as_json(facts: Facts) -> str:
    """All facts, for who wants to look closer."""
    queues = {
        name: {"handled": [[each.at, each.value] for each in queue.handled], "given_up": sorted(queue.given_up)}
        for name, queue in facts.queues.items()
    }
    return json.dumps({"confirmed": list(facts.confirmed.items()), "queues": queues, "away": facts.away})
