"""Runs the variants against each other: on one server of each broker, in processes of their own, in rounds."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from benchmarks import variants
from benchmarks.load import Result
from benchmarks.servers import Server, server

# How much longer than its timed parts a process may take, in seconds.
GRACE = 180.0


class Failed(Exception):
    """A variant gave a wrong answer, lost or misplaced an event, or did not run."""


@dataclass(frozen=True)
class Measure:
    """Something that is measured of some variants.

    name: what it is called in the results.
    run: runs it once, for a variant on a server, for so many seconds.
    check: the result, if nothing in it is wrong.
    variants: those that it is measured of.
    """

    name: str
    run: Callable[[str, Server, float], Result]
    check: Callable[[str, Result], Result]
    variants: list[str]


def rounds(broker: str, number: int, seconds: float, chosen: list[str], tell: Callable[[str], None]) -> list[Result]:
    """Measure every chosen variant once a round; every other round in reverse order, so that drift hits all alike.

    Raises:
        Failed: a result is wrong.
        ServerUnavailable: there is no server to measure.
    """
    plan = [(measure, variant) for measure in measures(broker) for variant in measure.variants if variant in chosen]
    results: list[Result] = []
    with server(broker) as running:
        for round_number in range(1, number + 1):
            for measure, variant in plan if round_number % 2 else reversed(plan):
                result = measure.check(variant, measure.run(variant, running, seconds))
                results.append({"round": round_number, "measure": measure.name, "variant": variant, **result})
                tell(f"round {round_number}: {measure.name:22} {variant:18} {result['per_second']:>9,.0f}/s")
    return results


def measures(broker: str) -> list[Measure]:
    """What is measured on a broker."""
    if broker == "nats":
        return [
            Measure("rpc", run_rpc, checked_rpc, list(variants.RPC)),
            Measure("events", run_events, checked_events, list(variants.EVENTS)),
            Measure("rpc", run_rpc_in_memory, checked_rpc, [variants.MEMORY]),
            Measure("events", run_events_in_memory, checked_events, [variants.MEMORY]),
        ]
    return [durable_measure(broker, what) for what in ("consume", "publish", "publish_many")]


def run_rpc(variant: str, nats: Server, seconds: float) -> Result:
    """A client calls a server."""
    with worker("nats", variant, "server", nats.url) as answering:
        return run_load("nats", variant, "client", nats.url, seconds, {"server": answering.pid, **nats.pids})


def run_events(variant: str, nats: Server, seconds: float) -> Result:
    """A publisher publishes to a subscriber."""
    with worker("nats", variant, "subscriber", nats.url) as subscriber:
        pids = {"subscriber": subscriber.pid, **nats.pids}
        result = run_load("nats", variant, "publisher", nats.url, seconds, pids)
        tally = json.loads(subscriber.communicate(timeout=GRACE)[0])
    return result | tally


def run_rpc_in_memory(variant: str, _: Server, seconds: float) -> Result:
    """Both sides of the calls in one process."""
    return run_load("nats", variant, "client in memory", "memory://", seconds, {})


def run_events_in_memory(variant: str, _: Server, seconds: float) -> Result:
    """Both sides of the events in one process."""
    return run_load("nats", variant, "publisher in memory", "memory://", seconds, {})


def durable_measure(broker: str, what: str) -> Measure:
    """One side of durable events: `consume`, `publish` or `publish_many`."""

    def run(variant: str, running: Server, seconds: float) -> Result:
        return run_load(broker, variant, what, running.url, seconds, running.pids)

    check = checked_consume if what == "consume" else checked_publish
    return Measure(f"{broker} {what}", run, check, list(variants.DURABLE[broker]))


def checked_rpc(variant: str, result: Result) -> Result:
    """The result, if every reply was the one to its request."""
    if result["wrong"]:
        raise Failed(f"{variant}: {result['wrong']} of {result['messages']} replies belong to other requests")
    return result


def checked_events(variant: str, result: Result) -> Result:
    """The result, if every event arrived once, the first ones in their order."""
    if result["received"] != result["messages"] or result["misplaced"]:
        raise Failed(
            f"{variant}: {result['received']} of {result['messages']} arrived, {result['misplaced']} misplaced"
        )
    return result


def checked_consume(variant: str, result: Result) -> Result:
    """The result, if every event of the backlog was taken once and acknowledged."""
    if result["received"] != result["messages"] or result["wrong"] or result["unsettled"]:
        raise Failed(
            f"{variant}: {result['received']} of {result['messages']} were taken,"
            f" {'some' if result['wrong'] else 'none'} instead of others, {result['unsettled']} are not acknowledged"
        )
    return result


def checked_publish(variant: str, result: Result) -> Result:
    """The result, if the broker has stored all that was confirmed."""
    if result["stored"] != result["messages"]:
        raise Failed(f"{variant}: {result['messages']} were confirmed and {result['stored']} stored")
    return result


def worker(broker: str, variant: str, role: str, url: str) -> AbstractContextManager[subprocess.Popen[str]]:
    """A process that is ready to receive; it ends when its input is closed."""
    return waiting(command(broker, variant, role, url), f"{variant}: the {role}")


@contextmanager
def waiting(command: list[str], what: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has said that it is ready; it ends when its input is closed."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != '"ready"\n':
            raise Failed(f"{what} did not start")
        yield process
        if process.poll() is None:
            process.communicate(timeout=GRACE)
        if process.returncode:
            raise Failed(f"{what} failed")
    finally:
        process.kill()
        process.wait()


def run_load(broker: str, variant: str, role: str, url: str, seconds: float, pids: dict[str, int]) -> Result:
    """Run the process that measures, and return what it says."""
    load = [*command(broker, variant, role, url), str(seconds), json.dumps(pids)]
    return said_by(load, f"{variant}: {broker} {role}", 2 * seconds + GRACE)


def said_by(command: list[str], what: str, timeout: float) -> Result:
    """What a process says at its end, which comes within so many seconds."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=timeout)
    if done.returncode:
        raise Failed(f"{what} failed")
    result: Result = json.loads(done.stdout)
    return result


def command(broker: str, variant: str, role: str, url: str) -> list[str]:
    """How a process of a measurement is started."""
    return [sys.executable, "-m", "benchmarks.worker", broker, variant, role, url]
