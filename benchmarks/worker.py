"""One process of a measurement: `python -m benchmarks.worker VARIANT ROLE URL SECONDS '{"server": PID}'`.

A server and a subscriber say "ready", work until their input ends, and say what they counted. A client and a publisher
make the load and say what they measured. What they say is JSON, one line.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from benchmarks.cpu import Processes, pin
from benchmarks.load import Caller, Stream
from benchmarks.messages import Tally
from benchmarks.peer import Peer
from benchmarks.variants import load

# Who sends runs on the first core, who receives on the second.
SENDING, RECEIVING = 0, 1


def say(what: Any) -> None:
    """One line of JSON for the runner."""
    print(json.dumps(what), flush=True)


async def serve(peer: Peer, url: str) -> None:
    """The server of the calls."""
    pin(RECEIVING)
    async with peer.server(url):
        await until_input_ends()
    say({})


async def subscribe(peer: Peer, url: str) -> None:
    """The subscriber to the events."""
    pin(RECEIVING)
    tally = Tally()
    async with peer.subscriber(url, tally):
        await until_input_ends()
    say(vars(tally))


async def call(peer: Peer, url: str, seconds: float, pids: dict[str, int]) -> None:
    """The client that makes the calls."""
    pin(SENDING)
    async with peer.client(url) as client:
        say(await Caller(client).measure(seconds, Processes(pids | {"client": os.getpid()})))


async def publish(peer: Peer, url: str, seconds: float, pids: dict[str, int]) -> None:
    """The publisher of the events."""
    pin(SENDING)
    stream = Stream()
    async with peer.publisher(url, stream.hear) as send:
        say(await stream.measure(send, seconds, Processes(pids | {"publisher": os.getpid()})))


async def call_in_memory(peer: Peer, url: str, seconds: float, _: dict[str, int]) -> None:
    """Server and client in one process."""
    pin(SENDING)
    async with peer.server(url), peer.client(url) as client:
        say(await Caller(client).measure(seconds, Processes({"all": os.getpid()})))


async def publish_in_memory(peer: Peer, url: str, seconds: float, _: dict[str, int]) -> None:
    """Subscriber and publisher in one process."""
    pin(SENDING)
    stream, tally = Stream(), Tally()
    async with peer.subscriber(url, tally), peer.publisher(url, stream.hear) as send:
        result = await stream.measure(send, seconds, Processes({"all": os.getpid()}))
    say(result | vars(tally))


async def until_input_ends() -> None:
    """Say that all is ready, and return when the runner closes our input, or is gone."""
    say("ready")
    await asyncio.to_thread(sys.stdin.read)


WAITING = {"server": serve, "subscriber": subscribe}
LOADING = {
    "client": call,
    "publisher": publish,
    "client in memory": call_in_memory,
    "publisher in memory": publish_in_memory,
}


def main(variant: str, role: str, url: str, seconds: str = "0", pids: str = "{}") -> None:
    """Play a role."""
    if role in WAITING:
        asyncio.run(WAITING[role](load(variant), url))
    else:
        asyncio.run(LOADING[role](load(variant), url, float(seconds), json.loads(pids)))


if __name__ == "__main__":
    main(*sys.argv[1:])
