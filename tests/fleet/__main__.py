"""`python -m tests.fleet`: what `make fleet` runs. By the environment:

EVENTS: how many events are published on each broker; default 100000.
KILLS: how many members are killed on each; default 40.
SEED: of the kills; default: one by chance, which is printed.
BROKERS: some of jetstream, rabbitmq, kafka, with commas between; default: all.
"""

from __future__ import annotations

import os
import random
import secrets
import sys
from pathlib import Path

from tests.fleet.fleet import Fleet
from tests.servers import ServerUnavailable
from tests.servers.sharing import KINDS

BROKERS = "jetstream,rabbitmq,kafka"
LOGS = Path("build/fleet")


def main() -> int:
    if sys.argv[1:]:
        print(__doc__)
        return 0 if sys.argv[1:] in (["--help"], ["-h"]) else 2
    events, kills = int(os.environ.get("EVENTS") or 100_000), int(os.environ.get("KILLS") or 40)
    seed = int(os.environ.get("SEED") or random.randrange(1000))
    print(f"SEED={seed} EVENTS={events} KILLS={kills}; logs are in {LOGS}")
    print("| broker | consumer | got | missing | twice | killed | from |\n| --- | --- | --- | --- | --- | --- | --- |")
    good = [run(broker, events, kills, seed) for broker in (os.environ.get("BROKERS") or BROKERS).split(",")]
    return 0 if all(good) else 1


def run(broker: str, events: int, kills: int, seed: int) -> bool:
    """Run the fleet on one broker: whether all has come to all."""
    try:
        with KINDS[broker].server() as server:
            scheme, address = KINDS[broker].scheme, server.url.partition(":")[2]
            subject = f"fleet-{secrets.token_hex(3)}"
            fleet = Fleet(broker, f"{scheme}:{address}", subject, events, kills, seed, LOGS / broker)
            fleet.run()
    except ServerUnavailable as reason:
        print(f"| {broker} | skipped: {reason} |")
        return True
    for each in fleet.consumers:
        counted = each.counted
        by = ", ".join(f"{name} {count}" for name, count in sorted(counted.by.items()))
        got = len(counted.numbers)
        print(f"| {broker} | {each.flavour} | {got} | {events - got} | {counted.twice} | {each.kills} | {by} |")
    killed = ", ".join(f"{each.flavour} {each.kills}" for each in fleet.publishers)
    print(f"{broker}: {fleet.seconds:.0f} s; publishers killed: {killed}", flush=True)
    return not fleet.missing() and not any(each.counted.wrong for each in fleet.consumers)


if __name__ == "__main__":
    sys.exit(main())
