"""Asking: who is there where nothing keeps records: each registry says its own, and answers who asks.

A record is said on `_EVENTMICRO.registry.node.<service>` with the time for which it holds, again at each renewal, and
with none as a goodbye. Who wants to know listens there, and asks once at the beginning: all registries on
`_EVENTMICRO.registry.ask`, and all services on `$SRV.INFO`, which foreign ones answer, too (ADR-32).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from eventmicro.broker import Subscription
from eventmicro.checks import LONGEST as LONGEST_TTL
from eventmicro.errors import TransportError, Unavailable, UsageError
from eventmicro.information import INFO, MAX_ANSWER, PREFIX, RECORD, WHOLE, foreign_record, read_information
from eventmicro.message import Delivery
from eventmicro.registrations import Registrations
from eventmicro.registry import Change, ServiceRecord
from eventmicro.roster import Key, Reader, Roster
from eventmicro.wire import header
from eventmicro_nats.registry.line import OWN, Line

ASK = f"{OWN}.ask"
NODE = f"{OWN}.node"
INFORMATION = f"{PREFIX}.{INFO}"
TTL = "Registry-TTL"
# How long answers are waited for after the last one, and in all, in seconds.
QUIET = 0.3
LONGEST = 1.0
# Who answers on `$SRV.INFO` and says nothing by himself is asked again so often, and kept for so long, in seconds.
ASK_AGAIN = 25.0
KEPT = 75.0
# Of how many who are gone it may be remembered that they said so by themselves, beside as many as are there.
SPARE = 100


class Asking:
    """What one registry says and has heard."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._reader = Reader(line.url, MAX_ANSWER)
        self._own: dict[Key, tuple[ServiceRecord, float]] = {}  # with the end of its time
        self._told: set[Key] = set()  # who says by himself that he is there
        self._table = Registrations(line.url)
        self._listening: dict[str, Subscription] = {}
        self._opening = asyncio.Lock()
        self._beginning = asyncio.Lock()
        self._inbox = ""
        self._gathering: Gathering | None = None
        self._again: asyncio.TimerHandle | None = None
        self._retired = False
        line.on_loss[self._lose] = None

    async def put(self, service: ServiceRecord, ttl: float) -> None:
        """Say the record of one node."""
        await self._listen(ASK, self._answer)
        await self._listen(f"{NODE}.{service.name}", self._hear)
        now = asyncio.get_running_loop().time()
        self._own = {key: own for key, own in self._own.items() if own[1] > now}
        self._own[service.name, service.nodes[0].id] = service, now + ttl
        self._table.register(service, ttl)
        self._say(service, ttl)
        await self._line.flush()

    async def remove(self, name: str, node: str) -> None:
        """Say goodbye for a node."""
        self._own.pop((name, node), None)
        self._table.remove(name, node)
        self._line.send(f"{NODE}.{name}", json.dumps({"name": name, "nodes": [{"id": node}]}).encode(), {TTL: "0"})
        await self._line.flush()

    async def roster(self, name: str | None) -> Roster:
        """Who is there, as far as that has been heard."""
        await self._gather()
        self._line.check()
        return self._table.roster

    async def look(self, name: str | None) -> AsyncGenerator[Change, None]:
        """See `eventmicro.roster.look_again`."""
        await self._gather()
        async with aclosing(self._table.watch(name)) as changes:
            async for change in changes:
                if self._retired or change.action == "lost":
                    raise Unavailable(f"{self._line.url} is away", id=self._line.url)
                yield change

    async def retire(self) -> None:
        """It is used no more: whoever watches is to look elsewhere."""
        self._retired = True
        self._line.on_loss.pop(self._lose, None)
        self._lose()
        for subscription in self._listening.values():
            await subscription.drain()

    # -- speaking ----------------------------------------------------------------------------------------------

    def _say(self, service: ServiceRecord, ttl: float, to: str = "") -> None:
        body = service.model_dump_json().encode()
        if len(body) > MAX_ANSWER:
            raise UsageError(f"the record is too large for this registry: {len(body)} bytes, over {MAX_ANSWER}")
        self._line.send(to or f"{NODE}.{service.name}", body, {TTL: f"{ttl:.3f}"})

    def _answer(self, question: Delivery) -> None:
        now = asyncio.get_running_loop().time()
        for service, end in self._own.values():
            if end > now and question.reply:
                self._say(service, end - now, question.reply)

    # -- hearing -----------------------------------------------------------------------------------------------

    async def _listen(self, subject: str, take: Callable[[Delivery], None]) -> None:
        async with self._opening:
            if subject not in self._listening:
                self._line.check()
                try:
                    self._listening[subject] = await self._line.broker.subscribe(subject, take)
                except TransportError as error:
                    raise Unavailable(str(error), id=self._line.url) from None

    def _hear(self, delivery: Delivery) -> None:
        """Somebody says that a node is there, or that it is gone."""
        record, ttl = self._reader.read(delivery.subject, delivery.body), read_ttl(delivery)
        if record is None or ttl is None:
            return
        for node in record.nodes:
            key = record.name, node.id
            own = self._own.get(key)
            if own is not None and (not ttl or own[0] != record.of_node(node)):
                del self._own[key]  # another one has this id now, or has said goodbye for it
            if ttl:
                if self._table.hear(record.of_node(node), ttl):
                    self._note(key)
            else:
                self._told.discard(key)
                self._table.remove(*key)

    def _note(self, key: Key) -> None:
        """It says by itself that it is there; who has died meanwhile is not remembered for ever."""
        if key not in self._told:
            self._told.add(key)
            if len(self._told) > 2 * len(self._table.roster) + SPARE:
                self._told &= set(self._table.roster.keys())

    def _take_answer(self, delivery: Delivery) -> None:
        if self._gathering is not None:
            self._gathering.go_on()
        if header(delivery.headers, TTL) is not None:
            self._hear(delivery)
            return
        if (record := self._read(delivery.body)) is not None:
            self._take_information(record)

    def _read(self, body: bytes) -> ServiceRecord | None:
        form = read_information(body)
        if form is None:
            return None
        return self._reader.read(INFORMATION, json.dumps(form[RECORD])) if RECORD in form else foreign_record(form)

    def _take_information(self, record: ServiceRecord) -> None:
        """Who says by himself that he is there has said better for how long."""
        for node in record.nodes:
            key = record.name, node.id
            if key not in self._told or self._table.roster.node(*key) is None:
                self._told.discard(key)
                if self._table.hear(record.of_node(node), KEPT):
                    self._ask_again_later()

    async def _gather(self) -> None:
        """Return when those who are there have had time to say so, once a connection."""
        async with self._beginning:
            gathering = self._gathering or await self._begin()
        await gathering.wait()
        self._line.check()
        if self._table.lost and self._gathering is gathering:
            self._table.restore()

    async def _begin(self) -> Gathering:
        self._inbox = self._inbox or self._line.check().new_inbox()
        await self._listen(f"{NODE}.*", self._hear)
        await self._listen(self._inbox, self._take_answer)
        self._ask()
        self._gathering = Gathering()
        return self._gathering

    def _ask(self) -> None:
        self._line.send(ASK, reply=self._inbox)
        self._line.send(INFORMATION, headers=WHOLE, reply=self._inbox)

    def _ask_again_later(self) -> None:
        if self._again is None:
            self._again = asyncio.get_running_loop().call_later(ASK_AGAIN, self._ask_again)

    def _ask_again(self) -> None:
        self._again = None
        known = set(self._table.roster.keys())
        self._told &= known
        if known - self._told:
            self._ask()

    def _lose(self) -> None:
        if self._gathering is not None:
            self._gathering.end()
            self._gathering = None
        if self._again is not None:
            self._again.cancel()
            self._again = None
        self._table.lose()


class Gathering:
    """The time in which answers come."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._last = self._loop.call_later(LONGEST, self.end)
        self._quiet = self._loop.call_later(QUIET, self.end)

    def go_on(self) -> None:
        """Something has come: wait for more."""
        if not self._over.is_set():
            self._quiet.cancel()
            self._quiet = self._loop.call_later(QUIET, self.end)

    def end(self) -> None:
        self._over.set()
        self._last.cancel()
        self._quiet.cancel()

    async def wait(self) -> None:
        await self._over.wait()


def read_ttl(delivery: Delivery) -> float | None:
    """For how many seconds what is said holds; None: it does not say so."""
    try:
        ttl = float(header(delivery.headers, TTL) or "")
    except ValueError:
        return None
    return ttl if 0 <= ttl <= LONGEST_TTL else None
