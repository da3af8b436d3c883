"""Stubs: a contract as its caller asks for it, and by which words."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, Unpack

from eventmicro.errors import UsageError
from eventmicro.rpc.calls import CallsEndpoints, CallWords

if TYPE_CHECKING:
    from eventmicro.contracts.contract import Contract

C = TypeVar("C", bound="Contract")


class StubWords(CallWords, total=False):
    """How a stub calls; see `MakesStubs.stub`."""

    service: str
    keep_alive: float


class MakesStubs(CallsEndpoints):
    """Whoever calls by contracts: a Client, a Service."""

    def stub(self, contract: Callable[..., C], **how: Unpack[StubWords]) -> C:
        """An object with the methods of a contract, each of which calls its endpoint; to be kept, or made for one call.

            orders = client.stub(Orders)
            quote = await orders.quote(QuoteRequest(sku="tea"))
            price = await orders.price("tea", quantity=2)
            async for quote in orders.watch(Watch(sku="tea")): ...
            quote = await client.stub(Orders, timeout=0.5).quote(QuoteRequest(sku="tea"))

        A method that takes a stream is given an async iterator, which is read while its reply is waited for, and closed
        where that comes first, or an error does. Errors are those of `call` and `stream`.

        Args:
            contract: a class with the base Contract.
            service: the service that is called; default: the contract's.
            timeout: how long each call may take, in seconds; default: what the contract says of the method, or else the
                client's. A stream: how long it may last as a whole; default: as long as both sides want.
            retry, hedge, idempotent, large, patience: as for `call`, and for calls alone; a hedge for those that are
                idempotent, as the contract says of a method, or this of all.
            keep_alive: as for `stream`.
            metadata, content_type, selector, filters, key: as for `call`.

        Raises:
            UsageError: this is no contract, it names no service, or there is no such option.
            SignatureError: one of its methods cannot be an endpoint.
        """
        from eventmicro.contracts.binding import make_stub  # and how handlers are read, which most clients do without

        if unknown := how.keys() - StubWords.__optional_keys__:
            there = ", ".join(sorted(StubWords.__optional_keys__))
            raise UsageError(f"stub() has no option {', '.join(sorted(unknown))}; there are {there}")
        made: C = make_stub(self, contract, dict(how))
        return made
