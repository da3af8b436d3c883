"""What a server says of an ordered queue: who is pinned, and since when it leads the queue, as it then pins anew."""

from __future__ import annotations

from typing import Any

from eventmicro_nats.jetstream.streams import read_time


def pinned(info: dict[str, Any]) -> str:
    """The name of the pin; empty where nobody is pinned."""
    return (info.get("priority_groups") or [{}])[0].get("pinned_client_id") or ""


def counts_all(info: dict[str, Any]) -> bool:
    """Whether it counts all that is delivered and not settled.

    A server that begins to lead a queue says for a moment that nothing is; it takes no request then, and pins nobody.
    """
    return bool(pinned(info) or info.get("num_waiting"))


def led_for(info: dict[str, Any]) -> float | None:
    """For how long it has led the queue, in seconds; None where it does not say, as outside of a cluster."""
    since = (info.get("cluster") or {}).get("leader_since")
    return read_time(info["ts"]) - read_time(since) if since else None
