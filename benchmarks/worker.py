"""One process of a measurement: `python -m benchmarks.worker BROKER VARIANT ROLE URL SECONDS '{"server": PID}'`.

A server and a subscriber say "ready", work until their input ends, and say what they counted. All others make the load
and say what they measured. What they say is JSON, one line.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

from benchmarks import durable_load
from benchmarks.cpu import Processes, pin
from benchmarks.garbage import set_aside
from benchmarks.load import Caller, Result, Stream
from benchmarks.messages import Tally
from benchmarks.peer import DurablePeer, Peer
from benchmarks.variants import BACKLOG, DURABLE, FILLER, load, loop_factory

# Who sends runs on the first core, who receives on the second.
SENDING, RECEIVING = 0, 1

Pids = dict[str, int]


async def serve(peer: Peer, url: str) -> Result:
    """The server of the calls."""
    async with peer.server(url):
        await until_input_ends()
    return {}


async def subscribe(peer: Peer, url: str) -> Result:
    """The subscriber to the events."""
    tally = Tally()
    async with peer.subscriber(url, tally):
        await until_input_ends()
    return vars(tally)


async def call(peer: Peer, url: str, seconds: float, pids: Pids) -> Result:
    """The client that makes the calls."""
    async with peer.client(url) as client:
        return await Caller(client).measure(seconds, Processes(pids | {"client": os.getpid()}))


async def publish(peer: Peer, url: str, seconds: float, pids: Pids) -> Result:
    """The publisher of the events."""
    stream = Stream()
    async with peer.publisher(url, stream.hear) as send:
        return await stream.measure(send, seconds, Processes(pids | {"publisher": os.getpid()}))


async def call_in_memory(peer: Peer, url: str, seconds: float, _: Pids) -> Result:
    """Server and client in one process."""
    async with peer.server(url), peer.client(url) as client:
        return await Caller(client).measure(seconds, Processes({"all": os.getpid()}))


async def publish_in_memory(peer: Peer, url: str, seconds: float, _: Pids) -> Result:
    """Subscriber and publisher in one process."""
    stream, tally = Stream(), Tally()
    async with peer.subscriber(url, tally), peer.publisher(url, stream.hear) as send:
        result = await stream.measure(send, seconds, Processes({"all": os.getpid()}))
    return result | vars(tally)


async def until_input_ends() -> None:
    """Say that all is ready, and return when the runner closes our input, or is gone."""
    set_aside()
    say("ready")
    await asyncio.to_thread(sys.stdin.read)


def say(what: Any) -> None:
    """One line of JSON for the runner."""
    print(json.dumps(what), flush=True)


WAITING: dict[str, Callable[[Peer, str], Awaitable[Result]]] = {"server": serve, "subscriber": subscribe}
LOADING: dict[str, Callable[[Peer, str, float, Pids], Awaitable[Result]]] = {
    "client": call,
    "publisher": publish,
    "client in memory": call_in_memory,
    "publisher in memory": publish_in_memory,
}


async def run_durable(
    broker: str, peer: DurablePeer, filler: DurablePeer, role: str, url: str, seconds: float, pids: Pids
) -> Result:
    """One side of durable events, with a topic of its own."""
    store = import_module(f"benchmarks.{broker}.store")
    name = f"bench-{uuid.uuid4().hex[:12]}"
    run = durable_load.Run(peer, filler, store, url, name, Processes(pids | {"client": os.getpid()}))
    if role == "consume":
        return await durable_load.consume(run, BACKLOG[broker] * seconds)
    return await {"publish": durable_load.publish, "publish_many": durable_load.publish_many}[role](run, seconds)


def main(broker: str, variant: str, role: str, url: str, seconds: str = "0", pids: str = "{}") -> None:
    """Play a role."""
    pin(RECEIVING if role in WAITING else SENDING)
    peer = load(broker, variant)
    if broker in DURABLE:
        filler = load(broker, FILLER.get(broker, variant))
        result = run_durable(broker, peer, filler, role, url, float(seconds), json.loads(pids))
    elif role in WAITING:
        result = WAITING[role](peer, url)
    else:
        result = LOADING[role](peer, url, float(seconds), json.loads(pids))
    with asyncio.Runner(loop_factory=loop_factory(variant)) as runner:
        say(runner.run(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
