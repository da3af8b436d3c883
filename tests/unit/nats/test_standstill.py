"""The watchdog of a JetStream queue."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("nats")

from eventmicro_nats.jetstream.durable import gives
from eventmicro_nats.jetstream.standstill import LONGEST, Standstill


def test_it_lasts_where_nothing_moves_that_should() -> None:
    watch = Standstill()
    assert not watch.lasts(True, 3, 0.0)
    assert not watch.lasts(True, 3, LONGEST)
    assert watch.lasts(True, 3, LONGEST + 1)
    assert not watch.lasts(True, 3, LONGEST + 2), "it is told once"
    assert watch.lasts(True, 3, 2 * LONGEST + 3)


@pytest.mark.parametrize(("waits", "progress"), [(False, 3), (True, 4)])
def test_it_ends_with_progress_and_where_nothing_is_waited_for(waits: bool, progress: int) -> None:
    watch = Standstill()
    watch.lasts(True, 3, 0.0)
    assert not watch.lasts(waits, progress, LONGEST + 1)
    assert not watch.lasts(True, progress, 2 * LONGEST)


@pytest.mark.parametrize(
    ("info", "answer"),
    [
        ({"config": {}, "num_ack_pending": 5}, True),
        ({"config": {"max_ack_pending": -1}, "num_ack_pending": 5}, True),
        ({"config": {"max_ack_pending": 6}, "num_ack_pending": 5}, True),
        ({"config": {"max_ack_pending": 5}, "num_ack_pending": 5}, False),
        ({"config": {}, "num_ack_pending": 0, "paused": True}, False),
    ],
)
def test_a_server_that_gives_nothing_just_now_is_not_waited_for(info: dict[str, Any], answer: bool) -> None:
    assert gives(info) is answer
