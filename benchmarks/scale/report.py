"""The measurements as tables."""

from __future__ import annotations

from benchmarks.load import Result
from benchmarks.report import Column, columns

KIB, MIB = 1024, 1024 * 1024
PHASES = ("declare", "start", "stop")

HANDLERS: list[Column] = [
    ("number", lambda r: f"{r['number']:,}"),
    ("declare, start, stop: CPU s", lambda r: ", ".join(f"{r['server'][f'{what}_s']:.2f}" for what in PHASES)),
    ("KiB each at rest, after work", lambda r: _kib(r)),
    ("CPU us a message", lambda r: _cpu(r)),
]
TOPICS: list[Column] = [
    ("number", lambda r: f"{r['number']:,}"),
    ("first event us", lambda r: f"{r['first_us']:.1f}"),
    ("event us", lambda r: f"{r['topic_us']:.1f}"),
    ("on a plain subject us", lambda r: f"{r['subject_us']:.1f}"),
]
FLOOD: list[Column] = [
    ("number", lambda r: f"{r['number']:,}"),
    ("answered", lambda r: f"{r['outcomes']['answered']:,}"),
    ("seconds", lambda r: f"{r['seconds']:.1f}"),
    ("MiB added: client, server", lambda r: f"{r['added'] / MIB:.0f}, {r['server']['added'] / MIB:.0f}"),
    ("CPU us a call", lambda r: _cpu(r)),
]
ENDURANCE: list[Column] = [
    ("number", lambda r: f"{r['messages']:,}"),
    ("MiB after a tenth, half, all of them", lambda r: "; ".join(_memory(*each) for each in r["bytes"].items())),
]
CHOICES: list[Column] = [
    ("nodes", lambda r: f"{r['number']:,}"),
    ("us a choice", lambda r: ", ".join(f"{name} {us:.2f}" for name, us in r["choice_us"].items())),
    ("bytes a node", lambda r: f"{r['bytes_each']:,.0f}" if r["number"] >= 1_000 else "-"),
]
COUNTING: list[Column] = [
    ("handled together", lambda r: f"{r['number']:,}"),
    ("us a message", lambda r: f"{r['counting_us']:.3f}"),
]
REGISTRY: list[Column] = [
    ("services, of 10 nodes each", lambda r: f"{r['number']:,}"),
    ("in memory: us to register, get; list, watch a node", lambda r: _registry(r["memory"])),
    ("on NATS", lambda r: _registry(r["nats"])),
]
TABLES: dict[str, tuple[str, list[Column]]] = {
    "endpoints": ("Endpoints in one service, called in turn, 64 calls in flight", HANDLERS),
    "subscribers": ("Subscribers in one service, their topics published to in turn", HANDLERS),
    "topics": ("Topics published to in turn, by one process, its CPU time", TOPICS),
    "in flight": ("Calls in flight at the same time", FLOOD),
    "in flight, starved": ("The same while others use up the machine", FLOOD),
    "calls in a row": ("Calls in a row, 64 in flight, and the memory of each process", ENDURANCE),
    "events in a row": ("Events in a row, and the memory of each process", ENDURANCE),
    "choices": ("Choosing one of many nodes for a call, CPU time", CHOICES),
    "counting": ("Counting a message in the figures of its handler, CPU time", COUNTING),
    "registry": ("A registry with many services", REGISTRY),
}


def table(results: list[Result]) -> str:
    """The results as text, a table for each measure, without those that failed."""
    return "\n\n".join(
        columns(title, its_columns, rows)
        for measure, (title, its_columns) in TABLES.items()
        if (rows := [r for r in results if r["measure"] == measure and "failed" not in r])
    )


def _kib(result: Result) -> str:
    """Of few handlers nothing can be told: a process grows by whole pages."""
    if result["number"] < 1_000:
        return "-"
    return ", ".join(f"{result['server'][name] / KIB:.1f}" for name in ("bytes_each", "bytes_each_worked"))


def _cpu(result: Result) -> str:
    each = result["cpu_us"]
    return f"{sum(each.values()):.1f}: " + ", ".join(f"{name} {value:.1f}" for name, value in each.items())


def _registry(took: dict[str, float]) -> str:
    return ", ".join(f"{took[f'{what}_us']:.1f}" for what in ("register", "get", "list", "watch"))


def _memory(name: str, looks: list[int]) -> str:
    moments = (len(looks) // 10, len(looks) // 2, -1)
    return f"{name} " + ", ".join(f"{looks[moment] / MIB:.1f}" for moment in moments)
