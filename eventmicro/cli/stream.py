"""`eventmicro stream`: the messages of a stream as lines, out of an endpoint and into it."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Annotated, Any

import typer

from eventmicro.cli.bodies import (
    Body,
    ContentType,
    Headers,
    as_json,
    check_json,
    expected,
    read_headers,
    read_request,
    says_json,
    value_of,
)
from eventmicro.cli.connecting import (
    Broker,
    Registry,
    RpcBroker,
    add_meant,
    complete_stream,
    connected_client,
    run_answered,
)
from eventmicro.cli.directing import Key, Label, Node, Selector, Version, read_filters
from eventmicro.cli.session import current, until_signal
from eventmicro.cli.show import as_item_line, examples, print_line
from eventmicro.cli.takers import check_callable
from eventmicro.client import Client
from eventmicro.discovery.asking import ask_service, can_be_asked
from eventmicro.errors import EventMicroError, ServiceError, UsageError
from eventmicro.information import record_of
from eventmicro.registry import STREAM, ServiceRecord
from eventmicro.rpc.streams.stream import Stream

EPILOG = examples(
    """eventmicro stream orders.watch '{"sku": "a"}' | jq .total""",
    "eventmicro stream orders.watch --count 10",
    "eventmicro stream orders.total < items.ndjson",
)

# Which side sends a stream, as records say it, where that is the caller.
SENDING = ("client", "bidirectional")
# How long it is waited for a service that is asked what it has, in seconds.
WITHIN = 0.5
STDIN = 0
# How many bytes of stdin are read at once, and how many times so many ahead of what the endpoint takes.
CHUNK = 65536
AHEAD = 4


def stream(
    endpoint: Annotated[
        str,
        typer.Argument(
            metavar="SERVICE.ENDPOINT", help="What to open, such as orders.watch.", autocompletion=complete_stream
        ),
    ],
    body: Body = None,
    count: Annotated[int | None, typer.Option(min=1, metavar="N", help="End after N messages.")] = None,
    timeout: Annotated[
        float | None,
        typer.Option(min=0.001, metavar="SECONDS", help="How long it may last. Default: for ever.", show_default=False),
    ] = None,
    header: Headers = None,
    content_type: ContentType = None,
    node: Node = None,
    version: Version = None,
    label: Label = None,
    selector: Selector = None,
    key: Key = None,
    broker: Broker = None,
    rpc_broker: RpcBroker = None,
    registry: Registry = None,
) -> None:
    """Open a stream and print each message that comes as a line of JSON.

    To an endpoint that takes a stream the lines of stdin are sent, each a message in JSON. It ends when the endpoint
    has ended it, or with Ctrl-C. An error that the endpoint answers goes to stderr, and the exit code is 1.
    """
    filters = read_filters(node, version, label)
    headers = read_headers(header, content_type)
    over = rpc_broker or broker

    async def open_it() -> None:
        async with connected_client(over, rpc_broker=over, registry=registry) as client:
            records = await asked(client, endpoint)
            await check_callable(client, endpoint, records)
            sends = await _find_kind(client, endpoint, records) in SENDING
            if sends and current() is not None:
                raise UsageError(f"{endpoint} takes a stream, and a shell has no stdin to send: leave the shell for it")
            if sends and body not in (None, "-"):
                raise UsageError(f"{endpoint} takes a stream: pipe its messages in, a line each, and leave BODY out")
            opened: Stream[Any] = client.stream(
                endpoint,
                None if sends else read_request(body, headers, content_type),
                expected(content_type),
                timeout=timeout,
                metadata=headers,
                content_type=content_type,
                selector=selector,
                filters=filters,
                key=key,
            )
            if sends and sys.stdin.isatty():
                typer.echo(f"each line is a message to {endpoint}, Ctrl-D ends them", err=True)
            try:
                await (_converse(opened, _Line(headers, content_type), count) if sends else _print_all(opened, count))
            except ServiceError as error:
                await add_meant(client, error, endpoint)
                raise

    run_answered(until_signal(open_it()))


async def asked(client: Client, endpoint: str) -> list[ServiceRecord]:
    """What a node of the endpoint's service answers that is asked for it; none where none does so soon."""
    service, _, name = endpoint.partition(".")
    if not name or not can_be_asked(client.rpc_broker):
        return []
    form = await ask_service(client.rpc_broker, service, within=WITHIN)
    record = None if form is None else record_of(form)
    return [] if record is None else [record]


