"""How the figures of nodes look on screens of different widths."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from eventmicro import Unavailable
from eventmicro.cli.discover import _figures, _without_own
from eventmicro.discovery.report import HandlerStatistics, NodeStatistics, at
from eventmicro.registry import NodeRecord

ERROR = "the endpoint failed; the log of its service says why, and here is more of it than fits into a line"
BUSY = HandlerStatistics(
    name="reserve_stock",
    count=1_234_567,
    errors={400: 12, 500: 3},
    seconds=5400.0,
    latency={"0.005": 1_234_000, "more": 567},
    in_flight=17,
    dead_letters=2,
    last_error=ERROR,
)
IDLE = HandlerStatistics(name="packed", count=0)
ONE = NodeStatistics(
    service="warehouse", version="1.0.0", node="warehouse-7f3a9c", started=at(0), endpoints=[BUSY], subscribers=[IDLE]
)


def shown(width: int) -> list[str]:
    answers = [
        (("warehouse", NodeRecord(id="warehouse-7f3a9c")), ONE),
        (("warehouse", NodeRecord(id="warehouse-000000")), Unavailable("nobody serves it")),
    ]
    screen = Console(width=width, file=io.StringIO())
    screen.print(_figures(answers, width))
    assert isinstance(screen.file, io.StringIO)
    return [" ".join(line.split()) for line in screen.file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [80, 100])
def test_on_a_narrow_screen_each_node_has_a_table_of_its_own_in_which_nothing_is_cut_off(width: int) -> None:
    lines = shown(width)
    assert lines[:4] == [
        "warehouse warehouse-7f3a9c",
        "HANDLER COUNT ERRORS MEAN P50 P99 RUNNING LOST",
        "reserve_stock 1234567 400:12 500:3 4.37 ms ≤ 5 ms ≤ 5 ms 17 2 dead",
        "packed 0 0",
    ]
    assert f"reserve_stock: {ERROR}" in " ".join(lines)
    assert lines[-2:] == ["warehouse warehouse-000000", "503 Service Unavailable: nobody serves it"]


def test_on_a_wide_one_each_handler_has_a_line() -> None:
    lines = shown(240)
    assert [line.split()[:3] for line in lines] == [
        ["SERVICE", "NODE", "HANDLER"],
        ["warehouse", "warehouse-7f3a9c", "reserve_stock"],
        ["warehouse", "warehouse-7f3a9c", "packed"],
        ["warehouse", "warehouse-000000", "503"],
    ]
    assert lines[1].endswith(ERROR)


def test_the_endpoints_by_which_a_node_is_asked_are_no_part_of_what_a_service_does() -> None:
    own = [HandlerStatistics(name=name, count=1) for name in ("health", "stats")]
    said = ONE.model_copy(update={"endpoints": [BUSY, *own]})
    assert _without_own(said, set()) == ONE
    kept = _without_own(said, {("warehouse", "health")})  # which the service has itself
    assert isinstance(kept, NodeStatistics)
    assert [each.name for each in kept.endpoints] == ["reserve_stock", "health"]
