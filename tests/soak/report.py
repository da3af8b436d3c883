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
    twice = sum(len(doubled(queue)) for queue in facts.queues.values())
    longest = max((each.seconds for each in standstills(facts, 0)), default=0.0)
    counts = [len(facts.confirmed), len(all_lost(facts)), len(all_out_of_order(facts)), twice]
    return f"| {title} | {' | '.join(f'{n:,}' for n in counts)} | {longest:.1f} s | {facts.published_again:,} |"


def all_lost(facts: Facts) -> list[str]:
    """The events that were lost: `queue value`."""
    return [f"{name} {value}" for name, queue in facts.queues.items() for value in sorted(lost(facts, queue))]


def all_out_of_order(facts: Facts) -> list[str]:
    """The events that were handled too late, of the queues that are handled in order: `queue value`."""
    return [f"{name} {value}" for name, queue in facts.queues.items() if queue.ordered for value in out_of_order(queue)]


def details(facts: Facts) -> Iterator[str]:
    """What was seen from each fault to the next, and what was lost and out of order."""
    events = [(each.since, f"{each.queue} stood still for {each.seconds:.1f} s") for each in standstills(facts, LONG)]
    again = {name: [each.at for each in doubled(queue)] for name, queue in facts.queues.items()}
    ends = [since for since, _ in facts.faults[1:]] + [facts.end]
    for (since, fault), until in zip(facts.faults, ends, strict=True):
        seen = [f"{what} after {at - since:.1f} s" for at, what in events if since <= at < until]
        counts = {name: sum(since <= at < until for at in times) for name, times in again.items()}
        seen += [f"{name} handled {count} again" for name, count in counts.items() if count]
        yield f"{fault}: {', '.join(seen) or 'nothing'}"
    for name, queue in facts.queues.items():
        seconds, value = longest_wait(facts, queue)
        yield f"{name}: {len(queue.given_up)} dead letters; the longest wait was that of event {value}, {seconds:.1f} s"
    for what, which in (("lost", all_lost(facts)), ("out of order", all_out_of_order(facts))):
        if which:
            yield f"{what}: {', '.join(which[:20])}{', ...' if len(which) > 20 else ''}"


def as_json(facts: Facts) -> str:
    """All facts, for who wants to look closer."""
    queues = {
        name: {"handled": [[each.at, each.value] for each in queue.handled], "given_up": sorted(queue.given_up)}
        for name, queue in facts.queues.items()
    }
    confirmed = list(facts.confirmed.items())
    return json.dumps({"confirmed": confirmed, "queues": queues, "faults": facts.faults, "away": facts.away})
