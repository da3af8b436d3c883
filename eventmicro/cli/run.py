"""`eventmicro run`: services as a process, as several, those of a whole folder, or anew whenever the code changes."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer

from eventmicro.cli.processes.folder import check_is_there, warn_of_misspelt
from eventmicro.cli.processes.link import Link
from eventmicro.cli.processes.marked import STDERR, STDOUT, drop, outlive_readers
from eventmicro.cli.processes.running import find_folder, run_folder
from eventmicro.cli.processes.supervisor import run_reloading, run_workers
from eventmicro.cli.processes.worker import Command
from eventmicro.cli.settings import EnvFiles, find_url, is_typed
from eventmicro.cli.show import examples
from eventmicro.cli.table import print_table
from eventmicro.cli.target import BrokenModule, load_services, log_broken
from eventmicro.discovery.registering import INTERVAL_VARIABLE, TTL_VARIABLE
from eventmicro.errors import UsageError
from eventmicro.memory.broker import MemoryBroker
from eventmicro.plugins import BROKER_VARIABLE, REGISTRY_VARIABLE, RPC_BROKER_VARIABLE, check_registry
from eventmicro.running.announcing import Runnable, log_lines
from eventmicro.running.logs import FORMAT_VARIABLE, LEVEL_VARIABLE, set_up, set_up_unless_done
from eventmicro.running.runner import serve
from eventmicro.running.signals import HANGUP, StopSignals
from eventmicro.service import Service
from eventmicro.sources import said_url, say

HEALTH_PORT_VARIABLE = "EVENTMICRO_HEALTH_PORT"
HEALTH_HOST_VARIABLE = "EVENTMICRO_HEALTH_HOST"
Address = tuple[str, int] | None

EPILOG = examples(
    "eventmicro run app:service",
    "eventmicro run app.py --reload",
    "eventmicro run",
    "eventmicro run shop.orders shop.billing:service --workers 4 --broker nats://127.0.0.1:4222",
)


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


@dataclass(frozen=True, slots=True)
class Logs:
    """How logs are set up where the code does not do that; `is_asked`: the level is not merely the default."""

    level: str
    format: str
    worker: int | None
    service: str | None
    is_asked: bool


def run(
    context: typer.Context,
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TARGET",
            help="What to run: module:service, module (all Service objects in it), or path/to/file.py[:service]; or a "
            "folder with an eventmicro.toml, all of whose services run, each as a process. Default: this folder.",
            show_default=False,
        ),
    ] = None,
    broker: Annotated[
        str | None,
        typer.Option(
            envvar=BROKER_VARIABLE,
            callback=find_url,
            metavar="URL",
            help="The broker for services whose code names none. Default: a nats-server embedded for this machine, "
            "started or joined, with its data in ~/.local/state/eventmicro; by jetstream:// for those that need it.",
        ),
    ] = None,
    rpc_broker: Annotated[
        str | None,
        typer.Option(
            envvar=RPC_BROKER_VARIABLE,
            callback=find_url,
            metavar="URL",
            help="The broker for endpoints and calls, where --broker carries none, as Kafka.",
        ),
    ] = None,
    reload: Annotated[
        bool,
        typer.Option(
            "--reload/--no-reload", envvar="EVENTMICRO_RELOAD", help="Start anew whenever a .py file changes."
        ),
    ] = False,
    workers: Annotated[
        int, typer.Option(envvar="EVENTMICRO_WORKERS", min=1, metavar="N", help="How many processes share the work.")
    ] = 1,
    registry: Annotated[
        str | None,
        typer.Option(
            envvar=REGISTRY_VARIABLE,
            callback=find_url,
            metavar="URL",
            help="Where services whose code names no registry are registered, as etcd://127.0.0.1:2379; none: nowhere. "
            "Default: with the broker's own server, where it can keep a registry.",
        ),
    ] = None,
    register_ttl: Annotated[
        float | None,
        typer.Option(
            envvar=TTL_VARIABLE, metavar="SECONDS", help="When the registry forgets who is not heard of. Default: 90."
        ),
    ] = None,
    register_interval: Annotated[
        float | None,
        typer.Option(
            envvar=INTERVAL_VARIABLE, metavar="SECONDS", help="Between two heartbeats. Default: 30, or a third of it."
        ),
    ] = None,
    health_port: Annotated[
        int | None,
        typer.Option(
            envvar=HEALTH_PORT_VARIABLE,
            min=0,
            max=65535,
            metavar="PORT",
            help="Answer /health/live and /health/ready there, for orchestrators; 0: at any free port.",
        ),
    ] = None,
    health_host: Annotated[
        str, typer.Option(envvar=HEALTH_HOST_VARIABLE, metavar="ADDRESS", help="Where --health-port listens.")
    ] = "127.0.0.1",
    log_level: Annotated[
        Level, typer.Option(envvar=LEVEL_VARIABLE, case_sensitive=False, help="The least level that is shown.")
    ] = Level.info,
    log_format: Annotated[
        Format, typer.Option(envvar=FORMAT_VARIABLE, case_sensitive=False, help="json: one object a line.")
    ] = Format.text,
    env_file: EnvFiles = None,
    only: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Of the services of a folder only these, with commas between."),
    ] = None,
) -> None:
    """Run services.

    Ctrl-C, SIGTERM or SIGHUP stops them when what runs is finished; a second one exits at once.

    What the code of a service sets beats an option, and an option beats its environment variable, which beats
    eventmicro.toml; but what is set there for one service by its name beats its code. So do logs that the code sets up.
    """
    link = Link.from_environment()
    folder = None if link is not None else find_folder(targets or [])
    if link is None and (reload or workers > 1 or folder):  # the code is run by workers
        set_up(log_level.value, log_format.value)
    for variable, name, value in (
        (RPC_BROKER_VARIABLE, "rpc_broker", rpc_broker),
        (REGISTRY_VARIABLE, "registry", registry),
        (TTL_VARIABLE, "register_ttl", register_ttl),
        (INTERVAL_VARIABLE, "register_interval", register_interval),
        (HEALTH_PORT_VARIABLE, "health_port", health_port),
        (HEALTH_HOST_VARIABLE, "health_host", health_host),
    ):
        if is_typed(context, name):
            say(variable, str(value))  # for the workers too
    if folder is not None:
        sys.exit(run_folder(context, folder, only))
    if only is not None:
        raise UsageError("--only is for the services of a folder: leave it out, or the targets")
    targets = targets or []
    check_registry("--registry", registry)
    if health_port and workers > 1:
        raise UsageError("--health-port is one port, and workers are several processes: leave out --workers, or it")
    health = None if health_port is None else (health_host, health_port)
    flag = broker if is_typed(context, "broker") else None
    number = link.number if link is not None and workers > 1 else None
    served = link.service if link is not None else None
    logs = Logs(log_level.value, log_format.value, number, served, _is_said(context, "log_level"))
    if link is not None:
        outlive_readers()
        sys.exit(_run_here(targets, flag, logs, link, health, workers))
    command = Command(tuple(targets), flag, log_level.value, log_format.value, workers)
    if reload:
        if workers > 1:
            raise UsageError("--reload runs one worker: leave out --workers, or --reload")
        sys.exit(run_reloading(command))
    if workers > 1:
        sys.exit(run_workers(command))
    sys.exit(_run_here(targets, flag, logs, None, health))


def _is_said(context: typer.Context, name: str) -> bool:
    """Whether an option was said at all, on the command line, in the environment or in a file."""
    source = context.get_parameter_source(name)
    return source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT", "DEFAULT_MAP")


def _load(targets: list[str], logs: Logs) -> list[Service]:
    """The services; logs are set up behind their modules, which may have done so."""
    try:
        return load_services(targets)
    finally:
        set_up_unless_done(logs.level, logs.format, logs.worker, logs.service, is_asked=logs.is_asked)


def _run_here(
    targets: list[str],
    broker: str | None,
    logs: Logs,
    link: Link | None,
    health: Address,
    workers: int = 1,
) -> int:
    """Run the services in this process, one of so many; the exit code. With a link, for the process that started it."""
    try:
        services = _load(targets, logs)
    except BrokenModule as broken:
        log_broken(targets, broken)
        return 1

    names = [service.name for service in services]
    if link is not None and link.service is not None:
        check_is_there(link.service, names)
    if link is None or link.is_first:
        warn_of_misspelt(names)
    if workers > 1:
        _check_shared(services, broker)

    def announce(services: Sequence[Runnable]) -> None:
        if link is None or link.is_first:
            if logs.format == Format.json:
                log_lines(services)
            else:
                print_table(services, apart=link is None or link.service is None)
        if link is not None:
            link.ready(names)

    if link is None:
        return 0 if serve(services, broker, announce=announce, health=health) else 1

    def lost() -> None:
        if link.service is not None and logs.format == Format.text:  # its output went to who is gone
            drop(STDOUT, STDERR)

    stopped_well = serve(
        services,
        broker,
        announce=announce,
        stops=StopSignals((signal.SIGTERM, *HANGUP), level=logging.DEBUG),  # who sends it has said so
        lifeline=link.fileno(),
        lost=lost,
        health=health,
        embedded=lambda: nullcontext(link.ask_broker()),
    )
    return 0 if stopped_well else 1


def _check_shared(services: Sequence[Runnable], broker: str | None) -> None:
    """Refuse brokers that no two processes share, and names that all would have.

    Raises:
        UsageError: a service is on such a broker, or has an id.
    """
    for service in services:
        if (named := getattr(service, "id", None)) is not None:
            raise UsageError(
                f"{service.name} has id={named!r}, which names one instance, and workers are several: leave out "
                "--workers, or id="
            )
        events = service.broker or broker or said_url("broker")
        for used in (events, service.rpc_broker or said_url("rpc_broker")):
            if isinstance(used, MemoryBroker) or (isinstance(used, str) and used.startswith("memory://")):
                raise UsageError(
                    f"{service.name} is on memory://, which lives within one process: workers would share nothing; "
                    f"leave out --workers, or name another broker"
                )
