"""The conformance suite of the broker port: what every adapter must do, ours and anybody's.

    import asyncio, pytest
    from eventmicro import conformance

    @pytest.mark.parametrize("case", conformance.cases(PulsarBroker.capabilities), ids=str)
    def test_conformance(case):
        asyncio.run(case.run(lambda: PulsarBroker("pulsar://127.0.0.1:6650?lease=1s")))

    def test_what_is_declared_is_proved():
        assert conformance.unproved(PulsarBroker.capabilities) == []

The function makes a new, unconnected Broker at each call, all of one server; the cases use subjects of their own, so
they may run in parallel on it. Where the broker has a lease that runs out, make it as short as it can be: then the
cases see whether the adapter extends it. A case that fails raises AssertionError, or TimeoutError where something
never happened; one that passes returns an Outcome, which counts what came twice.

With a server that the suite may kill and start, also what must survive that is tried:

    conformance.cases(PulsarBroker.capabilities, restartable=True)
    case.run(make_broker, server=my_server)

What a broker does not declare is asked for as well, and must be refused by Unsupported.

Registries have a suite of their own, of the same kind, and codecs have one: `registry_cases`, `codec_cases`.

Fifteen of Watermill's cases are among them, by number; its twelfth, of contexts, concerns handlers and not the port.
"""

from __future__ import annotations

# A chapter adds its cases to the suite when it is imported.
import eventmicro.conformance.bounded
import eventmicro.conformance.connection
import eventmicro.conformance.declarations
import eventmicro.conformance.durable
import eventmicro.conformance.live
import eventmicro.conformance.objects
import eventmicro.conformance.order
import eventmicro.conformance.publishing
import eventmicro.conformance.replay
import eventmicro.conformance.requests
import eventmicro.conformance.restart
import eventmicro.conformance.retries
import eventmicro.conformance.settling
import eventmicro.conformance.states
import eventmicro.conformance.together
import eventmicro.conformance.transactions  # noqa: F401
from eventmicro.conformance.bench import MakeBroker, Outcome, Server
from eventmicro.conformance.case import Case, cases, unproved
from eventmicro.conformance.codecs import CodecCase, codec_cases
from eventmicro.conformance.registries import RegistryCase, registry_cases
from eventmicro.conformance.registry_bench import MakeRegistry

__all__ = [
    "Case",
    "CodecCase",
    "MakeBroker",
    "MakeRegistry",
    "Outcome",
    "RegistryCase",
    "Server",
    "cases",
    "codec_cases",
    "registry_cases",
    "unproved",
]
