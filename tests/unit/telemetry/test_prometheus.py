"""What Prometheus reads of services: in its text format, read back by its own parser."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import Counter
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from eventmicro import Client, Conflict, Service
from eventmicro.discovery.report import BrokerFigures, HandlerStatistics, NodeStatistics, QueueFigures
from eventmicro.handlers.statistics import BOUNDS
from eventmicro.running.health_port import health_port
from eventmicro.telemetry.prometheus import (
    CONTENT_TYPE,
    OF_BROKERS,
    OF_ENDPOINTS,
    OF_SERVICES,
    OF_SUBSCRIBERS,
    write_metrics,
)

URL = "memory://metrics"
EACH = 17 + 2  # the samples of a histogram
METRICS = (*OF_ENDPOINTS, *OF_SUBSCRIBERS, *OF_SERVICES, *OF_BROKERS)


def node(**parts: list[HandlerStatistics]) -> NodeStatistics:
    return NodeStatistics(service="shop", version='1.0.0-"a\\b', node="n1", started=datetime.now(UTC), **parts)


def read(text: str) -> dict[str, list[Sample]]:
    families = text_string_to_metric_families(text)
    return {family.name: list(family.samples) for family in families}


def values(samples: Iterable[Sample], label: str) -> dict[str, float]:
    return {sample.labels[label]: sample.value for sample in samples}


def test_every_figure_is_read_back() -> None:
    quote = HandlerStatistics(
        name="quote",
        count=7,
        errors={400: 2, 503: 1},
        in_flight=3,
        seconds=1.25,
        latency={"0.001": 4, "0.5": 2, "more": 1},
        dropped=5,
    )
    queue = QueueFigures(name='a"b', waiting=9, unsettled=0, oldest=datetime.fromtimestamp(8.5, UTC))
    letters = QueueFigures(name="dead.bill", waiting=1, unsettled=2)
    bill = HandlerStatistics(name="bill", count=2, dead_letters=1, retried=4, unsettled=6, queue=queue, letters=letters)
    brokers = [BrokerFigures(url="memory://m", online=False), BrokerFigures(url="nats://n", online=True, reconnects=2)]
    told = node(endpoints=[quote], subscribers=[bill], brokers=brokers)
    told.published, told.publish_failed, told.publish_buffered = 11, 12, 13
    found = read(write_metrics([told]))
    assert found["eventmicro_service_info"][0].labels == {"service": "shop", "version": '1.0.0-"a\\b', "node": "n1"}
    assert values(found["eventmicro_calls"], "endpoint") == {"quote": 7}
    assert values(found["eventmicro_calls_failed"], "code") == {"400": 2, "503": 1}
    assert values(found["eventmicro_calls_in_flight"], "endpoint") == {"quote": 3}
    assert values(found["eventmicro_calls_dropped"], "endpoint") == {"quote": 5}
    assert values(found["eventmicro_events"], "subscriber") == {"bill": 2}
    assert values(found["eventmicro_events_dead_letters"], "subscriber") == {"bill": 1}
    assert values(found["eventmicro_events_retried"], "subscriber") == {"bill": 4}
    assert values(found["eventmicro_events_unsettled"], "subscriber") == {"bill": 6}
    assert values(found["eventmicro_queue_waiting"], "queue") == {'a"b': 9}
    assert values(found["eventmicro_queue_unsettled"], "subscriber") == {"bill": 0}
    assert found["eventmicro_queue_consumers"] == []  # the broker does not say
    assert values(found["eventmicro_queue_oldest_timestamp_seconds"], "queue") == {'a"b': 8.5}
    assert values(found["eventmicro_queue_dead_letters"], "queue") == {"dead.bill": 3}
    assert values(found["eventmicro_published"], "service") == {"shop": 11}
    assert values(found["eventmicro_publish_failed"], "service") == {"shop": 12}
    assert values(found["eventmicro_publish_buffered"], "service") == {"shop": 13}
    assert values(found["eventmicro_broker_online"], "broker") == {"memory://m": 0, "nats://n": 1}
    assert values(found["eventmicro_broker_reconnects"], "broker") == {"nats://n": 2}
    buckets = [sample for sample in found["eventmicro_calls_duration_seconds"] if "le" in sample.labels]
    told = values(buckets, "le")
    assert list(told) == [*BOUNDS[:-1], "+Inf"]
    assert (told["0.0005"], told["0.001"], told["0.25"], told["0.5"], told["+Inf"]) == (0, 4, 4, 6, 7)
    rest = {sample.name: sample.value for sample in found["eventmicro_calls_duration_seconds"] if sample not in buckets}
    assert rest == {
        "eventmicro_calls_duration_seconds_sum": 1.25,
        "eventmicro_calls_duration_seconds_count": 7,
    }


def test_a_thousand_endpoints_of_two_services_are_all_there_once() -> None:
    endpoints = [HandlerStatistics(name=f"e{n}", count=n, latency={"more": n}) for n in range(1000)]
    other = node(endpoints=endpoints).model_copy(update={"service": "other"})
    found = read(write_metrics([node(endpoints=endpoints), other]))
    seen = [(sample.labels["service"], sample.labels["endpoint"]) for sample in found["eventmicro_calls"]]
    assert len(seen) == len(set(seen)) == 2000
    assert len(found["eventmicro_calls_duration_seconds"]) == 2000 * EACH


def test_names_and_kinds_are_those_that_prometheus_expects() -> None:
    for metric in METRICS:
        assert metric.name.startswith("eventmicro_")
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert metric.help.endswith(".")
    names = [metric.name for metric in METRICS]
    assert len(names) == len(set(names))


async def scrape(port: int) -> tuple[str, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = (await reader.read()).decode()
    writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 200 ")
    return head, body


async def test_the_health_port_tells_what_was_done_and_what_the_program_counts_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service, away = Service("shop", broker=URL), Service("away", broker=URL)
    Counter("shop_visits", "Visits.").inc(3)

    @service.rpc
    async def double(number: int) -> int:
        if number < 0:
            raise Conflict("below 0")
        return 2 * number

    async with service, Client(URL) as client, health_port([service, away], "127.0.0.1", 0) as port:
        assert await client.call("shop.double", 2, int) == 4
        with pytest.raises(Conflict):
            await client.call("shop.double", -2, int)
        head, body = await scrape(port)
    assert f"Content-Type: {CONTENT_TYPE}" in head
    found = read(body)
    assert values(found["eventmicro_calls"], "endpoint")["double"] == 2
    assert [(each.labels["code"], each.value) for each in found["eventmicro_calls_failed"]] == [("409", 1)]
    assert found["shop_visits"][0].value == 3
    assert {sample.labels["service"] for sample in found["eventmicro_calls"]} == {"shop"}


# -- what is shipped beside it -----------------------------------------------------------------------------------

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize("name", ["operations/dashboard.json", "operations/alerts.yml"])
def test_dashboard_and_alerts_ask_for_what_there_is(name: str) -> None:
    known = {series for metric in METRICS for series in metric.series} | {"eventmicro_service_info"}
    asked = set(re.findall(r"eventmicro_\w+", (DOCS / name).read_text(encoding="utf-8")))
    assert asked
    assert asked <= known


def test_the_dashboard_shows_each_figure() -> None:
    dashboard = json.loads((DOCS / "operations/dashboard.json").read_text(encoding="utf-8"))
    asked = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    missing = {metric.name for metric in METRICS if metric.name not in asked}
    assert missing == {"eventmicro_calls_dropped_total"}  # callers see those: nobody answers


def test_the_documentation_has_a_row_for_each_metric() -> None:
    rows = re.findall(r"^\| `(eventmicro_\w+)` \| (\w+) \|", (DOCS / "operations.md").read_text("utf-8"), re.MULTILINE)
    assert dict(rows) == {"eventmicro_service_info": "gauge", **{metric.name: metric.kind for metric in METRICS}}
