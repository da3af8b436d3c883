"""The words of spans and metrics are those of OpenTelemetry's semantic conventions, as its newest package has them."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import opentelemetry.semconv as conventions
import pytest
from opentelemetry.semconv._incubating.attributes import messaging_attributes, rpc_attributes

from eventmicro.context import Side
from eventmicro.telemetry import attributes, metering, tracing

if not hasattr(rpc_attributes, "RPC_SYSTEM_NAME"):
    pytest.skip("these conventions are older than what is said here", allow_module_level=True)

WORD = re.compile(r"[\"']((?:messaging|rpc|server|error)\.[a-z_.]+)[\"']")


def known(kind: str) -> dict[str, str]:
    """Each attribute or metric of the conventions, with what they say of it."""
    found: dict[str, str] = {}
    for base in ("_incubating/", ""):  # what is stable stands in both, and is said to be deprecated in the first
        folder = Path(conventions.__path__[0]) / base / kind
        for module in pkgutil.iter_modules([str(folder)]):
            path = ".".join(("opentelemetry.semconv", *base.strip("/").split("/"), kind, module.name)).replace(
                "..", "."
            )
            found |= words_of(importlib.import_module(path))
    return found


def words_of(module: ModuleType) -> dict[str, str]:
    said = re.findall(r'^[A-Z_]+: Final = "(.*?)"\n"""(.*?)"""', inspect.getsource(module), re.MULTILINE | re.DOTALL)
    return dict(said)


def used(*modules: Any) -> set[str]:
    return {word for module in modules for word in WORD.findall(inspect.getsource(module))}


METRICS = {name for name, _ in (*metering.NAMES.values(), *metering.COUNTS.values())}


def test_attributes_are_those_of_the_conventions_and_none_is_deprecated() -> None:
    words, there = used(attributes, metering, tracing) - METRICS, known("attributes")
    assert len(words) > 12
    assert words - set(there) == set()
    assert [word for word in words if there[word].strip().startswith("Deprecated")] == []


def test_metrics_are_those_of_the_conventions_with_their_units() -> None:
    there = known("metrics")
    for side, (name, _) in metering.NAMES.items():
        assert "Instrument: histogram\nUnit: s\n" in there[name], side
    for side, (name, _) in metering.COUNTS.items():
        assert "Instrument: counter\nUnit: {message}\n" in there[name], side
    assert set(metering.NAMES) == set(Side)


def test_operations_have_the_types_of_the_conventions() -> None:
    allowed = {each.value for each in messaging_attributes.MessagingOperationTypeValues}
    systems = {each.value for each in messaging_attributes.MessagingSystemValues}
    assert {kind for _, kind in attributes.OPERATIONS.values()} <= allowed
    assert set(attributes.SYSTEMS.values()) - systems == {"nats"}  # which has no word there, and its own name is taken
