"""`eventmicro call`, `publish` and `subscribe`: one message at a time, from a shell. Bodies travel as they are."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
from collections.abc import Awaitable
from typing import Annotated

import typer

from eventmicro.broker import Broker as BrokerPort
from eventmicro.broker import Capabilities
from eventmicro.cli.connecting import Broker, Registry, RpcBroker, complete_endpoint, connected_client
from eventmicro.cli.directing import Key, Label, Node, Selector, Version, read_filters
from eventmicro.cli.show import as_json_line, as_line, examples, show_error, show_reply
from eventmicro.errors import ServiceError, UsageError
from eventmicro.message import Delivery
from eventmicro.plugins import brokers_with
from eventmicro.rpc.client import DEFAULT_TIMEOUT
from eventmicro.wire import JSON, check_subject, content_type

CALL_EPILOG = examples(
    """eventmicro call orders.quote '{"sku": "a"}'""",
    "eventmicro call orders.quote - < request.json",
    "eventmicro call orders.ping --timeout 2",
    "eventmicro call orders.ping --version '^2' --label zone=eu",
)
PUBLISH_EPILOG = examples(
    """eventmicro publish orders.placed '{"order_id": "7"}'""",
    "eventmicro publish orders.placed --key 7 --header tenant=acme - < event.json",
)
SUBSCRIBE_EPILOG = examples(
    "eventmicro subscribe 'orders.>'",
    "eventmicro subscribe orders.placed --count 1",
    "eventmicro subscribe '>' --json | jq .body",
)

Body = Annotated[
    str | None,
    typer.Argument(
        metavar="BODY", help="JSON; default: what is piped in, or else empty. - always reads stdin.", show_default=False
    ),
]
Headers = Annotated[list[str] | None, typer.Option("--header", metavar="NAME=VALUE", help="Send a header along.")]


def call(
    endpoint: Annotated[
        str,
        typer.Argument(
            metavar="SERVICE.ENDPOINT", help="What to call, such as orders.quote.", autocompletion=complete_endpoint
        ),
    ],
    body: Body = None,
    timeout: Annotated[
        float, typer.Option(min=0.001, metavar="SECONDS", help="How long to wait for the reply.")
    ] = DEFAULT_TIMEOUT,
    header: Headers = None,
    node: Node = None,
    version: Version = None,
    label: Label = None,
    selector: Selector = None,
    key: Key = None,
    broker: Broker = None,
    rpc_broker: RpcBroker = None,
    registry: Registry = None,
) -> None:
    """Call an endpoint and print its reply.

    The broker chooses who gets the call, unless a node is asked for: by id, version, label, selector or key. An error
    that it answers goes to stderr, and the exit code is 1.
    """
    filters = read_filters(node, version, label)
    headers = _read_headers(header)
    request = _read_body(body, headers)
    over = rpc_broker or broker  # events go nowhere, so the other one need not be there

    async def send() -> bytes:
        async with connected_client(over, rpc_broker=over, registry=registry) as client:
            return await client.call(
                endpoint,
                request,
                bytes,
                timeout=timeout,
                metadata=headers,
                selector=selector,
                filters=filters,
                key=key,
            )

    try:
        show_reply(asyncio.run(send()))
    except ServiceError as error:
        show_error(error)
        raise typer.Exit(1) from None


def publish(
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="Where to publish, such as orders.placed.")],
    body: Body = None,
    key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="What the event belongs to; Kafka keeps those of one key in order."),
    ] = None,
    id: Annotated[
        str | None,
        typer.Option(metavar="ID", help="What names the event; JetStream stores those of one name once."),
    ] = None,
    header: Headers = None,
    broker: Broker = None,
) -> None:
    """Publish one event.

    It says nothing, and is done when the broker has taken the event, whether or not anybody subscribes to it.
    """
    headers = _read_headers(header)
    event = _read_body(body, headers)

    async def send() -> None:
        async with connected_client(broker) as client:
            _say_unused(client.broker, key, id)
            await client.publish(subject, event, key=key, id=id, metadata=headers)
            await client.flush()

    asyncio.run(send())


def subscribe(
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="What to watch; * is one token, > is the rest.")],
    count: Annotated[int | None, typer.Option(min=1, metavar="N", help="End after N messages.")] = None,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line: subject, headers, and body, or base64 if no JSON.")
    ] = False,
    broker: Broker = None,
) -> None:
    """Watch a subject and print each message as a line.

    It ends with Ctrl-C. The services get the messages as well: watching takes none away.
    """
    form = as_json_line if json else as_line
    check_subject(subject, wildcards=True)

    async def watch() -> None:
        done = asyncio.Event()
        left = count

        def receive(delivery: Delivery) -> Awaitable[None] | None:
            nonlocal left
            if not done.is_set() and _print_line(form(delivery)) and (left is None or left > 1):
                left = None if left is None else left - 1
            else:
                done.set()
            return None

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, done.set)
        async with connected_client(broker) as client:
            await client.broker.subscribe(subject, receive)
            await client.flush()
            typer.echo(f"listening to {subject} on {client.broker.url}, Ctrl-C ends it", err=True)
            await done.wait()

    asyncio.run(watch())


def _say_unused(broker: BrokerPort, key: str | None, id: str | None) -> None:
    """Say which of the two the broker makes nothing of."""
    needs = {"--key": (key, Capabilities(ordered_keys=True)), "--id": (id, Capabilities(dedupe=True))}
    for option, (value, needed) in needs.items():
        if value is not None and broker.capabilities.missing(needed):
            able = ", ".join(brokers_with(needed))
            typer.echo(f"eventmicro: {option}: {broker.url} makes nothing of it; able are {able}", err=True)


def _read_headers(pairs: list[str] | None) -> dict[str, str]:
    headers = {}
    for pair in pairs or ():
        name, separator, value = pair.partition("=")
        if not separator:
            raise UsageError(f"header {pair!r}: write NAME=VALUE")
        headers[name] = value
    return headers


def _read_body(argument: str | None, headers: dict[str, str]) -> bytes:
    """The body to send, from the argument or from stdin. What claims no other content type has to be JSON, or empty."""
    if argument is None:
        body = sys.stdin.buffer.read() if _is_piped() else b""
    else:
        body = sys.stdin.buffer.read() if argument == "-" else argument.encode()
    if body.strip() and content_type(headers) in (None, JSON):
        _check_json(body)
    return body


def _is_piped() -> bool:
    """Whether something was piped in; a terminal or /dev/null is no pipe."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError, AttributeError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def _check_json(body: bytes) -> None:
    from pydantic_core import from_json

    try:
        from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise UsageError(
            f"the body is no JSON: {error}; a string is written '\"text\"', and for another form of body pass "
            f"--header Content-Type=..."
        ) from None


def _print_line(line: str) -> bool:
    """Whether there is still somebody who reads."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the interpreter's own flush at the end
        return False
    return True
