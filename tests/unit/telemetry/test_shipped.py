"""The dashboard and the alert rules, held to PromQL and to the metrics and labels that services show."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from eventmicro.discovery.report import BrokerFigures, HandlerStatistics, NodeStatistics, QueueFigures
from eventmicro.telemetry.prometheus import write_metrics

OPERATIONS = Path(__file__).parents[3] / "docs" / "operations"
DASHBOARD = json.loads((OPERATIONS / "dashboard.json").read_text(encoding="utf-8"))
[GROUP] = yaml.safe_load((OPERATIONS / "alerts.yml").read_text(encoding="utf-8"))["groups"]
# What Prometheus itself puts to each series.
SCRAPED = {"job", "instance"}
# What Grafana writes in the place of its variables.
VARIABLES = {"$__rate_interval": "5m", "$service": "shop|billing"}


def shown() -> dict[str, set[str]]:
    """Each series that services show, with its labels."""
    queue = QueueFigures(name="q", waiting=1, unsettled=1, consumers=1, oldest=datetime.now(UTC))
    handler = HandlerStatistics(name="h", count=1, errors={500: 1}, latency={"more": 1}, queue=queue, letters=queue)
    page = write_metrics(
        [
            NodeStatistics(
                service="s",
                version="1.0.0",
                node="n",
                started=datetime.now(UTC),
                endpoints=[handler],
                subscribers=[handler],
                brokers=[BrokerFigures(url="nats://n", online=True, reconnects=1)],
            )
        ]
    )
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    return {sample.name: {*sample.labels, *SCRAPED} for sample in samples}


SHOWN = shown()


class Wrong(Exception):
    """What is in an expression and cannot be."""


def labels(node: Any) -> set[str] | None:
    """The labels that the series of an expression have; None: it is a number.

    Raises:
        Wrong: it asks for a series, or by a label, that there is not, or for what is never there.
    """
    match node:
        case promql.VectorSelector():
            if node.name not in SHOWN:
                raise Wrong(f"nobody shows {node.name}")
            return checked({each.name for each in node.matchers.matchers}, SHOWN[node.name]) and SHOWN[node.name]
        case promql.MatrixSelector():
            return labels(node.vector_selector)
        case promql.ParenExpr():
            return labels(node.expr)
        case promql.AggregateExpr():
            return checked(set(node.modifier.labels), labels(node.expr) or set())
        case promql.Call():
            return of_call(node)
        case promql.BinaryExpr():
            return of_both(labels(node.lhs), labels(node.rhs))
        case promql.NumberLiteral():
            return None
        case _:
            raise Wrong(f"what is {type(node).__name__}?")


def checked(asked: set[str], there: set[str]) -> set[str]:
    if missing := asked - there:
        raise Wrong(f"no label {missing} among {there}")
    return asked or there


def of_call(node: Any) -> set[str] | None:
    taken = [labels(each) for each in node.args]
    told = next((each for each in taken if each is not None), None)
    match node.func.name:
        case "time":
            return None
        case "absent_over_time":
            return set()
        case "histogram_quantile":
            return checked({"le"}, told or set()) and (told or set()) - {"le"}
        case "rate" | "increase":
            name = node.args[0].vector_selector.name
            if not name.endswith(("_total", "_bucket", "_sum", "_count")):
                raise Wrong(f"{name} is no counter")
            return told
        case other:
            raise Wrong(f"what is {other}()?")


def of_both(one: set[str] | None, other: set[str] | None) -> set[str] | None:
    """Two vectors meet where all their labels are the same."""
    if one is not None and other is not None and one != other:
        raise Wrong(f"{one} never meets {other}")
    return other if one is None else one


def labels_of(expression: str) -> set[str]:
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return labels(promql.parse(expression)) or set()


def targets() -> Iterator[Any]:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield pytest.param(target["expr"], target["legendFormat"], id=f"{panel['title']} {target['refId']}")


@pytest.mark.parametrize(("expression", "legend"), list(targets()))
def test_each_line_of_the_dashboard_is_by_labels_that_there_are(expression: str, legend: str) -> None:
    named = set(re.findall(r"\{\{(\w+)\}\}", legend))
    assert named == labels_of(expression)  # two lines of the same name could not be told apart


@pytest.mark.parametrize("rule", GROUP["rules"], ids=lambda rule: rule["alert"])
def test_each_alert_asks_for_what_there_is_and_names_who_it_is(rule: dict[str, Any]) -> None:
    named = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    assert named == labels_of(rule["expr"])
    if "increase(" in rule["expr"]:  # which Prometheus extrapolates: 46.356 events
        assert "$value }}" not in rule["annotations"]["summary"].replace("{{ printf `%.0f` $value }}", "")
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}


def test_alerts_have_names_of_their_own() -> None:
    names = [rule["alert"] for rule in GROUP["rules"]]
    assert len(set(names)) == len(names) > 10


@pytest.mark.parametrize(
    ("expression", "wrong"),
    [
        ("eventmicro_calls", "nobody shows eventmicro_calls"),
        ("rate(eventmicro_calls_in_flight[5m])", "is no counter"),
        ("sum by (queue) (eventmicro_broker_online)", "no label {'queue'}"),
        ('eventmicro_broker_online{endpoint="a"}', "no label {'endpoint'}"),
        ("sum by (service) (eventmicro_events_unsettled) / sum by (subscriber) (eventmicro_events_unsettled)", "never"),
        ("histogram_quantile(0.5, sum by (service) (rate(eventmicro_calls_duration_seconds_bucket[5m])))", "{'le'}"),
    ],
)
def test_what_is_wrong_is_found(expression: str, wrong: str) -> None:
    with pytest.raises(Wrong, match=re.escape(wrong)):
        labels_of(expression)
    with pytest.raises(ValueError, match="unclosed"):
        labels_of(f"({expression}")


def test_the_panels_of_the_dashboard_stand_side_by_side() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        apart = any(
            (one[at] + one[size] <= other[at]) or (other[at] + other[size] <= one[at])
            for at, size in (("x", "w"), ("y", "h"))
        )
        assert apart, (one, other)


def test_the_dashboard_asks_the_source_and_the_services_that_are_chosen() -> None:
    chosen = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert set(chosen) == {"source", "service"}
    metric, label = re.findall(r"\w+", chosen["service"]["query"]["query"])[1:]
    assert label in SHOWN[metric]
    for panel in DASHBOARD["panels"]:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${source}"}
        assert all('service=~"$service"' in target["expr"] for target in panel["targets"])
