"""What docs/deployment.md shows is what the programs take: commands, probes, times, settings, metrics."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from eventmicro import Service
from eventmicro.cli.app import app
from eventmicro.events.options import DeliveryOptions
from eventmicro.running import health_port

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "deployment.md").read_text()
(CONTAINER,) = re.findall(r"```dockerfile\n(.*?)```", PAGE, re.DOTALL)
(MANIFEST,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
POD: dict[str, Any] = yaml.safe_load(MANIFEST)["spec"]["template"]["spec"]
ARGUMENTS: list[list[str]] = [json.loads(re.findall(r"^CMD (.*)$", CONTAINER, re.MULTILINE)[0])]
ARGUMENTS += [container["args"] for container in POD["initContainers"]]


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=" ".join)
def test_a_container_runs_a_command_that_there_is(arguments: list[str]) -> None:
    command = typer.main.get_command(app).commands[arguments[0]]  # type: ignore[attr-defined]
    made = command.make_context(arguments[0], arguments[1:], resilient_parsing=False)
    assert "billing:service" in str(made.params.values())


def test_the_probes_ask_what_is_answered_and_wait_for_a_check() -> None:
    (container,) = POD["containers"]
    probes = {name: container[f"{name}Probe"] for name in ("startup", "liveness", "readiness")}
    paths = {probe["httpGet"]["path"] for probe in probes.values()}
    assert paths == {health_port.LIVE, "/health/ready"}
    assert f'port: "{container["ports"][0]["containerPort"]}"' in MANIFEST
    assert str(container["ports"][0]["containerPort"]) in ARGUMENTS[0]
    assert all(probes[name]["timeoutSeconds"] > 5 for name in ("liveness", "readiness"))


def test_a_stop_has_the_time_that_the_page_says() -> None:
    stop_timeout = inspect.signature(Service).parameters["stop_timeout"].default
    assert f"`Service(stop_timeout={stop_timeout:g})`" in PAGE
    assert POD["terminationGracePeriodSeconds"] >= stop_timeout + 20


def test_what_is_to_be_set_can_be_set() -> None:
    known = {field.name for field in fields(DeliveryOptions)} | {*inspect.signature(Service).parameters}
    known |= set(re.findall(r"^\| `(\w+)` \|", (DOCS / "settings.md").read_text(), re.MULTILINE)) | {"timeout"}
    rows = re.findall(r"^\| .*? \| .*? \| (`.*?) \| .*? \|$", PAGE[PAGE.index("## Capacity") :], re.MULTILINE)
    named = {word for row in rows for word in re.findall(r"`(\w+)`", row)}
    assert len(rows) == 5
    assert named <= known


def test_the_metrics_are_those_that_there_are() -> None:
    named = set(re.findall(r"eventmicro_\w+_\w+", PAGE))
    assert named
    assert [name for name in named if f"`{name}`" not in (DOCS / "operations.md").read_text()] == []
