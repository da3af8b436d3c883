"""What is measured, by name. A rival's module is imported only in the processes in which it runs."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from benchmarks.peer import Peer

RPC = {
    "raw": "benchmarks.bench_raw:Raw",
    "faststream": "benchmarks.bench_faststream:FastStream",
    "eventmicro": "benchmarks.bench_eventmicro:EventMicro",
    "eventmicro+mw+di": "benchmarks.bench_eventmicro:WithMiddleware",
    "eventmicro+trace": "benchmarks.bench_eventmicro:WithTrace",
}
EVENTS = {name: path for name, path in RPC.items() if name != "eventmicro+trace"}
# In one process, over memory://; there is no rival beside it.
MEMORY = "eventmicro memory"


def load(variant: str) -> Peer:
    """The peer of a variant."""
    module, _, name = RPC[variant.removesuffix(" memory")].partition(":")
    peer: Peer = getattr(import_module(module), name)()
    return peer


def missing() -> dict[str, str]:
    """The variants that cannot run here, and why."""
    needed = [name for name in ("faststream", "orjson") if find_spec(name) is None]
    return {"faststream": f"pip install {' '.join(needed)}"} if needed else {}
