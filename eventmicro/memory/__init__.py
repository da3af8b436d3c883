"""A real broker within one process: queue groups, wildcards, calls, and durable queues with redelivery and order.

`broker` is a connection to it, `hub` what all connections to one URL share, `live` and `queue` the two ways to get
messages, `handover` how they reach a consumer.
"""

from __future__ import annotations

from eventmicro.memory.broker import MemoryBroker

__all__ = ["MemoryBroker"]
