"""One process of a measurement: `python -m benchmarks.scale.worker ROLE URL NUMBER SECONDS '{"server": PID}'`.

Who serves says "ready", works until its input ends, and says what it counted. All others make the load and say what
they measured. What they say is JSON, one line.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine

from benchmarks.cpu import pin
from benchmarks.load import Result
from benchmarks.scale import choosing, endurance, flood, handlers, topics
from benchmarks.worker import RECEIVING, SENDING, Pids, say

Serve = Callable[[str, int], Coroutine[None, None, Result]]
"""Of the server's URL and how many there are."""
Load = Callable[[str, int, float, Pids], Coroutine[None, None, Result]]
"""Of the same, for how many seconds, and the other processes whose CPU time or memory counts."""

WAITING: dict[str, Serve] = {
    "endpoints": lambda url, number: handlers.serve(handlers.with_endpoints, url, number),
    "subscribers": lambda url, number: handlers.serve(handlers.with_subscribers, url, number),
    "slow endpoint": flood.serve,
}
LOADING: dict[str, Load] = {
    "calls": handlers.call,
    "events": handlers.publish,
    "topics": lambda url, number, seconds, _: topics.publish(url, number, seconds),
    "flood": lambda url, number, _, pids: flood.call(url, number, pids),
    "calls in a row": lambda url, number, _, pids: endurance.call(url, number, pids),
    "events in a row": lambda url, number, _, pids: endurance.publish(url, number, pids),
    "choices": lambda _, number, seconds, __: choosing.choose(number, seconds),
    "counting": lambda _, number, seconds, __: choosing.count(number, seconds),
    "registry": lambda url, number, _, __: choosing.register(url, number),
}


def main(role: str, url: str, number: str, seconds: str = "0", pids: str = "{}") -> None:
    """Play a role."""
    pin(RECEIVING if role in WAITING else SENDING)
    if role in WAITING:
        result = WAITING[role](url, int(number))
    else:
        result = LOADING[role](url, int(number), float(seconds), json.loads(pids))
    say(asyncio.run(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
