"""How records, health and figures of nodes look in a terminal, as tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import typer

from eventmicro.cli.show import one_line, print_json_text
from eventmicro.generating.schemas import is_schema
from eventmicro.registry import EXCHANGE, QUEUE, STREAM, TOPIC, EndpointRecord, NodeRecord

if TYPE_CHECKING:  # it takes as long to import as many a command takes to run
    from rich.console import Console, RenderableType
    from rich.table import Table

    from eventmicro.discovery.report import HandlerStatistics

# The width of what does not go to a terminal, in characters: nothing is cut off.
FILE_WIDTH = 240
# How wide a terminal is that has room for a handler's figures in one line.
WIDE = 130

FIGURES = ("HANDLER", "COUNT", "ERRORS", "MEAN", "P50", "P99", "RUNNING", "LOST")
LAST_ERROR = "LAST ERROR"

Figures = tuple[tuple[str, str], list[tuple[str, ...]]]
"""Service and node, and the cells of each of its handlers: FIGURES, and the last error."""


def numbers(handler: HandlerStatistics) -> tuple[str, ...]:
    """The figures of a handler: count, errors, mean, p50, p99, running, lost and the last error."""
    mean = handler.seconds / handler.count if handler.count else None
    return (
        str(handler.count),
        " ".join(f"{code}:{count}" for code, count in sorted(handler.errors.items())),
        "" if mean is None else f"{mean * 1000:.3g} ms",
        _percentile(handler, 0.5),
        _percentile(handler, 0.99),
        str(handler.in_flight),
        " ".join(f"{n} {what}" for n, what in ((handler.dropped, "dropped"), (handler.dead_letters, "dead")) if n),
        handler.last_error,
    )


def narrow(who: tuple[str, str], handlers: Sequence[tuple[str, ...]]) -> Iterator[RenderableType]:
    """The figures of one node for a narrow screen: who it is, its handlers, and below them what went wrong last."""
    from rich.text import Text

    yield Text(one_line(" ".join(who)), style="bold")
    if named := [cells for cells in handlers if cells[0]]:
        yield make_table(FIGURES, [cells[:-1] for cells in named])
    for name, *_, error in handlers:
        if error:
            yield Text(one_line(f"{name}: {error}" if name else error), style="dim")


def _percentile(handler: HandlerStatistics, part: float) -> str:
    """The bound up to which so many of all took; empty where none was handled."""
    seen = 0
    for bound, count in handler.latency.items():
        seen += count
        if seen >= part * handler.count:
            return "> 10 s" if bound == "more" else f"≤ {float(bound) * 1000:g} ms"
    return ""


def signature(endpoint: EndpointRecord) -> tuple[str, str, str]:
    """An endpoint: its name, what it takes and what it replies."""
    stream = endpoint.metadata.get(STREAM, "")
    taken, given = fields_of(endpoint.request), fields_of(endpoint.reply)
    return (
        endpoint.name,
        f"stream of {taken}" if stream in ("client", "bidirectional") else taken,
        f"stream of {given}" if stream in ("server", "bidirectional") else given,
    )


def taken(endpoint: EndpointRecord) -> tuple[str, ...]:
    """A subscriber: its name, topic, queue, what it takes, and the exchange that this comes by."""
    about = endpoint.metadata
    queue, exchange = about.get(QUEUE) or "(every instance)", about.get(EXCHANGE)
    by = "" if exchange is None else exchange or "(default)"
    return endpoint.name, about.get(TOPIC, ""), queue, fields_of(endpoint.request), by


def print_subscribers(endpoints: Iterable[EndpointRecord]) -> None:
    """Print the subscribers as a table; with their exchanges, where it has some."""
    rows = [taken(each) for each in endpoints]
    width = 5 if any(row[-1] for row in rows) else 4
    print_table(("SUBSCRIBER", "TOPIC", "QUEUE", "TAKES", "EXCHANGE")[:width], [row[:width] for row in rows])


def fields_of(schema: dict[str, Any] | None) -> str:
    """A JSON Schema in a line: `Quote(total: number)`."""
    if schema is None:
        return "-"
    schema = _top(schema)
    if not is_schema({word: each for word, each in schema.items() if word != "$defs"}):
        return "(no JSON Schema)"
    properties, required = schema.get("properties", {}), schema.get("required", ())
    if not properties:
        return str(schema.get("title") or _kind(schema))
    fields = [f"{name}{'' if name in required else '?'}: {_kind(each)}" for name, each in properties.items()]
    return f"{schema.get('title', 'object')}({', '.join(fields)})"


def _top(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema itself, where it is one of its own definitions: that of a recursive model, or of a Struct."""
    name = str(schema.get("$ref", "")).removeprefix("#/$defs/")
    definitions = schema.get("$defs")
    found = definitions.get(name) if isinstance(definitions, dict) else None
    return {"title": name} | found if isinstance(found, dict) else schema


def _kind(schema: Any) -> str:
    if not isinstance(schema, dict):
        return "any"
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " | ".join(map(_kind, schema["anyOf"]))
    kind = str(schema.get("type", "any"))
    return f"{kind} of {_kind(schema['items'])}" if kind == "array" and "items" in schema else kind


def framework(nodes: Sequence[NodeRecord]) -> str:
    """Who runs these nodes: `eventmicro`, `another`, or both."""
    return ", ".join(sorted({"another" if node.is_foreign else "eventmicro" for node in nodes}))


def labels(metadata: dict[str, str]) -> str:
    """Labels in a line: `version=2 zone=eu`."""
    return " ".join(f"{name}={value}" for name, value in sorted(metadata.items()))


def print_json(value: Any) -> None:
    """Print a value for programs."""
    print_json_text(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; where it is one of services and has no rows, say on stderr that nobody answers."""
    if rows:
        show(console(), make_table(columns, rows))
    elif columns[0] == "SERVICE":
        typer.echo("nobody answers", err=True)


def make_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table of plain texts, in which nothing a peer sends is taken for markup or an escape."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(Text(one_line(column)))
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    return table


def show(screen: Console, shown: RenderableType) -> None:
    """Print what is as wide as the screen; not to a terminal, without the blanks behind it."""
    if screen.is_terminal:
        screen.print(shown)
        return
    with screen.capture() as captured:
        screen.print(shown)
    for line in captured.get().splitlines():
        typer.echo(line.rstrip())


def console() -> Console:
    """Where tables are printed; not to a terminal, they are as wide as they need."""
    from rich.console import Console

    screen = Console(highlight=False)
    return screen if screen.is_terminal else Console(highlight=False, width=FILE_WIDTH)
