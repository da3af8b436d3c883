"""The options of `eventmicro run`, each with its variable and its help."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from eventmicro.cli.settings import find_url
from eventmicro.discovery.registering import INTERVAL_VARIABLE, TTL_VARIABLE
from eventmicro.plugins import BROKER_VARIABLE, REGISTRY_VARIABLE, RPC_BROKER_VARIABLE
from eventmicro.running.logs import FORMAT_VARIABLE, LEVEL_VARIABLE

HEALTH_PORT_VARIABLE = "EVENTMICRO_HEALTH_PORT"
HEALTH_HOST_VARIABLE = "EVENTMICRO_HEALTH_HOST"


class Level(StrEnum):
    """The levels that can be asked for."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"
    critical = "critical"


class Format(StrEnum):
    """The forms that logs can have."""

    text = "text"
    json = "json"


Targets = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="TARGET",
        help="What to run: module:service, module (all Service objects in it), or path/to/file.py[:service]; or a "
        "folder with an eventmicro.toml, all of whose services run, each as a process. Default: this folder.",
        show_default=False,
    ),
]
Broker = Annotated[
    str | None,
    typer.Option(
        envvar=BROKER_VARIABLE,
        callback=find_url,
        metavar="URL",
        help="The broker for services whose code names none. Default: a nats-server embedded for this machine, "
        "started or joined, with its data in ~/.local/state/eventmicro; by jetstream:// for those that need it.",
    ),
]
RpcBroker = Annotated[
    str | None,
    typer.Option(
        envvar=RPC_BROKER_VARIABLE,
        callback=find_url,
        metavar="URL",
        help="The broker for endpoints and calls, where --broker carries none, as Kafka.",
    ),
]
Reload = Annotated[
    bool,
    typer.Option("--reload/--no-reload", envvar="EVENTMICRO_RELOAD", help="Start anew whenever a .py file changes."),
]
Workers = Annotated[
    int, typer.Option(envvar="EVENTMICRO_WORKERS", min=1, metavar="N", help="How many processes share the work.")
]
Registry = Annotated[
    str | None,
    typer.Option(
        envvar=REGISTRY_VARIABLE,
        callback=find_url,
        metavar="URL",
        help="Where services whose code names no registry are registered, as etcd://127.0.0.1:2379; none: nowhere. "
        "Default: with the broker's own server, where it can keep a registry.",
    ),
]
RegisterTtl = Annotated[
    float | None,
    typer.Option(
        envvar=TTL_VARIABLE, metavar="SECONDS", help="When the registry forgets who is not heard of. Default: 90."
    ),
]
RegisterInterval = Annotated[
    float | None,
    typer.Option(
        envvar=INTERVAL_VARIABLE, metavar="SECONDS", help="Between two heartbeats. Default: 30, or a third of it."
    ),
]
HealthPort = Annotated[
    int | None,
    typer.Option(
        envvar=HEALTH_PORT_VARIABLE,
        min=0,
        max=65535,
        metavar="PORT",
        help="Answer /health/live and /health/ready there, for orchestrators; 0: at any free port.",
    ),
]
HealthHost = Annotated[
    str, typer.Option(envvar=HEALTH_HOST_VARIABLE, metavar="ADDRESS", help="Where --health-port listens.")
]
LogLevel = Annotated[
    Level, typer.Option(envvar=LEVEL_VARIABLE, case_sensitive=False, help="The least level that is shown.")
]
LogFormat = Annotated[
    Format, typer.Option(envvar=FORMAT_VARIABLE, case_sensitive=False, help="json: one object a line.")
]
Only = Annotated[
    str | None,
    typer.Option(metavar="NAMES", help="Of the services of a folder only these, with commas between."),
]
