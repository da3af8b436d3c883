"""Runs the measurements one after the other, on one NATS server, in processes of their own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.load import Result
from benchmarks.runner import GRACE, Failed, said_by, waiting
from benchmarks.scale.flood import TIMEOUT, starved
from benchmarks.servers import Server, server

# For how many messages a second, at least, a run is waited for.
SLOWEST = 1_000


@dataclass(frozen=True)
class Plan:
    """How much of each there is: handlers, topics, calls in flight, messages in a row, nodes to choose from, messages
    that are handled together, services in a registry, others on each core of a starved machine; and seconds of a timed
    part."""

    seconds: float = 2.0
    handlers: tuple[int, ...] = (1, 100, 1_000, 10_000)
    topics: tuple[int, ...] = (10, 1_000, 10_000, 100_000)
    in_flight: int = 10_000
    messages: int = 2_000_000
    nodes: tuple[int, ...] = (10, 1_000, 10_000)
    together: tuple[int, ...] = (1, 64)
    services: int = 1_000
    others: int = 4


QUICK = Plan(0.1, (1, 100), (10, 1_000), 500, 10_000, (10, 100), (1,), 10, 1)

Tell = Callable[[str], None]


def measure(plan: Plan, tell: Tell) -> list[Result]:
    """Measure all of it; where something was answered wrongly, lost or warned of, the result says so as `failed`.

    Raises:
        ServerUnavailable: there is no server to measure.
    """
    results: list[Result] = []
    with server("nats") as nats:
        for what, number, run in steps(plan, nats):
            tell(f"{what}: {number:,}")
            result: Result = {"measure": what, "number": number}
            results.append(result)
            try:
                result |= run()
                checked(what, result)
            except Failed as failure:
                result["failed"] = str(failure)
                tell(f"failed: {failure}")
    return results


def steps(plan: Plan, nats: Server) -> list[tuple[str, int, Callable[[], Result]]]:
    """What is measured, of how many, and how."""

    def step(what: str, number: int, run: Callable[..., Result], *arguments: Any) -> Any:
        return what, number, lambda: run(nats, *arguments, number, plan.seconds)

    return [
        *(step("endpoints", number, run_both, "endpoints", "calls") for number in plan.handlers),
        *(step("subscribers", number, run_both, "subscribers", "events") for number in plan.handlers),
        *(step("topics", number, run_one, "topics") for number in plan.topics),
        step("in flight", plan.in_flight, run_both, "slow endpoint", "flood"),
        (
            "in flight, starved",
            plan.in_flight,
            lambda: run_both(nats, "slow endpoint", "flood", plan.in_flight, plan.seconds, others=plan.others),
        ),
        ("calls in a row", plan.messages, lambda: run_both(nats, "endpoints", "calls in a row", 1, 0, plan.messages)),
        (
            "events in a row",
            plan.messages,
            lambda: run_both(nats, "subscribers", "events in a row", 1, 0, plan.messages),
        ),
        *(step("choices", number, run_one, "choices") for number in plan.nodes),
        *(step("counting", number, run_one, "counting") for number in plan.together),
        ("registry", plan.services, lambda: run_on_jetstream("registry", plan.services, plan.seconds)),
    ]


def run_both(
    nats: Server, serving: str, loading: str, number: int, seconds: float, messages: int | None = None, others: int = 0
) -> Result:
    """One process serves so many, and another one makes the load, beside so many others on each core; what both say."""
    with waiting(command(serving, nats, number), f"{number} {serving}") as process:
        pids = {"server": process.pid, **nats.pids}
        with starved(others):
            result = run_one(nats, loading, messages or number, seconds, pids)
        result["server"] = json.loads(process.communicate(timeout=GRACE)[0])
    return result


def run_on_jetstream(role: str, number: int, seconds: float) -> Result:
    """The same as `run_one`, on a server that stores."""
    with server("jetstream") as storing:
        return run_one(storing, role, number, seconds)


def run_one(nats: Server, role: str, number: int, seconds: float, pids: dict[str, int] | None = None) -> Result:
    """One process makes a load; what it says."""
    load = [*command(role, nats, number), str(seconds), json.dumps(pids or {})]
    return said_by(load, f"{number} {role}", 4 * seconds + number / SLOWEST + TIMEOUT + GRACE)


def command(role: str, nats: Server, number: int) -> list[str]:
    """How a process of a measurement is started."""
    return [sys.executable, "-m", "benchmarks.scale.worker", role, nats.url, str(number)]


def checked(what: str, result: Result) -> Result:
    """The result, if nothing in it is wrong."""
    server = result.get("server", {})
    said = result.get("said", []) + server.get("said", [])
    if said:
        raise Failed(f"{what}: {len(said)} warnings, the first is: {said[0]}")
    if result.get("wrong"):
        raise Failed(f"{what}: {result['wrong']} replies belong to other requests")
    takes_events = what in ("subscribers", "events in a row")
    if takes_events and (server["received"] != result["messages"] or server["misplaced"]):
        raise Failed(f"{what}: {server['received']} of {result['messages']} arrived, {server['misplaced']} misplaced")
    if (outcomes := result.get("outcomes", {"answered": 1})).keys() != {"answered"}:
        raise Failed(f"{what}: {outcomes}")
    return result
