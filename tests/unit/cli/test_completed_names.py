"""Names that are completed in the shell: where the options say that were typed before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from eventmicro.cli import connecting
from eventmicro.cli.app import app
from eventmicro.registry import STREAM, EndpointRecord, NodeRecord, ServiceRecord

ENDPOINTS = [
    EndpointRecord(name="quote"),
    EndpointRecord(name="watch", metadata={STREAM: "server"}),
    EndpointRecord(name="bill", metadata={"subscriber": "true"}),
]
THERE = [
    ServiceRecord(name="orders", version="1.0.0", endpoints=ENDPOINTS, nodes=[NodeRecord(id="one")]),
    ServiceRecord(name="origins", nodes=[NodeRecord(id="other")]),
]
PLACES = ["--broker", "nats://b:1", "--registry", "etcd://r:2"]


@pytest.mark.parametrize(
    ("words", "begun", "found"),
    [
        (["describe"], "or", ["orders", "origins"]),
        (["services"], "ori", ["origins"]),
        (["call"], "orders.", ["orders.quote", "orders.watch"]),
        (["stream"], "", ["orders.watch"]),
        (["call", "orders.quote", "--node"], "o", ["one", "other"]),
        (["stats"], "x", []),
    ],
)
@pytest.mark.parametrize("typed", [[], PLACES])
def test_names_are_asked_for_where_the_options_say(
    words: list[str], begun: str, found: list[str], typed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str | None, ...]] = []

    async def services() -> list[ServiceRecord]:
        return THERE

    @asynccontextmanager
    async def client(*places: str | None) -> AsyncIterator[SimpleNamespace]:
        asked.append(places)
        yield SimpleNamespace(services=services)

    monkeypatch.setattr(connecting, "client_for_others", client)
    line = ["eventmicro", words[0], *typed, *words[1:], begun]
    env = {"_EVENTMICRO_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(line), "COMP_CWORD": str(len(line) - 1)}
    printed = CliRunner().invoke(app, env=env, prog_name="eventmicro").stdout
    assert printed.split() == found
    assert asked == [("nats://b:1", None, "etcd://r:2") if typed else (None, None, None)]
