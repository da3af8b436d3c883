"""The view: a service like the others, that counts what travels and draws it while it travels."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque

from rich import box
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from eventmicro import subscribe
from examples.quakes.models import ALERTS, DISMISSED, REJECTED, REPORTED, Assessment, Quake, Rejected

FRAME = 0.1  # seconds between two pictures
SHOWN = 6  # the strongest, and the latest alerts
LINE_EVERY = 400  # events, where the output is no terminal


class View:
    """Collects the events of one replay; `queue=None` because every view wants to see all of them."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.received: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.strongest: list[Quake] = []
        self.alerts: list[Assessment] = []
        self.dismissed = 0
        self.nulls = 0
        self.moved = asyncio.Event()
        self._recent: deque[float] = deque()

    @subscribe(REPORTED, queue=None)
    async def on_quake(self, quake: Quake) -> None:
        self.received[quake.id] += 1
        self.nulls += [quake.felt_reports, quake.pager_level, quake.stations].count(None)
        self.strongest = sorted([*self.strongest, quake], key=lambda q: -q.magnitude)[:SHOWN]
        self._recent.append(time.monotonic())
        self.moved.set()
        if self.received.total() % LINE_EVERY == 0:
            self._print(f"{self.received.total():5} earthquakes received, now at {quake.time:%a %d %b %H:%M}")

    @subscribe(REJECTED, queue=None)
    async def on_rejected(self, rejected: Rejected) -> None:
        self.rejected[rejected.reason] += 1
        self.moved.set()

    @subscribe(ALERTS, queue=None)
    async def on_alert(self, alert: Assessment) -> None:
        self.alerts.append(alert)
        self.moved.set()
        self._print(f"ALERT {describe(alert)}")

    @subscribe(DISMISSED, queue=None)
    async def on_dismissed(self, assessment: Assessment) -> None:
        self.dismissed += 1
        self.moved.set()

    @property
    def assessed(self) -> int:
        """How many answers of the geo service have come back, by way of the alerter."""
        return len(self.alerts) + self.dismissed

    async def draw(self) -> None:
        """Draw until cancelled; without a terminal the lines above have to do."""
        if not self.console.is_terminal:
            return
        with Live(console=self.console, auto_refresh=False) as live:
            try:
                while True:
                    live.update(self._picture(), refresh=True)
                    await asyncio.sleep(FRAME)
            finally:
                live.update(self._picture(), refresh=True)

    def _print(self, text: str) -> None:
        if not self.console.is_terminal:
            self.console.print(text, highlight=False)

    def _picture(self) -> RenderableType:
        latest = [describe(alert) for alert in self.alerts[-SHOWN:]]
        text = Text("\n".join(latest + [""] * (SHOWN - len(latest))), no_wrap=True, overflow="ellipsis")
        return Group(
            Columns([self._counts(), self._strongest()]),
            Panel(text, title=f"{len(self.alerts)} alerts", title_align="left", border_style="red", width=79),
        )

    def _counts(self) -> Table:
        table = Table("One week", "", box=box.ROUNDED, width=27)
        table.add_row("reported", f"{self.received.total()}")
        table.add_row("a second", f"{self._rate()}")
        table.add_row("rejected", f"{self.rejected.total()}")
        table.add_row("strong", f"{self.assessed}")
        table.add_row("strong and near", f"[red]{len(self.alerts)}")
        table.add_row("null values", f"{self.nulls}")
        return table

    def _strongest(self) -> Table:
        table = Table("M", box=box.ROUNDED, width=51)
        table.add_column("The strongest", no_wrap=True, ratio=1)
        for quake in self.strongest:
            table.add_row(f"[bold]{quake.magnitude:.1f}", f"{quake.time:%d %b} {quake.place}")
        for _ in range(SHOWN - len(self.strongest)):
            table.add_row("", "")
        return table

    def _rate(self) -> int:
        while self._recent and self._recent[0] < time.monotonic() - 1:
            self._recent.popleft()
        return len(self._recent)


def describe(alert: Assessment) -> str:
    quake, city = alert.quake, alert.city
    return f"M {quake.magnitude:.1f} {city.distance_km:.0f} km from {city.name}, {city.country}: {quake.place}"
