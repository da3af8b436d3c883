"""The benchmarks run, check what they count, and write what they say; how fast they are is asserted nowhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.messages import STEP, VARIETY, Tally, orders, readings
from benchmarks.report import summarize, table
from benchmarks.runner import Failed, checked_events, checked_rpc
from benchmarks.variants import EVENTS, MEMORY, RPC, missing

ROOT = Path(__file__).parents[2]
EVERY = {("rpc", name) for name in (*RPC, MEMORY)} | {("events", name) for name in (*EVENTS, MEMORY)}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a quick run writes."""
    file = tmp_path_factory.mktemp("bench") / "quick.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for _, name in EVERY if name not in missing())
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def test_every_variant_is_measured(report: dict[str, Any]) -> None:
    expected = {(what, name) for what, name in EVERY if name not in missing()}
    assert {(run["measure"], run["variant"]) for run in report["runs"]} == expected
    assert {(entry["measure"], entry["variant"]) for entry in report["summary"]} == expected
    assert set(report["missing"]) == set(missing())


def test_every_reply_and_every_event_was_looked_at(report: dict[str, Any]) -> None:
    for run in report["runs"]:
        if run["measure"] == "rpc":
            assert run["checked"] == 1_380
            assert run["messages"] > run["checked"]
            assert run["wrong"] == 0
        else:
            assert run["messages"] > 0
            assert run["received"] == run["messages"]
            assert run["misplaced"] == 0


def test_the_report_has_ratios_to_hand_written_code_and_the_cpu_of_each_process(report: dict[str, Any]) -> None:
    for entry in report["summary"]:
        apart = {"client", "server"} if entry["measure"] == "rpc" else {"publisher", "subscriber"}
        in_memory = entry["variant"] == MEMORY
        assert set(entry["cpu_us"]) == ({"all"} if in_memory else apart | {"nats-server"})
        assert ("per_second / raw" in entry) is not in_memory
    assert {"eventmicro", "nats-py", "pydantic"} <= set(report["packages"])


def test_ratios_are_taken_within_a_round() -> None:
    def run(number: int, variant: str, rate: float) -> dict[str, Any]:
        return {
            "round": number,
            "measure": "events",
            "variant": variant,
            "per_second": rate,
            "cpu_us": {"one": rate, "other": 0},
        }

    rates = {"raw": (100.0, 10.0, 50.0), "eventmicro": (200.0, 30.0, 50.0)}
    runs = [run(number, name, each[number - 1]) for number in (1, 2, 3) for name, each in rates.items()]
    raw, own = summarize(runs)
    assert raw["per_second / raw"] == {"median": 1.0, "min": 1.0, "max": 1.0}
    assert own["per_second / raw"] == {"median": 2.0, "min": 1.0, "max": 3.0}
    assert own["cpu_us_all / raw"] == own["per_second / raw"]
    assert "2.00 [1.00-3.00]" in table([raw, own])


def test_a_wrong_reply_and_a_lost_event_fail_the_run() -> None:
    with pytest.raises(Failed, match="1 of 5 replies"):
        checked_rpc("raw", {"wrong": 1, "messages": 5})
    with pytest.raises(Failed, match="4 of 5 arrived"):
        checked_events("raw", {"received": 4, "messages": 5, "misplaced": 0})
    with pytest.raises(Failed, match="2 misplaced"):
        checked_events("raw", {"received": 5, "messages": 5, "misplaced": 2})


def test_the_tally_reports_each_step_and_sees_what_is_out_of_order() -> None:
    sample = readings()
    tally = Tally()
    reports = [tally.count(reading) for reading in sample[: 2 * STEP]]
    assert [p.received for p in reports if p] == [STEP, 2 * STEP]
    assert tally.misplaced == 0
    tally.count(sample[0])
    assert tally.misplaced == 1


def test_the_messages_are_as_long_as_they_say_and_all_differ() -> None:
    assert {len(order.model_dump_json()) for order in orders()} == {106}
    assert {len(reading.model_dump_json()) for reading in readings()} == {204}
    assert len({order.id for order in orders()}) == len({reading.number for reading in readings()}) == VARIETY
