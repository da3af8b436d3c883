"""From the single runs to medians and paired ratios, and to a table."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

from benchmarks.durable_load import BATCH
from benchmarks.load import Result

# Others beside whom each variant stands in the same round; the last is ours without anything more.
BASELINES = ("raw", "faststream", "eventmicro")
Summary = dict[str, Any]


def summarize(results: list[Result]) -> list[Summary]:
    """One entry for each measure and variant: medians, and medians of the ratios within each round."""
    keys = dict.fromkeys((r["measure"], r["variant"]) for r in results if r["round"] == 1)
    return [_summary(measure, variant, results) for measure, variant in keys]


def _summary(measure: str, variant: str, results: list[Result]) -> Summary:
    own = _by_round(results, measure, variant)
    summary: Summary = {"measure": measure, "variant": variant}
    for value in ("per_second", "p50_us", "p99_us", "cpu_us_all"):
        if all(value in run for run in own.values()):
            summary[value] = median(run[value] for run in own.values())
    cpu = [run["cpu_us"] for run in own.values()]
    summary["cpu_us"] = {name: median(each[name] for each in cpu) for name in cpu[0]}
    for baseline in BASELINES:
        other = {} if variant.endswith(" memory") else _by_round(results, measure, baseline)
        for value in ("per_second", "p50_us", "cpu_us_all"):
            if value in summary and other:
                summary[f"{value} / {baseline}"] = _ratio(own, other, value)
    return summary


def _by_round(results: list[Result], measure: str, variant: str) -> dict[int, Result]:
    found = {r["round"]: r for r in results if (r["measure"], r["variant"]) == (measure, variant)}
    return {number: run | _cpu_of_all(run["cpu_us"]) for number, run in found.items()}


def _cpu_of_all(cpu: dict[str, float]) -> dict[str, float]:
    """What a message costs in all processes together: the steadiest number where others use the machine too."""
    return {"cpu_us_all": sum(cpu.values())} if cpu else {}


def _ratio(own: dict[int, Result], other: dict[int, Result], value: str) -> dict[str, float]:
    ratios = [own[number][value] / other[number][value] for number in own]
    return {"median": median(ratios), "min": min(ratios), "max": max(ratios)}


Column = tuple[str, Callable[[Summary], str]]

RATE: list[Column] = [
    ("variant", lambda s: s["variant"]),
    ("per second", lambda s: f"{s['per_second']:,.0f}"),
    ("x raw [min-max]", lambda s: _ratio_text(s, "per_second / raw")),
    ("x FastStream [min-max]", lambda s: _ratio_text(s, "per_second / faststream")),
]
PLAIN: list[Column] = [("x plain [min-max]", lambda s: _ratio_text(s, "per_second / eventmicro"))]
LATENCY: list[Column] = [
    ("p50 us", lambda s: f"{s['p50_us']:,.0f}"),
    ("p99 us", lambda s: f"{s['p99_us']:,.0f}"),
    ("p50 x raw", lambda s: _ratio_text(s, "p50_us / raw")),
]
# What is measured with much around it, beside eventmicro as it is.
VARIED = ("rpc", "events")
CPU: list[Column] = [
    ("CPU x raw [min-max]", lambda s: _ratio_text(s, "cpu_us_all / raw")),
    ("CPU us of each process", lambda s: _cpu_text(s)),
]
TITLES = {
    "rpc": "RPC over NATS: 64 in flight; p50 and p99 of calls one by one",
    "events": "Events over NATS: one publisher to one subscriber",
    "jetstream consume": "JetStream: a backlog taken and acknowledged, prefetch 256; rivals fetch 100",
    "rabbitmq consume": "RabbitMQ: a backlog taken and acknowledged, prefetch 256; raw is aio-pika",
    "kafka consume": "Kafka: a backlog taken and committed; raw is getmany(500) and a commit after 1000",
    "jetstream publish": "JetStream: publish with its acknowledgement, 64 in flight",
    "rabbitmq publish": "RabbitMQ: publish with its confirmation, 64 in flight",
    "kafka publish": "Kafka: publish with its acknowledgement, 64 in flight; raw is send_and_wait",
    "jetstream publish_many": f"JetStream: publish {BATCH} at once; raw is publish_async",
    "rabbitmq publish_many": f"RabbitMQ: publish {BATCH} at once",
    "kafka publish_many": f"Kafka: publish {BATCH} at once; raw is send(), FastStream publish_batch",
}


def table(summaries: list[Summary]) -> str:
    """The summaries as text, a table for each measure."""
    return "\n\n".join(
        columns(title, _columns_of(measure), rows)
        for measure, title in TITLES.items()
        if (rows := [s for s in summaries if s["measure"] == measure])
    )


def _columns_of(measure: str) -> list[Column]:
    return [*RATE, *(PLAIN if measure in VARIED else []), *(LATENCY if measure == "rpc" else []), *CPU]


def _ratio_text(summary: Summary, name: str) -> str:
    ratio = summary.get(name)
    return f"{ratio['median']:.2f} [{ratio['min']:.2f}-{ratio['max']:.2f}]" if ratio else "-"


def _cpu_text(summary: Summary) -> str:
    return ", ".join(f"{name} {value:.1f}" for name, value in summary["cpu_us"].items())


def columns(title: str, chosen: list[Column], rows: list[Summary]) -> str:
    """A table of these columns, a line for each row."""
    cells = [[name for name, _ in chosen], *([text(row) for _, text in chosen] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join([title, *lines])
