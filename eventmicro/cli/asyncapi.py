"""`eventmicro asyncapi`: what services answer to and what they take, as an AsyncAPI document."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Annotated, Any

import typer

from eventmicro.cli.connecting import Broker, Registry, RpcBroker, connected_client, meant
from eventmicro.cli.generate import Out, write
from eventmicro.cli.processes.running import find_code
from eventmicro.cli.session import run
from eventmicro.cli.show import examples, printable
from eventmicro.cli.target import BrokenModule, load_services, log_broken
from eventmicro.errors import EventMicroError, UsageError
from eventmicro.plugins import unconnected_broker
from eventmicro.registry import ServiceRecord
from eventmicro.running.recording import make_service_record
from eventmicro.service import Service
from eventmicro.sources import used_file

EPILOG = examples(
    "eventmicro asyncapi",
    "eventmicro asyncapi app:service",
    "eventmicro asyncapi app:service --out asyncapi.html",
    "eventmicro asyncapi --running orders billing",
)


class Form(StrEnum):
    yaml = "yaml"
    json = "json"
    html = "html"


FORMS = {".yaml": Form.yaml, ".yml": Form.yaml, ".json": Form.json, ".html": Form.html, ".htm": Form.html}


def asyncapi(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SERVICES]...",
            help="module:service or path/to/file.py; default: those of eventmicro.toml; with --running names.",
        ),
    ] = None,
    running: Annotated[
        bool, typer.Option("--running", help="Those that run, by the registry; without names all of them.")
    ] = False,
    out: Out = None,
    form: Annotated[
        Form | None, typer.Option("--format", help="Default: after the file's name, or yaml.", show_default=False)
    ] = None,
    broker: Broker = None,
    rpc_broker: RpcBroker = None,
    registry: Registry = None,
) -> None:
    """Write an AsyncAPI 3 document of services, from their code or of those that run; as html it is a page to read."""
    from eventmicro.generating.asyncapi import write_document

    form = form or (Form.yaml if out is None else FORMS.get(out.suffix, Form.yaml))
    if running:
        document = write_document(_running(names or [], broker, rpc_broker, registry), broker)
    else:
        services = _declared(names or [])
        named = broker or _named(services)
        records = [_record(service, named, rpc_broker) for service in services]
        document = write_document(records, named, dict(_about(services)))
    write(out, _as_text(document, form))


def _declared(targets: list[str]) -> list[Service]:
    if not targets and used_file() is None:
        raise UsageError("which services? write module:service, or --running for those that run")
    try:
        return load_services(find_code(targets))
    except BrokenModule as broken:
        log_broken(targets, broken)
        raise typer.Exit(1) from None


def _running(names: list[str], broker: str | None, rpc_broker: str | None, registry: str | None) -> list[ServiceRecord]:
    async def ask() -> list[ServiceRecord]:
        async with connected_client(broker, rpc_broker, registry) as client:
            found = await client.services()
            for name in names:
                if not any(each.name == name for each in found):
                    raise EventMicroError(f"no node of {name!r} answers{await meant(client, name)}")
            return sorted(
                (each for each in found if not names or each.name in names), key=lambda each: (each.name, each.version)
            )

    found = run(ask())
    if not found:
        raise EventMicroError("no service answers")
    return found


def _named(services: Iterable[Service]) -> str | None:
    """The broker that the code names, where it is one URL."""
    named = {service.broker for service in services if isinstance(service.broker, str)}
    return named.pop() if len(named) == 1 else None


def _record(service: Service, broker: str | None, rpc_broker: str | None) -> ServiceRecord:
    """What a service declares, told as it would be on its brokers; on that of its places where none is named."""
    endpoints, subscribers = service.endpoints.values(), service.subscribers.values()
    schemes = (place.scheme for each in subscribers for place in each.options.places().values())
    named = service.broker or broker or next((f"{scheme}://" for scheme in schemes if scheme), None)
    events = None if named is None else unconnected_broker(named)
    calls = service.rpc_broker or rpc_broker
    over = events if calls is None else unconnected_broker(calls)
    return make_service_record(service.name, service.version, service.metadata, endpoints, subscribers, events, over)


def _about(services: Iterable[Service]) -> Iterator[tuple[str, str]]:
    """What the code says of services and handlers: descriptions and docstrings."""
    for service in services:
        yield service.name, service.description
        handlers = {name: each.signature.function for name, each in service.endpoints.items()}
        handlers |= {name: each.signature.function for name, each in service.subscribers.items()}
        for name, function in handlers.items():
            yield f"{service.name}.{name}", inspect.getdoc(function) or ""


def _as_text(document: dict[str, Any], form: Form) -> str:
    if form is Form.json:
        return printable(json.dumps(document, indent=2, ensure_ascii=False)) + "\n"
    if form is Form.html:
        from eventmicro.generating.page import write_page

        return write_page(document)
    return _as_yaml(document)


def _as_yaml(document: dict[str, Any]) -> str:
    """As YAML, in which what could steer a terminal is escaped, as it is in JSON."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: object) -> bool:
            return True

        def represent_str(self, data: str) -> yaml.ScalarNode:
            style = None if data.replace("\n", "").isprintable() else '"'
            return self.represent_scalar("tag:yaml.org,2002:str", data, style)

        def write_double_quoted(self, text: str, split: bool = True) -> None:
            self.allow_unicode = False
            super().write_double_quoted(text, split)
            self.allow_unicode = True

    Dumper.add_representer(str, Dumper.represent_str)
    return yaml.dump(document, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100)
