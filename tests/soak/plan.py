"""Which faults come, in which order, how long each lasts: all by a seed, so that a run can be repeated."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.servers.cluster import NODES

SUBSCRIBERS = 3
# How many events are published, about, while each fault comes once.
ROUND = 10_000
# Each kind of fault, and within which bounds its length is drawn, in seconds.
KINDS = {
    "node killed": (0.0, 8.0),
    "node frozen": (2.0, 15.0),
    "connections cut": (0.0, 5.0),
    "connections silent": (2.0, 12.0),
    "nodes restarted in turn": (0.0, 2.0),
    "two nodes killed": (0.0, 8.0),
    "subscriber killed": (0.0, 5.0),
    "subscriber frozen": (2.0, 20.0),
    "subscriber restarted": (0.0, 0.0),
}


@dataclass(frozen=True)
class Fault:
    """Something that is broken and mended again.

    kind: one of KINDS.
    nodes: which nodes, in this order; of cut and silent connections those behind which they are.
    subscriber: which one, where it is one that is broken.
    seconds: how long until it is mended.
    pace: within how many seconds its share of the events is published, as fast as can be for 0.
    calm: whether all is handled before the next one comes.
    """

    kind: str
    nodes: tuple[int, ...]
    subscriber: int
    seconds: float
    pace: float
    calm: bool

    def __str__(self) -> str:
        if self.kind.startswith("subscriber"):
            return f"{self.kind}: {self.subscriber}, {self.seconds:.1f} s"
        return f"{self.kind}: {', '.join(map(str, self.nodes))}, {self.seconds:.1f} s"


def plan(seed: int, events: int) -> list[Fault]:
    """The faults for so many events: each kind once a round, in an order of the round's own."""
    chance = random.Random(seed)
    faults: list[Fault] = []
    for _ in range(max(1, events // ROUND)):
        faults += [_draw(kind, chance) for kind in chance.sample(list(KINDS), len(KINDS))]
    return faults


def _draw(kind: str, chance: random.Random) -> Fault:
    return Fault(
        kind,
        tuple(chance.sample(range(NODES), _how_many_nodes(kind, chance))),
        chance.randrange(SUBSCRIBERS),
        round(chance.uniform(*KINDS[kind]), 1),
        chance.choice([0.0, 3.0, 10.0]),
        chance.random() < 0.5,
    )


def _how_many_nodes(kind: str, chance: random.Random) -> int:
    if kind.startswith("connections"):
        return chance.choice([1, NODES])
    return {"nodes restarted in turn": NODES, "two nodes killed": 2}.get(kind, 1)
