"""The table that `eventmicro run` shows when its services have started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from eventmicro.running.announcing import Runnable, describe, place

COLUMNS = ("SERVICE", "VERSION", "KIND", "NAME", "SUBJECT", "QUEUE", "TYPES", "EXCHANGE")
# How wide the table may be where it does not go to a terminal, in characters: nothing is cut off.
FILE_WIDTH = 240


def print_table(services: Sequence[Runnable], *, apart: bool = True) -> None:
    """Print where the services are and what they have, on stderr like the log; `apart`: with an empty line around."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        console = Console(stderr=True, highlight=False, width=FILE_WIDTH)
    if apart:
        console.print()
    for where in dict.fromkeys(map(place, services)):
        names = ", ".join(service.name for service in services if place(service) == where)
        console.print(Text(f"{names} on {where}", style="bold"), soft_wrap=True)
    console.print(_table(services))
    if apart:
        console.print()


def _table(services: Sequence[Runnable]) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    lines = [line for service in services for line in describe(service)]
    columns = COLUMNS if any(line.exchange for line in lines) else COLUMNS[:-1]
    for column in columns:
        table.add_column(column, overflow="fold")
    for line in lines:
        table.add_row(*(Text(cell) for cell in astuple(line)[: len(columns)]))
    return table
