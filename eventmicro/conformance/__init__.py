"""The conformance suite of the broker port: what every adapter must do, ours and anybody's.

    import asyncio, pytest
    from eventmicro import conformance

    @pytest.mark.parametrize("case", conformance.cases(PulsarBroker.capabilities), ids=str)
    def test_conformance(case):
        asyncio.run(case.run(lambda: PulsarBroker("pulsar://127.0.0.1:6650")))

The function makes a new, unconnected Broker at each call, all of one server; the cases use subjects of their own, so
they may run in parallel on it. A case that fails raises AssertionError, or TimeoutError where something never happened.
"""

from __future__ import annotations

import eventmicro.conformance.promises  # noqa: F401  it adds its cases to the suite
from eventmicro.conformance.bench import Bench, Case, Inbox, MakeBroker, cases, listen, send

__all__ = ["Bench", "Case", "Inbox", "MakeBroker", "cases", "listen", "send"]
