"""The benchmarks run, check what they count, and write what they say; how fast they are is asserted nowhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.messages import STEP, VARIETY, Backlog, Tally, orders, readings
from benchmarks.report import TITLES, summarize, table
from benchmarks.runner import Failed, checked_consume, checked_events, checked_publish, checked_rpc
from benchmarks.scale.report import TABLES
from benchmarks.scale.runner import checked
from benchmarks.streams.worker import MEASURES
from benchmarks.streams.worker import VARIANTS as STREAM_VARIANTS
from benchmarks.variants import DURABLE, EVENTS, MEMORY, RPC, missing
from eventmicro.discovery.strategies import STRATEGIES

ROOT = Path(__file__).parents[2]
EVERY = {("rpc", name) for name in (*RPC, MEMORY)} | {("events", name) for name in (*EVENTS, MEMORY)}


def quick(folder: Path, *options: str, **environment: str) -> tuple[dict[str, Any], str]:
    """What a quick run writes, and what it prints."""
    file = folder / "quick.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", *options, "--json", str(file)]
    env = {**os.environ, **environment}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(file.read_text()), done.stdout


def test_every_variant_is_measured_and_everything_in_it_looked_at(tmp_path: Path) -> None:
    report, printed = quick(tmp_path, "--brokers", "nats", EVENTMICRO_TEST_NATS_URL="")  # one of its own
    assert all(name in printed for _, name in EVERY if name not in missing())
    expected = {(what, name) for what, name in EVERY if name not in missing()}
    assert {(run["measure"], run["variant"]) for run in report["runs"]} == expected
    assert {(entry["measure"], entry["variant"]) for entry in report["summary"]} == expected
    assert set(report["missing"]) == set(missing())
    for run in report["runs"]:
        if run["measure"] == "rpc":
            assert run["checked"] == 1_380
            assert run["messages"] > run["checked"]
            assert run["wrong"] == 0
        else:
            assert run["messages"] > 0
            assert run["received"] == run["messages"]
            assert run["misplaced"] == 0
    for entry in report["summary"]:
        apart = {"client", "server"} if entry["measure"] == "rpc" else {"publisher", "subscriber"}
        in_memory = entry["variant"] == MEMORY
        assert set(entry["cpu_us"]) == ({"all"} if in_memory else apart | {"broker"})
        assert ("per_second / raw" in entry) is not in_memory
    assert {"eventmicro", "nats-py", "pydantic"} <= set(report["packages"])


@pytest.mark.parametrize("broker", DURABLE)
def test_durable_events_are_all_stored_taken_and_settled(
    broker: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = request.getfixturevalue(f"{broker}_url")
    report, printed = quick(tmp_path, "--brokers", broker, **{f"EVENTMICRO_TEST_{broker.upper()}_URL": url})
    measures = [f"{broker} {what}" for what in ("consume", "publish", "publish_many")]
    expected = {(measure, name) for measure in measures for name in DURABLE[broker] if name not in missing()}
    assert {(run["measure"], run["variant"]) for run in report["runs"]} == expected
    for run in report["runs"]:
        assert run["messages"] > 0
        if run["measure"] == measures[0]:
            assert (run["received"], run["wrong"], run["unsettled"]) == (run["messages"], 0, 0)
        else:
            assert run["stored"] == run["messages"]
    for entry in report["summary"]:
        assert set(entry["cpu_us"]) == {"client"}  # the server is not ours
        assert {"per_second / raw", "cpu_us_all / raw"} <= set(entry)
    assert all(TITLES[measure] in printed for measure in measures)


def test_what_very_many_cost_is_measured_and_nothing_of_it_lost(tmp_path: Path) -> None:
    report, printed = quick(tmp_path, "--scale", EVENTMICRO_TEST_NATS_URL="")
    assert {run["measure"] for run in report["runs"]} == set(TABLES)
    assert all(title in printed for title, _ in TABLES.values())
    for run in report["runs"]:
        if run["measure"] in ("endpoints", "subscribers"):
            assert {"start_s", "stop_s", "bytes_each"} <= set(run["server"])
            assert set(run["cpu_us"]) >= {"server", "broker"}
        elif run["measure"].startswith("in flight"):
            assert run["outcomes"] == {"answered": run["number"]}
        elif run["measure"].endswith("in a row"):
            assert run["messages"] >= run["number"]
            assert {"server", "broker"} < set(run["bytes"])
        elif run["measure"] == "choices":
            assert set(run["choice_us"]) == set(STRATEGIES)
        elif run["measure"] == "counting":
            assert run["counting_us"] > 0
        elif run["measure"] == "registry":
            assert set(run["memory"]) == set(run["nats"]) == {f"{w}_us" for w in ("register", "get", "list", "watch")}


@pytest.mark.parametrize(
    ("what", "wrong", "why"),
    [
        ("endpoints", {"wrong": 1}, "1 replies belong to other requests"),
        ("endpoints", {"server": {"said": ["left without the server's answer"]}}, "1 warnings, the first is: left"),
        ("subscribers", {"server": {"received": 4, "misplaced": 0}}, "4 of 5 arrived"),
        ("events in a row", {"server": {"received": 5, "misplaced": 1}}, "1 misplaced"),
        ("in flight", {"outcomes": {"answered": 4, "CallTimeout": 1}}, "CallTimeout"),
        ("in flight, starved", {"said": ["connection lost"]}, "connection lost"),
    ],
)
def test_very_many_of_which_one_goes_wrong_fail_the_run(what: str, wrong: dict[str, Any], why: str) -> None:
    right = {"messages": 5, "server": {"received": 5, "misplaced": 0, "said": []}, "said": [], "wrong": 0}
    assert checked(what, right) == right
    with pytest.raises(Failed, match=why):
        checked(what, right | wrong)


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


@pytest.mark.parametrize("wrong", [{"received": 4}, {"received": 6}, {"wrong": 1}, {"unsettled": 1}])
def test_a_backlog_that_is_not_taken_once_and_settled_fails_the_run(wrong: dict[str, int]) -> None:
    right = {"messages": 5, "received": 5, "wrong": 0, "unsettled": 0}
    assert checked_consume("raw", right) == right
    with pytest.raises(Failed):
        checked_consume("raw", right | wrong)


def test_an_event_that_was_confirmed_and_is_not_stored_fails_the_run() -> None:
    with pytest.raises(Failed, match="5 were confirmed and 4 stored"):
        checked_publish("raw", {"messages": 5, "stored": 4})


def test_a_backlog_knows_which_readings_were_taken_and_tells_the_moments() -> None:
    moments: list[int] = []
    backlog = Backlog({2: lambda: moments.append(2), 3: lambda: moments.append(3)})
    for reading in readings()[:3]:
        backlog.take(reading)
    assert moments == [2, 3]
    assert (backlog.received, backlog.numbers) == (3, sum(reading.number for reading in readings()[:3]))


def test_streams_are_measured_beside_calls_and_their_rivals(tmp_path: Path) -> None:
    file = tmp_path / "streams.json"
    short = ["--rounds", "1", "--seconds", "0.05", "--messages", "2000"]
    command = [sys.executable, "-m", "benchmarks.streams", *short, "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    runs = json.loads(file.read_text())
    assert {(run["measure"], run["variant"]) for run in runs} == {(m, v) for m in MEASURES for v in STREAM_VARIANTS}
    for run in runs:
        assert run["messages"] > 0
        assert run["wrong"] == 0
        assert {"client", "server"} <= set(run["cpu_us"])
    assert all(name in done.stdout for name in (*MEASURES, *STREAM_VARIANTS))


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
