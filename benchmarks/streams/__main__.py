"""`python -m benchmarks.streams`: streams beside calls and grpc.aio, each in processes of its own, in one run."""

from __future__ import annotations

import argparse
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from benchmarks.load import Result
from benchmarks.report import Column, columns
from benchmarks.runner import GRACE, Failed, said_by, waiting
from benchmarks.servers import Server, server
from benchmarks.streams.worker import MEASURES, VARIANTS
from tests.servers.process import HOST, free_port

COLUMNS: list[Column] = [
    ("", lambda r: r["measure"]),
    ("variant", lambda r: r["variant"]),
    ("messages/s", lambda r: f"{r['per_second']:,.0f}"),
    ("CPU us a message, both ends", lambda r: f"{r['both_us']:.2f}"),
    ("… of the broker", lambda r: f"{r['broker_us']:.2f}" if r["broker_us"] else "-"),
    ("messages a CPU second: x its call", lambda r: f"{r['x_call']:.2f}"),
    ("x grpc.aio", lambda r: f"{r['x_grpc']:.2f}" if r["x_grpc"] else "-"),
    ("messages/s: x its call", lambda r: f"{r['rate_x_call']:.2f}"),
]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each variant runs (3)")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long the timed part of a run takes (2)")
    parser.add_argument("--messages", type=int, default=20_000, help="how many a stream has (20,000)")
    parser.add_argument("--json", type=Path, help="where to write the numbers (nowhere)")
    options = parser.parse_args()
    variants = [name for name in VARIANTS if find_spec("grpc") is not None or "grpc" not in name]
    try:
        results = measure(variants, options.rounds, options.seconds, options.messages)
    except Failed as failure:
        print(f"failed: {failure}", file=sys.stderr)
        return 1
    title = f"Streams of {options.messages:,} readings of 204 bytes, and a call for each"
    print(columns(title, COLUMNS, summarize(results)))
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1))
    return 0


def measure(variants: list[str], rounds: int, seconds: float, messages: int) -> list[Result]:
    """All of it, the variants in turn in each round.

    Raises:
        Failed: a message was lost.
    """
    results: list[Result] = []
    with server("nats") as nats:
        for round_number in range(1, rounds + 1):
            for what in MEASURES:
                for variant in variants:
                    result = run(variant, what, nats, seconds, messages)
                    results.append({"round": round_number, "measure": what, "variant": variant, **result})
                    print(
                        f"round {round_number}: {what:14} {variant:18} {result['per_second']:>9,.0f}/s", file=sys.stderr
                    )
    return results


def run(variant: str, what: str, nats: Server, seconds: float, messages: int) -> Result:
    """One variant doing one thing."""
    over_nats = variant == "eventmicro"
    url = nats.url if over_nats else f"{HOST}:{free_port()}"
    command = [sys.executable, "-m", "benchmarks.streams.worker", variant]
    with waiting([*command, "server", url], f"{variant}: the server") as serving:
        pids = {"server": serving.pid, **(nats.pids if over_nats else {})}
        load = [*command, what, url, str(seconds), str(messages), json.dumps(pids)]
        result = said_by(load, f"{variant}: {what}", 4 * seconds + GRACE)
    if result["wrong"]:
        raise Failed(f"{variant}: {result['wrong']} streams were not whole")
    return result


def summarize(results: list[Result]) -> list[Result]:
    """Medians of each, and medians of the ratios within each round."""
    found = {(r["measure"], r["variant"], r["round"]): r | _cpu(r) for r in results}
    rounds = sorted({r["round"] for r in results})

    def ratio(value: str, one: tuple[str, str], other: tuple[str, str]) -> float:
        pairs = [(found[*one, n][value], found[*other, n][value]) for n in rounds if (*other, n) in found]
        return median(a / b for a, b in pairs) if pairs else 0.0

    summary = []
    for what, variant in dict.fromkeys((r["measure"], r["variant"]) for r in results):
        own, call, rival = (what, variant), ("call", variant), (what, "grpc.aio")
        middle = {
            value: median(found[*own, n][value] for n in rounds) for value in ("per_second", "both_us", "broker_us")
        }
        summary.append(
            {
                "measure": what,
                "variant": variant,
                **middle,
                "x_call": ratio("both_us", call, own),
                "x_grpc": ratio("both_us", rival, own),
                "rate_x_call": ratio("per_second", own, call),
            }
        )
    return summary


def _cpu(result: Result) -> Result:
    cpu = result["cpu_us"]
    return {"both_us": cpu["client"] + cpu["server"], "broker_us": cpu.get("broker", 0.0)}


if __name__ == "__main__":
    sys.exit(main())
