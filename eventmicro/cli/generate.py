"""`eventmicro generate`: code from `.proto` files, from services that run, and `.proto` files from contracts."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from eventmicro.cli.connecting import Broker, Registry, RpcBroker, complete_service, connected_client
from eventmicro.cli.session import run
from eventmicro.cli.show import examples, one_line
from eventmicro.cli.target import BrokenModule, load_contract, log_broken
from eventmicro.discovery.versions import Version, version_of
from eventmicro.errors import EventMicroError, UsageError
from eventmicro.registry import ServiceRecord

PROTO_EPILOG = examples(
    "eventmicro generate proto shop/v1/orders.proto --out .", "eventmicro generate proto -I protos protos/*.proto"
)

CLIENT_EPILOG = examples("eventmicro generate client orders", "eventmicro generate client orders --out orders.py")
PROTO_OF_EPILOG = examples(
    "eventmicro generate proto-of shop:Orders", "eventmicro generate proto-of shop:Orders --out shop/v1/orders.proto"
)

app = typer.Typer(
    help="Write contracts and messages: from .proto files, or from a service that runs.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Include = Annotated[
    list[Path] | None,
    typer.Option("-I", "--include", metavar="DIR", help="Where imports are looked for. Default: the current folder."),
]

Out = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Where to write it. Default: it is printed.", show_default=False)
]


@app.command("proto", epilog=PROTO_EPILOG)
def proto(
    files: Annotated[list[Path], typer.Argument(metavar="FILES...", help="The .proto files.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder for what is written.")] = Path(),
    include: Include = None,
) -> None:
    """Write messages and contracts of .proto files: for orders.proto orders_pb2.py, its types in orders_pb2.pyi, and
    orders_contracts.py with a contract for each service.
    """
    from eventmicro.generating.protoc import generate

    say_written(generate(files, out, include or []))


@app.command("client", epilog=CLIENT_EPILOG)
def client(
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="Which one.", autocompletion=complete_service)],
    version: Annotated[
        str | None, typer.Option(help="The version to read. Default: the newest that runs.", show_default=False)
    ] = None,
    broker: Broker = None,
    rpc_broker: RpcBroker = None,
    registry: Registry = None,
    out: Out = None,
) -> None:
    """Write the contract of a service that runs: a class for client.stub, and models of what it takes and replies."""
    from eventmicro.generating.client import write_client

    found = _newest(_find(service, broker, rpc_broker, registry), service, version)
    write(out, write_client(found))
    for each in found.endpoints:
        if each.request is each.reply is None and not each.is_subscriber:
            text = f"{found.name}.{each.name}: no types are known, so it takes and returns nothing"
            typer.echo(one_line(text), err=True)


def _find(name: str, broker: str | None, rpc_broker: str | None, registry: str | None) -> list[ServiceRecord]:
    async def ask() -> list[ServiceRecord]:
        async with connected_client(broker, rpc_broker, registry) as client:
            return await client.services(name)

    return run(ask())


def _newest(found: list[ServiceRecord], name: str, version: str | None) -> ServiceRecord:
    """The record of this version, or the newest one.

    Raises:
        EventMicroError: there is none.
    """
    if not found:
        raise EventMicroError(f"no node of {name!r} answers")
    wanted = [each for each in found if version in (None, each.version)]
    if not wanted:
        raise EventMicroError(f"{name!r} runs in {', '.join(each.version for each in found)}, and not in {version}")
    return max(wanted, key=lambda each: version_of(each.version) or Version("0.0.0"))


@app.command("proto-of", epilog=PROTO_OF_EPILOG)
def proto_of(
    contract: Annotated[str, typer.Argument(metavar="CONTRACT", help="module:Orders or path/to/file.py:Orders.")],
    package: Annotated[
        str | None,
        typer.Option(help="The package. Default: that of its protobuf messages, else the service.", show_default=False),
    ] = None,
    out: Out = None,
) -> None:
    """Write a contract as a .proto file: its service, and a message for each pydantic model that it has."""
    from eventmicro.generating.proto import write_proto

    try:
        found = load_contract(contract)
    except BrokenModule as broken:
        log_broken([contract], broken)
        raise typer.Exit(1) from None
    write(out, write_proto(found, package))


def write(out: Path | None, text: str) -> None:
    """Write it there, and say so, or print it.

    Raises:
        UsageError: it cannot be written there.
    """
    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror}") from None
    say_written([out])


def say_written(files: Iterable[Path]) -> None:
    """Say to a person what was written; the log of a build stays empty where all went well."""
    for file in files if sys.stderr.isatty() else ():
        typer.echo(one_line(f"wrote {file}"), err=True)
