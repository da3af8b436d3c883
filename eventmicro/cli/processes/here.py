"""Services in this process, which is the only one, or a worker of another."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Sequence
from contextlib import nullcontext

from eventmicro.cli.processes.folder import check_is_there, warn_of_misspelt
from eventmicro.cli.processes.link import Link
from eventmicro.cli.processes.marked import STDERR, STDOUT, outlive_readers
from eventmicro.cli.processes.options import Format
from eventmicro.cli.processes.worker import Command
from eventmicro.cli.show import drop
from eventmicro.cli.table import print_table
from eventmicro.cli.target import BrokenModule, load_services, log_broken
from eventmicro.errors import UsageError
from eventmicro.memory.broker import MemoryBroker
from eventmicro.running.announcing import Runnable, log_lines
from eventmicro.running.logs import set_up_unless_done
from eventmicro.running.runner import serve
from eventmicro.running.signals import HANGUP, StopSignals
from eventmicro.service import Service
from eventmicro.sources import said_url

Address = tuple[str, int]
Announce = Callable[[Sequence[Runnable]], None]


def run_here(command: Command, link: Link | None, health: Address | None, *, level_is_asked: bool) -> int:
    """Run the services in this process; the exit code. With a link, for the process that started it.

    Args:
        level_is_asked: whether its level of logs is not merely the default.
    """
    if link is not None:
        outlive_readers()
    try:
        services = _load(command, link, level_is_asked)
    except BrokenModule as broken:
        log_broken(command.targets, broken)
        return 1

    names = [service.name for service in services]
    if link is not None and link.service is not None:
        check_is_there(link.service, names)
    if link is None or link.is_first:
        warn_of_misspelt(names)
    if command.workers > 1:
        _check_shared(services, command.broker)

    announce = _announcing(command, link)
    if link is None:
        stopped_well = serve(services, command.broker, announce=announce, health=health)
    else:
        stopped_well = _serve_for(link, services, command, announce, health)
    return 0 if stopped_well else 1


def _load(command: Command, link: Link | None, level_is_asked: bool) -> list[Service]:
    """The services; logs are set up behind their modules, which may have done so."""
    worker = link.number if link is not None and command.workers > 1 else None
    service = None if link is None else link.service
    try:
        return load_services(command.targets)
    finally:
        set_up_unless_done(command.log_level, command.log_format, worker, service, is_asked=level_is_asked)


def _announcing(command: Command, link: Link | None) -> Announce:
    """What says that the services are there: the first of several processes to who looks on, each to who started it."""

    def announce(services: Sequence[Runnable]) -> None:
        if link is None or link.is_first:
            if command.log_format == Format.json:
                log_lines(services)
            else:
                print_table(services, apart=link is None or link.service is None)
        if link is not None:
            link.ready([service.name for service in services])

    return announce


def _serve_for(
    link: Link,
    services: list[Service],
    command: Command,
    announce: Announce,
    health: Address | None,
) -> bool:
    """Run them for the process that has started this one, until it says so or is gone; whether they stopped well."""

    def lost() -> None:
        if link.service is not None and command.log_format == Format.text:  # its output went to who is gone
            drop(STDOUT, STDERR)

    return serve(
        services,
        command.broker,
        announce=announce,
        stops=StopSignals((signal.SIGTERM, *HANGUP), level=logging.DEBUG),  # who sends it has said so
        lifeline=link.fileno(),
        lost=lost,
        health=health,
        embedded=lambda: nullcontext(link.ask_broker()),
    )


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
