"""What a peer says steers no terminal and forges no line, whatever command shows it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

import pytest

from eventmicro import EventMicroError, MemoryBroker, Service
from eventmicro.broker import Durable
from eventmicro.cli import app, show
from eventmicro.cli.output import Output, print_records, print_reply
from eventmicro.cli.records import print_table
from eventmicro.discovery import asking
from eventmicro.message import Delivery, Message
from eventmicro.registry import EndpointRecord, NodeRecord, ServiceRecord
from tests.unit.cli.kit import Typed, typed

EVIL = "a\x1b[31mred\x9b2J\u202e\r\nforged 1 line"
HARMLESS = "a\\u001b[31mred\\u009b2J\\u202e\\r\\nforged 1 line"


def orders(broker: MemoryBroker) -> Service:
    service = Service("orders", broker=broker, description=EVIL, metadata={"label": "x\x1b[31m"})

    @service.rpc
    async def text() -> str:
        return EVIL

    @service.rpc
    async def fail() -> None:
        raise EventMicroError(EVIL)

    return service


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Typed]:
    for name in ("EVENTMICRO_BROKER", "EVENTMICRO_RPC_BROKER", "EVENTMICRO_REGISTRY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(asking, "STALL", 0.05)  # all who answer do so in this loop, and one never does
    with typed(capsys, orders) as shell:
        yield shell


def check(*texts: str) -> None:
    for text in texts:
        assert [c for c in text if c != "\n" and not c.isprintable()] == []
        assert [line for line in text.splitlines() if line.startswith("forged")] == []


def test_what_services_are_named_and_say(shell: Typed) -> None:
    record = ServiceRecord(
        name="evil",
        version=EVIL,
        metadata={EVIL: EVIL},
        endpoints=[
            EndpointRecord(name=EVIL, request={"title": EVIL, "properties": {EVIL: {"type": EVIL}}}),
            EndpointRecord(name=EVIL, metadata={"subscriber": "true", "topic": EVIL, "queue": EVIL}),
        ],
        nodes=[NodeRecord(id="one", address="evil.one", metadata={EVIL: EVIL})],
    )
    shell(f"register '{record.model_dump_json()}'")
    seen = 0
    for command in ("services", "describe evil", "nodes", "health", "stats", "call evil.nothing", "replies"):
        for form in ("", " -o json", " -o raw"):
            if command in ("call evil.nothing", "replies") and form:
                continue
            _, out, err = shell(command + form)
            check(out, err)
            seen += HARMLESS in out or HARMLESS in out.replace("\\\\", "\\")
    assert seen >= 6


def test_what_is_no_schema_is_shown_as_such_and_not_asked_for(shell: Typed) -> None:
    wrong = {"type": "object", "properties": [1], "anyOf": 3}
    endpoints = [EndpointRecord(name="call", request=wrong), EndpointRecord(name="good", request={"title": "Order"})]
    record = ServiceRecord(
        name="odd", version="1.0.0", endpoints=endpoints, nodes=[NodeRecord(id="one", address="odd.one")]
    )
    shell(f"register '{record.model_dump_json()}'")
    code, out, _ = shell("describe odd")
    assert (code, "(no JSON Schema)" in out, "Order" in out) == (0, True, True)
    code, _, err = shell("call odd.call --interactive")
    assert (code, "odd.call does not say what it takes" in err) == (2, True)


@pytest.mark.parametrize("form", ["json", "table", "raw"])
def test_replies(shell: Typed, form: str) -> None:
    _, out, err = shell(f"call orders.text -o {form}")
    check(out if form != "raw" else "", err)
    assert HARMLESS in out or form == "raw"
    check(*shell("replies")[1:])


def test_errors(shell: Typed) -> None:
    check(*shell("call orders.fail")[1:])
    check(*shell(f"call 'orders.{EVIL}'")[1:])
    check(*shell(f"describe '{EVIL}'")[1:])


def test_events(shell: Typed, capsys: pytest.CaptureFixture[str]) -> None:
    for form in ("", " -o json", " -o raw"):
        shell(f"subscribe evil --count 1{form}")
        client = shell.session.run(shell.session.client())
        capsys.readouterr()
        shell.session.run(client.broker.publish(Message("evil", EVIL.encode(), {"x": "a\x1b[31m"})))
        shell.session.wait()
        said = capsys.readouterr().out
        check(said)
        assert said.count("\n") == 1


def test_queues_and_dead_letters(shell: Typed) -> None:
    """Their names, subjects, reasons and headers, which on RabbitMQ and Kafka may have any sign in them."""
    client = shell.session.run(shell.session.client())
    queue, letters = f"q{EVIL}", f"dead.q{EVIL}"
    headers = {"Dead-Letter-Reason": EVIL, "Dead-Letter-Subject": EVIL, "Dead-Letter-Queue": queue, EVIL: EVIL}

    async def leave() -> None:
        for name, subject in ((queue, "evil"), (letters, letters)):
            taking = await client.broker.subscribe(subject, lambda delivery: None, queue=name, durable=Durable())
            await taking.drain()
        await client.broker.publish(Message(letters, EVIL.encode(), headers))

    shell.session.run(leave())
    named, seen = shlex.quote(queue), 0
    commands = ("queues", "queues -o json", "queues -o raw", f"dead list {named}", f"dead list {named} --json")
    more = (
        f"dead list {named} --count",
        f"dead show {named}",
        f"dead show {named} --json",
        f"dead replay {named} --dry-run",
    )
    for command in (*commands, "dead list", *more, "queues nothing", f"dead drop {named} --all"):
        _, out, err = shell(command)
        check(out, err)
        seen += "u202e" in (out + err).lower()
    assert seen >= 9


def test_a_line_of_a_table_of_an_error_and_of_a_log_stays_one(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("A", "B"), [(EVIL, EVIL)])
    print_records(Output.raw, [{EVIL: EVIL}], lambda: None)
    print_reply(Output.table, json.dumps([{EVIL: EVIL}]).encode())
    show.show_pairs({EVIL: EVIL})
    app._say(EVIL)
    said = capsys.readouterr()
    check(said.out, said.err)
    for line in (show.as_line, show.as_raw_line, show.as_json_line):
        assert "\n" not in line(Delivery(EVIL, EVIL.encode(), {EVIL: EVIL}))
        check(line(Delivery("a", EVIL.encode())))