def say_stream(endpoint: str, records: list[ServiceRecord]) -> None:
    """Say to who has called an endpoint that it is a stream, where it is one."""
    kind = _kind_in(records, endpoint.partition(".")[2])
    if kind in SENDING:
        typer.echo(f"{endpoint} takes a stream: eventmicro stream {endpoint} sends it the lines of stdin", err=True)
    elif kind:
        typer.echo(f"{endpoint} sends a stream, of which this is the first: eventmicro stream {endpoint}", err=True)


async def _find_kind(client: Client, endpoint: str, records: list[ServiceRecord]) -> str:
    """Which side sends the stream, also of a service that answers no questions but is registered."""
    service, _, name = endpoint.partition(".")
    if kind := _kind_in(records, name):
        return kind
    with suppress(EventMicroError):  # the opening says what there is to say
        return _kind_in(await client.services(service), name)
    return ""


def _kind_in(records: list[ServiceRecord], name: str) -> str:
    """Which side of an endpoint sends a stream: `server`, `client`, `bidirectional`; empty: none, or nobody says so."""
    kinds = (each.metadata.get(STREAM, "") for record in records for each in record.endpoints if each.name == name)
    return next(filter(None, kinds), "")


async def _print_all(items: Stream[Any], count: int | None) -> None:
    """Print what comes until the end, or so many, or until nobody reads any more."""
    left = count
    try:
        async for item in items:
            left = None if left is None else left - 1
            if not print_line(as_item_line(as_json(item))) or left == 0:
                return
    finally:
        await items.aclose()


async def _converse(items: Stream[Any], line: _Line, count: int | None) -> None:
    """Send what stdin has, and print what comes, at the same time."""
    async with items:
        printing = asyncio.create_task(_print_all(items, count))
        sending = asyncio.create_task(_send_all(items, line))
        try:
            await asyncio.wait((printing, sending), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
            await printing
        finally:
            printing.cancel()
            sending.cancel()
            await asyncio.gather(printing, sending, return_exceptions=True)


async def _send_all(items: Stream[Any], line: _Line) -> None:
    with suppress(ServiceError):  # who reads is told how it has ended
        async with aclosing(lines_of_stdin()) as lines:
            async for text in lines:
                if text.strip():
                    await items.send(line.read(text))
        await items.end()


class _Line:
    """What a line of stdin is as a message."""

    def __init__(self, headers: dict[str, str], wanted: str | None) -> None:
        self._wanted = wanted
        self._is_json = says_json(headers)
        self._number = 0

    def read(self, text: bytes) -> Any:
        self._number += 1
        if self._is_json or self._wanted is not None:
            check_json(text, f"message {self._number}")
        return text if self._wanted is None else value_of(text)


async def lines_of_stdin() -> AsyncGenerator[bytes]:
    """The lines of stdin, whatever that is: a pipe, a file, a terminal.

    They are read by a thread that nobody waits for, as it may wait for a terminal for ever; it reads no file object, as
    the interpreter could not end while one is being read.
    """
    loop, batches, room = asyncio.get_running_loop(), asyncio.Queue[list[bytes] | None](), threading.Semaphore(AHEAD)

    def put(batch: list[bytes] | None) -> None:
        room.acquire()
        with suppress(RuntimeError):  # nobody takes them any more
            loop.call_soon_threadsafe(batches.put_nowait, batch)

    def read() -> None:
        rest = b""
        with suppress(OSError):  # there is no stdin
            while chunk := os.read(STDIN, CHUNK):
                *whole, rest = (rest + chunk).split(b"\n")
                put(whole)
        put([rest])
        put(None)

    threading.Thread(target=read, daemon=True).start()
    while (batch := await batches.get()) is not None:
        room.release()
        for line in batch:
            yield line
