"""All services of a settings file as processes: started in order, kept, and stopped in the reverse order."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field

from eventmicro.cli.processes.link import FIRST
from eventmicro.cli.processes.supervisor import (
    RELOAD_LIMIT,
    STOPPED,
    Embedded,
    Restart,
    Supervisor,
    first_of,
    keep_no_bytecode,
    watch_code,
)
from eventmicro.cli.processes.worker import Command, Worker
from eventmicro.cli.target import folders
from eventmicro.running.signals import StopSignals

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run of one service, and after which others."""

    command: Command
    after: tuple[str, ...]
    restart: Restart

    @property
    def name(self) -> str:
        """The service's name in the file."""
        return self.command.service


@dataclass(slots=True)
class Member:
    """One service that is run: its processes, whether they are ready, and how they have ended."""

    plan: Plan
    supervisor: Supervisor
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    code: int = 0


class Fleet:
    """The services of one start, up to the stop of the last.

    One that ends before it was ready is not tried again, unless it is to be `always`: all others are stopped then.
    """

    def __init__(self, plans: Sequence[Plan], embedded: Embedded) -> None:
        self.members = {plan.name: Member(plan, Supervisor(plan.command, embedded, plan.restart)) for plan in plans}
        self.stopping = asyncio.Event()
        self._names: dict[str, str] = {}  # of services, each with who was the first to run one

    async def run(self) -> int:
        """Run all until a stop, or until none of them is left; the exit code."""
        stopping = asyncio.create_task(self._stop_in_order())
        try:
            await asyncio.gather(*map(self._run_one, self.members.values()))
        finally:
            stopping.cancel()
            outputs = [each.plan.command.output for each in self.members.values()]
            await asyncio.gather(*(output.close() for output in outputs if output is not None))
        return max(each.code for each in self.members.values())

    def stop(self) -> None:
        """Ask all to stop: those first that others were started before."""
        self.stopping.set()

    def kill(self) -> None:
        """End all at once."""
        self.stopping.set()
        for member in self.members.values():
            member.supervisor.stop(signal.SIGKILL)

    async def _run_one(self, member: Member) -> None:
        try:
            before = [self.members[name] for name in member.plan.after if name in self.members]
            for other in before:
                await first_of(other.ready.wait(), self.stopping.wait())
            if not self.stopping.is_set():
                await self._keep(member)
        except OSError as error:  # no more processes can be started, for one
            log.error("%s cannot be started: %s", member.plan.name, error)
            member.code = 1
            self.stop()
            if left := [worker.ended for worker in member.supervisor.workers]:
                await asyncio.wait(left)  # they stop when it is their turn
        finally:
            member.ended.set()

    async def _keep(self, member: Member) -> None:
        first = await member.supervisor.begin()
        if member.supervisor.stopping.is_set():
            member.code = 0 if await first.ended in STOPPED else 1
            return
        if not first.ready.is_set():
            member.code = max(1, first.ended.result())
            self.stop()
            return
        member.ready.set()
        self._note_names(member, first)
        numbers = range(FIRST + 1, FIRST + member.plan.command.workers)
        kept = [member.supervisor.keep(FIRST, first), *(member.supervisor.keep(number) for number in numbers)]
        member.code = 0 if all(await asyncio.gather(*kept)) else 1

    def _note_names(self, member: Member, worker: Worker) -> None:
        """Say where two of them run services of one name, which takes a copy of one file too easily."""
        for name in worker.services:
            if (other := self._names.setdefault(name, member.plan.name)) != member.plan.name:
                log.warning(
                    "%s and %s both have a service named %r: they share its calls and events, as instances of one do; "
                    "name one of them otherwise in its code, unless that is meant",
                    other,
                    member.plan.name,
                    name,
                )

    async def _stop_in_order(self) -> None:
        """Once a stop is asked for: stop each when those have ended that were started after it."""
        await self.stopping.wait()
        await asyncio.gather(*map(self._stop_one, self.members.values()))

    async def _stop_one(self, member: Member) -> None:
        for other in self.members.values():
            if member.plan.name in other.plan.after:
                await other.ended.wait()
        member.supervisor.stop()


def run_fleet(plans: Sequence[Plan], *, reload: bool) -> int:
    """Run services as processes until a signal, with `reload` all of them anew after each change of a .py file.

    A second signal ends them at once.
    """
    if reload:
        keep_no_bytecode()
    return asyncio.run(_run_reloading(plans) if reload else _run(plans))


async def _run(plans: Sequence[Plan]) -> int:
    embedded = Embedded()
    fleet = Fleet(plans, embedded)
    with StopSignals(at_once=fleet.kill) as stops, stops.asking(fleet.stop), closing(embedded):
        return await fleet.run()


async def _run_reloading(plans: Sequence[Plan]) -> int:
    embedded, stopping, changed = Embedded(), asyncio.Event(), asyncio.Event()
    places = folders([target for plan in plans for target in plan.command.targets])
    rounds: list[Fleet] = []

    def stop() -> None:
        stopping.set()
        for fleet in rounds:
            fleet.stop()

    def kill() -> None:
        for fleet in rounds:
            fleet.kill()

    with StopSignals(at_once=kill) as stops, stops.asking(stop), closing(embedded):
        watching = asyncio.create_task(watch_code(places, stopping, changed))
        try:
            while not stopping.is_set():
                changed.clear()
                rounds[:] = [Fleet(plans, embedded)]
                await _run_until_changed(rounds[0], changed, stopping)
            return 0
        finally:
            stopping.set()
            await watching


async def _run_until_changed(fleet: Fleet, changed: asyncio.Event, stopping: asyncio.Event) -> None:
    running = asyncio.create_task(fleet.run())
    await first_of(running, changed.wait())
    if not running.done():
        fleet.stop()
        await asyncio.wait([running], timeout=RELOAD_LIMIT)
        if not running.done():
            log.warning("the old code does not stop within %g s: ending it", RELOAD_LIMIT)
            fleet.kill()
    code = await running
    if not changed.is_set() and not stopping.is_set():
        log.error("the services ended with code %d; waiting for a change of the code", code)
        await first_of(changed.wait(), stopping.wait())
