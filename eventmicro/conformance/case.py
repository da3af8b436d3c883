"""What a case is, and which cases there are for a broker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, fields

from eventmicro.broker import Capabilities
from eventmicro.conformance.bench import Bench, MakeBroker, Outcome, Server
from eventmicro.errors import UsageError

# How long a case may take where it does not say otherwise, in seconds. A first consumer may take several of them.
TIMEOUT = 60.0

Function = Callable[[Bench], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Case:
    """One case of the suite: it holds an adapter to one promise of `eventmicro.broker`."""

    function: Function
    needs: frozenset[str] = frozenset()
    """The capabilities that a broker must declare."""
    lacks: frozenset[str] = frozenset()
    """The capabilities that it must not declare: the case asks for them, and wants to be refused."""
    restarts: bool = False
    """Whether it kills the server and starts it again; it then needs it for itself."""
    seconds: float = field(default=TIMEOUT, kw_only=True)

    def __str__(self) -> str:
        return self.function.__name__

    async def run(self, make_broker: MakeBroker, *, server: Server | None = None) -> Outcome:
        """Run the case; `server` is what the brokers connect to, for cases that restart it.

        Raises:
            AssertionError: the adapter breaks a promise; the message says which.
            TimeoutError: something that was promised did not happen within `seconds`.
        """
        if self.restarts and server is None:
            raise UsageError(f"{self} restarts the server: pass server=, or leave it out by cases(restartable=False)")
        async with asyncio.timeout(self.seconds), AsyncExitStack() as stack:
            bench = Bench(make_broker, stack, server)
            await self.function(bench)
        return bench.outcome


_CASES: list[Case] = []


def cases(capabilities: Capabilities, *, restartable: bool = False) -> list[Case]:
    """The cases for a broker that declares these capabilities; with `restartable` also those that need a server."""
    declared = _declared(capabilities)
    return [
        case
        for case in _CASES
        if case.needs <= declared and not case.lacks & declared and (restartable or not case.restarts)
    ]


def unproved(capabilities: Capabilities, *, restartable: bool = False) -> list[str]:
    """What is declared and no case proves: `persistent`, where there is no server to restart."""
    proved: set[str] = set().union(*(case.needs for case in cases(capabilities, restartable=restartable)))
    return sorted(_declared(capabilities) - proved)


def case(
    *needs: str, lacks: Iterable[str] = (), restarts: bool = False, seconds: float = TIMEOUT
) -> Callable[[Function], Function]:
    """Add a function to the suite; see Case."""

    def add(function: Function) -> Function:
        _CASES.append(Case(function, frozenset(needs), frozenset(lacks), restarts, seconds=seconds))
        return function

    return add


def _declared(capabilities: Capabilities) -> set[str]:
    return {f.name for f in fields(capabilities) if getattr(capabilities, f.name) is True}
