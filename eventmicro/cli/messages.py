"""`eventmicro call`, `publish` and `subscribe`: one message at a time, from a shell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from eventmicro.broker import Broker as BrokerPort
from eventmicro.broker import Capabilities
from eventmicro.cli.bodies import Body, ContentType, Headers, as_json, expected, read_headers, read_request
from eventmicro.cli.connecting import (
    Broker,
    Registry,
    RpcBroker,
    add_meant,
    complete_endpoint,
    connected_client,
    connected_to_queues,
    run_answered,
)
from eventmicro.cli.directing import Key, Label, Node, Selector, Version, read_filters
from eventmicro.cli.exchanges import ExchangeName, ExchangeType, read_exchange, topic_on
from eventmicro.cli.filling import Interactive, fill_in_event, fill_in_request
from eventmicro.cli.moments import Since, read_moment
from eventmicro.cli.output import Json, Output, ReplyForm, chosen, print_reply
from eventmicro.cli.session import Places, keep, run, run_beside, what_ends_it
from eventmicro.cli.show import as_json_line, as_line, as_raw_line, examples, show_pairs
from eventmicro.cli.stream import asked, say_stream
from eventmicro.cli.takers import check_callable, say_what_it_takes, say_who_takes
from eventmicro.cli.watching import Watching, kept_of
from eventmicro.errors import ServiceError, UsageError
from eventmicro.plugins import brokers_with
from eventmicro.reply import Reply
from eventmicro.rpc.client import DEFAULT_TIMEOUT
from eventmicro.wire import check_subject

CALL_EPILOG = examples(
    """eventmicro call orders.quote '{"sku": "a"}'""",
    "eventmicro call orders.quote - < request.json",
    "eventmicro call orders.ping --timeout 2",
    """eventmicro call orders.quote '{"sku": "a"}' --content-type msgpack""",
    "eventmicro call orders.ping --version '^2' --label zone=eu",
    "eventmicro call orders.quote --interactive",
    "eventmicro call orders.quote @request.json -m tenant=acme -o table",
)
PUBLISH_EPILOG = examples(
    """eventmicro publish orders.placed '{"order_id": "7"}'""",
    "eventmicro publish orders.placed --key 7 --metadata tenant=acme - < event.json",
    "eventmicro publish orders.placed @event.json --exchange shop --broker amqp://127.0.0.1:5672",
)
SUBSCRIBE_EPILOG = examples(
    "eventmicro subscribe 'orders.>'",
    "eventmicro subscribe orders.placed --count 1",
    "eventmicro subscribe '>' --json | jq .body",
    "eventmicro subscribe orders.placed --since 7d",
    "eventmicro subscribe '>' --exchange shop --exchange-type fanout --broker amqp://127.0.0.1:5672",
)
# What `subscribe` prints of a message.
LINES = {Output.json: as_json_line, Output.raw: as_raw_line, Output.table: as_line}


def call(
    endpoint: Annotated[
        str,
        typer.Argument(
            metavar="SERVICE.ENDPOINT", help="What to call, such as orders.quote.", autocompletion=complete_endpoint
        ),
    ],
    body: Body = None,
    interactive: Interactive = False,
    output: ReplyForm = None,
    show_metadata: Annotated[
        bool, typer.Option("--show-metadata", help="Print on stderr the metadata that came with the reply.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(min=0.001, metavar="SECONDS", help="How long to wait for the reply.")
    ] = DEFAULT_TIMEOUT,
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
    """Call an endpoint and print its reply.

    The broker chooses who gets the call, unless a node is asked for: by id, version, label, selector or key. An error
    that it answers goes to stderr, and the exit code is 1.
    """
    filters = read_filters(node, version, label)
    headers = read_headers(header, content_type)
    over = rpc_broker or broker  # events go nowhere, so the other one need not be there
    if interactive:
        _check_alone(body)
        body = fill_in_request(endpoint, Places(over, over, registry))
    request = read_request(body, headers, content_type)
    reply_type: Any = Reply[expected(content_type)]  # type: ignore[misc]  # it is known when it runs

    async def send() -> Any:
        async with connected_client(over, rpc_broker=over, registry=registry) as client:
            records = await asked(client, endpoint)
            await check_callable(client, endpoint, records)
            try:
                return await client.call(
                    endpoint,
                    request,
                    reply_type,
                    timeout=timeout,
                    metadata=headers,
                    content_type=content_type,
                    selector=selector,
                    filters=filters,
                    key=key,
                )
            except ServiceError as error:
                await add_meant(client, error, endpoint)
                if not request:
                    say_what_it_takes(error, endpoint, records)
                raise
            finally:
                say_stream(endpoint, records)

    reply = run_answered(send())
    if show_metadata:
        show_pairs(reply.metadata)
    keep(as_json(reply.value))
    print_reply(output or Output.json, as_json(reply.value))


def _check_alone(body: str | None) -> None:
    if body is not None:
        raise UsageError("--interactive asks for the body: leave one of them out")


def publish(
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="Where to publish, such as orders.placed.")],
    body: Body = None,
    interactive: Interactive = False,
    key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="What the event belongs to; Kafka keeps those of one key in order."),
    ] = None,
    id: Annotated[
        str | None,
        typer.Option(metavar="ID", help="What names the event; JetStream stores those of one name once."),
    ] = None,
    header: Headers = None,
    content_type: ContentType = None,
    exchange: ExchangeName = None,
    exchange_type: ExchangeType = None,
    broker: Broker = None,
    registry: Registry = None,
) -> None:
    """Publish one event.

    It is done when the broker has taken the event, whether or not anybody subscribes to it, and says nothing but what
    may be a slip: nobody who is registered takes the subject, but one like it; or what they take needs a body.
    """
    headers = read_headers(header, content_type)
    if interactive:
        _check_alone(body)
        body = fill_in_event(subject, Places(broker, None, registry))
    event = read_request(body, headers, content_type)

    async def send() -> None:
        async with connected_client(broker) as client:
            _say_unused(client.broker, key, id)
            topic = topic_on(subject, read_exchange(client.broker, exchange, exchange_type, checked=False))
            await client.publish(topic, event, key=key, id=id, metadata=headers, content_type=content_type)
            await client.flush()
            await say_who_takes(client, subject, empty=not event)

    run(send())


def subscribe(
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="What to watch; * is one token, > is the rest.")],
    count: Annotated[int | None, typer.Option(min=1, metavar="N", help="End after N messages.")] = None,
    since: Since = None,
    output: Annotated[
        Output | None,
        typer.Option(
            "--output",
            "-o",
            help="json: one object a line: subject, headers, and body, or base64 if no JSON; raw: bodies alone; "
            "table: a line each, for a person.",
            show_default="table",
        ),
    ] = None,
    json: Json = False,
    exchange: ExchangeName = None,
    exchange_type: ExchangeType = None,
    broker: Broker = None,
) -> None:
    """Watch a subject and print each message as a line.

    It ends with Ctrl-C. The services get the messages as well: watching takes none away. What is compressed, or in a
    content type that is known here, is shown as JSON. With --since those come first that the broker has kept; one that
    is published meanwhile may be shown twice.
    """
    form = LINES[chosen(output, json)]
    check_subject(subject, wildcards=True)
    moment = read_moment(since, "--since")
    connected = connected_client if moment is None else connected_to_queues

    async def watch(begun: Callable[[], None]) -> None:
        async with connected(broker) as client:
            if moment is not None:
                kept_of(client)
            line = Watching(form, count)
            of_its_kind: dict[str, Any] = read_exchange(client.broker, exchange, exchange_type, checked=True)
            subscription = await client.broker.subscribe(subject, line.receive, **of_its_kind)
            try:
                await client.flush()
                typer.echo(f"listening to {subject} on {client.broker.url}, {what_ends_it()}", err=True)
                begun()
                await line.catch_up(client, subject, moment)
                await line.done.wait()
            finally:
                await subscription.drain()

    run_beside(f"subscribe {subject}", watch)


def _say_unused(broker: BrokerPort, key: str | None, id: str | None) -> None:
    """Say which of the two the broker makes nothing of."""
    needs = {"--key": (key, Capabilities(ordered_keys=True)), "--id": (id, Capabilities(dedupe=True))}
    for option, (value, needed) in needs.items():
        if value is not None and broker.capabilities.missing(needed):
            able = ", ".join(brokers_with(needed))
            typer.echo(f"eventmicro: {option}: {broker.url} makes nothing of it; able are {able}", err=True)
