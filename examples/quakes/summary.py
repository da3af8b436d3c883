"""The summary: what came over the bus beside what is in the file, counted anew and without the services' code."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from rich.table import Table

from examples.quakes.geo import big_cities, find_nearest
from examples.quakes.models import Position, Rule, Totals
from examples.quakes.view import View


class InFile(NamedTuple):
    """What the services should find."""

    read: int
    ids: frozenset[str]
    nulls: int
    rejected: Counter[str]
    strong: int
    alerts: int


class Row(NamedTuple):
    what: str
    in_file: int
    on_bus: int


def recount(feed: Path, rule: Rule) -> InFile:
    """Count the file again, straight from its JSON."""
    features = json.loads(feed.read_bytes())["features"]
    ids, nulls, rejected, strong = set[str](), 0, Counter[str](), list[Position]()
    for feature in features:
        properties = feature["properties"]
        kind, magnitude = properties["type"], properties["mag"]
        if kind != "earthquake":
            rejected[f"kind is {kind!r}"] += 1
        elif magnitude is None:
            rejected["magnitude is None"] += 1
        else:
            ids.add(feature["id"])
            nulls += [properties["felt"], properties["alert"], properties["nst"]].count(None)
            if magnitude >= rule.magnitude:
                longitude, latitude, _ = feature["geometry"]["coordinates"]
                strong.append(Position(latitude=latitude, longitude=longitude))
    cities = big_cities()
    near = [position for position in strong if find_nearest(position, cities).distance_km <= rule.distance_km]
    return InFile(len(features), frozenset(ids), nulls, rejected, len(strong), len(near))


def complete(expected: InFile, view: View) -> bool:
    """Whether all that is to come has come."""
    return (
        view.received.keys() >= expected.ids
        and view.rejected.total() >= expected.rejected.total()
        and view.assessed >= expected.strong
    )


def compare(expected: InFile, totals: Totals, view: View) -> list[Row]:
    received = view.received
    reasons = sorted(expected.rejected | view.rejected)
    return [
        Row("events read", expected.read, totals.read),
        Row("published", len(expected.ids), totals.published),
        Row("received", len(expected.ids), len(received)),
        Row("null values received", expected.nulls, view.nulls),
        Row("received, not in the file", 0, len(received.keys() - expected.ids)),
        Row("received twice", 0, received.total() - len(received)),
        Row("rejected", expected.rejected.total(), totals.rejected),
        *(Row(f"rejected: {reason}", expected.rejected[reason], view.rejected[reason]) for reason in reasons),
        Row("calls of geo.nearest", expected.strong, view.assessed),
        Row("alerts", expected.alerts, len(view.alerts)),
    ]


def to_table(rows: list[Row]) -> Table:
    table = Table("", "in the file", "on the bus", "", title="Summary", box=None)
    for row in rows:
        table.add_row(row.what, f"{row.in_file}", f"{row.on_bus}", "ok" if row.in_file == row.on_bus else "DIFFERS")
    return table
