"""What is done for the handlers that run when partitions move: how long they are waited for, and what is said then."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from eventmicro.broker import Durable
from eventmicro_kafka.consuming.lane import Lane
from eventmicro_kafka.settings import KafkaSettings

log = logging.getLogger(__name__)

# How long a partition of an ordered queue stays for the sake of handlers that run, in seconds: where they have a
# timeout as long as that, and what comes behind it; else so long.
ORDERED_WAIT = 30.0
SETTLING_TIME = 2.0


def time_to_finish(settings: KafkaSettings, durable: Durable) -> float:
    """How long handlers may take to finish before their partitions go to another member, in seconds."""
    if not durable.ordered:
        return settings.rebalance_wait
    longest = ORDERED_WAIT if durable.timeout is None else durable.timeout + SETTLING_TIME
    return max(settings.rebalance_wait, longest)


def warn_of_handlers(queue: str, lanes: Iterable[Lane], waited: float, settings: KafkaSettings, ordered: bool) -> None:
    """Say which partitions move though events of them are still being handled, if any do."""
    busy = sorted((lane.name, count) for lane in lanes if (count := lane.handled()))
    if not busy:  # only copies are on their way to the retry topic
        return
    log.warning(
        "queue %r: its partitions move after %g s of waiting, and handlers are still at work on them; their events may "
        "be handled elsewhere at the same time%s: %s; give the subscriber a timeout, or set rebalance_wait (%g s) to "
        "what its handlers take",
        queue,
        waited,
        ", out of the order that order_by asks for" if ordered else "",
        ", ".join(f"{count} of {name}" for name, count in busy),
        settings.rebalance_wait,
        extra={"queue": queue},
    )
