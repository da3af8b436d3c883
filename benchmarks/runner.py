"""Runs the variants against each other: each with a nats-server and processes of its own, in rounds."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eventmicro_nats.embedded import EmbeddedServer

from benchmarks import variants
from benchmarks.load import Result

# How much longer than its timed parts a process may take, in seconds.
GRACE = 60.0

Run = Callable[[str, float], Result]


class Failed(Exception):
    """A variant gave a wrong answer, lost or misplaced an event, or did not run."""


def rounds(number: int, seconds: float, chosen: list[str], tell: Callable[[str], None]) -> list[Result]:
    """Measure every chosen variant once a round; every other round in reverse order, so that drift hits all alike."""
    plan = [(what, run, variant) for what, run, all_variants in PLAN for variant in all_variants if variant in chosen]
    results: list[Result] = []
    for round_number in range(1, number + 1):
        for what, run, variant in plan if round_number % 2 else reversed(plan):
            result = run(variant, seconds)
            results.append({"round": round_number, "measure": what, "variant": variant, **result})
            tell(f"round {round_number}: {what:6} {variant:18} {result['per_second']:>9,.0f}/s")
    return results


def run_rpc(variant: str, seconds: float) -> Result:
    """A client calls a server."""
    with nats_server() as nats, worker(variant, "server", nats.url) as server:
        result = run_load(variant, "client", nats.url, seconds, {"server": server.pid, "nats-server": nats.pid})
    return checked_rpc(variant, result)


def run_events(variant: str, seconds: float) -> Result:
    """A publisher publishes to a subscriber."""
    with nats_server() as nats, worker(variant, "subscriber", nats.url) as subscriber:
        pids = {"subscriber": subscriber.pid, "nats-server": nats.pid}
        result = run_load(variant, "publisher", nats.url, seconds, pids)
        tally = json.loads(subscriber.communicate(timeout=GRACE)[0])
    return checked_events(variant, result | tally)


def run_rpc_in_memory(variant: str, seconds: float) -> Result:
    """Both sides of the calls in one process."""
    return checked_rpc(variant, run_load(variant, "client in memory", "memory://", seconds))


def run_events_in_memory(variant: str, seconds: float) -> Result:
    """Both sides of the events in one process."""
    return checked_events(variant, run_load(variant, "publisher in memory", "memory://", seconds))


PLAN: list[tuple[str, Run, list[str]]] = [
    ("rpc", run_rpc, list(variants.RPC)),
    ("events", run_events, list(variants.EVENTS)),
    ("rpc", run_rpc_in_memory, [variants.MEMORY]),
    ("events", run_events_in_memory, [variants.MEMORY]),
]


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


@contextmanager
def nats_server() -> Iterator[EmbeddedServer]:
    """A fresh nats-server on a free port of this machine."""
    with tempfile.TemporaryDirectory(prefix="eventmicro-bench-") as folder:
        server = EmbeddedServer(Path(folder) / "nats")
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def worker(variant: str, role: str, url: str) -> Iterator[subprocess.Popen[str]]:
    """A process that is ready to receive; it ends when its input is closed."""
    process = subprocess.Popen(command(variant, role, url), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != '"ready"\n':
            raise Failed(f"{variant}: the {role} did not start")
        yield process
        if process.poll() is None:
            process.communicate(timeout=GRACE)
        if process.returncode:
            raise Failed(f"{variant}: the {role} failed")
    finally:
        process.kill()
        process.wait()


def run_load(variant: str, role: str, url: str, seconds: float, pids: dict[str, int] | None = None) -> Result:
    """Run the process that sends, and return what it measured."""
    done = subprocess.run(
        [*command(variant, role, url), str(seconds), json.dumps(pids or {})],
        stdout=subprocess.PIPE,
        text=True,
        timeout=2 * seconds + GRACE,
    )
    if done.returncode:
        raise Failed(f"{variant}: the {role} failed")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def command(variant: str, role: str, url: str) -> list[str]:
    """How a process of a measurement is started."""
    return [sys.executable, "-m", "benchmarks.worker", variant, role, url]
