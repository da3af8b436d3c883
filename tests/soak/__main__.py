"""`python -m tests.soak`: what `make soak` runs. By the environment:

EVENTS: how many events are published to each broker; default 20000.
SEED: of the faults; default: one by chance, which is printed.
BROKERS: some of jetstream, rabbitmq, kafka, with commas between; default: all.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventmicro.running.logs import TextFormatter
from tests.servers import ServerUnavailable
from tests.servers.sharing import KINDS
from tests.soak.plan import Fault, plan
from tests.soak.report import HEAD, all_lost, all_out_of_order, as_json, details, row
from tests.soak.trial import CLUSTERS, Trial

LOGS = Path("build/soak")
log = logging.getLogger("tests.soak")


def main() -> int:
    if sys.argv[1:]:  # it takes none, and is not to run for half an hour for --help
        print(__doc__)
        return 0 if sys.argv[1:] in (["--help"], ["-h"]) else 2
    events = int(os.environ.get("EVENTS") or 20_000)
    seed = int(os.environ.get("SEED") or random.randrange(1000))
    brokers = [name for name in (os.environ.get("BROKERS") or ",".join(CLUSTERS)).split(",") if name]
    if unknown := set(brokers) - CLUSTERS.keys():
        sys.exit(f"BROKERS has {', '.join(sorted(unknown))}; it takes {', '.join(CLUSTERS)}")
    faults = plan(seed, events)
    results = [soak(broker, faults, events, LOGS / f"{broker}-{seed}") for broker in brokers]
    print(f"SEED={seed} EVENTS={events}: {len(faults)} faults; logs are in {LOGS}\n\n{HEAD}")
    for line, _ in results:
        print(line)
    return 0 if all(good for _, good in results) else 1


def soak(broker: str, faults: list[Fault], events: int, folder: Path) -> tuple[str, bool]:
    """Run one broker: its line of the table, and whether all was confirmed, and nothing lost or out of order."""
    trial, whole = Trial(broker, faults, events, folder), False
    with logging_to(folder):
        try:
            asyncio.run(until_told_to_end(trial))
            whole = True
        except ServerUnavailable as reason:
            return f"| {KINDS[broker].title} | skipped: {reason} |", True
        except Exception:
            log.exception("%s: broke off", broker)
        facts = trial.facts
        for line in details(facts):
            log.info("%s", line)
    (folder / "facts.json").write_text(as_json(facts))
    good = whole and len(facts.confirmed) == events and not all_lost(facts) and not all_out_of_order(facts)
    return row(KINDS[broker].title, facts), good


async def until_told_to_end(trial: Trial) -> None:
    """Run it; on SIGTERM, as on Ctrl-C, end in order all that was started."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await trial.run()


@contextmanager
def logging_to(folder: Path) -> Iterator[None]:
    """Let what this process logs go to a file there, and to stderr what goes on."""
    folder.mkdir(parents=True, exist_ok=True)
    file, stderr, root = logging.FileHandler(folder / "soak.log", "w"), logging.StreamHandler(), logging.getLogger()
    stderr.addFilter(logging.Filter(log.name))
    for handler in (file, stderr):
        handler.setFormatter(TextFormatter())
        root.addHandler(handler)
    root.setLevel(logging.INFO)
    log.setLevel(logging.DEBUG)
    stderr.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(file)
        root.removeHandler(stderr)
        file.close()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit("ended before it was done")
